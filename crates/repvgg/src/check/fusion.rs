//! Compares a fusion with its training form: every region and the whole network, in double precision.

use std::collections::HashMap;

use repvgg_kernels::Geometry;

use crate::algebra::Affine;
use crate::error::expected;
use crate::fuse::{Fusion, Region};
use crate::graph::{Graph, NodeId, Op};
use crate::interpret::{interpret, logits, magnitudes};
use crate::random::Normal;
use crate::{Error, Form, Model, Result, Tensor, Weights};

/// The relative error of rounding a fused kernel to f32: half a unit in the last place.
const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;
/// The tolerance for the double-precision sums on both sides, relative to the magnitudes in the branches.
const DOUBLE: f64 = 16.0 * f64::EPSILON;
/// The tolerance for logits in multiples of [`FusionReport::rounding`], for networks that amplify rounding.
const AMPLIFIED: f64 = 16.0;
/// The tolerance for logits relative to the largest, unless rounding alone exceeds it.
pub const NETWORK_TOLERANCE: f64 = 1e-5;
/// `[height, width]` of the random activations of a region: borders and interior, one odd and one even side.
const REGION_INPUT: [usize; 2] = [7, 6];

/// A fused model and its comparison with the training form.
#[derive(Debug, Clone)]
pub struct CheckedFusion {
    /// The fused regions, and the sums that cannot be fused.
    pub fusion: Fusion,
    /// The model in plain form.
    pub model: Model,
    /// The comparison with the training form.
    pub report: FusionReport,
}

impl CheckedFusion {
    /// The fused model, if it computes the function of the training form to rounding.
    ///
    /// # Errors
    /// As [`FusionReport::accept`].
    pub fn accept(self) -> Result<Model> {
        self.report.accept().map(|()| self.model)
    }
}

/// Fuses `model` and compares every region and the whole network with the training form ([`verify`]).
///
/// The whole network runs on images `[2, C, H, W]` of `size`; [`image_size`](super::image_size) suggests a size. `progress` is
/// called after each region.
///
/// # Errors
/// When the model is already in plain form, its weights do not fuse, or it cannot take images of this size.
/// [`CheckedFusion::accept`] reports a fusion that is not exact.
pub fn fuse(model: &Model, size: [usize; 2], progress: impl FnMut(RegionProgress<'_>)) -> Result<CheckedFusion> {
    if model.form() == Form::Plain {
        return Err(Error::fuse(model.name(), "already in plain form, there is nothing to fuse"));
    }
    let fusion = Fusion::new(model.graph());
    let weights = fusion.apply(&model.weights)?;
    let report = verify(&fusion, &model.weights, &weights, size, progress)?;
    Ok(CheckedFusion { model: model.fused(&fusion, weights), fusion, report })
}

/// One fused region compared with its branches.
#[derive(Debug, Clone)]
pub struct RegionReport {
    /// The fused convolution.
    pub name: String,
    /// The number of nodes it replaces.
    pub nodes: usize,
    /// The largest `|fused − branches|` divided by its bound `u · Σ|x||w|`, `u = 2⁻²⁴`: at most 1 when the fusion is exact
    /// and rounded once.
    pub error: f64,
    /// The largest `|fused − branches|`.
    pub absolute_error: f64,
    /// The largest magnitude of a fused weight.
    pub largest_weight: f64,
    /// The largest `|γ| / √(σ² + ε)` of the region's batch norms.
    pub largest_gain: f64,
}

/// Progress of the comparison of regions.
#[derive(Debug, Clone, Copy)]
pub struct RegionProgress<'a> {
    /// The region that was compared last.
    pub region: &'a RegionReport,
    /// Regions compared.
    pub done: usize,
    /// Regions to compare.
    pub total: usize,
}

/// A fusion compared with its training form.
#[derive(Debug, Clone)]
pub struct FusionReport {
    /// One for each region, in the graph's order.
    pub regions: Vec<RegionReport>,
    /// The largest difference of logits on random images, divided by the largest logit.
    pub network_error: f64,
    /// The effect of rounding alone: the same difference when each fused parameter changes by `±u`.
    pub rounding: f64,
    /// The shape `[N, C, H, W]` of those images.
    pub network_input: [usize; 4],
}

impl FusionReport {
    /// The largest relative error of a region.
    pub fn worst_error(&self) -> f64 {
        self.regions.iter().map(|region| region.error).fold(0.0, f64::max)
    }

    /// Accepts a fusion that is exact to rounding.
    ///
    /// # Errors
    /// When a region's error exceeds its bound, or the logits differ by more than [`NETWORK_TOLERANCE`] and more than
    /// rounding explains in a network that amplifies it.
    pub fn accept(&self) -> Result<()> {
        if let Some(region) = self.regions.iter().find(|region| region.error.is_nan() || region.error > 1.0) {
            let what = expected("an error of at most 1 bound").found(format_args!("{:.3}", region.error));
            return Err(Error::fuse(&region.name, what));
        }
        let tolerance = NETWORK_TOLERANCE.max(AMPLIFIED * self.rounding);
        if self.network_error.is_nan() || self.network_error > tolerance {
            let what = expected(format_args!("logits within {tolerance:.0e} of the largest"))
                .found(format_args!("{:.3e}", self.network_error));
            return Err(Error::fuse("network", what));
        }
        Ok(())
    }
}

/// Compares `fused`, the result of [`Fusion::apply`], with the training form's `weights` on seeded random inputs.
///
/// Each region runs on random activations, the whole network on images `[2, C, H, W]` of `size`. `progress` is called after
/// each region.
///
/// # Errors
/// When parameters are missing or the network cannot take images of this size.
pub fn verify(
    fusion: &Fusion,
    weights: &Weights,
    fused: &Weights,
    size: [usize; 2],
    mut progress: impl FnMut(RegionProgress<'_>),
) -> Result<FusionReport> {
    let mut noise = Normal::new(0x5eed);
    let total = fusion.regions().len();
    let mut regions = Vec::with_capacity(total);
    for region in fusion.regions() {
        let report = verify_region(fusion.original(), region, weights, fused, &mut noise)?;
        progress(RegionProgress { region: &report, done: regions.len() + 1, total });
        regions.push(report);
    }
    let network_input = [2, fusion.original().input_channels(), size[0], size[1]];
    let input = normal(network_input.to_vec(), &mut noise);
    let expected = logits(fusion.original(), weights, &input)?;
    let found = logits(fusion.graph(), fused, &input)?;
    let difference = largest_difference(&expected, &found);
    // If all logits are zero, 0 / 0 stays NaN and is refused: nothing was compared.
    let size = largest(expected.data().iter().copied());
    let rounded = logits(fusion.graph(), &perturbed(fused, &mut noise), &input)?;
    let rounding = largest_difference(&found, &rounded) / size;
    Ok(FusionReport { regions, network_error: difference / size, rounding, network_input })
}

/// The weights, each moved up or down by the largest rounding error.
fn perturbed(weights: &Weights, noise: &mut Normal) -> Weights {
    let mut perturbed = Weights::new();
    for (name, tensor) in weights.iter() {
        // Twice the half unit, so that the change survives rounding to f32.
        let tensor = tensor.map(|w| (f64::from(w) * (1.0 + 2.0 * ROUNDING * noise.sample().signum())) as f32);
        perturbed.insert(name, tensor);
    }
    perturbed
}

fn verify_region(
    graph: &Graph,
    region: &Region,
    weights: &Weights,
    fused: &Weights,
    noise: &mut Normal,
) -> Result<RegionReport> {
    let [height, width] = if let Op::Linear(_) = region.op { [1, 1] } else { region_input(&region.geometry) };
    let input = normal(vec![1, region.geometry.in_channels, height, width], noise);
    let branches = branches(graph, region);
    let single = single(region);
    let value = |graph: &Graph, weights: &Weights| last(interpret(graph, weights, &input)?);
    let magnitude = |graph: &Graph, weights: &Weights| last(magnitudes(graph, weights, &input)?);
    let (expected, found) = (value(&branches, weights)?, value(&single, fused)?);
    let (of_branches, of_single) = (magnitude(&branches, weights)?, magnitude(&single, fused)?);
    let bounds = of_single.data().iter().zip(of_branches.data()).map(|(s, b)| ROUNDING * s + DOUBLE * b);
    let differences = expected.data().iter().zip(found.data()).map(|(a, b)| (a - b).abs());
    // A bound of zero (a dead channel) allows no difference; `max` would drop a NaN.
    let relative =
        differences.zip(bounds).map(|(difference, bound)| if difference == 0.0 { 0.0 } else { difference / bound });
    Ok(RegionReport {
        name: region.name.clone(),
        nodes: region.nodes.len(),
        error: largest(relative),
        absolute_error: largest_difference(&expected, &found),
        largest_weight: largest(
            fused.require(&format!("{}.weight", region.name))?.data().iter().map(|&w| f64::from(w)),
        ),
        largest_gain: largest_gain(graph, region, weights)?,
    })
}

/// [`REGION_INPUT`], enlarged where the kernel would not fit.
fn region_input(geometry: &Geometry) -> [usize; 2] {
    [0, 1].map(|axis| {
        let reach = (geometry.kernel[axis] - 1) * geometry.dilation[axis];
        REGION_INPUT[axis].max((reach + 2).saturating_sub(2 * geometry.padding[axis]))
    })
}

/// The region's nodes as a separate graph.
fn branches(graph: &Graph, region: &Region) -> Graph {
    let mut subgraph = Graph::new();
    let input = subgraph.add("input", Op::Input { channels: region.geometry.in_channels }, &[]);
    let mut moved: HashMap<NodeId, NodeId> = HashMap::from([(region.source, input)]);
    for &id in &region.nodes {
        let node = graph.node(id);
        let inputs: Vec<NodeId> = node.inputs.iter().map(|input| moved[input]).collect();
        moved.insert(id, subgraph.add(node.name.clone(), node.op.clone(), &inputs));
    }
    subgraph.output("main", moved[&region.output]);
    subgraph
}

/// The convolution that replaces the region, as a separate graph.
fn single(region: &Region) -> Graph {
    let mut subgraph = Graph::new();
    let input = subgraph.add("input", Op::Input { channels: region.geometry.in_channels }, &[]);
    let output = subgraph.add(region.name.clone(), region.op.clone(), &[input]);
    subgraph.output("main", output);
    subgraph
}

fn last(mut values: Vec<Tensor<f64>>) -> Result<Tensor<f64>> {
    values.pop().ok_or_else(|| Error::fuse("region", expected("at least one node").found("none")))
}

/// The largest magnitude, or NaN if any value is NaN: `max` would drop it.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.map(f64::abs).fold(0.0, |largest, x| if x.is_nan() || x > largest { x } else { largest })
}

fn largest_difference(a: &Tensor<f64>, b: &Tensor<f64>) -> f64 {
    largest(a.data().iter().zip(b.data()).map(|(a, b)| a - b))
}

fn largest_gain(graph: &Graph, region: &Region, weights: &Weights) -> Result<f64> {
    let mut worst = 0.0f64;
    for node in region.nodes.iter().map(|&id| graph.node(id)) {
        if let Op::BatchNorm(_) = node.op {
            worst = worst.max(largest(Affine::of(node, weights)?.scale.into_iter()));
        }
    }
    Ok(worst)
}

fn normal(shape: Vec<usize>, noise: &mut Normal) -> Tensor<f64> {
    Tensor::from_fn(shape, |_| noise.sample())
}

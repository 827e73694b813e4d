//! Convolutions on packed weights: packing, planning and running.

use super::depthwise::{DepthwisePlan, DepthwiseWeights};
use super::direct::{DirectPlan, DirectWeights};
use super::packing::{Packing, Scheme};
use super::spec::{ConvSpec, Layout, Site};
use super::winograd::{WinogradPlan, WinogradWeights};
use super::{Addend, Arguments, Epilogue};
use crate::geometry::checked_product;
use crate::{Blocked, Geometry, GeometryError, Level, ThreadPool};

/// The activation function of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// The lower bound of the results.
    fn floor(self) -> f32 {
        match self {
            Self::Identity => f32::NEG_INFINITY,
            Self::Relu => 0.0,
        }
    }
}

/// The parameters of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    /// `[K, C/G, R, S]`.
    pub weights: &'a [f32],
    /// `[K]`; `None` for zeros.
    pub bias: Option<&'a [f32]>,
    /// `[K]`: the factors of [`Pass::addend`]; `None` for ones.
    pub addend_scale: Option<&'a [f32]>,
    /// The activation, applied last.
    pub activation: Activation,
}

/// A convolution with packed weights: `activation(conv(x) + bias + scale · addend)`.
///
/// It is immutable and independent of the batch size, the number of threads, and (beyond the tiles of its [`Packing`]) the
/// image size. It can be shared by any number of [`ConvPlan`]s, on any number of threads at once.
#[derive(Debug)]
pub struct PackedConv2d {
    key: ConvKey,
    weights: PackedWeights,
    bias: Vec<f32>,
    addend_scale: Vec<f32>,
    activation: Activation,
}

/// The properties that a plan shares with its packed weights.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ConvKey {
    level: Level,
    spec: ConvSpec,
    packing: Packing,
}

#[derive(Debug)]
enum PackedWeights {
    Direct(DirectWeights),
    Depthwise(DepthwiseWeights),
    Winograd(WinogradWeights),
}

/// A plan for applying a [`PackedConv2d`] to images of one size: how the work is blocked and divided among threads. It holds
/// no weights and is cheap to create.
#[derive(Debug)]
pub struct ConvPlan {
    key: ConvKey,
    site: Site,
    threads: usize,
    output_size: [usize; 2],
    schedule: Schedule,
}

#[derive(Debug)]
enum Schedule {
    Direct(DirectPlan),
    Depthwise(DepthwisePlan),
    Winograd(Box<WinogradPlan>),
}

/// The arguments of one run of a [`PackedConv2d`].
pub struct Pass<'a> {
    /// `N`, at most the batch of the plan's [`Site`].
    pub images: usize,
    /// [`ConvPlan::input_len`] elements in the layout of the [`ConvSpec`].
    pub input: &'a [f32],
    /// A map of the output's shape and layout, added before the activation.
    pub addend: Option<&'a [f32]>,
    /// `[N, ⌈K/L⌉, P, Q, L]`; overwritten.
    pub output: &'a mut [f32],
    /// At least [`ConvPlan::workspace_len`] elements; their values are neither read nor preserved.
    pub workspace: &'a mut [f32],
}

impl PackedConv2d {
    /// Packs the weights on the threads of `pool`.
    ///
    /// # Errors
    ///
    /// Those of [`Geometry::validate`], and if a slice has the wrong length, sizes exceed the address space, or the system
    /// cannot allocate the memory.
    ///
    /// # Panics
    ///
    /// If the packing was made for another kind of convolution.
    pub fn new(
        pool: &ThreadPool,
        level: Level,
        spec: &ConvSpec,
        packing: Packing,
        parameters: Parameters<'_>,
    ) -> Result<Self, GeometryError> {
        let ConvSpec { geometry, .. } = spec;
        geometry.validate()?;
        check_weight_sizes(geometry)?;
        let Parameters { weights, bias, addend_scale, activation } = parameters;
        expect_len("weights", geometry.weight_len(), weights.len())?;
        for (name, values) in [("bias", bias), ("addend_scale", addend_scale)] {
            expect_len(name, geometry.out_channels, values.map_or(geometry.out_channels, <[f32]>::len))?;
        }
        assert!(packing.fits(spec), "{packing:?} is not a packing of {spec:?}");
        let weights = match packing.0 {
            Scheme::Direct => DirectWeights::pack(pool, level, spec, weights).map(PackedWeights::Direct),
            Scheme::Depthwise => DepthwiseWeights::pack(level, geometry, weights).map(PackedWeights::Depthwise),
            Scheme::Winograd(form) => {
                WinogradWeights::pack(pool, level, geometry, form, weights).map(PackedWeights::Winograd)
            }
        };
        let padded = geometry.out_channels.next_multiple_of(level.lanes());
        let pad = |values: Option<&[f32]>, default: f32| {
            let mut values = values.map_or_else(|| vec![default; geometry.out_channels], <[f32]>::to_vec);
            values.resize(padded, 0.0);
            values
        };
        Ok(Self {
            key: ConvKey { level, spec: *spec, packing },
            weights: weights.map_err(|_| GeometryError::Memory)?,
            bias: pad(bias, 0.0),
            addend_scale: pad(addend_scale, 1.0),
            activation,
        })
    }

    /// The geometry and input layout of the convolution.
    pub fn spec(&self) -> &ConvSpec {
        &self.key.spec
    }

    /// The form that the weights are packed in.
    pub fn packing(&self) -> Packing {
        self.key.packing
    }

    /// The size of the packed weights in bytes.
    pub fn bytes(&self) -> usize {
        match &self.weights {
            PackedWeights::Direct(weights) => weights.bytes(),
            PackedWeights::Depthwise(weights) => weights.bytes(),
            PackedWeights::Winograd(weights) => weights.bytes(),
        }
    }

    /// Computes `output = activation(conv(input) + bias + scale · addend)`. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If the plan was made for other weights or another number of threads, a slice has the wrong length, or there are
    /// more images than the plan allows.
    pub fn run(&self, plan: &ConvPlan, pool: &ThreadPool, pass: Pass<'_>) {
        assert_eq!(plan.key, self.key, "the plan is for these weights");
        assert_eq!(plan.threads, pool.threads(), "the plan is for the threads of the pool");
        let Pass { images, input, addend, output, workspace } = pass;
        assert!(images <= plan.site.batch, "images: expected at most {}, found {images}", plan.site.batch);
        assert_eq!(input.len(), plan.input_len(images), "the input has the planned length");
        assert_eq!(output.len(), plan.output(images).len(), "output is [N, ⌈K/L⌉, P, Q, L]");
        assert_eq!(addend.map_or(output.len(), <[f32]>::len), output.len(), "the addend has the output's length");
        let needed = plan.workspace_len();
        assert!(workspace.len() >= needed, "workspace: expected at least {needed} elements, found {}", workspace.len());
        if images == 0 {
            return;
        }
        let epilogue = Epilogue {
            bias: &self.bias,
            floor: self.activation.floor(),
            addend: addend.map(|values| Addend { values, scale: &self.addend_scale }),
        };
        let arguments = Arguments { images, input, epilogue, output, workspace: &mut workspace[..needed] };
        match (&plan.schedule, &self.weights) {
            (Schedule::Direct(plan), PackedWeights::Direct(weights)) => plan.run(weights, pool, arguments),
            (Schedule::Depthwise(plan), PackedWeights::Depthwise(weights)) => plan.run(weights, pool, arguments),
            (Schedule::Winograd(plan), PackedWeights::Winograd(weights)) => plan.run(weights, pool, arguments),
            _ => unreachable!("equal packings have the same kind of weights"),
        }
    }
}

impl ConvPlan {
    /// Plans `conv` for images of one size on `threads` threads, the caller's included.
    ///
    /// # Errors
    ///
    /// Those of [`Geometry::output_size`], and if maps exceed the address space.
    pub fn new(conv: &PackedConv2d, site: Site, threads: usize) -> Result<Self, GeometryError> {
        let key = conv.key;
        let ConvKey { level, spec, packing } = key;
        let output_size = spec.geometry.output_size(site.size)?;
        check_map_sizes(&spec.geometry, site, output_size)?;
        let schedule = match &conv.weights {
            PackedWeights::Direct(_) => Schedule::Direct(DirectPlan::new(level, &spec, site, threads)),
            PackedWeights::Depthwise(_) => Schedule::Depthwise(DepthwisePlan::new(level, &spec.geometry, site.size)),
            PackedWeights::Winograd(weights) => {
                let covers = packing.covers(output_size).expect("a Winograd packing has tiles");
                let plan = WinogradPlan::new(weights, level, &spec.geometry, covers, site, threads);
                Schedule::Winograd(Box::new(plan))
            }
        };
        Ok(Self { key, site, threads, output_size, schedule })
    }

    /// The batch and image size of the plan.
    pub fn site(&self) -> Site {
        self.site
    }

    /// The layout of the output for `images` images.
    pub fn output(&self, images: usize) -> Blocked {
        let [height, width] = self.output_size;
        let ConvKey { level, spec, .. } = self.key;
        Blocked { shape: [images, spec.geometry.out_channels, height, width], lanes: level.lanes() }
    }

    /// The number of input elements for `images` images.
    pub fn input_len(&self, images: usize) -> usize {
        let [height, width] = self.site.size;
        let ConvKey { level, spec, .. } = self.key;
        let shape = [images, spec.geometry.in_channels, height, width];
        match spec.layout {
            Layout::Planar => shape.iter().product(),
            Layout::Blocked => Blocked { shape, lanes: level.lanes() }.len(),
        }
    }

    /// The number of workspace elements that a run needs.
    pub fn workspace_len(&self) -> usize {
        match &self.schedule {
            Schedule::Direct(plan) => plan.workspace_len(),
            Schedule::Depthwise(_) => 0,
            Schedule::Winograd(plan) => plan.workspace_len(),
        }
    }
}

/// Upper bound on the channels that padding to whole registers adds, and on the copies of a window that threads make.
const SLACK: usize = 1 << 12;

/// Checks that packed weights and the input of one output fit the address space, so that no size computed from them wraps
/// around.
fn check_weight_sizes(geometry: &Geometry) -> Result<(), GeometryError> {
    let [channels, filters] = [geometry.in_channels, geometry.out_channels].map(|count| count.saturating_add(SLACK));
    checked_product(&[channels, filters, geometry.kernel[0], geometry.kernel[1], SLACK])?;
    let reach = [0, 1].map(|axis| geometry.kernel[axis].saturating_mul(geometry.dilation[axis]));
    checked_product(&[channels, reach[0], reach[1], SLACK]).map(|_| ())
}

/// Checks that maps and their padded copies fit the address space.
fn check_map_sizes(geometry: &Geometry, site: Site, output: [usize; 2]) -> Result<(), GeometryError> {
    let [padded_height, padded_width] = [0, 1].map(|axis| site.size[axis] + 2 * geometry.padding[axis]);
    let [channels, filters] = [geometry.in_channels, geometry.out_channels].map(|count| count.saturating_add(SLACK));
    let batch = site.batch.max(1);
    checked_product(&[batch, channels, padded_height, padded_width, SLACK])?;
    checked_product(&[batch, filters, output[0], output[1], SLACK]).map(|_| ())
}

fn expect_len(name: &'static str, expected: usize, found: usize) -> Result<(), GeometryError> {
    if expected == found { Ok(()) } else { Err(GeometryError::Length { name, expected, found }) }
}

#[cfg(test)]
mod tests;

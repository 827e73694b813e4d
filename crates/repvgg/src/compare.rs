//! Two models side by side: the same logits, the same choices, and where not.

use std::collections::BTreeMap;

use crate::engine::{Plan, Settings};
use crate::error::expected;
use crate::fuse::{self, verify};
use crate::graph::Graph;
use crate::zoo::Form;
use crate::{Error, Model, Result, Tensor, Weights};

/// The logits of two models on the same images, tallied.
pub struct Comparison {
    plans: [Plan; 2],
    logits: [Vec<f32>; 2],
    tally: Tally,
}

/// How far two models agree on all images so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Images compared.
    pub images: usize,
    /// Images for which both have the same first choice.
    pub agreeing: usize,
    /// The largest difference of a logit.
    pub largest_difference: f64,
    /// The largest magnitude of a logit of the first model.
    pub largest_logit: f64,
}

impl Tally {
    /// The largest difference of a logit over the largest logit; NaN when there is nothing to compare.
    pub fn relative_difference(&self) -> f64 {
        self.largest_difference / self.largest_logit
    }
}

impl Comparison {
    /// Prepares both models for images of `settings.size`.
    ///
    /// # Errors
    /// When they read other channels or tell other numbers of classes apart, or one cannot be planned.
    pub fn new(models: [&Model; 2], settings: Settings) -> Result<Self> {
        let [a, b] = models;
        let plans = [plan(a, settings)?, plan(b, settings)?];
        for (what, of) in
            [("input channels", Plan::input_shape as fn(&Plan) -> [usize; 3]), ("outputs", Plan::output_shape)]
        {
            let [first, second] = [of(&plans[0]), of(&plans[1])];
            if first != second {
                let problem = expected(format_args!("the first model's {what} [C, H, W] {first:?}"))
                    .found(format_args!("{second:?}"));
                return Err(Error::shape("second model", problem));
            }
        }
        let row = settings.batch * plans[0].output_shape().iter().product::<usize>();
        Ok(Self { plans, logits: [vec![0.0; row], vec![0.0; row]], tally: Tally::default() })
    }

    /// Runs both models on `images` `[N, C, H, W]`, `N` at most the settings' batch.
    ///
    /// # Panics
    /// When there are too many images, or they are of another size.
    pub fn add(&mut self, images: &[f32]) {
        let count = images.len() / self.plans[0].input_shape().iter().product::<usize>();
        let row = self.plans[0].output_shape().iter().product::<usize>();
        for (plan, logits) in self.plans.iter_mut().zip(&mut self.logits) {
            plan.run(images, &mut logits[..count * row]);
        }
        let [a, b] = self.logits.each_ref().map(|logits| &logits[..count * row]);
        for (a, b) in a.chunks_exact(row).zip(b.chunks_exact(row)) {
            self.tally.images += 1;
            self.tally.agreeing += usize::from(first_choice(a) == first_choice(b));
            for (&a, &b) in a.iter().zip(b) {
                let difference = (f64::from(a) - f64::from(b)).abs();
                // A NaN must not vanish in a maximum.
                if difference.is_nan() || difference > self.tally.largest_difference {
                    self.tally.largest_difference = difference;
                }
                self.tally.largest_logit = self.tally.largest_logit.max(f64::from(a).abs());
            }
        }
    }

    /// What was found so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

fn plan(model: &Model, settings: Settings) -> Result<Plan> {
    Plan::new(&model.graph()?, &model.weights, settings).map_err(|error| error.within(model.architecture.name()))
}

fn first_choice(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)))
}

/// Two models part by part, as far as their graphs allow.
pub enum Parts {
    /// One is the other's training form: each fused convolution against its branches.
    Blocks(verify::Report),
    /// Both have the same graph: the parameters of each layer, in the graph's order.
    Layers(Vec<LayerDifference>),
    /// They are different networks; only their logits can be compared.
    None,
}

/// How much the parameters of one layer differ.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerDifference {
    /// The layer's name in the first model.
    pub name: String,
    /// The largest difference of a parameter.
    pub largest_difference: f64,
    /// The largest magnitude of a parameter of the first model.
    pub largest: f64,
}

/// Compares two models part by part; `size` is the side of the random images for fused networks.
///
/// # Errors
/// When a graph cannot be built or cannot take images of this size.
pub fn parts(a: &Model, b: &Model, size: usize, progress: impl FnMut(&verify::RegionReport)) -> Result<Parts> {
    let (training, plain) = match (a.form, b.form) {
        (Form::Training, Form::Plain) => (a, b),
        (Form::Plain, Form::Training) => (b, a),
        _ => return layers(a, b),
    };
    let plan = fuse::Plan::new(&training.graph()?);
    match renamed(plan.graph(), &plain.graph()?, &plain.weights) {
        Some(fused) => verify::verify(&plan, &training.weights, &fused, size, progress).map(Parts::Blocks),
        None => Ok(Parts::None),
    }
}

fn layers(a: &Model, b: &Model) -> Result<Parts> {
    let (graph, other) = (a.graph()?.inference(), b.graph()?.inference());
    let Some(theirs) = renamed(&graph, &other, &b.weights) else { return Ok(Parts::None) };
    let mut layers = Vec::new();
    for node in graph.nodes() {
        let mut layer = LayerDifference { name: node.name.clone(), largest_difference: 0.0, largest: 0.0 };
        for (name, _) in node.parameters() {
            let (a, b) = (a.weights.require(&name)?, theirs.require(&name)?);
            for (&a, &b) in a.data().iter().zip(b.data()) {
                layer.largest_difference = layer.largest_difference.max((f64::from(a) - f64::from(b)).abs());
                layer.largest = layer.largest.max(f64::from(a).abs());
            }
        }
        if node.parameters().next().is_some() {
            layers.push(layer);
        }
    }
    Ok(Parts::Layers(layers))
}

/// `weights` of `other` under the names of `graph`, where both are the same but for their names.
pub(crate) fn renamed(graph: &Graph, other: &Graph, weights: &Weights) -> Option<Weights> {
    let pairs = graph.correspondence(other)?;
    let names: BTreeMap<&str, &str> =
        pairs.iter().map(|(&a, &b)| (graph.node(a).name.as_str(), other.node(b).name.as_str())).collect();
    let tensors = graph.nodes().iter().flat_map(|node| node.op.parameters().into_iter().map(move |p| (node, p.suffix)));
    let tensor = |(node, suffix): (&crate::graph::Node, &str)| -> Option<(String, Tensor)> {
        let theirs = names.get(node.name.as_str())?;
        Some((format!("{}.{suffix}", node.name), weights.get(&format!("{theirs}.{suffix}"))?.clone()))
    };
    tensors.map(tensor).collect()
}

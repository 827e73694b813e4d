//! Compares two models: on the same inputs, and part by part.

use std::path::PathBuf;

use super::fusion::{FusionReport, RegionProgress, verify};
use super::image_size;
use crate::engine::{Accuracy, BatchShape, Engine, Options, Session, thread_pool};
use crate::error::expected;
use crate::graph::Graph;
use crate::image::Orientation;
use crate::random::Normal;
use crate::{Error, Form, Model, Result, Tensor, Weights, fuse, image};

/// Images per run of the networks.
const BATCH: usize = 8;

/// The inputs of a comparison.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Inputs<'a> {
    /// Standard normal values, the same in every comparison.
    Random {
        /// The number of images.
        images: usize,
        /// `[height, width]` in pixels.
        size: [usize; 2],
    },
    /// A tensor `[N, C, H, W]`.
    Tensor(&'a Tensor),
    /// Image files; the first model's preprocessing prepares them for both.
    Files {
        /// Their paths.
        files: &'a [PathBuf],
        /// What is done about the orientation that a camera notes.
        orientation: Orientation,
    },
}

/// Progress of a comparison.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Both models have run on this many images.
    Images {
        /// Images compared.
        done: usize,
        /// Images to compare.
        total: usize,
    },
    /// A fused region was compared with its branches.
    Region(RegionProgress<'a>),
}

/// Two models compared.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Their logits on the same inputs.
    pub logits: LogitComparison,
    /// Their parts, if their graphs correspond.
    pub parts: Parts,
}

/// The logits of two models on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LogitComparison {
    /// Images compared.
    pub images: usize,
    /// Images on which both models have the same first choice.
    pub same_top1: usize,
    /// The largest difference of a logit.
    pub largest_difference: f64,
    /// The largest magnitude of a logit of the first model.
    pub largest_logit: f64,
}

impl LogitComparison {
    /// The largest difference of a logit, divided by the largest logit; NaN when nothing was compared.
    pub fn relative_difference(&self) -> f64 {
        self.largest_difference / self.largest_logit
    }

    fn add(&mut self, a: &[f32], b: &[f32]) {
        self.images += 1;
        self.same_top1 += usize::from(first_choice(a) == first_choice(b));
        for (&a, &b) in a.iter().zip(b) {
            let difference = (f64::from(a) - f64::from(b)).abs();
            // `max` would drop a NaN.
            if difference.is_nan() || difference > self.largest_difference {
                self.largest_difference = difference;
            }
            self.largest_logit = self.largest_logit.max(f64::from(a).abs());
        }
    }
}

/// Two models part by part, if their graphs correspond.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Parts {
    /// One is the other's training form: each fused convolution against its branches.
    Regions(FusionReport),
    /// Both have the same graph: the parameters of each layer, in the graph's order.
    Layers(Vec<LayerDifference>),
    /// The graphs differ, so only logits can be compared.
    None,
}

/// The difference between the parameters of one layer in two models.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerDifference {
    /// The layer's name in the first model.
    pub name: String,
    /// The largest difference of a parameter.
    pub largest_difference: f64,
    /// The largest magnitude of a parameter of the first model.
    pub largest: f64,
}

/// Compares two models on the same inputs, with the engine's strict accuracy, and part by part ([`compare_parts`]).
///
/// # Errors
/// When the models differ in input channels or outputs, an image file cannot be read, or the inputs do not fit the models.
pub fn compare(
    models: [&Model; 2],
    inputs: &Inputs<'_>,
    threads: usize,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Comparison> {
    let logits = compare_logits(models, inputs, threads, &mut progress)?;
    let size = image_size(models[0]);
    let parts = compare_parts(models, size, |region| progress(Progress::Region(region)))?;
    Ok(Comparison { logits, parts })
}

fn compare_logits(
    models: [&Model; 2],
    inputs: &Inputs<'_>,
    threads: usize,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<LogitComparison> {
    let channels = models[0].input_channels();
    let options = Options { accuracy: Accuracy::Strict, ..Options::default() };
    let engine = Engine { options, pool: thread_pool(threads)? };
    match *inputs {
        Inputs::Random { images, size } => {
            let mut noise = Normal::new(0);
            let elements = channels * size[0] * size[1];
            let mut pair = Pair::new(models, &engine, size)?;
            pair.run(images, progress, |_, batch| {
                batch.extend((0..elements).map(|_| noise.sample() as f32));
                Ok(())
            })
        }
        Inputs::Tensor(tensor) => {
            let [n, c, h, w] = tensor.nchw()?;
            if n == 0 || c != channels {
                let what = expected(format_args!("[N, {channels}, H, W] with N of at least 1"))
                    .found(format_args!("{:?}", tensor.shape()));
                return Err(Error::shape("input", what));
            }
            let elements = c * h * w;
            let mut pair = Pair::new(models, &engine, [h, w])?;
            pair.run(n, progress, |index, batch| {
                batch.extend_from_slice(&tensor.data()[index * elements..][..elements]);
                Ok(())
            })
        }
        Inputs::Files { files, orientation } => {
            models[0].check_images()?;
            let preprocessing = &models[0].preprocessing;
            let mut pair = Pair::new(models, &engine, preprocessing.size)?;
            pair.run(files.len(), progress, |index, batch| {
                let decoded = image::read(&files[index], orientation)?;
                batch.extend_from_slice(preprocessing.apply(&decoded.image).data());
                Ok(())
            })
        }
    }
}

/// Both models, ready to run on the same images.
struct Pair {
    sessions: [Session; 2],
}

impl Pair {
    fn new(models: [&Model; 2], engine: &Engine, size: [usize; 2]) -> Result<Self> {
        let [a, b] = models.map(|model| {
            let session = engine.session(model.graph(), &model.weights, BatchShape { batch: BATCH, size });
            session.map_err(|error| error.within(model.name()))
        });
        let sessions = [a?, b?];
        for (what, shape) in
            [("input channels", Session::input_shape as fn(&Session) -> [usize; 3]), ("outputs", Session::output_shape)]
        {
            let [first, second] = sessions.each_ref().map(shape);
            if first != second {
                let what = expected(format_args!("the first model's {what} [C, H, W] {first:?}"))
                    .found(format_args!("{second:?}"));
                return Err(Error::shape("second model", what));
            }
        }
        Ok(Self { sessions })
    }

    /// Runs both models on `images` images in batches; `append(i, batch)` adds the pixels of image `i`.
    fn run(
        &mut self,
        images: usize,
        progress: &mut dyn FnMut(Progress<'_>),
        mut append: impl FnMut(usize, &mut Vec<f32>) -> Result<()>,
    ) -> Result<LogitComparison> {
        let row = self.sessions[0].output_shape().iter().product::<usize>();
        let mut logits = [(); 2].map(|()| vec![0.0; BATCH * row]);
        let mut comparison = LogitComparison::default();
        let mut batch = Vec::new();
        for start in (0..images).step_by(BATCH) {
            let count = BATCH.min(images - start);
            batch.clear();
            (start..start + count).try_for_each(|index| append(index, &mut batch))?;
            for (session, logits) in self.sessions.iter_mut().zip(&mut logits) {
                session.run(&batch, &mut logits[..count * row])?;
            }
            let [a, b] = logits.each_ref().map(|logits| logits[..count * row].chunks_exact(row));
            a.zip(b).for_each(|(a, b)| comparison.add(a, b));
            progress(Progress::Images { done: start + count, total: images });
        }
        Ok(comparison)
    }
}

fn first_choice(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)))
}

/// Compares two models part by part; `size`, `[H, W]`, is that of the random images on which whole networks run in
/// double precision. `progress` is called after each region.
///
/// # Errors
/// When a graph cannot be built or cannot take images of this size.
pub fn compare_parts(models: [&Model; 2], size: [usize; 2], progress: impl FnMut(RegionProgress<'_>)) -> Result<Parts> {
    let [a, b] = models;
    let (training, plain) = match (a.form(), b.form()) {
        (Form::Training, Form::Plain) => (a, b),
        (Form::Plain, Form::Training) => (b, a),
        _ => return compare_layers(a, b),
    };
    let fusion = fuse::Fusion::new(training.graph());
    if fusion.is_plain() {
        return compare_layers(a, b);
    }
    match renamed(fusion.graph(), plain) {
        Some(fused) => verify(&fusion, &training.weights, &fused, size, progress).map(Parts::Regions),
        None => Ok(Parts::None),
    }
}

fn compare_layers(a: &Model, b: &Model) -> Result<Parts> {
    let (graph, other) = (a.graph().inference(), b.graph().inference());
    let Some(counterparts) = graph.correspondence(&other) else { return Ok(Parts::None) };
    let mut layers = Vec::new();
    for (id, node) in graph.iter() {
        let mut layer = LayerDifference { name: node.name.clone(), largest_difference: 0.0, largest: 0.0 };
        for ((name, _), (other_name, _)) in node.parameters().zip(other.node(counterparts[&id]).parameters()) {
            let (a, b) = (a.weights.require(&name)?, b.weights.require(&other_name)?);
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

/// The weights of `model` under the names of `graph`, if the two graphs differ only in names.
fn renamed(graph: &Graph, model: &Model) -> Option<Weights> {
    model.weights.clone().renamed(graph.renaming_from(model.graph())?)
}

//! Evaluation of models on labelled images.
//!
//! ```
//! use repvgg::image::Preprocessing;
//! use repvgg::{Model, Specification};
//! use repvgg_train::data::TestSet;
//! use repvgg_train::evaluate::{EvaluationSettings, evaluate};
//!
//! let spec = "depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]\nclasses = 12";
//! let untrained = Model::initialise(Specification::from_toml(spec, "tiny")?, 0)?;
//! let mut model = untrained.fuse()?;
//! model.preprocessing = Preprocessing { size: [32; 2], crop_fraction: 1.0, ..Preprocessing::default() };
//!
//! let test = TestSet::open("shapes", &model, None)?;
//! let evaluation = evaluate(&model, &test.images, &EvaluationSettings::default(), |_| ())?;
//! println!("top-1 {:.1} % of {} images", 100.0 * evaluation.top1(), evaluation.images());
//! # Ok::<(), repvgg::Error>(())
//! ```

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use repvgg::classify::Outputs;
use repvgg::engine::{BatchShape, Engine};
use repvgg::error::expected;
use repvgg::{Error, Model, Result};

use crate::augment::Transform;
use crate::data::{self, Dataset, Loader, Unreadable};

/// The results of evaluating a model on a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The counts of each class.
    pub classes: Vec<ClassCount>,
    /// Images whose class was among the five most likely.
    pub top5: usize,
    /// The mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// Images skipped because they could not be read.
    pub skipped: usize,
    /// Time spent in the network, without decoding.
    pub network_time: Duration,
    /// Total time.
    pub time: Duration,
}

/// The images of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassCount {
    /// Images of the class.
    pub images: usize,
    /// Images of the class that the network classified correctly.
    pub correct: usize,
}

impl Evaluation {
    /// The number of evaluated images.
    pub fn images(&self) -> usize {
        self.classes.iter().map(|class| class.images).sum()
    }

    /// The number of correctly classified images.
    pub fn correct(&self) -> usize {
        self.classes.iter().map(|class| class.correct).sum()
    }

    /// The share of correctly classified images, 0 to 1.
    pub fn top1(&self) -> f64 {
        self.correct() as f64 / self.images().max(1) as f64
    }

    /// The share of images whose class was among the five most likely, 0 to 1.
    pub fn top5(&self) -> f64 {
        self.top5 as f64 / self.images().max(1) as f64
    }
}

/// The settings of an evaluation.
#[derive(Debug, Clone)]
pub struct EvaluationSettings {
    /// The engine that runs the network. Images are decoded on the same number of threads.
    pub engine: Engine,
    /// Images per run of the network.
    pub batch: usize,
    /// The handling of images that cannot be read.
    pub unreadable: Unreadable,
}

impl Default for EvaluationSettings {
    /// Batches of 64 images on all processor cores. An image that cannot be read is an error.
    fn default() -> Self {
        Self { engine: Engine::on_all_cores(), batch: 64, unreadable: Unreadable::Refuse }
    }
}

/// Runs `model` in its own form on every image of `dataset`. `progress` receives the number of finished images.
///
/// Labels are the model's classes: [`TestSet`](data::TestSet) matches those of a data set with them.
///
/// # Errors
/// When the model does not accept images, its weights do not fit, a label is not one of its classes, or an unreadable image is
/// an error.
pub fn evaluate(
    model: &Model,
    dataset: &Arc<dyn Dataset>,
    settings: &EvaluationSettings,
    mut progress: impl FnMut(usize),
) -> Result<Evaluation> {
    let start = Instant::now();
    model.check_images()?;
    let preprocessing = &model.preprocessing;
    let batch = settings.batch.min(dataset.len()).max(1);
    let size = preprocessing.size;
    let mut session = settings.engine.session(model.graph(), &model.weights, BatchShape { batch, size })?;
    let outputs = Outputs::of(model.graph());
    let values = session.output_shape().iter().product::<usize>();
    let classes = outputs.classes(values);
    let mut tally = Evaluation {
        classes: vec![ClassCount::default(); classes],
        top5: 0,
        loss: 0.0,
        skipped: 0,
        network_time: Duration::ZERO,
        time: Duration::ZERO,
    };
    let indices: Vec<usize> = (0..dataset.len()).collect();
    let loader = Loader::new(
        Arc::clone(dataset),
        data::LoaderSettings {
            seed: 0,
            epoch: 0,
            batches: indices.chunks(batch).map(<[usize]>::to_vec).collect(),
            transform: Transform { preprocessing: preprocessing.clone(), augmentation: None },
            unreadable: settings.unreadable,
            workers: NonZeroUsize::new(settings.engine.pool.threads()).unwrap_or(NonZeroUsize::MIN),
        },
    );
    let mut rows = vec![0.0; batch * values];
    for batch in loader {
        let batch = batch?;
        tally.skipped += batch.skipped.len();
        let rows = &mut rows[..batch.labels.len() * values];
        if !batch.labels.is_empty() {
            let before = Instant::now();
            session.run(batch.images.data(), rows)?;
            tally.network_time += before.elapsed();
        }
        for (row, &label) in rows.chunks_exact(values).zip(&batch.labels) {
            if label >= classes {
                let problem = expected(format_args!("classes of the model, 0 to {}", classes.saturating_sub(1)));
                return Err(Error::shape("labels", problem.found(label)));
            }
            tally.count(&outputs.logits(row), label);
        }
        progress(tally.images() + tally.skipped);
    }
    if tally.images() == 0 {
        let problem = expected("at least one readable image").found(format_args!("none of {}", dataset.len()));
        return Err(Error::format("evaluation", problem));
    }
    tally.loss /= tally.images() as f64;
    tally.time = start.elapsed();
    Ok(tally)
}

impl Evaluation {
    fn count(&mut self, logits: &[f32], label: usize) {
        // Ties and NaN count against the network.
        let ahead = logits.len() - 1 - logits.iter().filter(|&&x| x < logits[label]).count();
        self.classes[label].images += 1;
        self.classes[label].correct += usize::from(ahead == 0);
        self.top5 += usize::from(ahead < 5);
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
        self.loss += sum.ln() - f64::from(logits[label] - largest);
    }
}

#[cfg(test)]
mod tests {
    use repvgg::Specification;
    use repvgg::image::Preprocessing;

    use super::*;

    #[test]
    fn a_label_that_the_model_does_not_have_is_an_error() {
        let data = data::open("shapes", 0).unwrap();
        let spec = "depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]\nclasses = 2";
        let mut model = Model::initialise(Specification::from_toml(spec, "tiny").unwrap(), 0).unwrap();
        model.preprocessing = Preprocessing { size: [32; 2], crop_fraction: 1.0, ..Preprocessing::default() };
        let settings = EvaluationSettings { engine: Engine::with_threads(1).unwrap(), ..EvaluationSettings::default() };
        let error = evaluate(&model, &data.validation, &settings, |_| ()).unwrap_err().to_string();
        assert!(error.starts_with("labels: expected classes of the model, 0 to 1, found "), "{error}");
    }
}

//! Training runs: the training loop, the run folder, and exact resume.
//!
//! Everything random is a function of the seed, the epoch and an image's index, so the state of a run consists of its
//! weights, velocities and position. A run that is killed at any moment and resumed repeats the steps since the last saved
//! state. It ends with the same weights, bit for bit, as an uninterrupted run with the same seed, threads and device.

mod config;
mod folder;
mod setup;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use repvgg::engine::{Engine, Options, thread_pool};
use repvgg::error::expected;
use repvgg::fuse::Fusion;
use repvgg::{Error, Model, Result, Weights};
use repvgg_kernels::ThreadPool;

use crate::augment::Transform;
use crate::curves::EpochMetrics;
use crate::data::{self, Cached, Data, Dataset, Loader, Unreadable};
use crate::evaluate::{Evaluation, EvaluationSettings, evaluate};
use crate::record::{Record, Sample};
use crate::{Batch, Device, Network, Sgd};

pub use config::{Config, fingerprint};
pub use folder::{Folder, Position, State};
pub use setup::{Pretrained, Setup, Start};

/// The time between saved states within an epoch.
const STATE_INTERVAL: Duration = Duration::from_secs(60);

/// An event of a run, for its observer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A training step has finished.
    Step(StepMetrics),
    /// Some of the validation images have been evaluated.
    Validation {
        /// The number of images so far.
        done: usize,
        /// The number of validation images.
        total: usize,
    },
    /// An epoch has finished.
    Epoch(&'a EpochMetrics),
    /// An image was skipped because it could not be read.
    Skipped(&'a Error),
}

/// The metrics of a run after a step.
#[derive(Debug, Clone, Copy)]
pub struct StepMetrics {
    /// The epoch, counted from 0.
    pub epoch: usize,
    /// Finished steps of this epoch.
    pub step: usize,
    /// All steps of an epoch.
    pub steps: usize,
    /// The mean loss of the epoch so far.
    pub loss: f64,
    /// The share of correctly classified images in the epoch so far, 0 to 1.
    pub top1: f64,
    /// Training images per second in this epoch.
    pub images_per_second: f64,
    /// The estimated time until the end of the run.
    pub remaining: Duration,
}

/// The observer's answer to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Continue training.
    Continue,
    /// Save the state and stop, after the current step or epoch.
    Stop,
}

impl Control {
    /// `Stop` if either answer is.
    fn or(self, other: Self) -> Self {
        if self == Self::Stop { self } else { other }
    }
}

/// The end of a call to [`Run::train`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are finished.
    Finished,
    /// The observer stopped the run, which can be resumed.
    Stopped,
}

/// A training run.
pub struct Run {
    folder: Folder,
    config: Config,
    data: Data,
    /// The cached training images.
    images: Arc<dyn Dataset>,
    /// A sample of the training images, for the record in model files.
    sample: Sample,
    /// The threads of training and validation.
    pool: Arc<ThreadPool>,
    network: Network,
    /// The fusion of the network, for validation.
    fusion: Fusion,
    optimizer: Sgd,
    position: Position,
}

/// The memory budget for decoded training images, in bytes.
const CACHE: usize = 1 << 30;

/// The training images, cached after the first decoding.
fn cached(data: &Data, config: &Config) -> Arc<dyn Dataset> {
    Arc::new(Cached::new(Arc::clone(&data.train), 2 * config.preprocessing.size[0] as u32, CACHE))
}

impl Run {
    /// Starts a run in a new folder.
    ///
    /// # Errors
    /// When the folder holds another run, the configuration cannot be trained, or the weights do not fit.
    pub fn create(path: &Path, start: Start) -> Result<Self> {
        let Start { config, data, weights, .. } = start;
        let device: Device = config.device.parse()?;
        config.check(&data)?;
        let pool = thread_pool(config.threads)?;
        let graph = config.architecture.training_graph()?;
        let optimizer = Sgd::new(config.recipe.sgd(), &graph, device);
        let fusion = Fusion::new(&graph);
        let network = Network::new(graph, &weights, device, &pool)?;
        let folder = Folder::create(path)?;
        let images = cached(&data, &config);
        let sample = Sample::of(&*data.train);
        let position = Position::default();
        let run = Self { folder, config, data, images, sample, pool, network, fusion, optimizer, position };
        run.save_state()?;
        // The configuration comes last: its presence marks a run that can be resumed.
        run.folder.save_config(&run.config)?;
        Ok(run)
    }

    /// Resumes a run from the state in its folder.
    ///
    /// # Errors
    /// When the folder holds no run, another process is writing to it, or the data have changed.
    pub fn resume(path: &Path) -> Result<Self> {
        let folder = Folder::open(path)?;
        let config = folder.load_config()?;
        let data = data::open(&config.data, config.seed).map_err(|error| match error.is_not_found() {
            true => error.with_hint("the data set of the run; if it has moved, change its path in config.toml"),
            false => error,
        })?;
        let data = data.with_orientation(config.orientation);
        config.check_data(&data)?;
        let of_config = |error: Error| error.within(folder.file("config.toml").display());
        config.check(&data).map_err(of_config)?;
        let pool = thread_pool(config.threads).map_err(of_config)?;
        let state = folder.load_state()?;
        let state = state.ok_or_else(|| Error::format(path.display(), expected("state.safetensors").found("none")))?;
        let device: Device = config.device.parse()?;
        let graph = config.architecture.training_graph()?;
        let mut optimizer = Sgd::new(config.recipe.sgd(), &graph, device);
        optimizer.load_state(&state.velocities)?;
        let fusion = Fusion::new(&graph);
        let network = Network::new(graph, &state.weights, device, &pool)?;
        let images = cached(&data, &config);
        let epochs = config.recipe.epochs;
        if state.position.epoch > epochs {
            let problem = expected(format_args!("a state within {epochs} epochs"))
                .found(format_args!("one after {}", state.position.epoch));
            return Err(Error::format(path.display(), problem));
        }
        let (sample, position) = (Sample::of(&*data.train), state.position);
        Ok(Self { folder, config, data, images, sample, pool, network, fusion, optimizer, position })
    }

    /// Changes the number of epochs of the whole run, so that [`train`](Self::train) trains on. From the current position on, the
    /// learning rate follows the schedule of a run of `epochs` epochs; the warm-up keeps its length.
    ///
    /// # Errors
    /// When the run is configured for more epochs, or the configuration cannot be written.
    pub fn extend(&mut self, epochs: usize) -> Result<()> {
        let configured = self.config.recipe.epochs;
        if epochs < configured {
            let problem = expected(format_args!("at least the run's {configured} epochs"));
            return Err(Error::spec("epochs", problem.found(epochs)));
        }
        if epochs > configured {
            let mut config = self.config.clone();
            config.recipe.epochs = epochs;
            config.check(&self.data)?;
            self.folder.save_config(&config)?;
            self.config = config;
        }
        Ok(())
    }

    /// Whether all epochs are finished.
    pub fn is_finished(&self) -> bool {
        self.position.epoch == self.config.recipe.epochs
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        let recipe = &self.config.recipe;
        let steps = self.data.train.len() / recipe.batch.min(self.data.train.len());
        recipe.learning_rate_at(self.position.epoch * steps + self.position.step, recipe.epochs * steps, steps)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The data set.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The current position.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The run folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Trains until all epochs are finished or `observer` stops the run. The state is saved in both cases.
    ///
    /// # Errors
    /// When an image cannot be read, the loss is not finite, or a file cannot be written.
    pub fn train(&mut self, mut observer: impl FnMut(Event<'_>) -> Control) -> Result<Outcome> {
        while self.position.epoch < self.config.recipe.epochs {
            if self.train_epoch(&mut observer)? == Control::Stop {
                self.save_state()?;
                return Ok(Outcome::Stopped);
            }
            if self.position.images == 0 {
                let problem = expected("at least one readable training image")
                    .found(format_args!("none of {}", self.data.train.len()));
                return Err(Error::format(self.config.data.display(), problem));
            }
            let model = self.model()?;
            let velocities = self.optimizer.state();
            self.folder.save_state(&model.weights, &velocities, &self.position)?;
            let mut control = Control::Continue;
            let evaluation = self.validate(&model, &mut |event| {
                control = control.or(observer(event));
                control
            })?;
            self.finish_epoch(model, &velocities, &evaluation)?;
            let metrics = self.position.metrics.last().expect("an epoch has just finished");
            if control.or(observer(Event::Epoch(metrics))) == Control::Stop
                && self.position.epoch < self.config.recipe.epochs
            {
                return Ok(Outcome::Stopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// The image indices of each step of `epoch`. Images left over after the last full batch are not used in this epoch.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let order = data::random::epoch_order(self.config.seed, epoch as u64, self.data.train.len());
        let batch = self.config.recipe.batch.min(order.len());
        order.chunks_exact(batch).map(<[usize]>::to_vec).collect()
    }

    fn loader(&self, batches: Vec<Vec<usize>>) -> Loader {
        let settings = data::LoaderSettings {
            seed: self.config.seed,
            epoch: self.position.epoch as u64,
            batches,
            transform: Transform {
                preprocessing: self.config.preprocessing.clone(),
                augmentation: Some(self.config.recipe.augmentation.clone()),
            },
            unreadable: self.unreadable(),
            workers: NonZeroUsize::new(self.config.threads).unwrap_or(NonZeroUsize::MIN),
        };
        Loader::new(Arc::clone(&self.images), settings)
    }

    fn unreadable(&self) -> Unreadable {
        if self.config.skip_unreadable { Unreadable::Skip } else { Unreadable::Refuse }
    }

    fn train_epoch(&mut self, observer: &mut impl FnMut(Event<'_>) -> Control) -> Result<Control> {
        let mut batches = self.batches(self.position.epoch);
        let steps = batches.len();
        let (before, start) = (self.position.seconds, Instant::now());
        let mut saved = Instant::now();
        for batch in self.loader(batches.split_off(self.position.step.min(steps))) {
            let batch = batch?;
            self.step(&batch, steps)?;
            self.position.seconds = before + start.elapsed().as_secs_f64();
            self.position.skipped += batch.skipped.len();
            let skipped = batch.skipped.iter().map(Event::Skipped);
            let events = skipped.chain([Event::Step(self.report(steps))]);
            // The observer sees every event, also after it has answered `Stop`.
            if events.fold(Control::Continue, |control, event| control.or(observer(event))) == Control::Stop {
                return Ok(Control::Stop);
            }
            if saved.elapsed() >= STATE_INTERVAL {
                self.save_state()?;
                saved = Instant::now();
            }
        }
        Ok(Control::Continue)
    }

    fn step(&mut self, batch: &data::LoadedBatch, steps: usize) -> Result<()> {
        let Config { recipe, preprocessing, .. } = &self.config;
        let done = self.position.epoch * steps + self.position.step;
        if !batch.labels.is_empty() {
            let rate = recipe.learning_rate_at(done, recipe.epochs * steps, steps);
            let images = Batch { images: batch.images.data(), size: preprocessing.size, labels: &batch.labels };
            let report = self.network.step(&images, &recipe.loss(), &mut self.optimizer, rate).map_err(|error| {
                // Images and labels have been checked, so the error is a loss that is not finite.
                let place = format!("epoch {}, step {}", self.position.epoch + 1, self.position.step + 1);
                error.with_hint(format_args!("the learning rate is {rate:.3}; try a lower one")).within(place)
            })?;
            self.position.loss_sum += report.loss * report.images as f64;
            self.position.images += report.images;
            self.position.correct += report.correct;
        }
        self.position.step += 1;
        Ok(())
    }

    fn report(&self, steps: usize) -> StepMetrics {
        let Position { epoch, step, loss_sum, images, correct, seconds, .. } = self.position;
        let seen = images.max(1) as f64;
        let left = ((self.config.recipe.epochs - epoch) * steps).saturating_sub(step);
        StepMetrics {
            epoch,
            step,
            steps,
            loss: loss_sum / seen,
            top1: correct as f64 / seen,
            images_per_second: images as f64 / seconds.max(1e-9),
            remaining: Duration::from_secs_f64(seconds / step.max(1) as f64 * left as f64),
        }
    }

    /// Evaluates the network as it is deployed: fused, on the engine.
    fn validate(&self, model: &Model, observer: &mut impl FnMut(Event<'_>) -> Control) -> Result<Evaluation> {
        let plain = model.fused(&self.fusion, self.fusion.apply(&model.weights)?);
        let settings = EvaluationSettings {
            engine: Engine { options: Options::default(), pool: Arc::clone(&self.pool) },
            batch: 64,
            unreadable: self.unreadable(),
        };
        let total = self.data.validation.len();
        evaluate(&plain, &self.data.validation, &settings, |done| {
            observer(Event::Validation { done, total });
        })
    }

    /// Completes the epoch of `model`, the current network, and writes all files, the state last.
    fn finish_epoch(&mut self, mut model: Model, velocities: &Weights, evaluation: &Evaluation) -> Result<()> {
        let Position { epoch, loss_sum, images, correct, skipped, seconds, .. } = self.position;
        let steps = self.position.step;
        let seen = images.max(1) as f64;
        self.position.metrics.push(EpochMetrics {
            epoch: epoch + 1,
            train_loss: loss_sum / seen,
            train_top1: correct as f64 / seen,
            validation_loss: Some(evaluation.loss),
            validation_top1: Some(evaluation.top1()),
            learning_rate: self.config.recipe.learning_rate_at(epoch * steps, self.config.recipe.epochs * steps, steps),
            images_per_second: images as f64 / seconds.max(1e-9),
            seconds: seconds + evaluation.time.as_secs_f64(),
            skipped: skipped + evaluation.skipped,
        });
        let best = self.position.best_correct.is_none_or(|best| evaluation.correct() > best);
        self.position = Position {
            epoch: epoch + 1,
            best_correct: if best { Some(evaluation.correct()) } else { self.position.best_correct },
            metrics: std::mem::take(&mut self.position.metrics),
            ..Position::default()
        };
        model.training = Some(self.record());
        self.folder.save_model("last.safetensors", &model)?;
        if best {
            self.folder.save_model("best.safetensors", &model)?;
        }
        self.folder.save_metrics(&self.position.metrics, self.config.architecture.name())?;
        self.folder.save_state(&model.weights, velocities, &self.position)
    }

    /// The current network in training form, with a record of its training.
    ///
    /// # Errors
    /// When a parameter is not finite.
    pub fn model(&self) -> Result<Model> {
        let Config { architecture, labels, preprocessing, .. } = &self.config;
        let mut model = Model::new(architecture.clone(), self.network.weights())?;
        model.labels = labels.clone();
        model.preprocessing = preprocessing.clone();
        model.training = Some(self.record());
        Ok(model)
    }

    /// The record of the training so far.
    fn record(&self) -> serde_json::Value {
        let Config { recipe, seed, fingerprint, .. } = &self.config;
        let record = Record {
            program: concat!("repvgg ", env!("CARGO_PKG_VERSION")),
            epochs: self.position.epoch,
            validation_top1: self.position.metrics.last().and_then(|metrics| metrics.validation_top1),
            seed: *seed,
            data_fingerprint: fingerprint,
            split: &self.data.split,
            training_images: &self.sample,
            fine_tuned: self.config.init_from.is_some(),
            recipe,
        };
        serde_json::to_value(record).expect("a record has only text and numbers")
    }

    fn save_state(&self) -> Result<()> {
        self.folder.save_state(&self.network.weights(), &self.optimizer.state(), &self.position)
    }
}

#[cfg(test)]
mod tests;

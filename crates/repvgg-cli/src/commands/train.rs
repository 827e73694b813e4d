//! `repvgg train`: a folder of images to a network in training form.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use repvgg::Form;
use repvgg::image::Preprocessing;
use repvgg::{Error, Model, Weights};
use repvgg_train::EpochMetrics;
use repvgg_train::data::{self, BUILT_IN, Data};
use repvgg_train::recipe::{Preset, Recipe};
use repvgg_train::run::{Config, Control, Event, Outcome as RunOutcome, Run, Step, fingerprint};

use super::Outcome;
use crate::progress::{duration, is_live};
use crate::source::{architecture, default_threads, open};

/// Train a network on images and keep everything in a run folder
///
/// DATA is `shapes` (the built-in images), a folder with train/<class>/… and val/<class>/…, one folder of class folders (a fifth is kept
/// for validation), or a folder with CIFAR-10's binary batches. A recipe is a preset and whatever is overridden here. Ctrl-C
/// finishes the step and saves; `--resume RUN` continues, also after a crash.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg train photos/ -o run                                  a first result within minutes
  repvgg train photos/ --model repvgg-a0 --preset imagenet-120 -o run
  repvgg train cifar-10-batches-bin/ --preset cifar10 -o run
  repvgg train photos/ --init-from other/best.safetensors -o run  fine-tune
  repvgg train --resume run")]
pub(crate) struct Arguments {
    /// The images, or `shapes` for the built-in set
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    data: Option<PathBuf>,
    /// The run folder to make
    #[arg(short, long, required_unless_present = "resume", conflicts_with = "resume")]
    output: Option<PathBuf>,
    /// Continue the run in this folder
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// An architecture's name (see `repvgg models`) or a specification file (*.toml) [default: the preset's]
    #[arg(long, value_name = "NAME|SPEC.toml", conflicts_with = "resume")]
    model: Option<String>,
    /// The recipe: quick, demo, cifar10, imagenet-120, ablation or ablation-quick
    #[arg(long, default_value = "quick", conflicts_with = "resume")]
    preset: String,
    /// Start from the weights of this model file in training form; a head for other classes starts afresh
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    init_from: Option<String>,
    /// Determines initial weights, order, augmentation and the split of a single folder
    #[arg(long, default_value_t = 0, conflicts_with = "resume")]
    seed: u64,
    /// Where to compute: cpu, or vulkan:0, wgpu:0, metal, cuda:0, rocm:0 where the program was built with that feature
    #[arg(long, default_value = "cpu", conflicts_with = "resume")]
    device: String,
    /// Threads [default: all cores]
    #[arg(long, conflicts_with = "resume")]
    threads: Option<usize>,
    /// Leave out images that cannot be read, and count them
    #[arg(long, conflicts_with = "resume")]
    skip_unreadable: bool,
    // Last: its heading holds for all that follow.
    #[command(flatten)]
    recipe: RecipeArguments,
}

/// What overrides the preset.
#[derive(clap::Args)]
#[command(next_help_heading = "Recipe (each overrides the preset)")]
struct RecipeArguments {
    /// Passes over the training images
    #[arg(long, conflicts_with = "resume")]
    epochs: Option<usize>,
    /// Images per step; the learning rate follows in proportion unless --lr is given
    #[arg(long, conflicts_with = "resume")]
    batch: Option<usize>,
    /// Learning rate after warm-up
    #[arg(long, conflicts_with = "resume")]
    lr: Option<f64>,
    /// Weight decay of kernels and matrices
    #[arg(long, conflicts_with = "resume")]
    weight_decay: Option<f64>,
    /// Share of the target spread over all classes
    #[arg(long, conflicts_with = "resume")]
    label_smoothing: Option<f64>,
    /// Epochs of linear warm-up
    #[arg(long, conflicts_with = "resume")]
    warmup: Option<f64>,
    /// Side of the network's square input in pixels [default: the images' own where they have one, else the preset's]
    #[arg(long, conflicts_with = "resume")]
    size: Option<usize>,
}

impl RecipeArguments {
    fn apply(&self, recipe: Recipe) -> Recipe {
        let mut recipe = match self.batch {
            Some(batch) if batch > 0 => recipe.with_batch(batch),
            Some(batch) => Recipe { batch, ..recipe },
            None => recipe,
        };
        let set = |field: &mut f64, value: Option<f64>| *field = value.unwrap_or(*field);
        set(&mut recipe.learning_rate, self.lr);
        set(&mut recipe.weight_decay, self.weight_decay);
        set(&mut recipe.label_smoothing, self.label_smoothing);
        set(&mut recipe.warmup_epochs, self.warmup);
        recipe.epochs = self.epochs.unwrap_or(recipe.epochs);
        if self.warmup.is_none() {
            // A preset's warm-up must not swallow a short run.
            recipe.warmup_epochs = recipe.warmup_epochs.min(recipe.epochs as f64 / 4.0);
        }
        recipe
    }
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let (mut run, path) = match &arguments.resume {
        Some(path) => {
            let run = Run::resume(path)?;
            let done = run.position();
            say(&format!("resuming {} after epoch {}, step {}", path.display(), done.epoch, done.step));
            (run, path)
        }
        None => {
            let path = arguments.output.as_ref().context("an output folder is required")?;
            (start(arguments, path)?, path)
        }
    };
    describe(&run);
    train_to_end(&mut run, path)
}

/// The run that the arguments describe.
fn start(arguments: &Arguments, path: &Path) -> anyhow::Result<Run> {
    let place = arguments.data.as_ref().context("data are required")?;
    let preset = Preset::named(&arguments.preset)?;
    let recipe = arguments.recipe.apply(preset.recipe);
    let data = data::open(place, arguments.seed)?;
    let pretrained = arguments.init_from.as_deref().map(|name| open(name, None)).transpose()?.map(|(model, _)| model);
    let network = match (&arguments.model, &pretrained) {
        (Some(name), _) => architecture(name)?,
        (None, Some(pretrained)) => pretrained.training_specification().ok_or_else(plain_form)?,
        (None, None) => preset.model,
    };
    let network = network.with_classes(data.labels.len())?;
    let preprocessing =
        preprocessing(&data, &recipe, (arguments.recipe.size, network.input_channels()), pretrained.as_ref());
    let weights = Weights::initialise(&network.training_graph()?, arguments.seed);
    let weights = match (&pretrained, &arguments.init_from) {
        (Some(pretrained), Some(file)) => transfer(weights, pretrained).with_context(|| file.clone())?,
        _ => weights,
    };
    let config = Config {
        data: absolute(place)?,
        fingerprint: fingerprint(&data)?,
        seed: arguments.seed,
        threads: arguments.threads.unwrap_or_else(default_threads).max(1),
        device: arguments.device.clone(),
        skip_unreadable: arguments.skip_unreadable,
        init_from: arguments.init_from.clone(),
        labels: data.labels.clone(),
        recipe,
        preprocessing,
        architecture: network,
    };
    Ok(Run::create(path, config, data, &weights)?)
}

fn absolute(place: &Path) -> anyhow::Result<PathBuf> {
    if place == Path::new(BUILT_IN) {
        return Ok(place.to_owned());
    }
    std::path::absolute(place).with_context(|| place.display().to_string())
}

/// The evaluation transform: whole images where all are squares of one size, a central crop elsewhere; a pretrained model's statistics.
fn preprocessing(
    data: &Data,
    recipe: &Recipe,
    (size, channels): (Option<usize>, usize),
    pretrained: Option<&Model>,
) -> Preprocessing {
    let known = pretrained.map(|model| model.preprocessing.clone()).unwrap_or_default();
    let size = size.or(data.side).or(pretrained.map(|model| model.preprocessing.size)).unwrap_or(recipe.size);
    let crop_fraction = if data.side.is_some() { 1.0 } else { known.crop_fraction };
    Preprocessing { size, crop_fraction, ..known }.for_channels(channels)
}

fn plain_form() -> Error {
    let what =
        "expected a model in training form, found plain form: a network without its branches does not train well";
    Error::weights("weights", what)
}

/// `fresh` with everything that `pretrained` has: all but a head for other classes.
fn transfer(mut fresh: Weights, pretrained: &Model) -> anyhow::Result<Weights> {
    if pretrained.form() == Form::Plain {
        return Err(plain_form().into());
    }
    let mut moved = 0;
    for (name, tensor) in pretrained.weights.iter() {
        let Some(target) = fresh.get(name) else {
            return Err(Error::weights(name, "unexpected, the network has no such parameter").into());
        };
        if target.shape() == tensor.shape() {
            fresh.insert(name, tensor.clone());
            moved += 1;
        } else if target.shape()[1..] != tensor.shape()[1..] || !pretrained.graph().is_head(name) {
            let what = format!("expected {:?}, found {:?}", target.shape(), tensor.shape());
            return Err(Error::weights(name, what).into());
        }
    }
    say(&format!("{moved} of {} parameters taken over", fresh.len()));
    Ok(fresh)
}

fn describe(run: &Run) {
    let config = run.config();
    let data = run.data();
    say(&format!(
        "{} on {}: {} classes, {} training and {} validation images, {}x{} pixels",
        config.architecture.name(),
        config.data.display(),
        config.labels.len(),
        data.train.len(),
        data.validation.len(),
        config.preprocessing.size,
        config.preprocessing.size
    ));
    let recipe = &config.recipe;
    say(&format!(
        "epochs {}, batch {}, learning rate {}, warm-up epochs {}, weight decay {}, label smoothing {}, seed {}, {} with {} threads",
        recipe.epochs,
        recipe.batch.min(data.train.len()),
        recipe.learning_rate,
        recipe.warmup_epochs,
        recipe.weight_decay,
        recipe.label_smoothing,
        config.seed,
        config.device,
        config.threads
    ));
}

/// Set by Ctrl-C and SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);

fn train_to_end(run: &mut Run, path: &Path) -> Outcome {
    let outcome = train(run, say)?;
    let best = run.position().metrics.iter().filter_map(|metrics| metrics.validation_top1).fold(0.0, f64::max);
    match outcome {
        RunOutcome::Finished => {
            let file = path.join("best.safetensors");
            say(&format!("best validation top-1 {:.2} %: {}", 100.0 * best, file.display()));
            say(&format!("next: repvgg fuse {} -o plain.safetensors", file.display()));
            Ok(ExitCode::SUCCESS)
        }
        RunOutcome::Stopped => {
            say(&format!("stopped and saved; continue with: repvgg train --resume {}", path.display()));
            Ok(ExitCode::from(130))
        }
    }
}

/// Trains with live progress, or lines that are given to `say`; Ctrl-C stops after the step.
pub(crate) fn train(run: &mut Run, say: fn(&str)) -> anyhow::Result<RunOutcome> {
    let stop = || {
        if STOP.swap(true, Ordering::SeqCst) {
            // Asked twice: at once. The run folder is whole at every moment.
            std::process::exit(130);
        }
    };
    // A second handler in one process is refused; the first one serves.
    let _ = ctrlc::set_handler(stop);
    let mut display = Display::new(run.config().recipe.epochs, say);
    let outcome = run.train(|event| {
        display.show(&event);
        if STOP.load(Ordering::SeqCst) { Control::Stop } else { Control::Continue }
    });
    display.close();
    Ok(outcome?)
}

/// A live line in a terminal; elsewhere a plain line every few seconds and one per epoch.
struct Display {
    epochs: usize,
    bar: Option<ProgressBar>,
    say: fn(&str),
    spoken: Instant,
    /// What was said about images that cannot be read: once for each.
    skipped: HashSet<String>,
}

/// How often a plain line is written within an epoch.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

impl Display {
    fn new(epochs: usize, say: fn(&str)) -> Self {
        let style =
            ProgressStyle::with_template("{prefix} {bar:20} {pos}/{len} {msg}").expect("the template is well formed");
        let bar = is_live().then(|| ProgressBar::new(0).with_style(style));
        Self { epochs, bar, say, spoken: Instant::now(), skipped: HashSet::new() }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Step(step) => self.step(step),
            Event::Validation(done, images) => self.validation(*done, *images),
            Event::Epoch(metrics) => self.line(&epoch_line(metrics, self.epochs)),
            Event::Skipped(error) => {
                let line = format!("skipped: {error}");
                if self.skipped.insert(line.clone()) {
                    self.line(&line);
                }
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let message = format!(
            "loss {:.4}  top-1 {:5.2} %  {:.0} images/s  {} left",
            step.loss,
            100.0 * step.top1,
            step.images_per_second,
            duration(step.remaining)
        );
        let prefix = format!("epoch {}/{}", step.epoch + 1, self.epochs);
        match &self.bar {
            Some(bar) => {
                bar.set_position(step.step as u64);
                bar.set_length(step.steps as u64);
                bar.set_prefix(prefix);
                bar.set_message(message);
            }
            None if self.spoken.elapsed() >= PLAIN_INTERVAL => {
                self.spoken = Instant::now();
                (self.say)(&format!("{prefix}  step {}/{}  {message}", step.step, step.steps));
            }
            None => {}
        }
    }

    fn validation(&self, done: usize, images: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_length(images as u64);
            bar.set_message("validating");
        }
    }

    fn line(&mut self, line: &str) {
        self.spoken = Instant::now();
        match &self.bar {
            Some(bar) => bar.println(line),
            None => (self.say)(line),
        }
    }

    fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn epoch_line(metrics: &EpochMetrics, epochs: usize) -> String {
    let skipped = match metrics.skipped {
        0 => String::new(),
        count => format!("  {count} images skipped"),
    };
    format!(
        "epoch {}/{epochs}  train loss {:.4} top-1 {:5.2} %  validation loss {:.4} top-1 {:5.2} %  {:.0} images/s  {}{skipped}",
        metrics.epoch,
        metrics.train_loss,
        100.0 * metrics.train_top1,
        metrics.validation_loss.unwrap_or(f64::NAN),
        100.0 * metrics.validation_top1.unwrap_or(f64::NAN),
        metrics.images_per_second,
        duration(Duration::from_secs_f64(metrics.seconds)),
    )
}

/// A line of progress on standard output; a reader that has gone away is no reason to stop training.
pub(crate) fn say(line: &str) {
    let _ = crate::output::print(&format!("{line}\n"));
}

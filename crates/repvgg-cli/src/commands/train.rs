//! `repvgg train`: training of a network on a folder of images.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use repvgg::Specification;
use repvgg_train::EpochMetrics;
use repvgg_train::augment::Crop;
use repvgg_train::data::Unreadable;
use repvgg_train::recipe::{Preset, Recipe};
use repvgg_train::run::{Control, Event, Outcome, Pretrained, Run, Setup, StepMetrics};

use super::CommandResult;
use crate::images::ImageOptions;
use crate::listed;
use crate::output::{note, warn};
use crate::progress::{duration, is_live};
use crate::source::open;

/// Train a network on a folder of images
///
/// The run folder records everything: configuration, metrics, curves, and the best and last model in training form. Ctrl-C finishes the
/// current step and saves. `--resume RUN` continues, even after a crash.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg train photos/ -o run                                       # a first result in minutes
  repvgg train photos/ --model repvgg-a0 --preset imagenet-120 -o run
  repvgg train cifar-10-batches-bin/ --preset cifar10 -o run
  repvgg train photos/ --init-from other/best.safetensors -o run    # fine-tune
  repvgg train --resume run
  repvgg train --resume run --epochs 100                            # train on, to 100 epochs in all")]
pub(crate) struct Arguments {
    /// Data set: a folder of images with one subfolder per class, or `shapes` for the built-in images
    ///
    /// The folder may have train/<class>/… and val/<class>/… (or Training and Testing, train_set and val_set, …), or only class folders (a
    /// fifth of each class is then held out for validation), or the binary batches of CIFAR-10.
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    data: Option<PathBuf>,
    /// Run folder to create
    #[arg(short, long, value_name = "RUN", required_unless_present = "resume", conflicts_with = "resume")]
    output: Option<PathBuf>,
    /// Continue the run in this folder
    #[arg(long, value_name = "RUN", conflicts_with = "no_orient")]
    resume: Option<PathBuf>,
    /// Network: the name of an architecture (see `repvgg models`) or a specification file (*.toml) [default: the preset's]
    #[arg(long, value_name = "NAME|SPEC.toml", conflicts_with = "resume")]
    model: Option<String>,
    /// Recipe
    #[arg(long, value_name = "NAME", default_value = "quick", value_parser = listed::preset(), conflicts_with = "resume")]
    preset: String,
    /// Start from the weights of this model in training form; a head for other classes starts from random weights
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    init_from: Option<String>,
    /// Seed of the initial weights, the order of images, their augmentation, and the split of a single folder
    #[arg(long, default_value_t = 0, conflicts_with = "resume")]
    seed: u64,
    /// Device to train on: cpu; vulkan:0, wgpu:0, metal, cuda:0 or rocm:0 if the program was built with that feature
    #[arg(long, default_value = "cpu", conflicts_with = "resume")]
    device: String,
    /// Number of CPU threads [default: all cores]
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    threads: Option<usize>,
    /// Skip and count images that cannot be read, instead of stopping
    #[arg(long, conflicts_with = "resume")]
    skip_unreadable: bool,
    #[command(flatten)]
    reading: ImageOptions,
    // This comes last because its heading applies to all options that follow.
    #[command(flatten)]
    recipe: RecipeArguments,
}

/// Options that override the preset.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Recipe (each option overrides the preset)")]
struct RecipeArguments {
    /// Passes over the training images; the warm-up takes at most a quarter of them unless --warmup is given. With --resume, the new
    /// number of epochs of the whole run, larger than before
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images per step; the learning rate scales in proportion unless --lr is given
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    batch: Option<usize>,
    /// Learning rate after warm-up, such as 0.1; it decays to 0 along a cosine
    #[arg(long, value_name = "RATE", conflicts_with = "resume")]
    lr: Option<f64>,
    /// Epochs over which the learning rate rises linearly from 0
    #[arg(long, value_name = "EPOCHS", conflicts_with = "resume")]
    warmup: Option<f64>,
    /// Momentum of SGD, such as 0.9
    #[arg(long, conflicts_with = "resume")]
    momentum: Option<f64>,
    /// Whether to use Nesterov momentum
    #[arg(long, value_name = "BOOL", conflicts_with = "resume")]
    nesterov: Option<bool>,
    /// Weight decay of kernels and matrices, such as 1e-4
    #[arg(long, value_name = "DECAY", conflicts_with = "resume")]
    weight_decay: Option<f64>,
    /// Whether the batch-norm scales of identity branches decay too
    #[arg(long, value_name = "BOOL", conflicts_with = "resume")]
    decay_identity_scale: Option<bool>,
    /// Share of the target that is spread evenly over all classes, 0 to 1
    #[arg(long, value_name = "SHARE", conflicts_with = "resume")]
    label_smoothing: Option<f64>,
    /// Side of the network's square input in pixels [default: that of the images if they all have the same, else the preset's]
    #[arg(long, value_name = "PIXELS", conflicts_with = "resume")]
    size: Option<usize>,
    /// Crop of training images, such as centre, shift:4 or resized:0.35-1
    ///
    /// * centre: the central part, as in evaluation
    ///
    /// * shift:PIXELS: the central part, shifted at random by up to PIXELS; borders are mirrored, or black with shift:PIXELS:black
    ///
    /// * resized:AREA-AREA: a random rectangle with an area in this range, as fractions of the image; its aspect ratio is 3/4 to 4/3, or
    ///   in the range of resized:AREA-AREA:RATIO-RATIO
    #[arg(long, conflicts_with = "resume")]
    crop: Option<Crop>,
    /// Probability of mirroring a training image left to right, 0 to 1
    #[arg(long, value_name = "PROBABILITY", conflicts_with = "resume")]
    flip: Option<f64>,
    /// Side in pixels of a square that is blanked at random in each training image; 0 for none
    #[arg(long, value_name = "PIXELS", conflicts_with = "resume")]
    cutout: Option<usize>,
}

impl RecipeArguments {
    fn apply(&self, recipe: Recipe) -> Recipe {
        let mut recipe = match self.batch {
            Some(batch) if batch > 0 => recipe.with_batch(batch),
            Some(batch) => Recipe { batch, ..recipe },
            None => recipe,
        };
        if let Some(epochs) = self.epochs {
            recipe = recipe.with_epochs(epochs);
        }
        set(&mut recipe.learning_rate, self.lr);
        set(&mut recipe.warmup_epochs, self.warmup);
        set(&mut recipe.momentum, self.momentum);
        set(&mut recipe.nesterov, self.nesterov);
        set(&mut recipe.weight_decay, self.weight_decay);
        set(&mut recipe.decay_identity_scale, self.decay_identity_scale);
        set(&mut recipe.label_smoothing, self.label_smoothing);
        set(&mut recipe.size, self.size);
        set(&mut recipe.augmentation.crop, self.crop.clone());
        set(&mut recipe.augmentation.flip, self.flip);
        set(&mut recipe.augmentation.cutout, self.cutout);
        recipe
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let (mut run, path) = match &arguments.resume {
        Some(path) => match resume(path, arguments.recipe.epochs)? {
            Some(run) => (run, path),
            None => return Ok(ExitCode::SUCCESS),
        },
        None => {
            let path = arguments.output.as_ref().context("an output folder is required")?;
            (start(arguments, path)?, path)
        }
    };
    describe(&run);
    train_to_end(&mut run, path)
}

/// Resumes a run, for `epochs` epochs in all if given; `None` if it is finished.
fn resume(path: &Path, epochs: Option<usize>) -> anyhow::Result<Option<Run>> {
    let mut run = Run::resume(path)?;
    let before = run.config().recipe.epochs;
    if let Some(epochs) = epochs {
        run.extend(epochs)?;
    }
    if run.is_finished() {
        let (best, file) = best(&run, path);
        print_line(&format!(
            "{} is finished, epoch {before} of {before}: best validation top-1 {best:.2} %, {file}",
            path.display()
        ));
        print_line(&format!(
            "to train on: repvgg train --resume {} --epochs N, with N greater than {before}",
            path.display()
        ));
        return Ok(None);
    }
    let position = run.position();
    print_line(&format!("resuming {} after epoch {}, step {}", path.display(), position.epoch, position.step));
    let after = run.config().recipe.epochs;
    if after > before {
        print_line(&format!(
            "training on to {after} epochs instead of {before}: the learning rate goes on at {:.6}, on the schedule of {after} epochs",
            run.learning_rate()
        ));
    }
    Ok(Some(run))
}

/// The best validation accuracy in percent, and the file of its model.
fn best(run: &Run, path: &Path) -> (f64, String) {
    let best = run.position().metrics.iter().filter_map(|metrics| metrics.validation_top1).fold(0.0, f64::max);
    (100.0 * best, path.join("best.safetensors").display().to_string())
}

/// Starts the run described by the arguments.
fn start(arguments: &Arguments, path: &Path) -> anyhow::Result<Run> {
    let setup = setup(arguments)?;
    let start = setup.assemble()?;
    if setup.pretrained.is_some() {
        print_line(&format!("{} of {} parameters transferred", start.transferred, start.weights.len()));
    }
    Ok(Run::create(path, start)?)
}

fn setup(arguments: &Arguments) -> anyhow::Result<Setup> {
    let data = arguments.data.as_ref().context("a data set is required")?;
    let preset = Preset::named(&arguments.preset)?;
    let preset = Preset { recipe: arguments.recipe.apply(preset.recipe), ..preset };
    let mut setup = match &arguments.init_from {
        Some(name) => {
            let pretrained = Pretrained { name: name.clone(), model: open(name)?.model };
            Setup::fine_tune(data, preset.recipe, pretrained)?
        }
        None => Setup::new(data, preset),
    };
    if let Some(name) = &arguments.model {
        setup.network = Specification::open(name)?;
    }
    Ok(Setup {
        size: arguments.recipe.size,
        seed: arguments.seed,
        threads: arguments.threads.unwrap_or(setup.threads).max(1),
        device: arguments.device.parse()?,
        orientation: arguments.reading.orientation(),
        unreadable: if arguments.skip_unreadable { Unreadable::Skip } else { Unreadable::Refuse },
        ..setup
    })
}

fn describe(run: &Run) {
    let config = run.config();
    let data = run.data();
    data.beside.sentences().for_each(|sentence| note(&sentence));
    print_line(&format!(
        "training {} on {}: {} classes, {} training and {} validation images, {}x{} pixels",
        config.architecture.name(),
        config.data.display(),
        config.labels.len(),
        data.train.len(),
        data.validation.len(),
        config.preprocessing.size[0],
        config.preprocessing.size[1]
    ));
    let recipe = &config.recipe;
    print_line(&format!(
        "epochs {}, batch {}, learning rate {}, warm-up epochs {}, weight decay {}, label smoothing {}, seed {}, device {}, {} threads",
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

fn train_to_end(run: &mut Run, path: &Path) -> CommandResult {
    let outcome = train(run, print_line)?;
    let parts = [&run.data().train, &run.data().validation];
    parts.iter().filter_map(|part| part.warning()).for_each(|warning| warn(&warning));
    match outcome {
        Outcome::Finished => {
            let (best, file) = best(run, path);
            print_line(&format!("best validation top-1 {best:.2} %: {file}"));
            print_line(&format!("next: repvgg fuse {file} -o plain.safetensors"));
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped => {
            print_line(&format!("stopped and saved; continue with: repvgg train --resume {}", path.display()));
            Ok(ExitCode::from(130))
        }
    }
}

/// Trains with a live progress bar. Outside a terminal, it passes progress lines to `print` instead. Ctrl-C stops after the current step.
pub(crate) fn train(run: &mut Run, print: fn(&str)) -> anyhow::Result<Outcome> {
    let stop = || {
        if STOP.swap(true, Ordering::SeqCst) {
            // A second Ctrl-C exits immediately. The run folder is consistent at any time.
            std::process::exit(130);
        }
    };
    // A process has one handler. Later calls fail and leave the first one in place.
    let _ = ctrlc::set_handler(stop);
    let mut display = Display::new(run.config().recipe.epochs, print);
    let outcome = run.train(|event| {
        display.show(&event);
        if STOP.load(Ordering::SeqCst) { Control::Stop } else { Control::Continue }
    });
    display.close();
    Ok(outcome?)
}

/// A progress bar in a terminal. Elsewhere, a line per epoch and one every [`PLAIN_INTERVAL`].
struct Display {
    epochs: usize,
    bar: Option<ProgressBar>,
    print: fn(&str),
    printed: Instant,
    /// The messages about unreadable images so far. Each is printed only once.
    skipped: HashSet<String>,
}

/// The time between two progress lines within an epoch.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

impl Display {
    fn new(epochs: usize, print: fn(&str)) -> Self {
        let style =
            ProgressStyle::with_template("{prefix} {bar:20} {pos}/{len} {msg}").expect("the template is well formed");
        let bar = is_live().then(|| ProgressBar::new(0).with_style(style));
        Self { epochs, bar, print, printed: Instant::now(), skipped: HashSet::new() }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Step(step) => self.step(step),
            Event::Validation { done, total } => self.validation(*done, *total),
            Event::Epoch(metrics) => self.line(&epoch_line(metrics, self.epochs)),
            Event::Skipped(error) => {
                let line = format!("skipped: {error}");
                if self.skipped.insert(line.clone()) {
                    self.line(&line);
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, step: &StepMetrics) {
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
            None if self.printed.elapsed() >= PLAIN_INTERVAL => {
                self.printed = Instant::now();
                (self.print)(&format!("{prefix}  step {}/{}  {message}", step.step, step.steps));
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
        self.printed = Instant::now();
        match &self.bar {
            Some(bar) => bar.println(line),
            None => (self.print)(line),
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

/// Prints a line to standard output. A closed pipe does not stop training.
pub(crate) fn print_line(line: &str) {
    let _ = crate::output::print(&format!("{line}\n"));
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[arg(long)]
        resume: bool,
        #[command(flatten)]
        recipe: RecipeArguments,
    }

    /// The fields of a JSON object and of nested objects, by path.
    fn leaves(path: &str, value: &Value) -> Vec<(String, Value)> {
        match value {
            Value::Object(fields) if !path.ends_with(".crop") => {
                fields.iter().flat_map(|(name, value)| leaves(&format!("{path}.{name}"), value)).collect()
            }
            leaf => vec![(path.to_owned(), leaf.clone())],
        }
    }

    #[test]
    fn every_field_of_a_recipe_can_be_overridden() {
        let options = "x --epochs 3 --batch 5 --lr 0.7 --warmup 0.5 --momentum 0.3 --nesterov false --weight-decay 0.01 \
                       --decay-identity-scale false --label-smoothing 0.2 --size 40 --crop shift:2 --flip 0.25 --cutout 7";
        let Options { recipe: overrides, .. } = Options::parse_from(options.split_whitespace());
        let preset = Preset::named("quick").unwrap().recipe;
        let json = |recipe: &Recipe| leaves("", &serde_json::to_value(recipe).unwrap());
        let (before, after) = (json(&preset), json(&overrides.apply(preset)));
        assert_eq!(before.len(), 13, "{before:?}");
        for (before, after) in before.iter().zip(&after) {
            assert!(before.0 == after.0 && before.1 != after.1, "{before:?} is not overridden: {after:?}");
        }
    }

    #[test]
    fn a_short_run_has_a_short_warm_up_by_default() {
        let preset = Preset::named("cifar10").unwrap().recipe;
        let short = RecipeArguments { epochs: Some(2), ..RecipeArguments::default() };
        assert_eq!(short.apply(preset.clone()).warmup_epochs, 0.5);
        assert_eq!(RecipeArguments { warmup: Some(1.5), ..short }.apply(preset).warmup_epochs, 1.5);
    }
}

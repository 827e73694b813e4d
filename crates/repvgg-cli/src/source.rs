//! Models and image sizes on the command line.

use std::path::{Path, PathBuf};

use repvgg::error::expected;
use repvgg::file::{read_bounded, refuse_overwrite};
use repvgg::formats::blocks::{LooseTensors, read_tensors};
use repvgg::image::{Interpolation, Preprocessing};
use repvgg::{Error, Model, Result, Specification, formats};
use repvgg_hub::{OpenOptions, Opened, Transfer};

use crate::listed;
use crate::output::line;
use crate::progress::bytes_bar;

/// The model of a command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelOptions {
    /// Model: a safetensors, PyTorch (.pth, .pt, .bin) or ONNX file, or a repository of the Hugging Face hub, hf:OWNER/NAME[@REVISION]
    ///
    /// The format is detected from the file's content, and the architecture and form from the names and shapes of its parameters.
    /// Parameters may have the names of the authors' code, timm or mmpretrain.
    pub(crate) model: String,
    /// Expected architecture: a name (see `repvgg models`) or a specification file (*.toml)
    ///
    /// A model with another architecture is an error. The option also chooses between architectures with identical parameters, and
    /// supplies the strides, which weights do not determine.
    #[arg(long, value_name = "NAME|SPEC.toml")]
    pub(crate) architecture: Option<String>,
    #[command(flatten)]
    pub(crate) unstated: Unstated,
}

/// The heading of [`Unstated`].
const UNSTATED: &str = "What the file of the (first) model does not state";

/// Options about what a model's file does not state. A model that is written keeps them.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Unstated {
    /// Set of weights to read from a checkpoint with several, such as ema, or prefix of the parameters' names
    #[arg(long, value_name = "KEY", help_heading = UNSTATED)]
    weights: Option<String>,
    /// Epsilon of the batch norms [default: 1e-5, or that of the published network]
    #[arg(long, value_name = "NUMBER", help_heading = UNSTATED)]
    pub(crate) eps: Option<f64>,
    /// Mean of each channel, for values from 0 to 1, such as 0.5,0.5,0.5 [default: ImageNet's]
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', allow_negative_numbers = true, help_heading = UNSTATED)]
    mean: Option<Vec<f32>>,
    /// Standard deviation of each channel, for values from 0 to 1 [default: ImageNet's]
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', allow_negative_numbers = true, help_heading = UNSTATED)]
    std: Option<Vec<f32>>,
    /// Size of the network's input in pixels: S for a square, or HxW [default: the published network's]
    ///
    /// A model that is written keeps it, unlike the --size of other commands, which holds for one run.
    #[arg(long, value_name = "HxW", value_parser = parse_size, help_heading = UNSTATED)]
    image_size: Option<[usize; 2]>,
    /// Size of the central crop divided by that of the resized image [default: 0.875, or 1 for inputs below 128 pixels]
    #[arg(long, value_name = "FRACTION", help_heading = UNSTATED)]
    crop_fraction: Option<f32>,
    /// Resampling filter of the resize [default: bilinear]
    #[arg(long, value_name = "FILTER", value_parser = listed::interpolation(), help_heading = UNSTATED)]
    interpolation: Option<Interpolation>,
    /// Text file with the name of one class per line, in the order of the outputs
    #[arg(long, value_name = "FILE", help_heading = UNSTATED)]
    labels: Option<PathBuf>,
}

impl Unstated {
    /// The options about the weights, and whether each is given.
    pub(crate) fn of_weights(&self) -> [(&'static str, bool); 2] {
        [("--weights", self.weights.is_some()), ("--eps", self.eps.is_some())]
    }

    /// The options about images and classes, and whether each is given.
    pub(crate) fn of_images(&self) -> [(&'static str, bool); 6] {
        [
            ("--mean", self.mean.is_some()),
            ("--std", self.std.is_some()),
            ("--image-size", self.image_size.is_some()),
            ("--crop-fraction", self.crop_fraction.is_some()),
            ("--interpolation", self.interpolation.is_some()),
            ("--labels", self.labels.is_some()),
        ]
    }

    fn states_preprocessing(&self) -> bool {
        self.of_images().iter().any(|&(option, is_given)| is_given && option != "--labels")
    }

    /// What a file's reader needs.
    fn file(&self, architecture: Option<Specification>) -> formats::OpenOptions {
        formats::OpenOptions { architecture, weights: self.weights.clone(), epsilon: self.eps }
    }

    /// Uses whole images if all are squares of the network's `side`, and nothing states a crop.
    pub(crate) fn suit(&self, opened: &mut Opened, side: Option<usize>) {
        let preprocessing = &mut opened.model.preprocessing;
        let is_whole = side.is_some_and(|side| preprocessing.size == [side; 2]);
        if is_whole && !opened.has_preprocessing && self.crop_fraction.is_none() {
            preprocessing.crop_fraction = 1.0;
        }
    }

    /// Adds the stated preprocessing and labels to a model.
    fn apply(&self, opened: &mut Opened) -> Result<()> {
        let model = &mut opened.model;
        let preprocessing = &mut model.preprocessing;
        if let Some(size) = self.image_size {
            preprocessing.size = size;
            if !opened.has_preprocessing {
                preprocessing.crop_fraction = Preprocessing::usual(size).crop_fraction;
            }
        }
        for (given, used) in [(&self.mean, &mut preprocessing.mean), (&self.std, &mut preprocessing.std)] {
            if let Some(given) = given {
                used.clone_from(given);
            }
        }
        preprocessing.crop_fraction = self.crop_fraction.unwrap_or(preprocessing.crop_fraction);
        preprocessing.interpolation = self.interpolation.unwrap_or(preprocessing.interpolation);
        if let Some(path) = &self.labels {
            model.labels = read_labels(path)?;
            model.check_annotations().map_err(|error| error.within(path.display()))?;
        }
        model.check_annotations()
    }
}

/// Reads a text file of one label per line.
fn read_labels(path: &Path) -> Result<Vec<String>> {
    const LIMIT: u64 = 16 << 20;
    let text = String::from_utf8(read_bounded(path, LIMIT)?);
    let text = text.map_err(|_| Error::format(path.display(), expected("text in UTF-8").found("other bytes")))?;
    Ok(text.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect())
}

impl ModelOptions {
    /// Opens the model.
    pub(crate) fn open(&self) -> Result<Model> {
        self.open_with_origin().map(|opened| opened.model)
    }

    /// Opens the model, with the origin of its file.
    pub(crate) fn open_with_origin(&self) -> Result<Opened> {
        let options = self.options()?;
        self.complete(with_progress(|progress| repvgg_hub::open(&self.model, &options, progress)))
    }

    /// Reads the tensors of the model's file without finding a network among them; `None` for a file of another kind.
    pub(crate) fn read_tensors(&self) -> Result<Option<LooseTensors>> {
        read_tensors(Path::new(&self.model), self.unstated.weights.as_deref())
    }

    /// Opens the model. For the name of an architecture, the plain form with initial weights.
    pub(crate) fn open_or_initialise(&self) -> Result<Opened> {
        let options = self.options()?;
        self.complete(with_progress(|progress| repvgg_hub::open_or_initialise(&self.model, &options, progress)))
    }

    /// Adds the options to an opened model, and prints the remarks about its file.
    fn complete(&self, opened: Result<Opened>) -> Result<Opened> {
        let mut opened = opened.map_err(hint)?;
        note(&self.model, &opened);
        self.unstated.apply(&mut opened)?;
        Ok(opened)
    }

    fn options(&self) -> Result<OpenOptions> {
        let architecture = self.architecture.as_deref().map(Specification::open).transpose()?;
        Ok(OpenOptions { file: self.unstated.file(architecture), ..OpenOptions::default() })
    }

    /// Refuses to overwrite the model's own file.
    pub(crate) fn refuse_overwrite(&self, output: &Path) -> Result<()> {
        refuse_overwrite(Path::new(&self.model), output)
    }
}

/// Opens the model called `name`, and prints the remarks about its file.
pub(crate) fn open(name: &str) -> Result<Opened> {
    open_with(name, &Unstated::default())
}

/// Opens the model called `name`, with what its file does not state, and prints the remarks about the file.
pub(crate) fn open_with(name: &str, unstated: &Unstated) -> Result<Opened> {
    let options = OpenOptions { file: unstated.file(None), ..OpenOptions::default() };
    let mut opened = with_progress(|progress| repvgg_hub::open(name, &options, progress)).map_err(hint)?;
    note(name, &opened);
    unstated.apply(&mut opened)?;
    Ok(opened)
}

/// Names the option that resolves an ambiguity.
fn hint(error: Error) -> Error {
    let is_about_weights = error.places().any(|place| place == "weights");
    match error.is_ambiguous() {
        true if is_about_weights => error.with_hint("choose one with --weights"),
        true => error.with_hint("choose one with --architecture"),
        false => error,
    }
}

/// Prints the remarks about a model's file.
fn note(name: &str, opened: &Opened) {
    for remark in &opened.remarks {
        eprintln!("note: {}", line(&format!("{name}: {remark}")));
    }
}

/// Prints how images are prepared, and who says so.
pub(crate) fn note_preprocessing(opened: &Opened, unstated: &Unstated) {
    let Preprocessing { size: [height, width], crop_fraction, interpolation, mean, std } = &opened.model.preprocessing;
    let says = match (opened.has_preprocessing, unstated.states_preprocessing()) {
        (true, false) => "as the model states",
        (true, true) => "as the model and the options state",
        (false, true) => "as the options state; the rest is assumed",
        (false, false) => "assumed, because the model does not state it",
    };
    eprintln!(
        "images: {height}x{width}, crop {crop_fraction}, {}, mean {mean:?}, std {std:?} ({says})",
        interpolation.name()
    );
}

/// Opens a model, with a progress bar for downloads.
fn with_progress(open: impl FnOnce(&mut dyn FnMut(Transfer<'_>)) -> Result<Opened>) -> Result<Opened> {
    let progress = bytes_bar();
    let opened = open(&mut |Transfer { file, done, size }| {
        progress.set_message(file.to_owned());
        progress.set_length(size);
        progress.set_position(done);
    });
    progress.finish_and_clear();
    opened
}

/// The default number of threads: one per core.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Parses `224` or `192x256` as `[height, width]`.
pub(crate) fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let extent = |text: &str| match text.parse::<usize>() {
        Ok(extent) if (1..=1 << 14).contains(&extent) => Ok(extent),
        _ => Err(format!("expected 1 to {} pixels, found {text:?}", 1 << 14)),
    };
    match text.split_once('x') {
        Some((height, width)) => Ok([extent(height)?, extent(width)?]),
        None => extent(text).map(|side| [side; 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_squares_or_heights_by_widths() {
        assert_eq!(parse_size("224"), Ok([224; 2]));
        assert_eq!(parse_size("225x297"), Ok([225, 297]));
        assert_eq!(parse_size("0"), Err("expected 1 to 16384 pixels, found \"0\"".to_owned()));
        assert!(parse_size("axb").is_err());
    }
}

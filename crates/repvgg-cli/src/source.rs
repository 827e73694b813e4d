//! Models and image sizes on the command line.

use std::path::Path;

use repvgg::file::refuse_overwrite;
use repvgg::{Model, Result, Specification};
use repvgg_hub::{OpenOptions, Opened, Transfer};

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
}

impl ModelOptions {
    /// Opens the model.
    pub(crate) fn open(&self) -> Result<Model> {
        self.open_with_origin().map(|opened| opened.model)
    }

    /// Opens the model, with the origin of its file.
    pub(crate) fn open_with_origin(&self) -> Result<Opened> {
        let opened = with_progress(|progress| repvgg_hub::open(&self.model, &self.options()?, progress));
        opened.map_err(|error| match error.is_ambiguous() {
            true => error.with_hint("choose one with --architecture"),
            false => error,
        })
    }

    /// Opens the model. For the name of an architecture, the plain form with initial weights.
    pub(crate) fn open_or_initialise(&self) -> Result<Opened> {
        with_progress(|progress| repvgg_hub::open_or_initialise(&self.model, &self.options()?, progress))
    }

    fn options(&self) -> Result<OpenOptions> {
        let architecture = self.architecture.as_deref().map(Specification::open).transpose()?;
        Ok(OpenOptions { architecture, ..OpenOptions::default() })
    }

    /// Refuses to overwrite the model's own file.
    pub(crate) fn refuse_overwrite(&self, output: &Path) -> Result<()> {
        refuse_overwrite(Path::new(&self.model), output)
    }
}

/// Opens the model called `name`.
pub(crate) fn open(name: &str) -> Result<Opened> {
    with_progress(|progress| repvgg_hub::open(name, &OpenOptions::default(), progress))
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

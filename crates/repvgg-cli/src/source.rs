//! What MODEL, NAME and sizes on the command line mean.

use std::path::{Path, PathBuf};

use anyhow::Context;
use repvgg::checkpoint::{self, Config, Origin};
use repvgg::engine::Tuning;
use repvgg::zoo::BLOCKS;
use repvgg::{Architecture, Error, Model, Result};
use repvgg_hub::{Repository, Settings, Snapshot};

use crate::progress::bytes_bar;

/// The model that a command works on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelOptions {
    /// A model: .safetensors with official, timm or mmpretrain names, a PyTorch checkpoint (.pth, .pt, .bin), ONNX, or a hub's repository,
    /// hf:OWNER/NAME[@REVISION]; files are told apart by content, architecture and form by names and shapes
    pub(crate) model: String,
    /// The architecture that the file should have, by name (see `repvgg models`) or specification file: another one is an error, and
    /// its strides, which weights do not show, are used
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
}

impl ModelOptions {
    /// The model.
    pub(crate) fn open(&self) -> Result<Model> {
        self.open_with_origin().map(|(model, _)| model)
    }

    /// The model, and what kind of file it comes from.
    pub(crate) fn open_with_origin(&self) -> Result<(Model, Origin)> {
        let named = self.architecture.as_deref().map(architecture).transpose()?;
        open(&self.model, named.as_ref()).map_err(|error| match error.is_ambiguous() {
            true => error.with_hint("pick one with --architecture"),
            false => error,
        })
    }

    /// The model in a file, or a fresh one in plain form where the name is an architecture's and no file's.
    pub(crate) fn open_or_fresh(&self) -> anyhow::Result<Model> {
        if self.is_model() { Ok(self.open()?) } else { fresh(&self.model) }
    }

    /// The file that the model is in, if there is one here.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        (is_model(&self.model) && !Repository::is_meant_by(&self.model)).then(|| PathBuf::from(&self.model))
    }

    /// Whether a model is meant rather than an architecture's name or specification.
    pub(crate) fn is_model(&self) -> bool {
        is_model(&self.model)
    }

    /// Refuses an output that is the model's own file.
    pub(crate) fn keep(&self, output: &Path) -> Result<()> {
        keep(&self.model, output)
    }

    /// The measured choices that are kept beside the model file; none where there is no such file.
    pub(crate) fn tuning(&self) -> Result<Tuning> {
        let path = self.file().map(|file| Tuning::path(&file)).filter(|path| path.exists());
        path.map_or_else(|| Ok(Tuning::new()), |path| Tuning::load(&path))
    }
}

/// Refuses an output that is the file which describes or holds the model called `name`.
pub(crate) fn keep(name: &str, output: &Path) -> Result<()> {
    match (std::fs::canonicalize(name), std::fs::canonicalize(output)) {
        (Ok(model), Ok(output_file)) if model == output_file => {
            Err(Error::spec(output.display(), "expected another file than the model: it would be lost"))
        }
        _ => Ok(()),
    }
}

/// Opens the model called `name`, a file's or a hub repository's, which should be the architecture `named`, if any is.
pub(crate) fn open(name: &str, named: Option<&Architecture>) -> Result<(Model, Origin)> {
    if !Repository::is_meant_by(name) {
        return checkpoint::open(Path::new(name), named);
    }
    let repository = Repository::parse(name)?;
    let snapshot = fetch(&repository)?;
    let config = snapshot.read_config().map_err(|error| error.within(name))?;
    let expected = named.cloned().or_else(|| config.as_ref().and_then(Config::named));
    let (model, origin) = checkpoint::open(&snapshot.weights, expected.as_ref())?;
    match config {
        Some(config) => Ok((config.apply(model).map_err(|error| error.within(name))?, origin)),
        None => Ok((model, origin)),
    }
}

/// The files of a hub repository, fetched with a progress bar where they are not in the cache.
fn fetch(repository: &Repository) -> Result<Snapshot> {
    let progress = bytes_bar();
    let snapshot = repvgg_hub::fetch(repository, &Settings::from_env()?, &mut |file, done, size| {
        progress.set_message(file.to_owned());
        progress.set_length(size);
        progress.set_position(done);
    });
    progress.finish_and_clear();
    snapshot
}

/// The architecture that `name` is: an official name, or a specification file (`*.toml`).
pub(crate) fn architecture(name: &str) -> Result<Architecture> {
    if let Some(architecture) = Architecture::named(name) {
        return Ok(architecture);
    }
    if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        return Architecture::from_spec_file(Path::new(name));
    }
    if let Some((_, block)) = name.split_once(':').filter(|(network, _)| Architecture::named(network).is_some()) {
        let known = BLOCKS.iter().map(|block| block.name).collect::<Vec<_>>().join(", ");
        return Err(Error::spec("model", format!("expected a RepVGG with a block of {known}, found {block:?}")));
    }
    let nearest = Architecture::nearest_names(&name.chars().take(64).collect::<String>()).join(", ");
    let what = format!(
        "expected a specification file (*.toml) or an architecture's name (see `repvgg models`; the nearest are {nearest}), found {name}"
    );
    Err(Error::spec("model", what))
}

/// Whether `name` is a model's rather than an architecture's or a specification's: it exists, or looks like a path.
pub(crate) fn is_model(name: &str) -> bool {
    let path = Path::new(name);
    let is_specification = path.extension().is_some_and(|extension| extension == "toml");
    !is_specification && (path.exists() || path.extension().is_some() || name.contains('/'))
}

/// A fresh network in plain form.
fn fresh(name: &str) -> anyhow::Result<Model> {
    Model::initialise(architecture(name)?, 0)?.fuse().context("fresh weights")
}

/// Threads to use where none are asked for: all that the machine offers.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `224` or `192x256` as `[height, width]`.
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

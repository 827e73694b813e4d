//! What MODEL, NAME and sizes on the command line mean.

use std::path::Path;

use anyhow::Context;
use repvgg::zoo::Form;
use repvgg::{Architecture, Error, Model, Result};
use repvgg_train::initialise;

/// The architecture that `name` is: an official name, or a specification file (`*.toml`).
pub(crate) fn architecture(name: &str) -> Result<Architecture> {
    if let Some(architecture) = Architecture::named(name) {
        return Ok(architecture);
    }
    if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        return Architecture::from_spec_file(Path::new(name));
    }
    let known = Architecture::names().collect::<Vec<_>>().join(", ");
    Err(Error::spec("model", format!("expected a specification file (*.toml) or one of {known}, found {name}")))
}

/// Whether `name` is a model file's rather than an architecture's or a specification's: it exists, or looks like a path.
pub(crate) fn is_model_file(name: &str) -> bool {
    let path = Path::new(name);
    let is_specification = path.extension().is_some_and(|extension| extension == "toml");
    !is_specification && (path.exists() || path.extension().is_some() || name.contains('/'))
}

/// The model in a file, or a fresh one in plain form where `name` is an architecture and no file.
pub(crate) fn model_or_fresh(name: &str) -> anyhow::Result<Model> {
    if is_model_file(name) {
        return Ok(Model::load(Path::new(name))?);
    }
    let architecture = architecture(name)?;
    let weights = initialise(&architecture.training_graph()?, 0);
    let fresh = Model {
        architecture,
        form: Form::Training,
        weights,
        labels: Vec::new(),
        preprocessing: repvgg::image::Preprocessing::default(),
        training: None,
    };
    fresh.fuse().context("fresh weights")
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

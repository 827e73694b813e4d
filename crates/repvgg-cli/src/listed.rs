//! Options whose values are names from a list: help texts and shell completions show the list.

use clap::builder::{PossibleValue, TypedValueParser};
use repvgg::engine::{Algorithm, Level};
use repvgg::image::Interpolation;
use repvgg::zoo::{BLOCKS, BlockKind};
use repvgg_train::recipe::Preset;

/// A parser of names.
#[derive(Clone)]
pub(crate) struct Listed<T> {
    parse: fn(&str) -> Result<T, String>,
    names: fn() -> Vec<String>,
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Listed<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, clap::Error> {
        self.parse.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.names)().into_iter().map(PossibleValue::new)))
    }
}

/// An instruction set of this processor.
pub(crate) fn level() -> Listed<Level> {
    Listed { parse: parse_level, names: || Level::NAMES.iter().map(ToString::to_string).collect() }
}

fn parse_level(name: &str) -> Result<Level, String> {
    let names = Level::NAMES.join(", ");
    Level::named(name).ok_or_else(|| format!("expected one of {names} that this processor supports, found {name}"))
}

/// An algorithm of a convolution.
pub(crate) fn algorithm() -> Listed<Algorithm> {
    Listed {
        parse: |name| name.parse().map_err(|error: <Algorithm as std::str::FromStr>::Err| error.to_string()),
        names: || Algorithm::ALL.iter().map(ToString::to_string).collect(),
    }
}

/// The name of a preset. The library refuses unknown ones.
pub(crate) fn preset() -> Listed<String> {
    Listed { parse: |name| Ok(name.to_owned()), names: || Preset::names().map(ToOwned::to_owned).collect() }
}

/// A resampling filter.
pub(crate) fn interpolation() -> Listed<Interpolation> {
    let names = || Interpolation::ALL.iter().map(|filter| filter.name().to_owned()).collect();
    Listed { parse: parse_interpolation, names }
}

fn parse_interpolation(name: &str) -> Result<Interpolation, String> {
    let found = Interpolation::ALL.into_iter().find(|filter| filter.name() == name);
    found.ok_or_else(|| {
        format!("expected one of {}, found {name}", Interpolation::ALL.map(Interpolation::name).join(", "))
    })
}

/// A kind of block.
pub(crate) fn block() -> Listed<BlockKind> {
    Listed { parse: parse_block, names: || block_names().map(ToOwned::to_owned).collect() }
}

fn block_names() -> impl Iterator<Item = &'static str> {
    BLOCKS.iter().map(|block| block.name)
}

fn parse_block(name: &str) -> Result<BlockKind, String> {
    BlockKind::named(name).ok_or_else(|| {
        let known = block_names().collect::<Vec<_>>().join(", ");
        format!("expected one or more of {known}, found {name:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses every name that help and completions show, except the levels that this processor lacks.
    #[test]
    fn every_listed_name_is_accepted() {
        fn accepts<T>(Listed { parse, names }: Listed<T>) {
            assert!(!names().is_empty());
            for name in names() {
                assert!(parse(&name).is_ok(), "{name}");
            }
        }
        accepts(algorithm());
        accepts(block());
        accepts(interpolation());
        assert!((preset().names)().iter().all(|name| Preset::named(name).is_ok()));
    }

    #[test]
    fn only_levels_of_this_processor_are_accepted() {
        assert!(parse_level("portable").is_ok());
        let expected = "expected one of portable, avx2, avx512 that this processor supports, found sse9".to_owned();
        assert_eq!(parse_level("sse9"), Err(expected));
    }
}

//! What a family of networks is: one file with its specification, its table and its builder.
//!
//! A file under `zoo/` that implements [`Family`] and is named in the list of [`zoo`](super) is all that a new
//! architecture takes: its networks are then listed, counted, trained, fused, exported and checked like all others.

use serde::de::DeserializeOwned;

use super::AnyGraph;
use crate::error::{Problem, expected};
use crate::{Error, Graph, Result};

/// A family of networks: its specification is data, its graph a fold over them.
pub(super) trait Family: DeserializeOwned {
    /// What `family` is called in specification files.
    const NAME: &'static str;

    /// The published networks.
    fn networks() -> Vec<Network<Self>>;

    /// The same for square images of another side, in pixels: a matter of those whose padding depends on it.
    #[must_use]
    fn sized(self, _size: usize) -> Self {
        self
    }

    /// The graph that is trained, under the parameter names of torchvision, or of timm where torchvision has no such
    /// network.
    ///
    /// # Errors
    /// When the specification describes nothing that can be built.
    fn graph(&self) -> Result<Graph>;
}

/// A published network.
pub(super) struct Network<F> {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// The side of the square images that it is published for, in pixels.
    pub(super) size: usize,
    /// What it is.
    pub(super) spec: F,
}

/// A family without its type.
pub(super) struct Entry {
    pub(super) name: &'static str,
    names: fn() -> Vec<&'static str>,
    named: fn(&str) -> Option<AnyGraph>,
    read: fn(toml::Table, &str) -> Result<AnyGraph>,
}

impl Entry {
    pub(super) const fn of<F: Family>() -> Self {
        Self {
            name: F::NAME,
            names: || F::networks().iter().map(|network| network.name).collect(),
            named: |name| {
                let network = F::networks().into_iter().find(|network| network.name.eq_ignore_ascii_case(name))?;
                let Network { name, size, spec } = network;
                let graph = spec.sized(size).graph().expect("a published network can be built");
                Some(AnyGraph { name: name.to_owned(), size, graph })
            },
            read: |mut table, name| {
                let size = image_size(&mut table)?;
                let spec: F = table.try_into().map_err(|error: toml::de::Error| {
                    Error::spec("specification", super::spec_file::one_line(error.message()))
                })?;
                let graph = spec.sized(size).graph().map_err(|error| error.within(name))?;
                graph.check()?;
                // Whatever does not fit together is found now, and not when images arrive.
                graph.shapes([size; 2])?;
                Ok(AnyGraph { name: name.to_owned(), size, graph })
            },
        }
    }

    /// The names of its published networks.
    pub(super) fn names(&self) -> Vec<&'static str> {
        (self.names)()
    }

    /// The published network of a name, in any case.
    pub(super) fn named(&self, name: &str) -> Option<AnyGraph> {
        (self.named)(name)
    }

    /// The network that a table describes; `size` is the side of its images.
    pub(super) fn read(&self, table: toml::Table, name: &str) -> Result<AnyGraph> {
        (self.read)(table, name)
    }
}

/// The side of the images that a specification is for.
fn image_size(table: &mut toml::Table) -> Result<usize> {
    match table.remove("size") {
        None => Ok(super::any::IMAGE_SIZE),
        Some(toml::Value::Integer(size)) if (1..=1 << 14).contains(&size) => Ok(size as usize),
        Some(other) => Err(wrong("size", expected(format_args!("1 to {} pixels", 1 << 14)).found(other))),
    }
}

/// Checks the counts of a specification: each is at least 1 and no larger than any network's.
///
/// # Errors
/// Names the first that is not, what was expected and what was found.
pub(super) fn check_counts(counts: &[(&str, usize)]) -> Result<()> {
    counts.iter().try_for_each(|&(what, count)| check(what, count, 1 << 16))
}

/// Checks the numbers of layers in a specification's stages, as [`check_counts`].
///
/// # Errors
/// As [`check_counts`].
pub(super) fn check_depths(depths: &[usize]) -> Result<()> {
    depths.iter().try_for_each(|&depth| check("depths", depth, 1 << 10))
}

fn check(what: &str, count: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(wrong(what, expected(format_args!("1 to {most}")).found(count)))
}

/// A field of a specification that nothing can be built from.
pub(super) fn wrong(field: &str, problem: Problem) -> Error {
    Error::spec(field, problem).within("specification")
}

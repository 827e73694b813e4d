//! A family of networks: one file with its specification, its table and its builder.
//!
//! A new architecture takes only a file under `zoo/` that implements [`Family`] and an entry in the list of [`zoo`](super).
//! Its networks are then listed, counted, trained, fused, exported and checked like all others.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Problem, expected};
use crate::weights::Shapes;
use crate::{Error, Graph, Result};

/// The specification of a family's networks, from which alone their graphs are built.
pub(super) trait Family: Clone + Serialize + DeserializeOwned {
    /// The published networks.
    fn networks() -> Vec<Network<Self>>;

    /// Adapts to square images of this side, in pixels. Families whose graph depends on it override this.
    #[must_use]
    fn for_size(self, _size: usize) -> Self {
        self
    }

    /// Drops auxiliary classifiers. Families that have some override this.
    #[must_use]
    fn without_auxiliary_heads(self) -> Self {
        self
    }

    /// The number of classes. [`class_fields`] implements this and the next two methods.
    fn classes(&self) -> usize;

    /// Changes the number of classes.
    #[must_use]
    fn with_classes(self, classes: usize) -> Self;

    /// The channels of the images.
    fn input_channels(&self) -> usize;

    /// The training graph, with the parameter names of torchvision, or of timm if torchvision has no such network.
    ///
    /// # Errors
    /// When the specification is invalid.
    fn graph(&self) -> Result<Graph>;
}

/// Implements the methods of [`Family`] for the fields `classes` and `input_channels`, which all families have.
macro_rules! class_fields {
    () => {
        fn classes(&self) -> usize {
            self.classes
        }

        fn with_classes(self, classes: usize) -> Self {
            Self { classes, ..self }
        }

        fn input_channels(&self) -> usize {
            self.input_channels
        }
    };
}
pub(super) use class_fields;

/// A published network.
pub(super) struct Network<F> {
    /// Its name in the literature, in lower case.
    pub(super) name: &'static str,
    /// The side of the square images that it is published for, in pixels.
    pub(super) size: usize,
    /// Its specification.
    pub(super) spec: F,
}

/// Any network of a family, published or not: `{"name": …, "size": …}` and the family's own fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Member<F> {
    name: String,
    /// The side of the square images that it is meant for, in pixels.
    size: usize,
    #[serde(flatten)]
    spec: F,
}

/// The operations common to all specifications.
pub(super) trait Described {
    fn name(&self) -> &str;
    /// The side of the square images that the network is meant for, in pixels.
    fn image_size(&self) -> usize;
    fn classes(&self) -> usize;
    fn input_channels(&self) -> usize;
    /// The training graph.
    fn graph(&self) -> Result<Graph>;
    fn set_classes(&mut self, classes: usize) -> Result<()>;
    /// Adopts what the shapes of parameters reveal beyond the name: the classes, and whether there are auxiliary heads.
    fn adapt_to(&mut self, shapes: &Shapes);
}

/// The default side of images, in pixels.
pub(super) const IMAGE_SIZE: usize = 224;

/// The largest side of images in a specification, in pixels.
const MAX_SIZE: usize = 1 << 14;

pub(super) fn image_size() -> usize {
    IMAGE_SIZE
}

impl<F: Family> From<Network<F>> for Member<F> {
    fn from(Network { name, size, spec }: Network<F>) -> Self {
        Self { name: name.to_owned(), size, spec: spec.for_size(size) }
    }
}

impl<'de, F: Family> Deserialize<'de> for Member<F> {
    /// Reads a table first, because `flatten` would accept unknown fields.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = toml::Table::deserialize(deserializer)?;
        let name = fields.remove("name").map_or(Ok("custom".to_owned()), toml::Value::try_into);
        let size = match fields.remove("size") {
            None => IMAGE_SIZE,
            Some(toml::Value::Integer(size)) => usize::try_from(size).unwrap_or(0),
            Some(other) => return Err(D::Error::custom(invalid_size(other).within("specification"))),
        };
        let read = |error: toml::de::Error| D::Error::custom(one_line(error.message()));
        let spec: F = fields.try_into().map_err(read)?;
        Ok(Self { name: name.map_err(read)?, size, spec: spec.for_size(size) })
    }
}

fn invalid_size(found: impl std::fmt::Display) -> Error {
    Error::spec("size", expected(format_args!("1 to {MAX_SIZE} pixels")).found(found))
}

/// A library's message without its line breaks.
pub(super) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl<F: Family> Described for Member<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn image_size(&self) -> usize {
        self.size
    }

    fn classes(&self) -> usize {
        self.spec.classes()
    }

    fn input_channels(&self) -> usize {
        self.spec.input_channels()
    }

    fn graph(&self) -> Result<Graph> {
        if !(1..=MAX_SIZE).contains(&self.size) {
            return Err(invalid_size(self.size).within("specification"));
        }
        self.spec.graph().map_err(|error| error.within(&self.name))
    }

    fn set_classes(&mut self, classes: usize) -> Result<()> {
        self.spec = self.spec.clone().with_classes(classes);
        Ok(())
    }

    fn adapt_to(&mut self, shapes: &Shapes) {
        let Ok(graph) = self.spec.graph() else { return };
        if let Some(classes) = classes_in(&graph, shapes) {
            self.spec = self.spec.clone().with_classes(classes);
        }
        let inference = graph.inference();
        let is_auxiliary = |name: &str| {
            let node = name.rsplit_once('.').map_or("", |(node, _)| node);
            inference.find(node).is_none()
        };
        let mut parameters = graph.parameters();
        if !parameters.any(|(name, _)| is_auxiliary(&name) && shapes.contains_key(&name)) {
            self.spec = self.spec.clone().without_auxiliary_heads();
        }
    }
}

/// The most classes that the shape of a head may imply.
const CLASS_LIMIT: usize = 1 << 16;

/// The classes of a network like `graph` with parameters of these shapes: the rows of its head.
pub(super) fn classes_in(graph: &Graph, shapes: &Shapes) -> Option<usize> {
    let main = graph.main_output();
    graph.heads().iter().find(|(id, _)| *id == main)?;
    let rows = shapes.get(&format!("{}.weight", graph.node(main).name))?.first().copied();
    rows.filter(|rows| (1..=CLASS_LIMIT).contains(rows))
}

/// Checks that each count of a specification is at least 1, and plausible.
///
/// # Errors
/// Names the first field that is not.
pub(super) fn check_counts(counts: &[(&str, usize)]) -> Result<()> {
    counts.iter().try_for_each(|&(field, count)| check(field, count, 1 << 16))
}

/// Checks the number of layers in each stage of a specification, like [`check_counts`].
///
/// # Errors
/// As [`check_counts`].
pub(super) fn check_depths(depths: &[usize]) -> Result<()> {
    depths.iter().try_for_each(|&depth| check("depths", depth, 1 << 10))
}

fn check(field: &str, count: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(invalid(field, expected(format_args!("1 to {most}")).found(count)))
}

/// The error for a field of a specification.
pub(super) fn invalid(field: &str, problem: Problem) -> Error {
    Error::spec(field, problem).within("specification")
}

//! What a family of networks is: one file with its specification, its table and its builder.
//!
//! A file under `zoo/` that implements [`Family`] and is named in the list of [`zoo`](super) is all that a new
//! architecture takes: its networks are then listed, counted, trained, fused, exported and checked like all others.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Problem, expected};
use crate::weights::Shapes;
use crate::{Error, Graph, Result};

/// A family of networks: its specification is data, and its graph is built from that data alone.
pub(super) trait Family: Clone + Serialize + DeserializeOwned {
    /// The published networks.
    fn networks() -> Vec<Network<Self>>;

    /// The same for square images of another side, in pixels; families whose padding depends on it override this.
    #[must_use]
    fn sized(self, _size: usize) -> Self {
        self
    }

    /// The same without auxiliary classifiers; families that have some override this.
    #[must_use]
    fn without_auxiliary_heads(self) -> Self {
        self
    }

    /// The number of classes; [`class_fields`] implements this and the next two.
    fn classes(&self) -> usize;

    /// The same for another number of classes.
    #[must_use]
    fn with_classes(self, classes: usize) -> Self;

    /// The channels of the images.
    fn input_channels(&self) -> usize;

    /// The graph that is trained, under the parameter names of torchvision, or of timm where torchvision has no such
    /// network.
    ///
    /// # Errors
    /// When nothing can be built from the specification.
    fn graph(&self) -> Result<Graph>;
}

/// Implements what a [`Family`] reads and writes of the fields `classes` and `input_channels`, which all have.
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
    /// What it is.
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

/// What every specification answers.
pub(super) trait Described {
    fn name(&self) -> &str;
    /// The side of the square images that the network is meant for, in pixels.
    fn image_size(&self) -> usize;
    fn classes(&self) -> usize;
    fn input_channels(&self) -> usize;
    /// The graph that is trained.
    fn graph(&self) -> Result<Graph>;
    fn set_classes(&mut self, classes: usize) -> Result<()>;
    /// Takes over what the shapes of parameters show and a name does not: the classes, whether there are auxiliary heads.
    fn suit(&mut self, shapes: &Shapes);
}

/// The side of images, in pixels, where a specification does not give it.
pub(super) const IMAGE_SIZE: usize = 224;

/// The largest side of images that a specification may ask for, in pixels.
const MAX_SIZE: usize = 1 << 14;

pub(super) fn image_size() -> usize {
    IMAGE_SIZE
}

impl<F: Family> From<Network<F>> for Member<F> {
    fn from(Network { name, size, spec }: Network<F>) -> Self {
        Self { name: name.to_owned(), size, spec: spec.sized(size) }
    }
}

impl<'de, F: Family> Deserialize<'de> for Member<F> {
    /// By way of a table: `flatten` would accept unknown fields.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = toml::Table::deserialize(deserializer)?;
        let name = fields.remove("name").map_or(Ok("custom".to_owned()), toml::Value::try_into);
        let size = match fields.remove("size") {
            None => IMAGE_SIZE,
            Some(toml::Value::Integer(size)) => usize::try_from(size).unwrap_or(0),
            Some(other) => return Err(D::Error::custom(wrong_size(other).within("specification"))),
        };
        let read = |error: toml::de::Error| D::Error::custom(one_line(error.message()));
        let spec: F = fields.try_into().map_err(read)?;
        Ok(Self { name: name.map_err(read)?, size, spec: spec.sized(size) })
    }
}

fn wrong_size(found: impl std::fmt::Display) -> Error {
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
            return Err(wrong_size(self.size).within("specification"));
        }
        self.spec.graph().map_err(|error| error.within(&self.name))
    }

    fn set_classes(&mut self, classes: usize) -> Result<()> {
        self.spec = self.spec.clone().with_classes(classes);
        Ok(())
    }

    fn suit(&mut self, shapes: &Shapes) {
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

/// The most classes that are read from the shape of a head.
const CLASS_LIMIT: usize = 1 << 16;

/// The classes of a network like `graph` whose parameters have these shapes: the rows of its head.
pub(super) fn classes_in(graph: &Graph, shapes: &Shapes) -> Option<usize> {
    let main = graph.main_output();
    graph.heads().iter().find(|(id, _)| *id == main)?;
    let rows = shapes.get(&format!("{}.weight", graph.node(main).name))?.first().copied();
    rows.filter(|rows| (1..=CLASS_LIMIT).contains(rows))
}

/// Checks the counts of a specification: each is at least 1 and no larger than any network's.
///
/// # Errors
/// Names the first that is not, what was expected and what was found.
pub(super) fn check_counts(counts: &[(&str, usize)]) -> Result<()> {
    counts.iter().try_for_each(|&(field, count)| check(field, count, 1 << 16))
}

/// Checks the numbers of layers in a specification's stages, as [`check_counts`].
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
    Err(wrong(field, expected(format_args!("1 to {most}")).found(count)))
}

/// A field of a specification that nothing can be built from.
pub(super) fn wrong(field: &str, problem: Problem) -> Error {
    Error::spec(field, problem).within("specification")
}

//! The description of a network: enough to build its training graph, small enough to store in a model file.

use serde::{Deserialize, Serialize};

use super::family::Described;
use super::given_graph::GivenGraph;
use super::{BLOCKS, BlockKind, FAMILIES, Kind, RepVgg, VARIANTS};
use crate::weights::Shapes;
use crate::{Graph, Result};

/// A complete description of a network, from which its training graph is built.
///
/// It is serialised as specification files hold it: `{"family": "resnet", "name": "resnet-50", …}` and the fields of the
/// family.
///
/// ```
/// use repvgg::Specification;
///
/// let network = Specification::named("resnet-50").unwrap().with_classes(10).unwrap();
/// assert_eq!((network.classes(), network.image_size()), (10, 224));
/// assert!(network.training_graph().unwrap().parameters().any(|(name, _)| name == "layer4.2.conv3.weight"));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Specification(pub(super) Kind);

impl From<RepVgg> for Specification {
    fn from(spec: RepVgg) -> Self {
        Self(Kind::RepVgg(spec))
    }
}

impl Specification {
    /// The published network called `name` (`repvgg-a0`, `resnet-50`, in any case), with 1000 classes. A kind of block may
    /// follow the name of a RepVGG: `repvgg-b0:acb`.
    pub fn named(name: &str) -> Option<Self> {
        let (network, block) = name.split_once(':').unwrap_or((name, BLOCKS[0].name));
        let Some(row) = VARIANTS.iter().find(|row| row.name.eq_ignore_ascii_case(network)) else {
            return FAMILIES
                .iter()
                .flat_map(|family| family.networks())
                .find_map(|(known, specification)| known.eq_ignore_ascii_case(name).then_some(specification));
        };
        let spec = RepVgg { block: BlockKind::named(block)?, ..row.spec() };
        let name = if name.contains(':') { name.to_ascii_lowercase() } else { spec.name };
        Some(RepVgg { name, ..spec }.into())
    }

    /// A network given as its training graph; `image_size` is the side of the square images that it is meant for,
    /// in pixels.
    pub fn from_graph(name: impl Into<String>, image_size: usize, graph: Graph) -> Self {
        Self(Kind::Graph(GivenGraph::new(name.into(), image_size, graph)))
    }

    /// The names of all published networks: the RepVGGs, then the others by family.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::families().flat_map(|(_, names)| names)
    }

    /// The names of all published networks, by the `family` of their specification files.
    pub fn families() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
        let repvgg = ("repvgg", VARIANTS.iter().map(|row| row.name).collect());
        std::iter::once(repvgg).chain(FAMILIES.iter().map(|family| (family.name, family.names())))
    }

    /// The published names most similar to `name`, the nearest first.
    pub fn nearest_names(name: &str) -> Vec<&'static str> {
        const SUGGESTIONS: usize = 4;
        let likeness = |known: &str| strsim::jaro_winkler(&name.to_ascii_lowercase(), known);
        let mut names: Vec<&str> = Self::names().collect();
        names.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        names.truncate(SUGGESTIONS);
        names
    }

    /// The specification of a RepVGG; `None` for other families.
    pub fn repvgg(&self) -> Option<&RepVgg> {
        if let Kind::RepVgg(spec) = &self.0 { Some(spec) } else { None }
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        self.0.described().name()
    }

    /// The side of the square images that the network is meant for, in pixels.
    pub fn image_size(&self) -> usize {
        self.0.described().image_size()
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.0.described().classes()
    }

    /// The channels of the images that the network reads.
    pub fn input_channels(&self) -> usize {
        self.0.described().input_channels()
    }

    /// Changes the number of classes.
    ///
    /// # Errors
    /// When it is given as a graph that does not end in a fully connected layer.
    pub fn with_classes(mut self, classes: usize) -> Result<Self> {
        self.0.described_mut().set_classes(classes)?;
        Ok(self)
    }

    /// The training graph, with all branches, batch norms and auxiliary heads.
    ///
    /// # Errors
    /// When the specification is invalid.
    pub fn training_graph(&self) -> Result<Graph> {
        self.0.described().graph()
    }

    /// Whether the names and shapes of parameters determine the network: a RepVGG with the default block.
    pub(crate) fn is_inferred(&self) -> bool {
        self.repvgg().is_some_and(|spec| spec.block == BlockKind::default())
    }

    /// Adopts what the shapes of parameters reveal beyond the name: the classes, and whether there are auxiliary heads.
    #[must_use]
    pub(crate) fn adapted_to(mut self, shapes: &Shapes) -> Self {
        self.0.described_mut().adapt_to(shapes);
        self
    }
}

impl Described for RepVgg {
    fn name(&self) -> &str {
        &self.name
    }

    fn image_size(&self) -> usize {
        super::family::IMAGE_SIZE
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn input_channels(&self) -> usize {
        self.input_channels
    }

    fn graph(&self) -> Result<Graph> {
        self.training_graph()
    }

    fn set_classes(&mut self, classes: usize) -> Result<()> {
        self.classes = classes;
        Ok(())
    }

    fn adapt_to(&mut self, shapes: &Shapes) {
        if let Some(classes) = shapes.get("linear.weight").and_then(|shape| shape.first()) {
            self.classes = *classes;
        }
    }
}

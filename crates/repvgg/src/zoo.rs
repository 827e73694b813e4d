//! The networks: each a row of data and a short builder of its training graph.
//!
//! A plain graph has no builder of its own: it is what [`fuse`](crate::fuse) makes of the training graph.

mod any;
mod blocks;
mod family;
mod infer;
mod layers;
pub mod paper;
mod repvgg;
mod spec_file;

pub use any::AnyGraph;
pub use blocks::{BLOCKS, Block, BlockKind};
pub use infer::{Form, infer};
pub use paper::{Published, published};
pub use repvgg::{RepVgg, SqueezeExcite, VARIANTS, Variant};

use serde::{Deserialize, Serialize};

use crate::{Graph, Result, Weights};

/// Declares the families' files and lists them.
macro_rules! families {
    ($($file:ident::$family:ident),* $(,)?) => {
        $(mod $file;)*
        /// All families but RepVGG.
        static FAMILIES: &[family::Entry] = &[$(family::Entry::of::<$file::$family>()),*];
    };
}

families! {
    densenet::DenseNet,
    efficientnet::EfficientNet,
    googlenet::GoogLeNet,
    mobilenet::MobileNet,
    mobileone::MobileOne,
    nasnet::NasNet,
    regnet::RegNet,
    resnet::ResNet,
    shufflenet_v1::ShuffleNetV1,
    shufflenet_v2::ShuffleNetV2,
    vgg::Vgg,
    xception::Xception,
}

/// The published networks, RepVGGs apart, whose parameters have just these names and shapes; classes may differ.
pub(crate) fn known(weights: &Weights) -> Vec<Architecture> {
    let networks = FAMILIES.iter().flat_map(|family| family.names().into_iter().filter_map(|name| family.named(name)));
    let suited = networks.map(|any| any.suited_to(weights));
    suited.filter(|any| has_parameters(&any.graph, weights)).map(Architecture::Graph).collect()
}

/// Whether `weights` have just the names and shapes of a graph's parameters; PyTorch's counters of batches may be there.
fn has_parameters(graph: &Graph, weights: &Weights) -> bool {
    let mut count = 0;
    let fits = graph.parameters().all(|(name, parameter)| {
        count += 1;
        weights.get(&name).is_some_and(|tensor| tensor.shape() == parameter.shape)
    });
    let counters = weights.iter().filter(|(name, _)| name.ends_with(".num_batches_tracked")).count();
    fits && count + counters == weights.len()
}

/// What describes a network completely: enough to build its graph, small enough to live in a model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum Architecture {
    /// The RepVGG family, RepVGGplus included.
    RepVgg(RepVgg),
    /// Any other network, as its graph.
    Graph(AnyGraph),
}

impl Architecture {
    /// The architecture called `name` (`repvgg-a0`, `resnet-50`, in any case), with 1000 classes. A RepVGG's name may be
    /// followed by a kind of block: `repvgg-b0:acb`.
    pub fn named(name: &str) -> Option<Self> {
        let (network, block) = name.split_once(':').unwrap_or((name, BLOCKS[0].name));
        let Some(row) = VARIANTS.iter().find(|row| row.name.eq_ignore_ascii_case(network)) else {
            return FAMILIES.iter().find_map(|family| family.named(name)).map(Self::Graph);
        };
        let spec = RepVgg { block: BlockKind::named(block)?, ..row.spec() };
        let name = if name.contains(':') { name.to_ascii_lowercase() } else { spec.name };
        Some(Self::RepVgg(RepVgg { name, ..spec }))
    }

    /// The names of all published architectures: the RepVGGs, then the others by family.
    pub fn names() -> impl Iterator<Item = &'static str> {
        VARIANTS.iter().map(|row| row.name).chain(FAMILIES.iter().flat_map(family::Entry::names))
    }

    /// The names of all published architectures by family, as specification files call it.
    pub fn families() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
        let repvgg = ("repvgg", VARIANTS.iter().map(|row| row.name).collect());
        std::iter::once(repvgg).chain(FAMILIES.iter().map(|family| (family.name, family.names())))
    }

    /// Of all names, those most like `name`, the nearest first.
    pub fn nearest_names(name: &str) -> Vec<&'static str> {
        const TOLD: usize = 4;
        let likeness = |known: &str| strsim::jaro_winkler(&name.to_ascii_lowercase(), known);
        let mut names: Vec<&str> = Self::names().collect();
        names.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        names.truncate(TOLD);
        names
    }

    /// The side of the square images that it is meant for, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::RepVgg(_) => any::IMAGE_SIZE,
            Self::Graph(any) => any.size,
        }
    }

    /// The architecture's name.
    pub fn name(&self) -> &str {
        match self {
            Self::RepVgg(spec) => &spec.name,
            Self::Graph(any) => &any.name,
        }
    }

    /// The classes that it tells apart.
    pub fn classes(&self) -> usize {
        match self {
            Self::RepVgg(spec) => spec.classes,
            Self::Graph(any) => any.classes(),
        }
    }

    /// The channels of the images that it reads.
    pub fn input_channels(&self) -> usize {
        match self {
            Self::RepVgg(spec) => spec.input_channels,
            Self::Graph(any) => any.graph.input_channels(),
        }
    }

    /// The same network for another number of classes.
    ///
    /// # Errors
    /// When it is a graph that does not end in a fully connected layer, which is what changes.
    pub fn with_classes(self, classes: usize) -> Result<Self> {
        Ok(match self {
            Self::RepVgg(spec) => Self::RepVgg(RepVgg { classes, ..spec }),
            Self::Graph(any) => Self::Graph(any.with_classes(classes)?),
        })
    }

    /// Whether names and shapes of parameters say all of it: a RepVGG of the usual block.
    pub(crate) fn is_inferred(&self) -> bool {
        matches!(self, Self::RepVgg(spec) if spec.block == BlockKind::default())
    }

    /// The same with what `weights` tell and a name does not: the classes, whether there are auxiliary heads.
    pub(crate) fn suited_to(self, weights: &Weights) -> Self {
        match self {
            Self::RepVgg(spec) => {
                let head = weights.get("linear.weight").and_then(|head| head.shape().first().copied());
                Self::RepVgg(RepVgg { classes: head.unwrap_or(spec.classes), ..spec })
            }
            Self::Graph(any) => Self::Graph(any.suited_to(weights)),
        }
    }

    /// Whether a parameter belongs to a classifier, whose rows are the classes.
    pub fn is_head(&self, parameter: &str) -> bool {
        match self {
            Self::RepVgg(_) => parameter.starts_with("linear.") || parameter.contains("_aux.3."),
            Self::Graph(any) => any.is_head(parameter),
        }
    }

    /// The graph that is trained: all branches, batch norms and auxiliary heads.
    ///
    /// # Errors
    /// When the specification describes nothing that can be built.
    pub fn training_graph(&self) -> Result<Graph> {
        match self {
            Self::RepVgg(spec) => spec.training_graph(),
            Self::Graph(any) => Ok(any.graph.clone()),
        }
    }
}

//! The networks. Each is a row of data and a short builder of its training graph.
//!
//! Plain graphs have no builders: [`fuse`](crate::fuse) derives them from training graphs.
//!
//! ```
//! use repvgg::Specification;
//! use repvgg::zoo::RepVgg;
//!
//! let small = RepVgg { depths: [1, 2, 2, 1], width: [0.25; 4], classes: 10, ..RepVgg::default() };
//! let graph = Specification::from(small).training_graph().unwrap();
//! assert_eq!(graph.shapes([32, 32]).unwrap().last(), Some(&[10, 1, 1]));
//! ```

mod blocks;
mod family;
mod given_graph;
mod infer;
mod layers;
pub mod paper;
mod repvgg;
mod spec_file;
mod specification;

use serde::{Deserialize, Serialize};

pub use blocks::{BLOCKS, BlockKind, NamedBlock};
pub(crate) use infer::{has_parameters, infer, matching};
pub use paper::{Published, published};
pub use repvgg::{RepVgg, SqueezeExcite, VARIANTS, Variant};
pub use specification::Specification;

use family::{Described, Family, Member};
use given_graph::GivenGraph;

/// Declares the module of each family and lists the families.
macro_rules! families {
    ($($name:tt => $file:ident::$family:ident),* $(,)?) => {
        $(mod $file;)*

        /// The families of networks, each with its own specification.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family")]
        enum Kind {
            /// The RepVGG family, RepVGGplus included.
            #[serde(rename = "repvgg")]
            RepVgg(RepVgg),
            /// Any other network, given as its graph.
            #[serde(rename = "graph")]
            Graph(GivenGraph),
            $(#[serde(rename = $name)] $family(Member<$file::$family>),)*
        }

        impl Kind {
            fn described(&self) -> &dyn Described {
                match self {
                    Self::RepVgg(spec) => spec,
                    Self::Graph(given) => given,
                    $(Self::$family(member) => member,)*
                }
            }

            fn described_mut(&mut self) -> &mut dyn Described {
                match self {
                    Self::RepVgg(spec) => spec,
                    Self::Graph(given) => given,
                    $(Self::$family(member) => member,)*
                }
            }
        }

        /// All families but RepVGG.
        static FAMILIES: &[Entry] = &[$(Entry {
            name: $name,
            networks: || {
                let networks = $file::$family::networks().into_iter();
                networks.map(|network| (network.name, Specification(Kind::$family(network.into())))).collect()
            },
        }),*];
    };
}

families! {
    "densenet" => densenet::DenseNet,
    "efficientnet" => efficientnet::EfficientNet,
    "googlenet" => googlenet::GoogLeNet,
    "mobilenet-v1" => mobilenet::MobileNet,
    "mobileone" => mobileone::MobileOne,
    "nasnet-a" => nasnet::NasNet,
    "regnet" => regnet::RegNet,
    "resnet" => resnet::ResNet,
    "shufflenet-v1" => shufflenet_v1::ShuffleNetV1,
    "shufflenet-v2" => shufflenet_v2::ShuffleNetV2,
    "vgg" => vgg::Vgg,
    "xception" => xception::Xception,
}

/// A family in the list of families.
struct Entry {
    /// The value of `family` in specification files.
    name: &'static str,
    networks: fn() -> Vec<(&'static str, Specification)>,
}

impl Entry {
    /// The published networks by name.
    fn networks(&self) -> Vec<(&'static str, Specification)> {
        (self.networks)()
    }

    fn names(&self) -> Vec<&'static str> {
        self.networks().into_iter().map(|(name, _)| name).collect()
    }
}

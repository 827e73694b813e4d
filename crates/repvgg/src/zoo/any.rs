//! A network that is no row of a table: its graph says all there is to say.

use serde::{Deserialize, Serialize};

use crate::fuse::Plan;
use crate::graph::{Linear, NodeId, Op};
use crate::{Error, Graph, Result, Weights};

/// A network as its graph, from an ONNX file for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnyGraph {
    /// The network's name.
    pub name: String,
    /// The side of the square images that it is meant for, in pixels.
    #[serde(default = "image_size")]
    pub size: usize,
    /// What its weights belong to, in either form.
    pub graph: Graph,
}

/// The most classes that are read off a file.
const CLASS_LIMIT: usize = 1 << 16;

/// The side of images where nothing says otherwise.
pub(super) const IMAGE_SIZE: usize = 224;

fn image_size() -> usize {
    IMAGE_SIZE
}

impl AnyGraph {
    /// The channels of the main output: classes, if it is a classifier. 0 where only the size of the image decides.
    pub fn classes(&self) -> usize {
        self.graph.channels()[self.graph.main_output().index()].unwrap_or(0)
    }

    /// The same with another number of rows in the fully connected layers at the ends.
    pub(super) fn with_classes(self, classes: usize) -> Result<Self> {
        if self.classes() == classes {
            return Ok(self);
        }
        let heads = self.heads();
        if !heads.iter().any(|(id, _)| *id == self.graph.main_output()) {
            let problem = format!(
                "expected a fully connected layer at the end, to change {} classes to {classes}",
                self.classes()
            );
            return Err(Error::spec(&self.name, problem));
        }
        let graph = heads.into_iter().fold(self.graph, |graph, (id, layer)| {
            graph.with_op(id, Op::Linear(Linear { out_features: classes, ..layer }))
        });
        Ok(Self { graph, ..self })
    }

    /// Whether a parameter is that of a fully connected layer at an end.
    pub(super) fn is_head(&self, parameter: &str) -> bool {
        let node = parameter.rsplit_once('.').and_then(|(node, _)| self.graph.find(node));
        self.heads().iter().any(|(id, _)| Some(*id) == node)
    }

    /// The same with as many classes as `weights` have, and without auxiliary heads where they have none: what its names
    /// and shapes leave open.
    pub(super) fn suited_to(self, weights: &Weights) -> Self {
        let main = self.graph.main_output();
        let rows = |id: NodeId| {
            let weight = weights.get(&format!("{}.weight", self.graph.node(id).name))?;
            weight.shape().first().copied().filter(|rows| (1..=CLASS_LIMIT).contains(rows))
        };
        let classes = self.heads().iter().find(|(id, _)| *id == main).and_then(|(id, _)| rows(*id));
        let inference = self.graph.inference();
        let is_auxiliary = |(name, _): &(String, _)| {
            let node = name.rsplit_once('.').map_or("", |(node, _)| node);
            inference.find(node).is_none()
        };
        let has_auxiliary = self.graph.parameters().filter(is_auxiliary).any(|(name, _)| weights.get(&name).is_some());
        let graph = if has_auxiliary { self.graph } else { inference };
        let suited = Self { graph, ..self };
        match classes {
            Some(classes) => suited.clone().with_classes(classes).unwrap_or(suited),
            None => suited,
        }
    }

    /// Whether this is `other` in training form, without auxiliary heads, or fused, for any number of classes.
    pub(crate) fn is_form_of(&self, other: &Self) -> bool {
        let Ok(other) = other.clone().with_classes(self.classes()) else { return false };
        let training = &other.graph;
        self.graph == *training || self.graph == training.inference() || self.graph == *Plan::new(training).graph()
    }

    /// The fully connected layers that outputs are.
    fn heads(&self) -> Vec<(NodeId, Linear)> {
        let outputs = self.graph.outputs().iter();
        let head =
            |node: NodeId| if let Op::Linear(layer) = self.graph.node(node).op { Some((node, layer)) } else { None };
        outputs.filter_map(|output| head(output.node)).collect()
    }
}

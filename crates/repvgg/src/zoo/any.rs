//! A network that is no row of a table: its graph says all there is to say.

use serde::{Deserialize, Serialize};

use crate::graph::{Linear, NodeId, Op};
use crate::{Error, Graph, Result};

/// A network as its graph, from an ONNX file for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnyGraph {
    /// The network's name.
    pub name: String,
    /// What its weights belong to, in either form.
    pub graph: Graph,
}

impl AnyGraph {
    /// The channels of the main output: classes, if it is a classifier. 0 where only the size of the image decides.
    pub fn classes(&self) -> usize {
        self.graph.channels()[self.graph.main_output().index()].unwrap_or(0)
    }

    /// The same with another number of rows in the last fully connected layer.
    pub(super) fn with_classes(self, classes: usize) -> Result<Self> {
        if self.classes() == classes {
            return Ok(self);
        }
        let (id, layer) = self.head().ok_or_else(|| {
            let what =
                format!("expected a fully connected layer at the end, to make {classes} classes of {}", self.classes());
            Error::spec(&self.name, what)
        })?;
        let graph = self.graph.with_op(id, Op::Linear(Linear { out_features: classes, ..layer }));
        Ok(Self { graph, ..self })
    }

    /// Whether a parameter is the last fully connected layer's.
    pub(super) fn is_head(&self, parameter: &str) -> bool {
        self.head().is_some_and(|(id, _)| self.graph.node(id).parameters().any(|(name, _)| name == parameter))
    }

    /// The fully connected layer that the main output is.
    fn head(&self) -> Option<(NodeId, Linear)> {
        let id = self.graph.main_output();
        if let Op::Linear(layer) = self.graph.node(id).op { Some((id, layer)) } else { None }
    }
}

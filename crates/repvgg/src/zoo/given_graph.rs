//! A network outside all families, given as its graph.

use serde::{Deserialize, Serialize};

use super::family::Described;
use crate::graph::{Linear, Op};
use crate::weights::Shapes;
use crate::{Error, Graph, Result};

/// A network given as its training graph, such as one from an ONNX file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct GivenGraph {
    name: String,
    /// The side of the square images that it is meant for, in pixels.
    #[serde(default = "super::family::image_size")]
    size: usize,
    pub(super) graph: Graph,
}

impl GivenGraph {
    pub(super) fn new(name: String, size: usize, graph: Graph) -> Self {
        Self { name, size, graph }
    }
}

impl Described for GivenGraph {
    fn name(&self) -> &str {
        &self.name
    }

    fn image_size(&self) -> usize {
        self.size
    }

    fn classes(&self) -> usize {
        self.graph.classes()
    }

    fn input_channels(&self) -> usize {
        self.graph.input_channels()
    }

    fn graph(&self) -> Result<Graph> {
        Ok(self.graph.clone())
    }

    /// Changes the rows of the fully connected layers at the outputs.
    fn set_classes(&mut self, classes: usize) -> Result<()> {
        if self.classes() == classes {
            return Ok(());
        }
        let heads = self.graph.heads();
        if !heads.iter().any(|(id, _)| *id == self.graph.main_output()) {
            let found = self.classes();
            let problem =
                format!("expected a fully connected layer at the end, to change {found} classes to {classes}");
            return Err(Error::spec(&self.name, problem));
        }
        for (id, layer) in heads {
            let graph = std::mem::take(&mut self.graph);
            self.graph = graph.with_op(id, Op::Linear(Linear { out_features: classes, ..layer }));
        }
        Ok(())
    }

    fn adapt_to(&mut self, shapes: &Shapes) {
        if let Some(classes) = super::family::classes_in(&self.graph, shapes) {
            // A graph without a head keeps its classes.
            let _ = self.set_classes(classes);
        }
    }
}

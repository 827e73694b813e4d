//! A graph in serialised form: nodes that name their inputs.

use serde::{Deserialize, Serialize};

use super::{Graph, Op};
use crate::error::{Problem, expected};
use crate::{Error, Result};

/// The most nodes of a graph from a file.
const NODE_LIMIT: usize = 1 << 14;

/// The serialised form of a [`Graph`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    nodes: Vec<Node>,
    outputs: Vec<Output>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    name: String,
    op: Op,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    name: String,
    node: String,
}

impl From<Graph> for Document {
    fn from(graph: Graph) -> Self {
        let name = |id: &super::NodeId| graph.node(*id).name.clone();
        let nodes = graph.nodes.iter();
        let nodes = nodes.map(|node| Node {
            name: node.name.clone(),
            op: node.op.clone(),
            inputs: node.inputs.iter().map(name).collect(),
        });
        let outputs = graph.outputs.iter();
        let outputs = outputs.map(|output| Output { name: output.name.clone(), node: name(&output.node) });
        Self { nodes: nodes.collect(), outputs: outputs.collect() }
    }
}

impl TryFrom<Document> for Graph {
    type Error = Error;

    /// The graph, if its nodes are in order, no name repeats, and every operation is valid.
    fn try_from(document: Document) -> Result<Self> {
        let refuse = |place: &str, problem: Problem| Err(Error::spec(place, problem));
        if document.nodes.len() > NODE_LIMIT {
            return refuse("nodes", expected(format_args!("at most {NODE_LIMIT}")).found(document.nodes.len()));
        }
        let mut graph = Self::new();
        for Node { name, op, inputs } in document.nodes {
            let found = |input: &String| {
                let missing = || Error::spec(&name, expected("an input earlier in the graph").found(input));
                graph.find(input).ok_or_else(missing)
            };
            let ids = inputs.iter().map(found).collect::<Result<Vec<_>>>()?;
            if graph.find(&name).is_some() {
                return refuse(&name, "duplicate node name".into());
            }
            if !op.arity().contains(&ids.len()) {
                return refuse(
                    &name,
                    expected(format_args!("the number of inputs that {} takes", op.kind())).found(ids.len()),
                );
            }
            graph.add(name, op, &ids);
        }
        for Output { name, node } in document.outputs {
            let Some(id) = graph.find(&node) else {
                return refuse(&name, expected("the name of a node").found(node));
            };
            graph.output(name, id);
        }
        graph.check()?;
        Ok(graph)
    }
}

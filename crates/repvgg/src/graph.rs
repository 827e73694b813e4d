//! A network as data: nodes in topological order, each an [`Op`] with named parameters.
//!
//! Everything the project does is a fold or a rewrite over a [`Graph`] and its [`Weights`](crate::Weights):
//! counting, fusing, training, running, exporting. A training network and a plain one are two graphs.
//!
//! ```
//! use repvgg::graph::{ActivationKind, BatchNorm, Conv2d};
//! use repvgg::{Graph, Op};
//!
//! // Two branches that meet in a sum.
//! let mut graph = Graph::new();
//! let input = graph.add("input", Op::Input { channels: 16 }, &[]);
//! let conv = graph.add("conv", Op::conv(Conv2d::square(16, 16, 3)), &[input]);
//! let bn = graph.add("bn", Op::BatchNorm(BatchNorm::new(16)), &[conv]);
//! let sum = graph.add("sum", Op::Add, &[bn, input]);
//! let relu = graph.add("relu", Op::Activation(ActivationKind::Relu), &[sum]);
//! graph.output("main", relu);
//!
//! assert_eq!(graph.shapes([8, 8])?[relu.index()], [16, 8, 8]);
//! # Ok::<(), repvgg::Error>(())
//! ```

mod correspondence;
mod document;
mod op;

pub(crate) use op::WINDOW_LIMIT;
pub use op::{ActivationKind, BatchNorm, Conv2d, LEAST_NORM, Linear, Op, Parameter, Pool, Role, Softmax};

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::{Problem, expected};
use crate::{Error, Result};

/// The index of a node in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// The index into [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// One operation with its name and inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The name, unique in the graph; the prefix of the node's parameters, with PyTorch's names.
    pub name: String,
    /// The operation.
    pub op: Op,
    /// The nodes it reads, all earlier in the graph.
    pub inputs: Vec<NodeId>,
}

impl Node {
    /// The node's parameters with their full names: `stage0.rbr_dense.conv.weight`.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Parameter)> + '_ {
        self.op.parameters().into_iter().map(|parameter| (format!("{}.{}", self.name, parameter.suffix), parameter))
    }
}

/// A named result of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The name of the result: `main`, `stage1_aux`.
    pub name: String,
    /// The node that computes it.
    pub node: NodeId,
}

/// The shape of one image's activation at a node: `[C, H, W]`.
pub type Shape = [usize; 3];

/// A network: nodes in topological order, and its outputs, the main one first.
///
/// Serialised, it is `{"nodes": [{"name", "op", "inputs": [name, …]}, …], "outputs": [{"name", "node"}]}`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "document::Document", try_from = "document::Document")]
pub struct Graph {
    nodes: Vec<Node>,
    outputs: Vec<Output>,
    /// The index of each node by name.
    by_name: HashMap<String, NodeId>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a node and returns its id.
    ///
    /// # Panics
    /// When the name is taken, an input does not exist, or the operation takes a different number of inputs.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        let name = name.into();
        assert!(!self.by_name.contains_key(&name), "{name}: a node of this name already exists");
        assert!(inputs.iter().all(|input| input.0 < self.nodes.len()), "{name}: an input does not exist yet");
        assert!(op.arity().contains(&inputs.len()), "{name}: {op:?} does not take {} inputs", inputs.len());
        let id = NodeId(self.nodes.len());
        self.by_name.insert(name.clone(), id);
        self.nodes.push(Node { name, op, inputs: inputs.to_vec() });
        id
    }

    /// The node called `name`.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The same graph with the operation at `id` replaced.
    ///
    /// # Panics
    /// When the new operation takes a different number of inputs.
    #[must_use]
    pub fn with_op(mut self, id: NodeId, op: Op) -> Self {
        let node = &mut self.nodes[id.0];
        assert!(
            op.arity().contains(&node.inputs.len()),
            "{}: {op:?} does not take {} inputs",
            node.name,
            node.inputs.len()
        );
        node.op = op;
        self
    }

    /// Declares `node` an output; the first one declared is the main output.
    pub fn output(&mut self, name: impl Into<String>, node: NodeId) {
        self.outputs.push(Output { name: name.into(), node });
    }

    /// All nodes in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node at `id`.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// All nodes with their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index), node))
    }

    /// The outputs, the main one first.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The main output.
    ///
    /// # Panics
    /// When the graph has no output.
    pub fn main_output(&self) -> NodeId {
        self.outputs.first().expect("a graph has at least one output").node
    }

    /// Every parameter of the graph with its full name, in the order of the nodes.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Parameter)> + '_ {
        self.nodes.iter().flat_map(Node::parameters)
    }

    /// The channels of the network's input.
    ///
    /// # Panics
    /// When the graph has no input.
    pub fn input_channels(&self) -> usize {
        let channels = self.nodes.iter().find_map(|node| match node.op {
            Op::Input { channels } => Some(channels),
            _ => None,
        });
        channels.expect("a graph has an input")
    }

    /// The channels of the main output, which are a classifier's classes; 0 if they depend on the image size.
    ///
    /// # Panics
    /// When the graph has no output.
    pub fn classes(&self) -> usize {
        self.channels()[self.main_output().index()].unwrap_or(0)
    }

    /// The fully connected layers that compute outputs: the classifiers.
    pub fn heads(&self) -> Vec<(NodeId, Linear)> {
        let outputs = self.outputs.iter().map(|output| output.node);
        outputs
            .filter_map(|id| if let Op::Linear(layer) = self.node(id).op { Some((id, layer)) } else { None })
            .collect()
    }

    /// Whether a parameter belongs to one of the [heads](Self::heads), whose rows are the classes.
    pub fn is_head(&self, parameter: &str) -> bool {
        let node = parameter.rsplit_once('.').and_then(|(node, _)| self.find(node));
        self.heads().iter().any(|(id, _)| Some(*id) == node)
    }

    /// The channels of each node's value; `None` if they depend on the image size.
    pub fn channels(&self) -> Vec<Option<usize>> {
        let mut channels: Vec<Option<usize>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let mut inputs = node.inputs.iter().map(|input| channels[input.0]);
            channels.push(match &node.op {
                Op::Input { channels } | Op::Scale { channels, .. } => Some(*channels),
                Op::Conv2d(conv) | Op::NormalizedConv2d(conv) => Some(conv.geometry.out_channels),
                Op::Slice { channels, .. } => Some(*channels),
                Op::BatchNorm(norm) => Some(norm.channels),
                Op::Linear(linear) => Some(linear.out_features),
                Op::Concat => inputs.try_fold(0usize, |sum, channels| sum.checked_add(channels?)),
                Op::Flatten => None,
                _ => inputs.next().flatten(),
            });
        }
        channels
    }

    /// For each node, the nodes that read it.
    pub fn users(&self) -> Vec<Vec<NodeId>> {
        let mut users = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.iter() {
            for input in &node.inputs {
                users[input.0].push(id);
            }
        }
        users
    }

    /// The shape `[C, H, W]` at each node for an input image of `[height, width]`.
    ///
    /// # Errors
    /// Names the first node whose inputs do not fit its operation.
    pub fn shapes(&self, size: [usize; 2]) -> Result<Vec<Shape>> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<Shape> = node.inputs.iter().map(|input| shapes[input.0]).collect();
            let shape = node.op.shape(size, &inputs).and_then(|shape| within_bounds(size, shape));
            shapes.push(shape.map_err(|what| Error::shape(&node.name, what))?);
        }
        Ok(shapes)
    }

    /// Checks every condition that does not depend on the image: each operation is possible, and there is exactly one input and
    /// at least one output.
    ///
    /// # Errors
    /// Names the first node whose operation is impossible, or states the number of inputs or outputs.
    pub fn check(&self) -> Result<()> {
        for node in &self.nodes {
            node.op.check().map_err(|what| Error::spec(&node.name, what))?;
        }
        let inputs = self.nodes.iter().filter(|node| matches!(node.op, Op::Input { .. })).count();
        if inputs != 1 {
            return Err(Error::spec("nodes", expected("one input").found(inputs)));
        }
        if self.outputs.is_empty() {
            return Err(Error::spec("outputs", expected("at least one").found("none")));
        }
        Ok(())
    }

    /// The same graph with another ε in all its batch norms.
    #[must_use]
    pub(crate) fn with_eps(mut self, eps: f64) -> Self {
        for node in &mut self.nodes {
            if let Op::BatchNorm(norm) = &mut node.op {
                norm.eps = eps;
            }
        }
        self
    }

    /// The graph of the main output alone, without auxiliary heads and the nodes that only they need.
    #[must_use]
    pub fn inference(&self) -> Self {
        let main = &self.outputs[0];
        let mut needed = HashSet::from([main.node]);
        for (id, node) in self.iter().rev() {
            if needed.contains(&id) {
                needed.extend(node.inputs.iter().copied());
            }
        }
        let mut graph = Self::new();
        let mut moved = vec![None; self.nodes.len()];
        for (id, node) in self.iter().filter(|(id, _)| needed.contains(id)) {
            let inputs: Vec<NodeId> =
                node.inputs.iter().map(|input| moved[input.0].expect("inputs come first")).collect();
            moved[id.0] = Some(graph.add(node.name.clone(), node.op.clone(), &inputs));
        }
        graph.output(main.name.clone(), moved[main.node.0].expect("the main output is needed"));
        graph
    }
}

/// Checks a shape: maps grow only by padding, and they fit into memory.
fn within_bounds(size: [usize; 2], [channels, height, width]: Shape) -> Result<Shape, Problem> {
    let most = size.map(|extent| extent.saturating_mul(4).saturating_add(256));
    if height > most[0] || width > most[1] {
        return Err(expected(format_args!("maps of at most {most:?} for images of {size:?}"))
            .found(format_args!("[{height}, {width}]")));
    }
    match channels.checked_mul(height * width) {
        Some(elements) if elements <= ELEMENT_LIMIT => Ok([channels, height, width]),
        _ => Err(expected(format_args!("at most {ELEMENT_LIMIT} values"))
            .found(format_args!("[{channels}, {height}, {width}]"))),
    }
}

/// The most values of one image's activation at a node.
const ELEMENT_LIMIT: usize = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_does_not_fit_names_its_node() {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: 3 }, &[]);
        let conv = graph.add("stem", Op::conv(Conv2d::square(8, 16, 3)), &[input]);
        graph.output("main", conv);
        let error = graph.shapes([8, 8]).unwrap_err();
        assert_eq!(error.to_string(), "stem: expected 8 input channels, found 3");
    }

    #[test]
    fn a_kernel_larger_than_its_input_is_an_error() {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: 3 }, &[]);
        graph.add("pool", Op::MaxPool(Pool { kernel: [3, 3], stride: [2, 2], padding: [[0; 2]; 2] }), &[input]);
        assert_eq!(
            graph.shapes([2, 8]).unwrap_err().to_string(),
            "pool: kernel [3, 3] does not fit input [2, 8] padded by [[0, 0], [0, 0]]"
        );
    }

    #[test]
    fn a_pool_that_does_not_advance_is_an_error() {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: 3 }, &[]);
        graph.add("pool", Op::AvgPool(Pool { kernel: [2, 2], stride: [0, 1], padding: [[0; 2]; 2] }), &[input]);
        let error = graph.shapes([8, 8]).unwrap_err().to_string();
        assert!(error.starts_with("pool: expected kernel and stride of at least 1"), "{error}");
    }

    #[test]
    fn implausible_operations_are_errors() {
        let graph_of = |op: Op| {
            let mut graph = Graph::new();
            let input = graph.add("input", Op::Input { channels: 3 }, &[]);
            let node = graph.add("node", op, &[input]);
            graph.output("main", node);
            graph
        };
        let padded = |padding| {
            let mut conv = Conv2d::square(3, 3, 1);
            conv.geometry.padding = [padding; 2];
            graph_of(Op::Conv2d(conv))
        };
        let grown = padded(500).shapes([64, 64]).unwrap_err().to_string();
        assert_eq!(grown, "node: expected maps of at most [512, 512] for images of [64, 64], found [1064, 1064]");
        let far = padded(5000).check().unwrap_err().to_string();
        assert_eq!(far, "node: expected kernel, stride, padding and dilation up to 4096, found 5000");
        let pool = Pool { kernel: [64, 64], stride: [1, 1], padding: [[63, 63], [63, 63]] };
        let crowded = graph_of(Op::MaxPool(pool)).shapes([64, 64]).unwrap_err().to_string();
        assert!(crowded.starts_with("node: expected each pixel in at most 1024 windows"), "{crowded}");
        let text = serde_json::to_string(&padded(1)).unwrap();
        assert_eq!(serde_json::from_str::<Graph>(&text).unwrap(), padded(1));
        let cyclic = text.replace("\"inputs\":[\"input\"]", "\"inputs\":[\"node\"]");
        let error = serde_json::from_str::<Graph>(&cyclic).unwrap_err().to_string();
        assert!(error.starts_with("node: expected an input earlier in the graph, found node"), "{error}");
    }

    #[test]
    fn inference_drops_the_nodes_that_only_auxiliary_heads_need() {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: 3 }, &[]);
        let relu = graph.add("relu", Op::Activation(ActivationKind::Relu), &[input]);
        let aux = graph.add("aux", Op::GlobalAvgPool, &[relu]);
        graph.output("main", relu);
        graph.output("aux", aux);
        let names: Vec<String> = graph.inference().nodes().iter().map(|node| node.name.clone()).collect();
        assert_eq!(names, ["input", "relu"]);
    }
}

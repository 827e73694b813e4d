//! A network as a program: operations in order, on values.
//!
//! A [`Program`] is a list of [`Step`]s over values, each written once. It follows from a [`Graph`] alone and knows no image
//! size, instruction set, memory layout or number format. Parameters are identified by the nodes that own them. A machine
//! prepares a program: the f32 engine ([`crate::engine`]) folds and packs the weights; training interprets the steps on
//! tensors with gradients.
//!
//! Two lowerings produce the same kind of steps. [`Program::inference`] uses the running statistics of batch norms, so
//! convolutions absorb them. [`Program::training`] normalises by the batch, so sums of batch norms are steps of their own.
//!
//! ```
//! use repvgg::Specification;
//! use repvgg::program::{Operation, Program};
//!
//! let graph = Specification::named("repvgg-a0").expect("an official name").training_graph()?;
//! // A training block `ReLU(BN(conv3×3(x)) + BN(conv1×1(x)) + BN(x))` is two steps:
//! // `t = conv3×3(x) + scale · x`, then `ReLU(conv1×1(x) + t)`.
//! let program = Program::inference(&graph);
//! let convolutions = program.steps().iter().filter(|step| matches!(step.operation, Operation::Convolution(_)));
//! assert_eq!(convolutions.count(), 22 * 2 + 1);
//! # Ok::<(), repvgg::Error>(())
//! ```

mod inference;
mod places;
mod training;

use repvgg_kernels::{Activation, Geometry};

pub use places::{Place, Places, Room};
pub use training::MAX_NORMS;

use crate::Graph;
use crate::graph::{ActivationKind, NodeId, Op, Pool, Resize, Softmax};

/// Steps in order, and the values that they read and write.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    graph: Graph,
    values: Vec<Value>,
    steps: Vec<Step>,
    outputs: Vec<ValueId>,
}

/// The index of a value of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(usize);

impl ValueId {
    /// The index into [`Program::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A value, and the node of [`Program::graph`] whose shape it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The caller's images.
    Input(NodeId),
    /// The value of a node.
    Node(NodeId),
    /// A partial sum, which no node computes. The node is a term of the same sum.
    PartialSum(NodeId),
}

impl Value {
    /// The node whose shape and name the value has.
    pub fn node(self) -> NodeId {
        match self {
            Self::Input(node) | Self::Node(node) | Self::PartialSum(node) => node,
        }
    }
}

/// One operation on values: one pass over memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The operation on its inputs.
    pub operation: Operation,
    /// The values it reads; their number depends on the operation.
    pub inputs: Vec<ValueId>,
    /// The value it writes.
    pub output: ValueId,
    /// The nodes that it computes, in the order of the graph.
    pub nodes: Vec<NodeId>,
}

/// The operation of a step, on values `[N, C, H, W]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// A convolution of the first input, plus the second input if there is one.
    Convolution(Convolution),
    /// A sum of maps of equal shape. With one term, it is a batch norm, a factor per channel or an activation.
    Sum(Sum),
    /// The product of two maps, or of a map `[C, H, W]` and factors `[C, 1, 1]`, followed by the activation.
    Product(Option<ActivationKind>),
    /// The concatenation of the inputs along the channels.
    Concat,
    /// A permutation of the channels: `[groups, C/groups]` transposed.
    Shuffle {
        /// The groups whose channels are interleaved.
        groups: usize,
    },
    /// Consecutive channels.
    Slice {
        /// The first channel.
        start: usize,
        /// The number of channels.
        channels: usize,
    },
    /// Zeros around the map; negative numbers crop rows or columns instead.
    Pad {
        /// Rows above and below, columns left and right.
        padding: [[isize; 2]; 2],
    },
    /// The map resampled to another size.
    Resize(Resize),
    /// The largest value of each window.
    MaxPool(Pool),
    /// The mean of each window; padding counts as zeros.
    AvgPool(Pool),
    /// The mean of each window's pixels on the map; padding does not count.
    AvgPoolInside(Pool),
    /// The mean of each map: `[C, H, W] → [C, 1, 1]`.
    GlobalAvgPool,
    /// `[C, H, W] → [C·H·W, 1, 1]`.
    Flatten,
    /// The softmax over the channels of each pixel.
    Softmax(Softmax),
}

/// `activation(affines(convolution(x)) + addend_affine(y))`, where `y` is the step's second input, if there is one.
///
/// [`LinearConv::of`](crate::algebra::LinearConv::of) and [`Affine::of`](crate::algebra::Affine::of) compute the
/// parameters of its nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Convolution {
    /// The node with the filters: a convolution or a fully connected layer.
    pub filters: NodeId,
    /// Channels, kernel, stride, padding, dilation and groups; a fully connected layer is a 1×1 convolution.
    pub geometry: Geometry,
    /// The batch norms and factors per channel that follow it, in order.
    pub affines: Vec<NodeId>,
    /// The batch norm or factor per channel that is applied to the second input before it is added.
    pub addend_affine: Option<NodeId>,
    /// The activation of the sum.
    pub activation: Activation,
}

/// `activation(Σ affine(x))`, with one term for each input of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    /// For each term, the batch norm or factor per channel that is applied to the input.
    pub affines: Vec<Option<NodeId>>,
    /// The activation of the sum, if any.
    pub activation: Option<ActivationKind>,
}

impl Program {
    /// The graph whose nodes the program computes and whose parameters it names.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// All values; the caller's images are the first.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The steps in order. Each reads the caller's images or values that earlier steps wrote.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The value of the caller's images.
    pub fn input(&self) -> ValueId {
        ValueId(0)
    }

    /// The values of the graph's outputs, the main one first.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The node whose shape and name a value has.
    pub fn node_of(&self, value: ValueId) -> NodeId {
        self.values[value.0].node()
    }
}

/// A program under construction.
struct Builder<'a> {
    graph: &'a Graph,
    values: Vec<Value>,
    /// The value of each node that has one.
    by_node: Vec<Option<ValueId>>,
    steps: Vec<Step>,
}

impl<'a> Builder<'a> {
    /// A program with no steps.
    fn new(graph: &'a Graph) -> Self {
        let mut by_node = vec![None; graph.nodes().len()];
        let inputs: Vec<NodeId> =
            graph.iter().filter(|(_, node)| matches!(node.op, Op::Input { .. })).map(|(id, _)| id).collect();
        inputs.iter().for_each(|input| by_node[input.index()] = Some(ValueId(0)));
        let first = *inputs.first().expect("a graph has an input");
        Self { graph, values: vec![Value::Input(first)], by_node, steps: Vec::new() }
    }

    /// The value of a node; it must not be internal to a step.
    fn value_of(&self, node: NodeId) -> ValueId {
        self.by_node[node.index()].expect("nodes come after their inputs")
    }

    /// The values of `nodes`.
    fn values_of(&self, nodes: &[NodeId]) -> Vec<ValueId> {
        nodes.iter().map(|&node| self.value_of(node)).collect()
    }

    /// Appends a step that writes `output`.
    fn push(&mut self, operation: Operation, inputs: Vec<ValueId>, output: Value, nodes: Vec<NodeId>) -> ValueId {
        let id = ValueId(self.values.len());
        self.values.push(output);
        if let Value::Node(node) = output {
            self.by_node[node.index()] = Some(id);
        }
        self.steps.push(Step { operation, inputs, output: id, nodes });
        id
    }

    fn finish(self) -> Program {
        let outputs = self.graph.outputs().iter().map(|output| self.value_of(output.node)).collect();
        Program { graph: self.graph.clone(), values: self.values, steps: self.steps, outputs }
    }
}

impl Operation {
    /// The operation of a single node; `None` for the input.
    fn of_node(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = graph.node(id);
        let sum = |affine, activation| Self::Sum(Sum { affines: vec![affine; node.inputs.len()], activation });
        Some(match &node.op {
            Op::Input { .. } => return None,
            Op::Conv2d(conv) | Op::NormalizedConv2d(conv) => Self::Convolution(Convolution::alone(id, conv.geometry)),
            Op::Linear(layer) => Self::Convolution(Convolution::alone(id, layer.geometry())),
            Op::BatchNorm(_) | Op::Scale { .. } => sum(Some(id), None),
            Op::Activation(kind) => sum(None, Some(*kind)),
            Op::Add => sum(None, None),
            Op::Mul => Self::Product(None),
            Op::Concat => Self::Concat,
            Op::Shuffle { groups } => Self::Shuffle { groups: *groups },
            Op::Slice { start, channels } => Self::Slice { start: *start, channels: *channels },
            Op::Pad { padding } => Self::Pad { padding: *padding },
            Op::Resize(resize) => Self::Resize(*resize),
            Op::MaxPool(pool) => Self::MaxPool(*pool),
            Op::AvgPool(pool) => Self::AvgPool(*pool),
            Op::AvgPoolInside(pool) => Self::AvgPoolInside(*pool),
            Op::GlobalAvgPool => Self::GlobalAvgPool,
            Op::Flatten => Self::Flatten,
            Op::Softmax(kind) => Self::Softmax(*kind),
        })
    }
}

impl Convolution {
    /// The convolution of a node, with nothing before or after it.
    fn alone(filters: NodeId, geometry: Geometry) -> Self {
        Self { filters, geometry, affines: Vec::new(), addend_affine: None, activation: Activation::Identity }
    }
}

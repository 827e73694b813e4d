//! From nodes to steps: which nodes share one pass over memory.
//!
//! Every node is still computed as it stands; only its value is not always written. A convolution applies the ReLU
//! that is its only reader; batch norms and factors whose only reader is a sum, and the activation after it, run with
//! it. The training block `ReLU(BN(conv3×3) + BN(conv1×1) + BN(x))` is thus three steps.

use repvgg_conv::{Activation, Conv2d};

use super::kernel::{Affine, Kernel};
use super::linear::Linear;
use crate::graph::{self, ActivationKind, BatchNorm, Node, NodeId, Op};
use crate::{Error, Graph, Result, Tensor, Weights};

/// A kernel, the nodes it computes (the last one's value is written), and the nodes whose values it reads.
pub(super) struct Step {
    pub(super) nodes: Vec<NodeId>,
    pub(super) kernel: Kernel,
    pub(super) inputs: Vec<NodeId>,
}

impl Step {
    /// The node whose value the step writes.
    pub(super) fn output(&self) -> NodeId {
        *self.nodes.last().expect("a step computes at least one node")
    }
}

/// The steps of `graph` in order, with their weights packed.
pub(super) fn lower(graph: &Graph, weights: &Weights) -> Result<Vec<Step>> {
    let lowering = Lowering { graph, weights, absorbed: absorbed(graph) };
    let has_step = |(id, node): &(NodeId, &Node)| {
        !lowering.absorbed[id.index()] && !matches!(node.op, Op::Input { .. } | Op::Flatten)
    };
    graph.iter().filter(has_step).map(|(id, _)| lowering.step(id)).collect()
}

/// For each node, whether the step of its only reader computes it.
fn absorbed(graph: &Graph) -> Vec<bool> {
    let users = graph.users();
    let by_reader = |(id, node): (NodeId, &Node)| match users[id.index()].as_slice() {
        &[reader] if id != graph.main_output() => matches!(
            (&node.op, &graph.node(reader).op),
            (Op::Conv2d(_) | Op::Linear(_), Op::Activation(ActivationKind::Relu))
                | (Op::BatchNorm(_) | Op::Scale { .. } | Op::Add | Op::Mul, Op::Activation(_))
                | (Op::BatchNorm(_) | Op::Scale { .. }, Op::Add)
        ),
        _ => false,
    };
    graph.iter().map(by_reader).collect()
}

struct Lowering<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    absorbed: Vec<bool>,
}

impl Lowering<'_> {
    /// The step that writes the value of `id`.
    fn step(&self, id: NodeId) -> Result<Step> {
        let node = self.graph.node(id);
        let (body, activation) = match node.op {
            Op::Activation(kind) if self.absorbed[node.inputs[0].index()] => (node.inputs[0], Some(kind)),
            Op::Activation(kind) => (id, Some(kind)),
            _ => (id, None),
        };
        let read = &self.graph.node(body).inputs;
        let (kernel, inputs) = match self.graph.node(body).op {
            Op::BatchNorm(_) | Op::Scale { .. } => sum(vec![self.affine(body)?], activation),
            Op::Add | Op::Activation(_) => {
                sum(read.iter().map(|&id| self.term(id)).collect::<Result<_>>()?, activation)
            }
            _ => (self.kernel(body, activation)?, read.clone()),
        };
        let mut nodes: Vec<NodeId> = read.iter().copied().filter(|id| self.absorbed[id.index()]).collect();
        nodes.extend([body, id]);
        nodes.dedup();
        Ok(Step { nodes, kernel, inputs })
    }

    /// The kernel of a node that is no sum, with the activation after it.
    fn kernel(&self, id: NodeId, activation: Option<ActivationKind>) -> Result<Kernel> {
        Ok(match self.graph.node(id).op {
            Op::Conv2d(conv) => Kernel::Conv(Box::new(self.conv(id, conv, activation)?)),
            Op::Linear(layer) => Kernel::Linear(self.linear(id, layer, activation)?),
            Op::Mul => Kernel::Mul(activation),
            Op::Concat => Kernel::Concat,
            Op::MaxPool(pool) => Kernel::MaxPool(pool),
            Op::AvgPool(pool) => Kernel::AvgPool(pool),
            Op::GlobalAvgPool => Kernel::GlobalAvgPool,
            ref op => unreachable!("{op:?} has no kernel of its own"),
        })
    }

    /// A term of a sum: a value, or what a batch norm or factor that no other step computes makes of one.
    fn term(&self, id: NodeId) -> Result<Term> {
        if self.absorbed[id.index()] { self.affine(id) } else { Ok((None, id)) }
    }

    /// A batch norm or factor as `scale · x + shift`, rounded once from double precision.
    fn affine(&self, id: NodeId) -> Result<Term> {
        let values = |suffix| self.parameter(id, suffix).map(Tensor::data);
        let node = self.graph.node(id);
        let affine = match node.op {
            Op::BatchNorm(BatchNorm { eps, .. }) => {
                let (gamma, beta) = (values("weight")?, values("bias")?);
                let (mean, var) = (values("running_mean")?, values("running_var")?);
                let scale: Vec<f64> =
                    gamma.iter().zip(var).map(|(&g, &v)| f64::from(g) / (f64::from(v) + eps).sqrt()).collect();
                let shift =
                    beta.iter().zip(mean).zip(&scale).map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32);
                Affine { shift: shift.collect(), scale: scale.iter().map(|&s| s as f32).collect() }
            }
            _ => Affine { scale: values("weight")?.to_vec(), shift: vec![0.0; values("weight")?.len()] },
        };
        Ok((Some(affine), node.inputs[0]))
    }

    /// A packed convolution.
    fn conv(&self, id: NodeId, conv: graph::Conv2d, activation: Option<ActivationKind>) -> Result<Conv2d> {
        let weights = self.parameter(id, "weight")?.data();
        let bias = if conv.bias { Some(self.parameter(id, "bias")?.data()) } else { None };
        let packed = Conv2d::new(conv.geometry, weights, bias, fused(activation));
        packed.map_err(|error| Error::shape(&self.graph.node(id).name, error))
    }

    fn linear(&self, id: NodeId, layer: graph::Linear, activation: Option<ActivationKind>) -> Result<Linear> {
        let matrix = self.parameter(id, "weight")?.data();
        let bias = if layer.bias { self.parameter(id, "bias")?.data().to_vec() } else { vec![0.0; layer.out_features] };
        Ok(Linear::new(matrix, bias, fused(activation)))
    }

    fn parameter(&self, id: NodeId, suffix: &str) -> Result<&Tensor> {
        self.weights.require(&format!("{}.{suffix}", self.graph.node(id).name))
    }
}

/// The activation of a convolution or fully connected layer; [`absorbed`] offers them no other than the ReLU.
fn fused(activation: Option<ActivationKind>) -> Activation {
    if activation.is_some() { Activation::Relu } else { Activation::Identity }
}

/// A summand: what is applied to it, and the node that it is.
type Term = (Option<Affine>, NodeId);

fn sum(terms: Vec<Term>, activation: Option<ActivationKind>) -> (Kernel, Vec<NodeId>) {
    let (affines, inputs) = terms.into_iter().unzip();
    (Kernel::Sum { affines, activation }, inputs)
}

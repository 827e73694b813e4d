//! What the interpreter does, step by step: a node, or a sum of batch norms with what follows it.

use repvgg::graph::ActivationKind;
use repvgg::{Graph, NodeId, Op};
use repvgg_kernels::Activation;

use crate::ops::MAX_BRANCHES;

/// One step of a pass through the graph.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A node by itself.
    Node(NodeId),
    /// The sum of these batch norms (or the one), then the activation.
    Norms {
        /// The batch norms, each read by the sum alone.
        norms: Vec<NodeId>,
        /// What follows the sum.
        activation: Activation,
        /// The node whose value this is.
        at: NodeId,
    },
}

impl Step {
    /// The node whose value the step computes.
    pub(super) fn at(&self) -> NodeId {
        match self {
            Self::Node(at) | Self::Norms { at, .. } => *at,
        }
    }

    /// The nodes whose values the step reads.
    pub(super) fn reads(&self, graph: &Graph) -> Vec<NodeId> {
        match self {
            Self::Node(at) => graph.node(*at).inputs.clone(),
            Self::Norms { norms, .. } => norms.iter().map(|norm| graph.node(*norm).inputs[0]).collect(),
        }
    }
}

/// The steps of `graph`, in its order; nodes that are part of a later step have none of their own.
pub(super) fn plan(graph: &Graph) -> Vec<Step> {
    let mut readers: Vec<usize> = graph.users().iter().map(Vec::len).collect();
    for output in graph.outputs() {
        readers[output.node.index()] += 1;
    }
    let mut absorbed = vec![false; readers.len()];
    let mut steps: Vec<Step> = Vec::new();
    for (id, _) in graph.iter().rev() {
        if absorbed[id.index()] {
            continue;
        }
        steps.push(match Norms::ending_at(graph, &readers, id) {
            Some(Norms { norms, activation, inner }) => {
                inner.iter().for_each(|id| absorbed[id.index()] = true);
                Step::Norms { norms, activation, at: id }
            }
            None => Step::Node(id),
        });
    }
    steps.reverse();
    steps
}

/// Batch norms, their sum and its activation.
struct Norms {
    norms: Vec<NodeId>,
    activation: Activation,
    /// The nodes whose values nobody else sees.
    inner: Vec<NodeId>,
}

impl Norms {
    fn ending_at(graph: &Graph, readers: &[usize], end: NodeId) -> Option<Self> {
        let private = |id: &NodeId| readers[id.index()] == 1;
        let is_norm = |id: &NodeId| matches!(graph.node(*id).op, Op::BatchNorm(_));
        let node = graph.node(end);
        match node.op {
            Op::BatchNorm(_) => Some(Self { norms: vec![end], activation: Activation::Identity, inner: Vec::new() }),
            Op::Add if node.inputs.len() <= MAX_BRANCHES && node.inputs.iter().all(|id| is_norm(id) && private(id)) => {
                let norms = node.inputs.clone();
                Self::equal_epsilon(graph, &norms).then(|| Self {
                    inner: norms.clone(),
                    norms,
                    activation: Activation::Identity,
                })
            }
            Op::Activation(ActivationKind::Relu) if private(&node.inputs[0]) => {
                let input = node.inputs[0];
                let mut sum =
                    Self::ending_at(graph, readers, input).filter(|sum| sum.activation == Activation::Identity)?;
                sum.inner.push(input);
                Some(Self { activation: Activation::Relu, ..sum })
            }
            _ => None,
        }
    }

    fn equal_epsilon(graph: &Graph, norms: &[NodeId]) -> bool {
        let epsilon = |id: &NodeId| match &graph.node(*id).op {
            Op::BatchNorm(norm) => norm.eps,
            other => panic!("{}: is no batch norm", other.kind()),
        };
        norms.iter().all(|id| epsilon(id) == epsilon(&norms[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sum of two batch norms, and a batch norm whose value is needed twice.
    #[test]
    fn norms_join_their_sum_unless_something_else_reads_them() {
        let mut graph = Graph::new();
        let x = graph.add("input", Op::Input { channels: 4 }, &[]);
        let a = graph.add("a", Op::batch_norm(4), &[x]);
        let b = graph.add("b", Op::batch_norm(4), &[x]);
        let sum = graph.add("sum", Op::Add, &[a, b]);
        let relu = graph.add("relu", Op::relu(), &[sum]);
        let c = graph.add("c", Op::batch_norm(4), &[relu]);
        let twice = graph.add("twice", Op::Add, &[c, c]);
        let last = graph.add("last", Op::relu(), &[twice]);
        graph.output("main", last);
        let expected = [
            Step::Node(x),
            Step::Norms { norms: vec![a, b], activation: Activation::Relu, at: relu },
            Step::Norms { norms: vec![c], activation: Activation::Identity, at: c },
            Step::Node(twice),
            Step::Node(last),
        ];
        assert_eq!(plan(&graph), expected);
    }
}

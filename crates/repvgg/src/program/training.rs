//! Lowering for training: a sum of batch norms and the ReLU after it are one step.

use super::{Builder, Operation, Program, Sum, Value};
use crate::Graph;
use crate::graph::{ActivationKind, NodeId, Op};

/// The most batch norms in one step: the branches of a RepVGG block.
pub const MAX_NORMS: usize = 3;

impl Program {
    /// The program for all outputs of `graph`, with batch norms that normalise by the batch.
    ///
    /// A [`Sum`] of batch norms has only batch norms as terms, at most [`MAX_NORMS`], all with the same ε.
    ///
    /// # Panics
    /// When the graph has no input.
    pub fn training(graph: &Graph) -> Self {
        let mut readers: Vec<usize> = graph.users().iter().map(Vec::len).collect();
        for output in graph.outputs() {
            readers[output.node.index()] += 1;
        }
        let mut absorbed = vec![false; readers.len()];
        let mut sums: Vec<Option<Norms>> = graph.iter().map(|_| None).collect();
        for (id, _) in graph.iter().rev() {
            if absorbed[id.index()] {
                continue;
            }
            let norms = Norms::ending_at(graph, &readers, id);
            norms.iter().flat_map(|norms| &norms.inner).for_each(|inner| absorbed[inner.index()] = true);
            sums[id.index()] = norms;
        }
        let mut builder = Builder::new(graph);
        for (id, node) in graph.iter().filter(|(id, _)| !absorbed[id.index()]) {
            match sums[id.index()].take() {
                Some(Norms { norms, activation, mut inner }) => {
                    let inputs = norms.iter().map(|&norm| builder.of(graph.node(norm).inputs[0])).collect();
                    let affines = norms.into_iter().map(Some).collect();
                    inner.push(id);
                    builder.push(Operation::Sum(Sum { affines, activation }), inputs, Value::Node(id), inner);
                }
                None => {
                    if let Some(operation) = Operation::of_node(graph, id) {
                        let inputs = builder.all_of(&node.inputs);
                        builder.push(operation, inputs, Value::Node(id), vec![id]);
                    }
                }
            }
        }
        builder.finish()
    }
}

/// Batch norms, their sum and its activation.
struct Norms {
    norms: Vec<NodeId>,
    activation: Option<ActivationKind>,
    /// The nodes whose values only this step needs, in the order of the graph.
    inner: Vec<NodeId>,
}

impl Norms {
    fn ending_at(graph: &Graph, readers: &[usize], end: NodeId) -> Option<Self> {
        let is_private = |id: &NodeId| readers[id.index()] == 1;
        let is_norm = |id: &NodeId| matches!(graph.node(*id).op, Op::BatchNorm(_));
        let node = graph.node(end);
        match node.op {
            Op::BatchNorm(_) => Some(Self { norms: vec![end], activation: None, inner: Vec::new() }),
            Op::Add if node.inputs.len() <= MAX_NORMS && node.inputs.iter().all(|id| is_norm(id) && is_private(id)) => {
                let norms = node.inputs.clone();
                have_equal_epsilon(graph, &norms).then(|| Self { inner: norms.clone(), norms, activation: None })
            }
            Op::Activation(ActivationKind::Relu) if is_private(&node.inputs[0]) => {
                let input = node.inputs[0];
                let mut sum = Self::ending_at(graph, readers, input).filter(|sum| sum.activation.is_none())?;
                sum.inner.push(input);
                Some(Self { activation: Some(ActivationKind::Relu), ..sum })
            }
            _ => None,
        }
    }
}

fn have_equal_epsilon(graph: &Graph, norms: &[NodeId]) -> bool {
    let epsilon = |id: &NodeId| match &graph.node(*id).op {
        Op::BatchNorm(norm) => Some(norm.eps),
        _ => None,
    };
    norms.iter().all(|id| epsilon(id) == epsilon(&norms[0]))
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
        let steps: Vec<(Operation, Vec<NodeId>)> =
            Program::training(&graph).steps().iter().map(|step| (step.operation.clone(), step.nodes.clone())).collect();
        let relu_after = Some(ActivationKind::Relu);
        let step = |affines: &[Option<NodeId>], activation, nodes: &[NodeId]| {
            (Operation::Sum(Sum { affines: affines.to_vec(), activation }), nodes.to_vec())
        };
        let expected = [
            step(&[Some(a), Some(b)], relu_after, &[a, b, sum, relu]),
            step(&[Some(c)], None, &[c]),
            step(&[None, None], None, &[twice]),
            step(&[None], relu_after, &[last]),
        ];
        assert_eq!(steps, expected);
    }
}

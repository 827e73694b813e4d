//! Lowering for inference: combines nodes that share one pass over memory.
//!
//! A convolution absorbs the batch norms and factors after it, the sum that they are a term of, and the ReLU after the sum.
//! Other sums absorb the batch norms and factors among their terms. The training block
//! `ReLU(BN(conv3×3(x)) + BN(conv1×1(x)) + BN(x))` is two steps: `t = conv3×3(x) + scale·x`, `ReLU(conv1×1(x) + t)`.

use repvgg_kernels::Activation;

use super::{Builder, Convolution, Operation, Program, Sum, Value, ValueId};
use crate::Graph;
use crate::graph::{ActivationKind, NodeId, Op};

impl Program {
    /// The program for the main output of `graph`, with the running statistics of its batch norms.
    ///
    /// # Panics
    /// When the graph has no input or no output.
    pub fn inference(graph: &Graph) -> Self {
        let graph = graph.inference();
        let mut lowering = Lowering { absorbed: vec![false; graph.nodes().len()], builder: Builder::new(&graph) };
        let users = graph.users();
        for (id, _) in graph.iter() {
            lowering.absorbed[id.index()] = id != graph.main_output()
                && matches!(users[id.index()].as_slice(), &[reader] if lowering.is_absorbed_by(id, reader));
        }
        for (id, node) in graph.iter() {
            if !lowering.absorbed[id.index()] && !matches!(node.op, Op::Input { .. }) {
                lowering.lower(id);
            }
        }
        lowering.builder.finish()
    }
}

struct Lowering<'a> {
    builder: Builder<'a>,
    /// For each node, whether its only reader's step computes it.
    absorbed: Vec<bool>,
}

/// A term of a sum.
#[derive(Clone, Copy)]
struct Term {
    /// The batch norm or factor per channel that is applied to the value.
    affine: Option<NodeId>,
    value: ValueId,
}

/// The part of a step after its convolution or sum.
struct Ending {
    /// The nodes of the sum and of the activation.
    nodes: Vec<NodeId>,
    activation: Option<ActivationKind>,
    output: Value,
}

impl<'a> Lowering<'a> {
    fn graph(&self) -> &'a Graph {
        self.builder.graph
    }

    fn op(&self, id: NodeId) -> &'a Op {
        &self.graph().node(id).op
    }

    fn is_absorbed(&self, id: NodeId) -> bool {
        self.absorbed[id.index()]
    }

    /// Whether the step of `reader`, the only reader of `id`, computes `id`.
    fn is_absorbed_by(&self, id: NodeId, reader: NodeId) -> bool {
        let is_affine = matches!(self.op(id), Op::BatchNorm(_) | Op::Scale { .. });
        let is_conv = self.convolution_of(id).is_some();
        let is_sum = matches!(self.op(id), Op::Add | Op::Mul);
        match self.op(reader) {
            Op::BatchNorm(_) | Op::Scale { .. } => is_conv,
            Op::Add => is_conv || is_affine,
            Op::Activation(ActivationKind::Relu) => {
                is_conv || is_affine || is_sum || matches!(self.op(id), Op::Linear(_))
            }
            Op::Activation(_) => is_affine && !is_conv || is_sum && self.convolutions_of_sum(id).is_empty(),
            _ => false,
        }
    }

    /// The convolution behind a node, if only absorbed batch norms and factors lie between them.
    fn convolution_of(&self, id: NodeId) -> Option<NodeId> {
        match self.op(id) {
            Op::Conv2d(_) | Op::NormalizedConv2d(_) => Some(id),
            Op::BatchNorm(_) | Op::Scale { .. } => {
                let input = self.graph().node(id).inputs[0];
                if self.is_absorbed(input) { self.convolution_of(input) } else { None }
            }
            _ => None,
        }
    }

    /// The terms of a sum that are absorbed convolutions; none if `id` is not a sum.
    fn convolutions_of_sum(&self, id: NodeId) -> Vec<NodeId> {
        let inputs = &self.graph().node(id).inputs;
        let is_absorbed = |input: &NodeId| self.is_absorbed(*input) && self.convolution_of(*input).is_some();
        if *self.op(id) == Op::Add { inputs.iter().copied().filter(is_absorbed).collect() } else { Vec::new() }
    }

    /// Appends the steps that compute the value of `id`.
    fn lower(&mut self, id: NodeId) {
        let node = self.graph().node(id);
        let (body, activation) = match node.op {
            Op::Activation(kind) if self.is_absorbed(node.inputs[0]) => (node.inputs[0], Some(kind)),
            Op::Activation(kind) => (id, Some(kind)),
            _ => (id, None),
        };
        let nodes = if body == id { vec![id] } else { vec![body, id] };
        let ending = Ending { nodes, activation, output: Value::Node(id) };
        if self.convolution_of(body).is_some() {
            self.convolution(body, None, ending);
            return;
        }
        let convolutions = self.convolutions_of_sum(body);
        if let Some((last, others)) = convolutions.split_last() {
            self.sum_of_convolutions(body, others, *last, ending);
            return;
        }
        let inputs = &self.graph().node(body).inputs;
        match self.op(body) {
            Op::BatchNorm(_) | Op::Scale { .. } => {
                let term = self.affine(body);
                self.sum(vec![term], ending);
            }
            Op::Add | Op::Activation(_) => {
                let terms = inputs.iter().map(|&input| self.term(input)).collect();
                let absorbed = inputs.iter().copied().filter(|&input| self.is_absorbed(input));
                let nodes = absorbed.chain(ending.nodes).collect();
                self.sum(terms, Ending { nodes, ..ending });
            }
            _ => {
                let mut operation = Operation::of_node(self.graph(), body).expect("inputs are not lowered");
                match &mut operation {
                    Operation::Product(after) => *after = activation,
                    Operation::Convolution(convolution) => convolution.activation = relu(activation),
                    _ => {}
                }
                let inputs = self.builder.all_of(inputs);
                self.builder.push(operation, inputs, ending.output, ending.nodes);
            }
        }
    }

    fn sum(&mut self, terms: Vec<Term>, Ending { nodes, activation, output }: Ending) -> ValueId {
        let (affines, inputs) = terms.into_iter().map(|Term { affine, value }| (affine, value)).unzip();
        self.builder.push(Operation::Sum(Sum { affines, activation }), inputs, output, nodes)
    }

    /// A sum with convolutions among its terms. The other terms are added first, as one value; then each convolution adds the
    /// sum so far, and the `last` one applies the ending.
    fn sum_of_convolutions(&mut self, sum: NodeId, convolutions: &[NodeId], last: NodeId, ending: Ending) {
        let is_convolution = |input: &NodeId| *input == last || convolutions.contains(input);
        let others: Vec<NodeId> =
            self.graph().node(sum).inputs.iter().copied().filter(|input| !is_convolution(input)).collect();
        let mut so_far = match others.as_slice() {
            [] => None,
            &[other] => Some(self.term(other)),
            others => {
                let terms = others.iter().map(|&input| self.term(input)).collect();
                let nodes = others.iter().copied().filter(|&input| self.is_absorbed(input)).collect();
                let value = self.sum(terms, Ending { nodes, activation: None, output: Value::PartialSum(last) });
                Some(Term { affine: None, value })
            }
        };
        for &term in convolutions {
            let ending = Ending { nodes: Vec::new(), activation: None, output: Value::PartialSum(term) };
            so_far = Some(Term { affine: None, value: self.convolution(term, so_far, ending) });
        }
        self.convolution(last, so_far, ending);
    }

    /// The step of a convolution with the batch norms and factors that end in `end`, plus `addend`.
    fn convolution(&mut self, end: NodeId, addend: Option<Term>, ending: Ending) -> ValueId {
        let filters = self.convolution_of(end).expect("the caller found a convolution");
        let geometry = self.op(filters).convolution().expect("it is one").geometry;
        let mut nodes = vec![end];
        while nodes[nodes.len() - 1] != filters {
            nodes.push(self.graph().node(nodes[nodes.len() - 1]).inputs[0]);
        }
        nodes.reverse();
        let convolution = Convolution {
            affines: nodes[1..].to_vec(),
            addend_affine: addend.and_then(|term| term.affine),
            activation: relu(ending.activation),
            ..Convolution::alone(filters, geometry)
        };
        nodes.extend(ending.nodes.into_iter().filter(|id| *id != end));
        let image = self.builder.of(self.graph().node(filters).inputs[0]);
        let inputs = [Some(image), addend.map(|term| term.value)].into_iter().flatten().collect();
        self.builder.push(Operation::Convolution(convolution), inputs, ending.output, nodes)
    }

    /// A term of a sum: a value, or an absorbed batch norm or factor of one.
    fn term(&self, id: NodeId) -> Term {
        if self.is_absorbed(id) { self.affine(id) } else { Term { affine: None, value: self.builder.of(id) } }
    }

    fn affine(&self, id: NodeId) -> Term {
        Term { affine: Some(id), value: self.builder.of(self.graph().node(id).inputs[0]) }
    }
}

/// The activation of a convolution: only the ReLU is absorbed.
fn relu(activation: Option<ActivationKind>) -> Activation {
    if activation.is_some() { Activation::Relu } else { Activation::Identity }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Conv2d;
    use crate::program::{Place, Room};

    fn names(program: &Program, nodes: &[NodeId]) -> Vec<String> {
        nodes.iter().map(|&node| program.graph().node(node).name.clone()).collect()
    }

    /// `relu(bn3(conv3(x)) + bn1(conv1(x)) + bn0(x))`
    fn block() -> Graph {
        let mut graph = Graph::new();
        let x = graph.add("x", Op::Input { channels: 4 }, &[]);
        let conv3 = graph.add("conv3", Op::conv(Conv2d::square(4, 4, 3)), &[x]);
        let bn3 = graph.add("bn3", Op::batch_norm(4), &[conv3]);
        let conv1 = graph.add("conv1", Op::conv(Conv2d::square(4, 4, 1)), &[x]);
        let bn1 = graph.add("bn1", Op::batch_norm(4), &[conv1]);
        let bn0 = graph.add("bn0", Op::batch_norm(4), &[x]);
        let sum = graph.add("sum", Op::Add, &[bn3, bn1, bn0]);
        let relu = graph.add("relu", Op::relu(), &[sum]);
        graph.output("main", relu);
        graph
    }

    #[test]
    fn a_training_block_is_two_convolutions() {
        let program = Program::inference(&block());
        let [first, second] = program.steps() else { panic!("{:?}", program.steps()) };
        let (Operation::Convolution(a), Operation::Convolution(b)) = (&first.operation, &second.operation) else {
            panic!("{:?}", program.steps());
        };
        // t = bn3(conv3(x)) + bn0(x), which no node is; relu(bn1(conv1(x)) + t).
        assert_eq!((first.inputs.as_slice(), first.output), ([program.input(); 2].as_slice(), ValueId(1)));
        assert_eq!((second.inputs.as_slice(), second.output), ([program.input(), ValueId(1)].as_slice(), ValueId(2)));
        assert_eq!(names(&program, &first.nodes), ["conv3", "bn3"]);
        assert_eq!(names(&program, &second.nodes), ["conv1", "bn1", "sum", "relu"]);
        assert_eq!(names(&program, &[a.filters, a.affines[0], a.addend_affine.unwrap()]), ["conv3", "bn3", "bn0"]);
        assert_eq!(names(&program, &[b.filters, b.affines[0]]), ["conv1", "bn1"]);
        assert_eq!((a.activation, b.activation, b.addend_affine), (Activation::Identity, Activation::Relu, None));
        let bn3 = program.graph().find("bn3").unwrap();
        assert_eq!(program.values()[1], Value::PartialSum(bn3));
        assert_eq!(program.outputs(), [ValueId(2)]);
    }

    #[test]
    fn values_alive_together_lie_apart_and_aliases_share_a_place() {
        let mut graph = Graph::new();
        let x = graph.add("x", Op::Input { channels: 4 }, &[]);
        let pool = graph.add("pool", Op::GlobalAvgPool, &[x]);
        let flat = graph.add("flat", Op::Flatten, &[pool]);
        let sum = graph.add("sum", Op::Add, &[flat, pool]);
        graph.output("main", sum);
        let program = Program::inference(&graph);
        let flat = program.steps()[1].output;
        let room = |value: ValueId| match value {
            value if value == program.input() => Room::Caller,
            value if value == flat => Room::SameAsInput,
            _ => Room::Arena(64),
        };
        let places = program.places(room);
        let expected = [Place::Caller, Place::Arena(0), Place::Arena(0), Place::Arena(64)];
        assert_eq!((places.of.as_slice(), places.len), (expected.as_slice(), 128));
        // Images that are copied to the arena are dead after their last reader.
        let places = program.places(|value| if value == program.input() { Room::Arena(64) } else { room(value) });
        let expected = [Place::Arena(0), Place::Arena(64), Place::Arena(64), Place::Arena(0)];
        assert_eq!((places.of.as_slice(), places.len), (expected.as_slice(), 128));
    }
}

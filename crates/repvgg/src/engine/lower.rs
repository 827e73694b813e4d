//! From nodes to steps: which nodes share one pass over memory.
//!
//! Only steps write values. A convolution takes up the batch norms and factors that follow it, the sum that these are a
//! term of, and the ReLU after that; other sums take up the batch norms and factors that are their terms. The training
//! block `ReLU(BN(conv3×3(x)) + BN(conv1×1(x)) + BN(x))` is two steps: `t = conv1×1(x) + scale·x`, `ReLU(conv3×3(x) + t)`.

use repvgg_kernels::{Activation, Geometry};

use crate::graph::{ActivationKind, BatchNorm, Linear, NodeId, Op, Pool, Softmax, normalized};
use crate::{Graph, Result, Tensor, Weights};

/// Work that is done in one pass: the nodes it computes, whose value it writes, and the nodes whose values it reads.
pub(super) struct Step {
    pub(super) nodes: Vec<NodeId>,
    pub(super) output: NodeId,
    pub(super) inputs: Vec<NodeId>,
    pub(super) work: Work,
}

/// What a step computes.
pub(super) enum Work {
    /// A convolution of its first input, plus its second one if it has two.
    Conv(Conv),
    /// `activation(Σ affine(x))`: sums, batch norms, factors and lone activations.
    Sum { affines: Vec<Option<Affine>>, activation: Option<ActivationKind> },
    /// The product of two maps, or of a map and one factor per channel.
    Mul(Option<ActivationKind>),
    /// Channels one after another.
    Concat,
    /// For each channel, which of the input's it is.
    Gather(Vec<usize>),
    /// The map moved by some rows and columns, zeros around it.
    Pad([isize; 2]),
    /// The largest value of each window.
    MaxPool(Pool),
    /// The mean of each window.
    AvgPool(Pool),
    /// The mean of the part of each window that lies on the map.
    AvgPoolInside(Pool),
    /// The mean of each plane.
    GlobalAvgPool,
    /// Maps `[C, H, W]` as `[C·H·W, 1, 1]`.
    Flatten,
    /// The softmax over the channels.
    Softmax(Softmax),
    /// The images in blocks of channels.
    Block,
}

/// A convolution or a fully connected layer with its parameters, those that follow it taken up.
pub(super) struct Conv {
    pub(super) geometry: Geometry,
    /// `[K, C/G, R, S]`.
    pub(super) weights: Vec<f32>,
    /// `[K]`.
    pub(super) bias: Vec<f32>,
    /// `[K]`, where there is a second input with factors.
    pub(super) addend_scale: Option<Vec<f32>>,
    pub(super) activation: Activation,
}

/// `scale · x + shift` per channel.
#[derive(Debug, Clone)]
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// The steps of `graph` in order.
pub(super) fn lower(graph: &Graph, weights: &Weights) -> Result<Vec<Step>> {
    let channels = graph.channels();
    let mut lowering =
        Lowering { graph, weights, channels, absorbed: vec![false; graph.nodes().len()], steps: Vec::new() };
    let users = graph.users();
    for (id, _) in graph.iter() {
        lowering.absorbed[id.index()] = id != graph.main_output()
            && matches!(users[id.index()].as_slice(), &[reader] if lowering.is_taken_up(id, reader));
    }
    for (id, node) in graph.iter() {
        if !lowering.absorbed[id.index()] && !matches!(node.op, Op::Input { .. }) {
            lowering.step(id)?;
        }
    }
    Ok(lowering.steps)
}

struct Lowering<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    channels: Vec<Option<usize>>,
    /// For each node, whether the step of its only reader computes it.
    absorbed: Vec<bool>,
    steps: Vec<Step>,
}

/// A summand: what is applied to a value.
type Term = (Option<Affine>, NodeId);

impl Lowering<'_> {
    fn op(&self, id: NodeId) -> &Op {
        &self.graph.node(id).op
    }

    /// Whether the step of `reader`, the only reader of `id`, computes `id`.
    fn is_taken_up(&self, id: NodeId, reader: NodeId) -> bool {
        let is_affine = matches!(self.op(id), Op::BatchNorm(_) | Op::Scale { .. });
        let is_conv = self.conv(id).is_some();
        let is_sum = matches!(self.op(id), Op::Add | Op::Mul);
        match self.op(reader) {
            Op::BatchNorm(_) | Op::Scale { .. } => is_conv,
            Op::Add => is_conv || is_affine,
            Op::Activation(ActivationKind::Relu) => {
                is_conv || is_affine || is_sum || matches!(self.op(id), Op::Linear(_))
            }
            Op::Activation(_) => is_affine && !is_conv || is_sum && self.convs(id).is_empty(),
            _ => false,
        }
    }

    /// The convolution that a node is, if nothing but batch norms and factors that are taken up follow it.
    fn conv(&self, id: NodeId) -> Option<NodeId> {
        match self.op(id) {
            Op::Conv2d(_) | Op::NormalizedConv2d(_) => Some(id),
            Op::BatchNorm(_) | Op::Scale { .. } => {
                let input = self.graph.node(id).inputs[0];
                if self.absorbed[input.index()] { self.conv(input) } else { None }
            }
            _ => None,
        }
    }

    /// The terms of a sum that are convolutions which the sum takes up.
    fn convs(&self, id: NodeId) -> Vec<NodeId> {
        let inputs = &self.graph.node(id).inputs;
        let taken = |input: &NodeId| self.absorbed[input.index()] && self.conv(*input).is_some();
        if *self.op(id) == Op::Add { inputs.iter().copied().filter(taken).collect() } else { Vec::new() }
    }

    /// Appends the steps that write the value of `id`.
    fn step(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph.node(id);
        let (body, activation) = match node.op {
            Op::Activation(kind) if self.absorbed[node.inputs[0].index()] => (node.inputs[0], Some(kind)),
            Op::Activation(kind) => (id, Some(kind)),
            _ => (id, None),
        };
        let nodes = if body == id { vec![id] } else { vec![body, id] };
        let read = self.graph.node(body).inputs.clone();
        if self.conv(body).is_some() {
            return self.convolution(body, activation, (nodes, id), None);
        }
        let convs = self.convs(body);
        if !convs.is_empty() {
            return self.sum_of_convolutions(body, (&convs, activation), (nodes, id));
        }
        let (work, nodes, inputs) = match self.op(body) {
            Op::BatchNorm(_) | Op::Scale { .. } => self.sum(vec![self.affine(body)?], activation, nodes),
            Op::Add | Op::Activation(_) => {
                let terms = read.iter().map(|&id| self.term(id)).collect::<Result<_>>()?;
                let taken = read.iter().copied().filter(|id| self.absorbed[id.index()]);
                self.sum(terms, activation, taken.chain(nodes).collect())
            }
            Op::Linear(layer) => (Work::Conv(self.linear(body, *layer, activation)?), nodes, read),
            Op::Mul => (Work::Mul(activation), nodes, read),
            Op::Concat => (Work::Concat, nodes, read),
            Op::Shuffle { groups } => {
                let channels = self.channels[body.index()].unwrap_or_default();
                let source = |channel: usize| channel % groups * (channels / groups) + channel / groups;
                (Work::Gather((0..channels).map(source).collect()), nodes, read)
            }
            Op::Slice { start, channels } => (Work::Gather((*start..start + channels).collect()), nodes, read),
            Op::Pad { padding } => (Work::Pad(padding.map(|[begin, _]| begin)), nodes, read),
            Op::MaxPool(pool) => (Work::MaxPool(*pool), nodes, read),
            Op::AvgPool(pool) => (Work::AvgPool(*pool), nodes, read),
            Op::AvgPoolInside(pool) => (Work::AvgPoolInside(*pool), nodes, read),
            Op::GlobalAvgPool => (Work::GlobalAvgPool, nodes, read),
            Op::Flatten => (Work::Flatten, nodes, read),
            Op::Softmax(kind) => (Work::Softmax(*kind), nodes, read),
            op @ (Op::Input { .. } | Op::Conv2d(_) | Op::NormalizedConv2d(_)) => {
                unreachable!("{op:?} is no work of its own")
            }
        };
        self.steps.push(Step { nodes, output: id, inputs, work });
        Ok(())
    }

    fn sum(
        &self,
        terms: Vec<Term>,
        activation: Option<ActivationKind>,
        nodes: Vec<NodeId>,
    ) -> (Work, Vec<NodeId>, Vec<NodeId>) {
        let (affines, inputs) = terms.into_iter().unzip();
        (Work::Sum { affines, activation }, nodes, inputs)
    }

    /// A sum with convolutions among its terms: what is no convolution comes first, as one value; each convolution adds
    /// itself to what came before.
    fn sum_of_convolutions(
        &mut self,
        body: NodeId,
        (convs, activation): (&[NodeId], Option<ActivationKind>),
        (nodes, output): (Vec<NodeId>, NodeId),
    ) -> Result<()> {
        let others: Vec<NodeId> =
            self.graph.node(body).inputs.iter().copied().filter(|input| !convs.contains(input)).collect();
        let mut sum = match others.as_slice() {
            [] => None,
            &[other] => Some(self.term(other)?),
            others => {
                let terms = others.iter().map(|&id| self.term(id)).collect::<Result<_>>()?;
                let taken = others.iter().copied().filter(|id| self.absorbed[id.index()]).collect();
                let (work, nodes, inputs) = self.sum(terms, None, taken);
                // It is kept where the value of the last convolution would be, which is never written.
                let output = convs[convs.len() - 1];
                self.steps.push(Step { nodes, output, inputs, work });
                Some((None, output))
            }
        };
        let (last, first) = convs.split_last().expect("there is a convolution");
        for &conv in first {
            self.convolution(conv, None, (Vec::new(), conv), sum)?;
            sum = Some((None, conv));
        }
        self.convolution(*last, activation, (nodes, output), sum)
    }

    /// The step of a convolution with the batch norms and factors that end in `end`, and an addend.
    fn convolution(
        &mut self,
        end: NodeId,
        activation: Option<ActivationKind>,
        (after, output): (Vec<NodeId>, NodeId),
        addend: Option<Term>,
    ) -> Result<()> {
        let conv = self.conv(end).expect("a convolution");
        let layer = *self.op(conv).convolution().expect("a convolution");
        let filters = layer.geometry.out_channels;
        let mut chain = vec![end];
        while chain[chain.len() - 1] != conv {
            chain.push(self.graph.node(chain[chain.len() - 1]).inputs[0]);
        }
        chain.reverse();
        let mut bias = vec![0.0; filters];
        if layer.bias {
            bias = self.parameter(conv, "bias")?.data().iter().map(|&b| f64::from(b)).collect();
        }
        let mut scale = vec![1.0; filters];
        for &id in &chain[1..] {
            let (factors, shifts) = self.factors(id)?;
            for k in 0..filters {
                scale[k] *= factors[k];
                bias[k] = bias[k] * factors[k] + shifts[k];
            }
        }
        let weight = self.parameter(conv, "weight")?;
        let weights = match self.op(conv) {
            Op::NormalizedConv2d(_) => normalized(weight),
            _ => weight.data().iter().copied().map(f64::from).collect(),
        };
        let each = weights.len() / filters;
        let scaled = |(i, w): (usize, &f64)| (w * scale[i / each]) as f32;
        let mut addend_scale = None;
        let mut inputs = vec![self.graph.node(conv).inputs[0]];
        let mut nodes = chain;
        if let Some((affine, value)) = addend {
            if let Some(Affine { scale, shift }) = affine {
                bias.iter_mut().zip(shift).for_each(|(bias, shift)| *bias += f64::from(shift));
                addend_scale = Some(scale);
            }
            inputs.push(value);
        }
        nodes.extend(after.into_iter().filter(|id| *id != end));
        let conv = Conv {
            geometry: layer.geometry,
            weights: weights.iter().enumerate().map(scaled).collect(),
            bias: bias.iter().map(|&b| b as f32).collect(),
            addend_scale,
            activation: relu(activation),
        };
        self.steps.push(Step { nodes, output, inputs, work: Work::Conv(conv) });
        Ok(())
    }

    /// A term of a sum: a value, or what a batch norm or factor that no other step computes makes of one.
    fn term(&self, id: NodeId) -> Result<Term> {
        if self.absorbed[id.index()] { self.affine(id) } else { Ok((None, id)) }
    }

    /// A batch norm or factor, rounded once from double precision.
    fn affine(&self, id: NodeId) -> Result<Term> {
        let (scale, shift) = self.factors(id)?;
        let [scale, shift] = [scale, shift].map(|values| values.iter().map(|&x| x as f32).collect());
        Ok((Some(Affine { scale, shift }), self.graph.node(id).inputs[0]))
    }

    /// The scale and shift of a batch norm or factor.
    fn factors(&self, id: NodeId) -> Result<(Vec<f64>, Vec<f64>)> {
        let values = |suffix| -> Result<Vec<f64>> {
            Ok(self.parameter(id, suffix)?.data().iter().map(|&x| f64::from(x)).collect())
        };
        let weight = values("weight")?;
        let Op::BatchNorm(BatchNorm { eps, .. }) = *self.op(id) else {
            let shift = vec![0.0; weight.len()];
            return Ok((weight, shift));
        };
        let (beta, mean, var) = (values("bias")?, values("running_mean")?, values("running_var")?);
        let scale: Vec<f64> = weight.iter().zip(&var).map(|(gamma, var)| gamma / (var + eps).sqrt()).collect();
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale).collect();
        Ok((scale, shift))
    }

    /// A fully connected layer is a 1×1 convolution of maps of one pixel.
    fn linear(&self, id: NodeId, layer: Linear, activation: Option<ActivationKind>) -> Result<Conv> {
        let geometry = Geometry {
            in_channels: layer.in_features,
            out_channels: layer.out_features,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        };
        let bias = if layer.bias { self.parameter(id, "bias")?.data().to_vec() } else { vec![0.0; layer.out_features] };
        let weights = self.parameter(id, "weight")?.data().to_vec();
        Ok(Conv { geometry, weights, bias, addend_scale: None, activation: relu(activation) })
    }

    fn parameter(&self, id: NodeId, suffix: &str) -> Result<&Tensor> {
        self.weights.require(&format!("{}.{suffix}", self.graph.node(id).name))
    }
}

/// The activation of a convolution, which takes up no other than the ReLU.
fn relu(activation: Option<ActivationKind>) -> Activation {
    if activation.is_some() { Activation::Relu } else { Activation::Identity }
}

//! The graph, interpreted step by step.

use burn::tensor::Tensor as BurnTensor;
use burn::tensor::activation::{hard_sigmoid, leaky_relu, log_softmax, relu, sigmoid, silu, softmax};
use burn::tensor::module::{avg_pool2d, batch_norm, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions, PadMode};
use repvgg::graph::{ActivationKind, BatchNorm, Conv2d, LEAST_NORM, Linear, Node, Pool, Softmax};
use repvgg::{Graph, NodeId, Op};
use repvgg_kernels::Activation;

use super::Tensors;
use super::plan::{Step, plan};
use crate::ops::{self, Branch};

/// What batch norms normalise by.
pub(super) enum Norms<'a> {
    /// The running statistics, by name.
    Running(&'a Tensors),
    /// The batch's own, collected.
    Batch(Vec<BatchStatistics>),
}

/// What a batch norm saw.
pub(super) struct BatchStatistics {
    /// The node's name.
    pub(super) name: String,
    /// `[C]`
    pub(super) mean: BurnTensor<1>,
    /// `[C]`, unbiased.
    pub(super) variance: BurnTensor<1>,
}

/// One forward pass.
pub(super) struct Forward<'a> {
    graph: &'a Graph,
    trained: &'a Tensors,
    norms: Norms<'a>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(graph: &'a Graph, trained: &'a Tensors, norms: Norms<'a>) -> Self {
        Self { graph, trained, norms }
    }

    /// The outputs of the graph, in its order, for `images` `[N, C, H, W]`.
    pub(super) fn run(&mut self, images: BurnTensor<4>) -> Vec<BurnTensor<4>> {
        let steps = plan(self.graph);
        let mut values = Values::new(self.graph, &steps);
        for step in &steps {
            let inputs = step.reads(self.graph).into_iter().map(|id| values.read(id)).collect();
            let value = match step {
                Step::Node(id) => match self.graph.node(*id) {
                    Node { op: Op::Input { .. }, .. } => images.clone(),
                    node => self.node(node, inputs),
                },
                Step::Norms { norms, activation, .. } => self.norms(norms, *activation, inputs),
            };
            values.0[step.at().index()].value = Some(value);
        }
        self.graph.outputs().iter().map(|output| values.read(output.node)).collect()
    }

    /// What each batch norm saw.
    pub(super) fn into_statistics(self) -> Vec<BatchStatistics> {
        match self.norms {
            Norms::Running(_) => Vec::new(),
            Norms::Batch(statistics) => statistics,
        }
    }

    fn norms(&mut self, ids: &[NodeId], activation: Activation, inputs: Vec<BurnTensor<4>>) -> BurnTensor<4> {
        let graph = self.graph;
        let norms: Vec<(&Node, &BatchNorm)> = ids
            .iter()
            .map(|id| match graph.node(*id) {
                node @ Node { op: Op::BatchNorm(norm), .. } => (node, norm),
                node => panic!("{}: is no batch norm", node.name),
            })
            .collect();
        match self.norms {
            Norms::Running(running) => self.running_norms(&norms, running, activation, inputs),
            Norms::Batch(_) => self.batch_norms(&norms, activation, inputs),
        }
    }

    fn running_norms(
        &self,
        norms: &[(&Node, &BatchNorm)],
        running: &Tensors,
        activation: Activation,
        inputs: Vec<BurnTensor<4>>,
    ) -> BurnTensor<4> {
        let terms = norms.iter().zip(inputs).map(|((node, norm), input)| {
            let [gamma, beta] = ["weight", "bias"].map(|suffix| self.parameter(node, suffix));
            let [mean, variance] =
                ["running_mean", "running_var"].map(|suffix| running[&format!("{}.{suffix}", node.name)].clone());
            batch_norm(input, gamma, beta, mean, variance, norm.eps)
        });
        let sum = terms.reduce(|a, b| a + b).expect("a sum has terms");
        match activation {
            Activation::Identity => sum,
            Activation::Relu => relu(sum),
        }
    }

    fn batch_norms(
        &mut self,
        norms: &[(&Node, &BatchNorm)],
        activation: Activation,
        inputs: Vec<BurnTensor<4>>,
    ) -> BurnTensor<4> {
        let [n, _, h, w] = inputs[0].dims();
        let branches = norms.iter().zip(inputs).map(|((node, _), input)| {
            let [scale, shift] = ["weight", "bias"].map(|suffix| self.parameter(node, suffix));
            Branch { input, scale, shift }
        });
        let sum = ops::normalised_sum(branches.collect(), norms[0].1.eps, activation);
        // PyTorch's running variance divides by n − 1, its normalisation by n; a single value has no variance to correct.
        let count = (n * h * w) as f64;
        let unbiased = sum.variance * (count / (count - 1.0).max(1.0));
        let Norms::Batch(statistics) = &mut self.norms else { unreachable!("the caller chose the batch's statistics") };
        for (index, (node, norm)) in norms.iter().enumerate() {
            let [mean, variance] =
                [&sum.mean, &unbiased].map(|all| all.clone().narrow(0, index * norm.channels, norm.channels));
            statistics.push(BatchStatistics { name: node.name.clone(), mean, variance });
        }
        sum.output
    }

    fn node(&self, node: &Node, mut inputs: Vec<BurnTensor<4>>) -> BurnTensor<4> {
        match &node.op {
            Op::Add => inputs.into_iter().reduce(|a, b| a + b).expect("a sum has terms"),
            Op::Mul => inputs.into_iter().reduce(|a, b| a * b).expect("a product has factors"),
            Op::Concat => BurnTensor::cat(inputs, 1),
            op => {
                let input = inputs.pop().expect("the other operations take one input");
                self.unary(node, op, input)
            }
        }
    }

    fn unary(&self, node: &Node, op: &Op, input: BurnTensor<4>) -> BurnTensor<4> {
        let [n, c, h, w] = input.dims();
        match op {
            Op::Conv2d(conv) => self.conv2d(node, conv, self.parameter(node, "weight"), input),
            Op::NormalizedConv2d(conv) => self.conv2d(node, conv, self.normalized(node, conv), input),
            Op::Shuffle { groups } => {
                input.reshape([n, *groups, c / groups, h * w]).swap_dims(1, 2).reshape([n, c, h, w])
            }
            Op::Slice { start, channels } => input.narrow(1, *start, *channels),
            Op::Pad { padding } => pad(input, *padding),
            Op::Scale { channels, .. } => input * self.parameter(node, "weight").reshape([1, *channels, 1, 1]),
            Op::Linear(linear) => self.linear(node, linear, input),
            Op::Activation(ActivationKind::Relu) => relu(input),
            Op::Activation(ActivationKind::Sigmoid) => sigmoid(input),
            Op::Activation(ActivationKind::Silu) => silu(input),
            Op::Activation(ActivationKind::Clip { low, high }) => input.clamp(*low, *high),
            Op::Activation(ActivationKind::LeakyRelu { slope }) => leaky_relu(input, (*slope).into()),
            Op::Activation(ActivationKind::HardSigmoid { slope, offset }) => {
                hard_sigmoid(input, (*slope).into(), (*offset).into())
            }
            Op::Softmax(Softmax::Probabilities) => softmax(input, 1),
            Op::Softmax(Softmax::Logarithms) => log_softmax(input, 1),
            Op::MaxPool(Pool { kernel, stride, padding }) => {
                let options = MaxPoolOptions::new(*kernel).with_stride(*stride);
                max_pool2d(input, options.with_padding_pairs(pairs(*padding)))
            }
            Op::AvgPool(pool) => avg_pool2d(input, mean_options(pool)),
            Op::AvgPoolInside(pool) => avg_pool2d(input, mean_options(pool).with_count_include_pad(false)),
            Op::GlobalAvgPool => input.reshape([n, c, h * w]).mean_dim(2).reshape([n, c, 1, 1]),
            Op::Flatten => input.reshape([n, c * h * w, 1, 1]),
            other => unreachable!("{}: no step of its own with one input", other.kind()),
        }
    }

    /// The filters, flat, each divided by its norm.
    fn normalized(&self, node: &Node, conv: &Conv2d) -> BurnTensor<1> {
        let filters = conv.geometry.out_channels;
        let len = conv.geometry.weight_len();
        let rows: BurnTensor<2> = self.parameter(node, "weight").reshape([filters, len / filters]);
        // The root has no derivative at zero, which a filter may be.
        let norms = (rows.clone() * rows.clone()).sum_dim(1).clamp_min(LEAST_NORM * LEAST_NORM).sqrt();
        (rows / norms).reshape([len])
    }

    fn conv2d(&self, node: &Node, conv: &Conv2d, weight: BurnTensor<1>, input: BurnTensor<4>) -> BurnTensor<4> {
        let g = conv.geometry;
        let shape = [g.out_channels, g.in_channels / g.groups, g.kernel[0], g.kernel[1]];
        let output = ops::convolution(input, weight.reshape(shape), g);
        match conv.bias {
            true => output + self.parameter(node, "bias").reshape([1, g.out_channels, 1, 1]),
            false => output,
        }
    }

    fn linear(&self, node: &Node, linear: &Linear, input: BurnTensor<4>) -> BurnTensor<4> {
        let n = input.dims()[0];
        let matrix = self.parameter(node, "weight").reshape([linear.out_features, linear.in_features]);
        let product = input.reshape([n, linear.in_features]).matmul(matrix.transpose());
        let output = match linear.bias {
            true => product + self.parameter(node, "bias").reshape([1, linear.out_features]),
            false => product,
        };
        output.reshape([n, linear.out_features, 1, 1])
    }

    fn parameter(&self, node: &Node, suffix: &str) -> BurnTensor<1> {
        self.trained[&format!("{}.{suffix}", node.name)].clone()
    }
}

fn mean_options(pool: &Pool) -> AvgPoolOptions<2> {
    AvgPoolOptions::new(pool.kernel).with_stride(pool.stride).with_padding_pairs(pairs(pool.padding))
}

/// Zeros around the map, and what is cut off from it.
fn pad(input: BurnTensor<4>, padding: [[isize; 2]; 2]) -> BurnTensor<4> {
    let [.., height, width] = input.dims();
    let mut cut = input;
    for (axis, extent, [begin, end]) in [(2, height, padding[0]), (3, width, padding[1])] {
        let [before, after] = [begin, end].map(|side| side.min(0).unsigned_abs());
        if before + after > 0 {
            cut = cut.narrow(axis, before, extent - before - after);
        }
    }
    let zeros = padding.map(|[begin, end]| (begin.max(0) as usize, end.max(0) as usize));
    if zeros == [(0, 0); 2] { cut } else { cut.pad(zeros, PadMode::Constant(0.0)) }
}

/// Padding at the beginning and end of each axis, as the framework wants it.
fn pairs(padding: [[usize; 2]; 2]) -> [(usize, usize); 2] {
    padding.map(|[begin, end]| (begin, end))
}

/// The values of the nodes, each kept until its last reader has it.
struct Values(Vec<Value>);

#[derive(Clone, Default)]
struct Value {
    value: Option<BurnTensor<4>>,
    readers: usize,
}

impl Values {
    fn new(graph: &Graph, steps: &[Step]) -> Self {
        let mut values = vec![Value::default(); graph.nodes().len()];
        let reads = steps.iter().flat_map(|step| step.reads(graph));
        for id in reads.chain(graph.outputs().iter().map(|output| output.node)) {
            values[id.index()].readers += 1;
        }
        Self(values)
    }

    fn read(&mut self, id: NodeId) -> BurnTensor<4> {
        let Value { value, readers } = &mut self.0[id.index()];
        *readers -= 1;
        let value = if *readers == 0 { value.take() } else { value.clone() };
        value.expect("nodes come after their inputs")
    }
}

//! The interpreter of programs on the framework's tensors.

use burn::tensor::Tensor as BurnTensor;
use burn::tensor::activation::{
    elu, gelu, gelu_approximate, hard_sigmoid, leaky_relu, log_softmax, mish, relu, sigmoid, silu, softmax, softplus,
};
use burn::tensor::module::{avg_pool2d, batch_norm, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions, PadMode};
use repvgg::Op;
use repvgg::graph::{ActivationKind, BatchNorm, LEAST_NORM, Linear, Node, Pool, Softmax};
use repvgg::program::{Convolution, Operation, Program, Sum, ValueId};
use repvgg_kernels::{Activation, Geometry};

use super::maps;
use crate::ops::{self, Branch, Threads};
use crate::tensors::Tensors;

/// The statistics that batch norms normalise with.
pub(super) enum NormStatistics<'a> {
    /// The running statistics, by name.
    Running(&'a Tensors),
    /// Those of the batch, which are collected here.
    Batch(Vec<ObservedStatistics>),
}

/// The statistics of a batch that one batch norm observed.
pub(super) struct ObservedStatistics {
    /// The node's name.
    pub(super) name: String,
    /// `[C]`
    pub(super) mean: BurnTensor<1>,
    /// `[C]`, unbiased.
    pub(super) variance: BurnTensor<1>,
}

/// One forward pass.
pub(super) struct Forward<'a> {
    program: &'a Program,
    trained: &'a Tensors,
    threads: &'a Threads,
    statistics: NormStatistics<'a>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(
        program: &'a Program,
        trained: &'a Tensors,
        threads: &'a Threads,
        statistics: NormStatistics<'a>,
    ) -> Self {
        Self { program, trained, threads, statistics }
    }

    /// The outputs of the program for `images` `[N, C, H, W]`.
    pub(super) fn run(&mut self, images: BurnTensor<4>) -> Vec<BurnTensor<4>> {
        let program = self.program;
        let mut values = LiveTensors::new(program, images);
        for step in program.steps() {
            let inputs = step.inputs.iter().map(|&input| values.read(input)).collect();
            values.write(step.output, self.compute(&step.operation, inputs));
        }
        program.outputs().iter().map(|&output| values.read(output)).collect()
    }

    /// The batch statistics that the batch norms observed.
    pub(super) fn into_statistics(self) -> Vec<ObservedStatistics> {
        match self.statistics {
            NormStatistics::Running(_) => Vec::new(),
            NormStatistics::Batch(observed) => observed,
        }
    }

    fn compute(&mut self, operation: &Operation, mut inputs: Vec<BurnTensor<4>>) -> BurnTensor<4> {
        match operation {
            Operation::Convolution(convolution) => self.convolution(convolution, inputs),
            Operation::Sum(sum) => self.sum(sum, inputs),
            Operation::Product(activation) => {
                let product = inputs.into_iter().reduce(|a, b| a * b).expect("a product has factors");
                activated(product, *activation)
            }
            Operation::Concat => BurnTensor::cat(inputs, 1),
            operation => unary(self.threads, operation, inputs.pop().expect("every other operation has one input")),
        }
    }

    fn sum(&mut self, sum: &Sum, inputs: Vec<BurnTensor<4>>) -> BurnTensor<4> {
        let graph = self.program.graph();
        let affines: Vec<Option<&Node>> = sum.affines.iter().map(|affine| affine.map(|id| graph.node(id))).collect();
        let norm = |affine: &Option<&'a Node>| match affine {
            Some(node @ Node { op: Op::BatchNorm(norm), .. }) => Some((*node, norm)),
            _ => None,
        };
        if let Some(norms) = affines.iter().map(norm).collect::<Option<Vec<_>>>() {
            return self.sum_of_norms(&norms, sum.activation, inputs);
        }
        let terms = affines.iter().zip(inputs).map(|(affine, input)| match affine {
            None => input,
            Some(node) => {
                let [_, channels, ..] = input.dims();
                input * self.parameter(node, "weight").reshape([1, channels, 1, 1])
            }
        });
        activated(terms.reduce(|a, b| a + b).expect("a sum has terms"), sum.activation)
    }

    /// A sum of batch norms. The kernel includes a ReLU that follows it.
    fn sum_of_norms(
        &mut self,
        norms: &[(&Node, &BatchNorm)],
        activation: Option<ActivationKind>,
        inputs: Vec<BurnTensor<4>>,
    ) -> BurnTensor<4> {
        let (fused, separate) = match activation {
            Some(ActivationKind::Relu) => (Activation::Relu, None),
            other => (Activation::Identity, other),
        };
        let sum = match self.statistics {
            NormStatistics::Running(running) => self.running_norms(norms, running, fused, inputs),
            NormStatistics::Batch(_) => self.batch_norms(norms, fused, inputs),
        };
        activated(sum, separate)
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
        let sum = ops::normalised_sum(self.threads, branches.collect(), norms[0].1.eps, activation);
        // PyTorch's running variance divides by n − 1, its normalisation by n. The variance of a single value stays 0.
        let count = (n * h * w) as f64;
        let unbiased = sum.variance * (count / (count - 1.0).max(1.0));
        let NormStatistics::Batch(observed) = &mut self.statistics else {
            unreachable!("the caller chose the batch's statistics")
        };
        for (index, (node, norm)) in norms.iter().enumerate() {
            let [mean, variance] =
                [&sum.mean, &unbiased].map(|all| all.clone().narrow(0, index * norm.channels, norm.channels));
            observed.push(ObservedStatistics { name: node.name.clone(), mean, variance });
        }
        sum.output
    }

    fn convolution(&self, convolution: &Convolution, mut inputs: Vec<BurnTensor<4>>) -> BurnTensor<4> {
        let node = self.program.graph().node(convolution.filters);
        let input = inputs.pop().expect("a convolution has an input");
        assert!(inputs.is_empty() && convolution.affines.is_empty(), "training programs do not fold batch norms");
        let geometry = convolution.geometry;
        let output = match &node.op {
            Op::Linear(layer) => self.linear(node, layer, input),
            Op::NormalizedConv2d(_) => self.conv2d(node, geometry, self.normalized(node, geometry), input),
            _ => self.conv2d(node, geometry, self.parameter(node, "weight"), input),
        };
        match convolution.activation {
            Activation::Identity => output,
            Activation::Relu => relu(output),
        }
    }

    /// The flat filters, each divided by its norm.
    fn normalized(&self, node: &Node, geometry: Geometry) -> BurnTensor<1> {
        let filters = geometry.out_channels;
        let len = geometry.weight_len();
        let rows: BurnTensor<2> = self.parameter(node, "weight").reshape([filters, len / filters]);
        // The square root has no derivative at zero, the norm of a zero filter.
        let norms = (rows.clone() * rows.clone()).sum_dim(1).clamp_min(LEAST_NORM * LEAST_NORM).sqrt();
        (rows / norms).reshape([len])
    }

    fn conv2d(&self, node: &Node, g: Geometry, weight: BurnTensor<1>, input: BurnTensor<4>) -> BurnTensor<4> {
        let shape = [g.out_channels, g.in_channels / g.groups, g.kernel[0], g.kernel[1]];
        let output = ops::convolution(self.threads, input, weight.reshape(shape), g);
        match node.op.convolution() {
            Some(conv) if conv.bias => output + self.parameter(node, "bias").reshape([1, g.out_channels, 1, 1]),
            _ => output,
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

/// Computes an operation that has one input and no parameters.
fn unary(threads: &Threads, operation: &Operation, input: BurnTensor<4>) -> BurnTensor<4> {
    let [n, c, h, w] = input.dims();
    match operation {
        Operation::Shuffle { groups } => {
            input.reshape([n, *groups, c / groups, h * w]).swap_dims(1, 2).reshape([n, c, h, w])
        }
        Operation::Slice { start, channels } => input.narrow(1, *start, *channels),
        Operation::Pad { padding } => pad(input, *padding),
        Operation::Softmax(Softmax::Probabilities) => softmax(input, 1),
        Operation::Softmax(Softmax::Logarithms) => log_softmax(input, 1),
        Operation::Resize(resize) => maps::resize(input, resize),
        Operation::MaxPool(Pool { kernel, stride, dilation, padding }) => {
            let options = MaxPoolOptions::new(*kernel).with_stride(*stride).with_dilation(*dilation);
            max_pool2d(input, options.with_padding_pairs(pairs(*padding)))
        }
        Operation::AvgPool(pool) if pool.dilation != [1; 2] => maps::dilated_sum(threads, input, pool) / taps(pool),
        Operation::AvgPoolInside(pool) if pool.dilation != [1; 2] => {
            let inside = maps::dilated_sum(threads, input.ones_like(), pool);
            maps::dilated_sum(threads, input, pool) / inside
        }
        Operation::AvgPool(pool) => avg_pool2d(input, mean_options(pool)),
        Operation::AvgPoolInside(pool) => avg_pool2d(input, mean_options(pool).with_count_include_pad(false)),
        Operation::GlobalAvgPool => input.reshape([n, c, h * w]).mean_dim(2).reshape([n, c, 1, 1]),
        Operation::Flatten => input.reshape([n, c * h * w, 1, 1]),
        other => unreachable!("{other:?} has several inputs or parameters"),
    }
}

fn activated(input: BurnTensor<4>, activation: Option<ActivationKind>) -> BurnTensor<4> {
    match activation {
        None => input,
        Some(ActivationKind::Relu) => relu(input),
        Some(ActivationKind::Sigmoid) => sigmoid(input),
        Some(ActivationKind::Silu) => silu(input),
        Some(ActivationKind::Clip { low, high }) => input.clamp(low, high),
        Some(ActivationKind::LeakyRelu { slope }) => leaky_relu(input, slope.into()),
        Some(ActivationKind::HardSigmoid { slope, offset }) => hard_sigmoid(input, slope.into(), offset.into()),
        Some(ActivationKind::Tanh) => input.tanh(),
        Some(ActivationKind::Erf) => input.erf(),
        Some(ActivationKind::Gelu) => gelu(input),
        Some(ActivationKind::GeluTanh) => gelu_approximate(input),
        Some(ActivationKind::Softplus) => softplus(input, 1.0),
        Some(ActivationKind::Mish) => mish(input),
        Some(ActivationKind::Elu { scale }) => elu(input, scale.into()),
    }
}

/// The number of a window's pixels.
fn taps(pool: &Pool) -> f32 {
    (pool.kernel[0] * pool.kernel[1]) as f32
}

fn mean_options(pool: &Pool) -> AvgPoolOptions<2> {
    AvgPoolOptions::new(pool.kernel).with_stride(pool.stride).with_padding_pairs(pairs(pool.padding))
}

/// Pads a map with zeros. Negative padding crops it.
pub(super) fn pad(input: BurnTensor<4>, padding: [[isize; 2]; 2]) -> BurnTensor<4> {
    let [.., height, width] = input.dims();
    let mut cropped = input;
    for (axis, extent, [begin, end]) in [(2, height, padding[0]), (3, width, padding[1])] {
        let [before, after] = [begin, end].map(|side| side.min(0).unsigned_abs());
        if before + after > 0 {
            cropped = cropped.narrow(axis, before, extent - before - after);
        }
    }
    let zeros = padding.map(|[begin, end]| (begin.max(0) as usize, end.max(0) as usize));
    if zeros == [(0, 0); 2] { cropped } else { cropped.pad(zeros, PadMode::Constant(0.0)) }
}

/// The padding at the beginning and end of each axis as the pairs that the framework expects.
fn pairs(padding: [[usize; 2]; 2]) -> [(usize, usize); 2] {
    padding.map(|[begin, end]| (begin, end))
}

/// The tensors of a program's values. Each is dropped after its last read.
struct LiveTensors(Vec<Slot>);

#[derive(Clone, Default)]
struct Slot {
    tensor: Option<BurnTensor<4>>,
    /// The number of reads to come.
    readers: usize,
}

impl LiveTensors {
    fn new(program: &Program, images: BurnTensor<4>) -> Self {
        let mut slots = vec![Slot::default(); program.values().len()];
        let reads = program.steps().iter().flat_map(|step| &step.inputs);
        for value in reads.chain(program.outputs()) {
            slots[value.index()].readers += 1;
        }
        let mut tensors = Self(slots);
        tensors.write(program.input(), images);
        tensors
    }

    fn write(&mut self, id: ValueId, tensor: BurnTensor<4>) {
        self.0[id.index()].tensor = Some(tensor);
    }

    fn read(&mut self, id: ValueId) -> BurnTensor<4> {
        let Slot { tensor, readers } = &mut self.0[id.index()];
        *readers -= 1;
        let tensor = if *readers == 0 { tensor.take() } else { tensor.clone() };
        tensor.expect("steps come after their inputs")
    }
}

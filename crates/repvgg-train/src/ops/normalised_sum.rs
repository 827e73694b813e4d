//! A sum of batch norms on the CPU, with gradients.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::Tensor as BurnTensor;
use repvgg_kernels::{Activation, BatchStatistics, Level, NormBranch, NormSum, OutputGradient, ThreadPool};

use super::buffers::{acquire, release};
use super::cpu::{Threads, tensor, values};
use super::{Branch, NormalisedSum};

/// [`super::normalised_sum`] on the CPU, for tracked tensors.
pub(super) fn normalised_sum(
    threads: &Threads,
    branches: Vec<Branch>,
    epsilon: f64,
    activation: Activation,
) -> NormalisedSum {
    match branches.len() {
        1 => track::<3>(threads, branches, epsilon, activation),
        2 => track::<6>(threads, branches, epsilon, activation),
        3 => track::<9>(threads, branches, epsilon, activation),
        count => panic!("expected 1 to {} branches, found {count}", super::MAX_BRANCHES),
    }
}

/// `PARENTS` is 3 × branches: the input, scale and shift of each.
fn track<const PARENTS: usize>(
    threads: &Threads,
    branches: Vec<Branch>,
    epsilon: f64,
    activation: Activation,
) -> NormalisedSum {
    let pool = Arc::clone(&threads.kernels);
    let (mut inputs, mut scales, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    let mut shift = vec![0.0; branches[0].shift.dims()[0]];
    for branch in branches {
        let (input, node) = untrack(branch.input);
        inputs.push(input);
        nodes.push(node);
        let (scale, node) = untrack(branch.scale);
        scales.push(scale);
        nodes.push(node);
        let (branch_shift, node) = untrack(branch.shift);
        shift.iter_mut().zip(values(&branch_shift)).for_each(|(sum, shift)| *sum += shift);
        nodes.push(node);
    }
    let nodes: [NodeGuard; PARENTS] = nodes.try_into().expect("three parents per branch");

    let shape = inputs[0].shape().dims::<4>();
    let terms = terms(&inputs, &scales);
    let sum = NormSum::new(flattened(shape), &terms, epsilon);
    let mut output = acquire(shape.iter().product());
    let statistics = sum.forward(&pool, Level::detect(), &shift, activation, &mut output);
    let output = tensor(output, shape);

    let count = [statistics.mean.len()];
    let constant = |values: Vec<f32>| BurnTensor::from_primitive::<Flex>(tensor(values, count));
    let (mean, variance) = (constant(statistics.mean.clone()), constant(statistics.variance.clone()));
    let saved = SavedSum { inputs, scales, statistics, output: output.clone(), epsilon, activation, pool };
    let output = match NormalisedSumBackward.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(saved, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    NormalisedSum { output: BurnTensor::from_primitive::<Autodiff<Flex>>(output), mean, variance }
}

/// Separates a tensor from its node in the differentiation graph.
fn untrack<const D: usize>(tensor: BurnTensor<D>) -> (FlexTensor, NodeGuard) {
    let tensor = tensor.try_into_primitive::<Autodiff<Flex>>().expect("the caller chose the CPU");
    let (primitive, node) = tensor.into_parts();
    (primitive.to_contiguous(), node)
}

fn terms<'a>(inputs: &'a [FlexTensor], scales: &'a [FlexTensor]) -> Vec<NormBranch<'a>> {
    let term = |(input, scale)| NormBranch { input: values(input), scale: values(scale) };
    inputs.iter().zip(scales).map(term).collect()
}

fn flattened([n, c, h, w]: [usize; 4]) -> [usize; 3] {
    [n, c, h * w]
}

/// The values that the backward pass needs.
#[derive(Debug, Clone)]
struct SavedSum {
    inputs: Vec<FlexTensor>,
    scales: Vec<FlexTensor>,
    statistics: BatchStatistics,
    output: FlexTensor,
    epsilon: f64,
    activation: Activation,
    pool: Arc<ThreadPool>,
}

#[derive(Debug)]
struct NormalisedSumBackward;

impl<const PARENTS: usize> Backward<Flex, PARENTS> for NormalisedSumBackward {
    type State = SavedSum;

    fn backward(self, ops: Ops<SavedSum, PARENTS>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let SavedSum { inputs, scales, statistics, output, epsilon, activation, pool } = ops.state;
        let shape = output.shape().dims::<4>();
        let terms = terms(&inputs, &scales);
        let sum = NormSum::new(flattened(shape), &terms, epsilon);
        let relu = (activation == Activation::Relu).then(|| values(&output));
        let gradient = OutputGradient { values: values(&output_gradient), relu };
        let mut input_gradients: Vec<Vec<f32>> = inputs.iter().map(|input| acquire(values(input).len())).collect();
        let parameters = sum.backward(&pool, Level::detect(), &statistics, &gradient, &mut input_gradients);
        inputs.into_iter().chain([output, output_gradient]).for_each(release);
        let channels = [parameters.shift.len()];
        let branches = input_gradients.into_iter().zip(parameters.scale.chunks_exact(channels[0]));
        for (parents, (input, scale)) in ops.parents.chunks_exact(3).zip(branches) {
            let branch_gradients =
                [tensor(input, shape), tensor(scale.to_vec(), channels), tensor(parameters.shift.clone(), channels)];
            for (parent, gradient) in parents.iter().zip(branch_gradients) {
                if let Some(parent) = parent {
                    gradients.register::<Flex>(parent.id, gradient);
                }
            }
        }
    }
}

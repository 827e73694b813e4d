//! A sum of batch norms on the CPU, with gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::Tensor as BurnTensor;
use repvgg_kernels::{Activation, BatchStatistics, Level, NormBranch, NormSum, OutputGradient};

use super::buffers::{give, take};
use super::cpu::{pool, tensor, values};
use super::{Branch, NormalisedSum};

/// As [`super::normalised_sum`], for tensors that take part in differentiation.
pub(super) fn normalised_sum(branches: Vec<Branch>, epsilon: f64, activation: Activation) -> NormalisedSum {
    match branches.len() {
        1 => track::<3>(branches, epsilon, activation),
        2 => track::<6>(branches, epsilon, activation),
        3 => track::<9>(branches, epsilon, activation),
        count => panic!("{count} branches: a normalised sum takes one to {}", super::MAX_BRANCHES),
    }
}

/// With `PARENTS` = 3 × branches: input, scale and shift of each.
fn track<const PARENTS: usize>(branches: Vec<Branch>, epsilon: f64, activation: Activation) -> NormalisedSum {
    let (mut inputs, mut scales, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    let mut shift = vec![0.0; branches[0].shift.dims()[0]];
    for branch in branches {
        let (input, node) = part(branch.input);
        inputs.push(input);
        nodes.push(node);
        let (scale, node) = part(branch.scale);
        scales.push(scale);
        nodes.push(node);
        let (branch_shift, node) = part(branch.shift);
        shift.iter_mut().zip(values(&branch_shift)).for_each(|(sum, shift)| *sum += shift);
        nodes.push(node);
    }
    let nodes: [NodeGuard; PARENTS] = nodes.try_into().expect("three parents per branch");

    let shape = inputs[0].shape().dims::<4>();
    let terms = terms(&inputs, &scales);
    let sum = NormSum::new(flattened(shape), &terms, epsilon);
    let mut output = take(shape.iter().product());
    let statistics = sum.forward(pool(), Level::detect(), &shift, activation, &mut output);
    let output = tensor(output, shape);

    let count = [statistics.mean.len()];
    let constant = |values: Vec<f32>| BurnTensor::from_primitive::<Flex>(tensor(values, count));
    let (mean, variance) = (constant(statistics.mean.clone()), constant(statistics.variance.clone()));
    let state = State { inputs, scales, statistics, output: output.clone(), epsilon, activation };
    let output = match SumOfNorms.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    NormalisedSum { output: BurnTensor::from_primitive::<Autodiff<Flex>>(output), mean, variance }
}

fn part<const D: usize>(tensor: BurnTensor<D>) -> (FlexTensor, NodeGuard) {
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

#[derive(Debug, Clone)]
struct State {
    inputs: Vec<FlexTensor>,
    scales: Vec<FlexTensor>,
    statistics: BatchStatistics,
    output: FlexTensor,
    epsilon: f64,
    activation: Activation,
}

#[derive(Debug)]
struct SumOfNorms;

impl<const PARENTS: usize> Backward<Flex, PARENTS> for SumOfNorms {
    type State = State;

    fn backward(self, ops: Ops<State, PARENTS>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let State { inputs, scales, statistics, output, epsilon, activation } = ops.state;
        let shape = output.shape().dims::<4>();
        let terms = terms(&inputs, &scales);
        let sum = NormSum::new(flattened(shape), &terms, epsilon);
        let relu = (activation == Activation::Relu).then(|| values(&output));
        let gradient = OutputGradient { values: values(&output_gradient), relu };
        let mut found: Vec<Vec<f32>> = inputs.iter().map(|input| take(values(input).len())).collect();
        let parameters = sum.backward(pool(), Level::detect(), &statistics, &gradient, &mut found);
        inputs.into_iter().chain([output, output_gradient]).for_each(give);
        let channels = [parameters.shift.len()];
        let branches = found.into_iter().zip(parameters.scale.chunks_exact(channels[0]));
        for (parents, (input, scale)) in ops.parents.chunks_exact(3).zip(branches) {
            let of_branch =
                [tensor(input, shape), tensor(scale.to_vec(), channels), tensor(parameters.shift.clone(), channels)];
            for (parent, gradient) in parents.iter().zip(of_branch) {
                if let Some(parent) = parent {
                    gradients.register::<Flex>(parent.id, gradient);
                }
            }
        }
    }
}

//! The operations composed of the framework's own, for devices without our kernels.

use burn::tensor::Tensor as BurnTensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm_train, conv2d};
use burn::tensor::ops::ConvOptions;
use repvgg_kernels::{Activation, Geometry};

use super::{Branch, NormalisedSum};

pub(super) fn convolution(input: BurnTensor<4>, kernel: BurnTensor<4>, g: Geometry) -> BurnTensor<4> {
    conv2d(input, kernel, None, ConvOptions::new(g.stride, g.padding, g.dilation, g.groups))
}

pub(super) fn normalised_sum(branches: Vec<Branch>, epsilon: f64, activation: Activation) -> NormalisedSum {
    let norms = branches.into_iter().map(|branch| batch_norm_train(branch.input, branch.scale, branch.shift, epsilon));
    let (mut outputs, mut means, mut variances) = (Vec::new(), Vec::new(), Vec::new());
    for norm in norms {
        outputs.push(norm.output);
        means.push(norm.mean.inner());
        variances.push(norm.variance.inner());
    }
    let sum = outputs.into_iter().reduce(|a, b| a + b).expect("a sum has terms");
    let output = match activation {
        Activation::Identity => sum,
        Activation::Relu => relu(sum),
    };
    NormalisedSum { output, mean: BurnTensor::cat(means, 0), variance: BurnTensor::cat(variances, 0) }
}

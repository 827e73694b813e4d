//! The operations that dominate training time.
//!
//! On the CPU they run on our own kernels, with their own backward passes. On other devices they are composed of the
//! framework's operations. Both compute the same functions.

mod buffers;
mod composed;
mod convolution;
mod cpu;
mod normalised_sum;

use burn::backend::DispatchDevice;
use burn::tensor::{Device as BurnDevice, Tensor as BurnTensor};
use repvgg_kernels::{Activation, Geometry, NormSum};

pub(crate) use cpu::Threads;

/// A term of [`normalised_sum`].
pub(crate) struct Branch {
    /// `[N, C, H, W]`, the same shape for all branches.
    pub(crate) input: BurnTensor<4>,
    /// γ `[C]`.
    pub(crate) scale: BurnTensor<1>,
    /// β `[C]`.
    pub(crate) shift: BurnTensor<1>,
}

/// A sum of batch norms, and the statistics of each branch.
pub(crate) struct NormalisedSum {
    /// `[N, C, H, W]`.
    pub(crate) output: BurnTensor<4>,
    /// The mean of each channel of each branch, `[branches · C]`, without gradient.
    pub(crate) mean: BurnTensor<1>,
    /// The biased variance of each channel of each branch, `[branches · C]`, without gradient.
    pub(crate) variance: BurnTensor<1>,
}

/// The convolution of `input` `[N, C, H, W]` with `kernel` `[K, C/G, R, S]`.
pub(crate) fn convolution(
    threads: &Threads,
    input: BurnTensor<4>,
    kernel: BurnTensor<4>,
    geometry: Geometry,
) -> BurnTensor<4> {
    match is_cpu(&input.device()) {
        true => convolution::convolution(threads, input, kernel, geometry),
        false => composed::convolution(input, kernel, geometry),
    }
}

/// `activation(Σ γ (x − mean) / √(variance + ε) + β)` over up to [`MAX_BRANCHES`] branches, each normalised by its own
/// statistics over the batch. This is the end of a RepVGG block or, with one branch, a batch norm.
pub(crate) fn normalised_sum(
    threads: &Threads,
    branches: Vec<Branch>,
    epsilon: f64,
    activation: Activation,
) -> NormalisedSum {
    match is_cpu(&branches[0].input.device()) {
        true => normalised_sum::normalised_sum(threads, branches, epsilon, activation),
        false => composed::normalised_sum(branches, epsilon, activation),
    }
}

/// The maximum number of branches of [`normalised_sum`].
pub(crate) const MAX_BRANCHES: usize = repvgg::program::MAX_NORMS;
const _: () = assert!(MAX_BRANCHES <= NormSum::MAX_BRANCHES, "the kernel supports every sum of a program");

fn is_cpu(device: &BurnDevice) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Flex(_))
}

#[cfg(test)]
mod tests;

//! Sums of batch norms with an activation, forward and backward: the end of a RepVGG block in training.
//!
//! With `x̂ = (x − mean) · r`, `r = 1 / √(variance + ε)` and `M` values per channel (Ioffe & Szegedy, arXiv 1502.03167,
//! Sect. 3):
//!
//! * forward `y = f(Σ γ x̂ + β) = f(Σ a x + b)` with `a = γ r` per branch and `b = Σ β − a · mean`;
//! * backward, with `g = ∂L/∂y · f′`: `∂β = Σ g`, `∂γ = Σ g x̂`, `∂x = a (g − ∂β / M − x̂ · ∂γ / M)`.
//!
//! A task computes one channel of all branches. Its data usually fits the second-level cache, so it is read from memory once
//! although it is used several times. Sums run over 16 lanes in single precision within a plane, and over planes in double
//! precision. Their order depends only on the shape, so results are bit-equal for any number of threads and on every level.

#![expect(unsafe_code, reason = "tasks write the planes of their channel, which are not contiguous across images")]

use std::ops::Range;

use crate::isa::{Kernel, Simd};
use crate::threads::Disjoint;
use crate::{Activation, Level, ThreadPool};

/// Partial sums of a plane: enough independent chains to fill the registers of any level.
const LANES: usize = 16;

/// A sum of batch norms, each with the statistics of its own input.
///
/// ```
/// use repvgg_kernels::{Activation, Level, NormBranch, NormSum, ThreadPool};
///
/// let branches = [NormBranch { input: &[1.0, 3.0], scale: &[2.0] }];
/// let sum = NormSum::new([1, 1, 2], &branches, 0.0);
/// let mut output = [0.0; 2];
/// let statistics = sum.forward(&ThreadPool::new(1), Level::detect(), &[0.5], Activation::Relu, &mut output);
/// assert_eq!((statistics.mean[0], statistics.variance[0]), (2.0, 1.0));
/// assert_eq!(output, [0.0, 2.5]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct NormSum<'a> {
    shape: [usize; 3],
    branches: &'a [NormBranch<'a>],
    epsilon: f64,
}

/// One term of the sum.
#[derive(Debug, Clone, Copy)]
pub struct NormBranch<'a> {
    /// `[N, C, H·W]`.
    pub input: &'a [f32],
    /// `γ`, `[C]`.
    pub scale: &'a [f32],
}

/// The mean and biased variance of each channel of each branch over the batch, `[branches · C]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatistics {
    /// `Σ x / M`.
    pub mean: Vec<f32>,
    /// `Σ (x − mean)² / M`.
    pub variance: Vec<f32>,
}

/// The gradient of the output, the input of the backward pass.
#[derive(Debug, Clone, Copy)]
pub struct OutputGradient<'a> {
    /// `∂L/∂y`, `[N, C, H·W]`.
    pub values: &'a [f32],
    /// The output `y` of a ReLU, which passes no gradient where `y` is zero; `None` without a ReLU.
    pub relu: Option<&'a [f32]>,
}

/// The gradients of the parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct NormGradients {
    /// `∂L/∂γ`, `[branches · C]`.
    pub scale: Vec<f32>,
    /// `∂L/∂β`, `[C]`, the same for every branch.
    pub shift: Vec<f32>,
}

impl<'a> NormSum<'a> {
    /// The most branches of a sum: as many as a RepVGG block has.
    pub const MAX_BRANCHES: usize = 3;

    /// Creates a sum of `branches` with inputs of `shape` `[N, C, H·W]`; `epsilon` is added to every variance.
    ///
    /// # Panics
    ///
    /// If there are no branches or more than [`NormSum::MAX_BRANCHES`], or a slice has the wrong length.
    pub fn new(shape: [usize; 3], branches: &'a [NormBranch<'a>], epsilon: f64) -> Self {
        let [images, channels, plane] = shape;
        let count = branches.len();
        assert!(
            (1..=Self::MAX_BRANCHES).contains(&count),
            "branches: expected 1 to {}, found {count}",
            Self::MAX_BRANCHES
        );
        for branch in branches {
            assert_eq!(branch.input.len(), images * channels * plane, "inputs are [N, C, H·W]");
            assert_eq!(branch.scale.len(), channels, "scales are [C]");
        }
        Self { shape, branches, epsilon }
    }

    /// Computes `output = activation(Σ γ x̂ + shift)`, where `shift` `[C]` is the sum of the branches' `β`.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn forward(
        &self,
        pool: &ThreadPool,
        level: Level,
        shift: &[f32],
        activation: Activation,
        output: &mut [f32],
    ) -> BatchStatistics {
        let [_, channels, _] = self.shape;
        assert_eq!(shift.len(), channels, "shift is [C]");
        assert_eq!(output.len(), self.branches[0].input.len(), "output is [N, C, H·W]");
        let output = Disjoint::new(output);
        // Mean and variance of each branch, channel by channel.
        let mut moments = vec![0.0; channels * self.branches.len() * 2];
        pool.for_each_chunk(&mut moments, 2 * self.branches.len(), |channel, moments| {
            level.run(Forward { sum: self, channel, shift: shift[channel], activation, output, moments });
        });
        let gather = |moment: usize| {
            let of_branch = |branch: usize| (0..channels).map(move |channel| (channel, branch));
            let positions = (0..self.branches.len()).flat_map(of_branch);
            positions.map(|(channel, branch)| moments[(channel * self.branches.len() + branch) * 2 + moment]).collect()
        };
        BatchStatistics { mean: gather(0), variance: gather(1) }
    }

    /// Computes the gradients of [`NormSum::forward`]. Returns those of the parameters, and overwrites `inputs` with those of
    /// the branches' inputs, each `[N, C, H·W]`.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn backward(
        &self,
        pool: &ThreadPool,
        level: Level,
        statistics: &BatchStatistics,
        output: &OutputGradient<'_>,
        inputs: &mut [Vec<f32>],
    ) -> NormGradients {
        let [_, channels, _] = self.shape;
        let (len, count) = (self.branches[0].input.len(), self.branches.len());
        assert_eq!(output.values.len(), len, "output gradients are [N, C, H·W]");
        assert!(output.relu.is_none_or(|relu| relu.len() == len), "outputs are [N, C, H·W]");
        assert!(
            inputs.len() == count && inputs.iter().all(|input| input.len() == len),
            "input gradients are [N, C, H·W]"
        );
        assert_eq!(
            [statistics.mean.len(), statistics.variance.len()],
            [count * channels; 2],
            "statistics are [branches · C]"
        );
        let mut gradients = [Disjoint::new(&mut []); Self::MAX_BRANCHES];
        gradients.iter_mut().zip(inputs).for_each(|(slot, input)| *slot = Disjoint::new(input));
        // ∂γ of each branch and ∂β, channel by channel.
        let mut parameter_gradients = vec![0.0; channels * (count + 1)];
        pool.for_each_chunk(&mut parameter_gradients, count + 1, |channel, parameter_gradients| {
            level.run(Backward { sum: self, channel, statistics, output, gradients, parameter_gradients });
        });
        let scale = |branch: usize| parameter_gradients.iter().skip(branch).step_by(count + 1).copied();
        NormGradients { scale: (0..count).flat_map(scale).collect(), shift: scale(count).collect() }
    }

    /// The index ranges of the planes of `channel`, image after image.
    #[inline(always)]
    fn planes(&self, channel: usize) -> impl Iterator<Item = Range<usize>> + Clone + use<> {
        let [images, channels, plane] = self.shape;
        (0..images).map(move |image| (image * channels + channel) * plane).map(move |start| start..start + plane)
    }

    /// `M`.
    #[inline(always)]
    fn count(&self) -> f64 {
        (self.shape[0] * self.shape[2]) as f64
    }

    /// The moments of one channel of one branch.
    #[inline(always)]
    fn moments(&self, branch: usize, channel: usize) -> Moments {
        let planes = self.planes(channel).map(|range| &self.branches[branch].input[range]);
        let mean = planes.clone().map(|x| sum(x, x, |x, _| x)).sum::<f64>() / self.count();
        let centre = mean as f32;
        let squares: f64 = planes.map(|x| sum(x, x, |x, _| (x - centre) * (x - centre))).sum();
        Moments { mean, variance: squares / self.count() }
    }

    #[inline(always)]
    fn norm(&self, branch: usize, channel: usize, moments: Moments) -> Norm<'a> {
        let Moments { mean, variance } = moments;
        let NormBranch { input, scale } = self.branches[branch];
        let inverse_std = 1.0 / (variance + self.epsilon).sqrt();
        Norm { input, mean, variance, inverse_std, factor: f64::from(scale[channel]) * inverse_std }
    }
}

/// The mean and biased variance of a channel.
#[derive(Clone, Copy)]
struct Moments {
    mean: f64,
    variance: f64,
}

/// One channel of one branch.
#[derive(Clone, Copy, Default)]
struct Norm<'a> {
    /// The input of the branch, all channels included.
    input: &'a [f32],
    mean: f64,
    variance: f64,
    /// `r`.
    inverse_std: f64,
    /// `a`.
    factor: f64,
}

/// One channel of the forward pass.
struct Forward<'a> {
    sum: &'a NormSum<'a>,
    channel: usize,
    shift: f32,
    activation: Activation,
    output: Disjoint<'a, f32>,
    /// Mean and variance of each branch.
    moments: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { sum, channel, shift, activation, output, moments } = self;
        let mut norms = [Norm::default(); NormSum::MAX_BRANCHES];
        let norms = &mut norms[..sum.branches.len()];
        for (branch, (norm, moments)) in norms.iter_mut().zip(moments.as_chunks_mut::<2>().0).enumerate() {
            *norm = sum.norm(branch, channel, sum.moments(branch, channel));
            *moments = [norm.mean as f32, norm.variance as f32];
        }
        let offset = norms.iter().fold(f64::from(shift), |sum, norm| sum - norm.factor * norm.mean) as f32;
        for range in sum.planes(channel) {
            // SAFETY: only this task writes the planes of its channel.
            let y = unsafe { output.slice(range.start, range.len()) };
            y.fill(offset);
            for norm in norms.iter() {
                let factor = norm.factor as f32;
                y.iter_mut().zip(&norm.input[range.clone()]).for_each(|(y, x)| *y += factor * x);
            }
            if activation == Activation::Relu {
                // `max` would hide a NaN.
                y.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y });
            }
        }
    }
}

/// One channel of the backward pass.
struct Backward<'a> {
    sum: &'a NormSum<'a>,
    channel: usize,
    statistics: &'a BatchStatistics,
    output: &'a OutputGradient<'a>,
    gradients: [Disjoint<'a, f32>; NormSum::MAX_BRANCHES],
    /// `∂γ` of each branch, then `∂β`.
    parameter_gradients: &'a mut [f32],
}

/// `Σ g`, and `Σ g (x − mean)` of each branch.
#[derive(Default)]
struct GradientSums {
    gradient: f64,
    products: [f64; NormSum::MAX_BRANCHES],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut norms = [Norm::default(); NormSum::MAX_BRANCHES];
        let norms = &mut norms[..self.sum.branches.len()];
        for (branch, norm) in norms.iter_mut().enumerate() {
            let at = branch * self.sum.shape[1] + self.channel;
            let [mean, variance] = [self.statistics.mean[at], self.statistics.variance[at]].map(f64::from);
            *norm = self.sum.norm(branch, self.channel, Moments { mean, variance });
        }
        let sums = self.masked_sums(norms);
        self.write_input_gradients(norms, &sums);
        let (shift, scales) =
            self.parameter_gradients.split_last_mut().expect("the last gradient is that of the shift");
        *shift = sums.gradient as f32;
        for ((scale, norm), product) in scales.iter_mut().zip(&*norms).zip(sums.products) {
            *scale = (product * norm.inverse_std) as f32;
        }
    }
}

impl Backward<'_> {
    /// Writes `g` to the place of the first branch's gradient, and computes its sums.
    #[inline(always)]
    fn masked_sums(&self, norms: &[Norm<'_>]) -> GradientSums {
        let mut sums = GradientSums::default();
        for range in self.sum.planes(self.channel) {
            // SAFETY: only this task writes the planes of its channel, and it holds no other slice of them.
            let g = unsafe { self.gradients[0].slice(range.start, range.len()) };
            let dy = &self.output.values[range.clone()];
            match self.output.relu {
                Some(relu) => {
                    let pairs = dy.iter().zip(&relu[range.clone()]);
                    g.iter_mut().zip(pairs).for_each(|(g, (&dy, &y))| *g = if y > 0.0 { dy } else { 0.0 });
                }
                None => g.copy_from_slice(dy),
            }
            sums.gradient += sum(g, g, |g, _| g);
            for (product, norm) in sums.products.iter_mut().zip(norms) {
                let mean = norm.mean as f32;
                *product += sum(g, &norm.input[range.clone()], |g, x| g * (x - mean));
            }
        }
        sums
    }

    /// Computes `∂x` of every branch from `g`, which is stored in the place of the first branch's gradient.
    #[inline(always)]
    fn write_input_gradients(&self, norms: &[Norm<'_>], sums: &GradientSums) {
        let count = self.sum.count();
        // ∂x = u · g + v · x + w.
        let coefficients = |norm: &Norm<'_>, product: f64| {
            let v = -norm.factor * norm.inverse_std * norm.inverse_std * product / count;
            [norm.factor, v, -norm.factor * sums.gradient / count - v * norm.mean].map(|x| x as f32)
        };
        for range in self.sum.planes(self.channel) {
            // SAFETY: only this task writes the planes of its channel, and the branches' gradients are different slices.
            let first = unsafe { self.gradients[0].slice(range.start, range.len()) };
            // The first branch comes last, because its gradient replaces `g`.
            for (branch, norm) in norms.iter().enumerate().skip(1) {
                let [u, v, w] = coefficients(norm, sums.products[branch]);
                // SAFETY: as above.
                let gradient = unsafe { self.gradients[branch].slice(range.start, range.len()) };
                let pairs = first.iter().zip(&norm.input[range.clone()]);
                gradient.iter_mut().zip(pairs).for_each(|(dx, (g, x))| *dx = u * g + v * x + w);
            }
            let [u, v, w] = coefficients(&norms[0], sums.products[0]);
            first.iter_mut().zip(&norms[0].input[range]).for_each(|(g, x)| *g = u * *g + v * x + w);
        }
    }
}

/// `Σ term(a, b)` over pairs of elements.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let (chunks_a, rest_a) = a.as_chunks::<LANES>();
    let (chunks_b, rest_b) = b.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (a, b) in chunks_a.iter().zip(chunks_b) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    let rest = rest_a.iter().zip(rest_b).map(|(&a, &b)| term(a, b));
    lanes.into_iter().chain(rest).map(f64::from).sum()
}

#[cfg(test)]
mod tests;

//! The arithmetic of a sum of batch norms, one channel at a time.
//!
//! With `x̂ = (x − mean) · r`, `r = 1 / √(variance + ε)` and `M` values per channel:
//!
//! * forward `y = f(Σ γ x̂ + β) = f(Σ a x + b)` with `a = γ r` per branch and `b = Σ β − a · mean`;
//! * backward, with `g = ∂L/∂y · f′`: `∂β = Σ g`, `∂γ = Σ g x̂`, `∂x = a (g − ∂β / M − x̂ · ∂γ / M)`
//!   (Ioffe & Szegedy, 1502.03167, Sect. 3).
//!
//! A channel of all branches mostly fits the second-level cache, so that it comes from memory once although it is read
//! several times. Sums run over 16 lanes in single precision within a plane, and over planes in double precision.

use std::ops::Range;

use repvgg_kernels::{Activation, ThreadPool};

use crate::ops::cpu::parallel_map;

/// What is summed.
pub(super) struct Terms<'a> {
    /// `[N, C, H·W]` of every input.
    pub(super) shape: [usize; 3],
    /// The input of each branch.
    pub(super) inputs: Vec<&'a [f32]>,
    /// γ `[C]` of each branch.
    pub(super) scales: Vec<&'a [f32]>,
    /// ε.
    pub(super) epsilon: f64,
}

/// Mean and biased variance of each channel of each branch, `[branches · C]`.
#[derive(Debug, Clone)]
pub(super) struct Statistics {
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
}

/// What comes back from the output.
pub(super) struct OutputGradient<'a> {
    /// `∂L/∂y` `[N, C, H·W]`.
    pub(super) values: &'a [f32],
    /// The output of a ReLU, zero where it passes no gradient.
    pub(super) relu: Option<&'a [f32]>,
}

/// The gradients of one branch.
pub(super) struct BranchGradient {
    /// `[N, C, H·W]`
    pub(super) input: Vec<f32>,
    /// `[C]`
    pub(super) scale: Vec<f32>,
    /// `[C]`
    pub(super) shift: Vec<f32>,
}

/// One channel of one branch.
#[derive(Clone, Copy)]
struct Norm<'a> {
    /// The whole input of the branch.
    input: &'a [f32],
    mean: f64,
    variance: f64,
    /// `r`
    inverse_std: f64,
    /// `a`
    factor: f64,
}

/// `output = activation(Σ …)`; `shift` `[C]` is the sum of the branches' β.
pub(super) fn forward(
    pool: &ThreadPool,
    terms: &Terms<'_>,
    shift: &[f32],
    activation: Activation,
    output: &mut [f32],
) -> Statistics {
    let norms = parallel_map(pool, planes(output, terms.shape), |channel, mut output| {
        let norms = terms.norms(channel, |branch| terms.moments(branch, channel));
        let offset = norms.iter().fold(f64::from(shift[channel]), |sum, norm| sum - norm.factor * norm.mean) as f32;
        for (y, range) in output.iter_mut().zip(terms.ranges(channel)) {
            y.fill(offset);
            for norm in &norms {
                let factor = norm.factor as f32;
                y.iter_mut().zip(&norm.input[range.clone()]).for_each(|(y, x)| *y += factor * x);
            }
            if activation == Activation::Relu {
                // Not `max`, which would hide a NaN.
                y.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y });
            }
        }
        norms
    });
    let gather = |value: fn(&Norm<'_>) -> f64| {
        let branches = 0..terms.inputs.len();
        branches.flat_map(|branch| norms.iter().map(move |norms| value(&norms[branch]) as f32)).collect()
    };
    Statistics { mean: gather(|norm| norm.mean), variance: gather(|norm| norm.variance) }
}

/// The gradients of every branch, those of the inputs in `inputs`, a buffer for each.
pub(super) fn backward(
    pool: &ThreadPool,
    terms: &Terms<'_>,
    statistics: &Statistics,
    output: &OutputGradient<'_>,
    mut inputs: Vec<Vec<f32>>,
) -> Vec<BranchGradient> {
    let [_, channels, _] = terms.shape;
    let mut work: Vec<Vec<Vec<&mut [f32]>>> = (0..channels).map(|_| Vec::new()).collect();
    for input in &mut inputs {
        work.iter_mut().zip(planes(input, terms.shape)).for_each(|(work, planes)| work.push(planes));
    }
    let found = parallel_map(pool, work, |channel, mut gradients| {
        let known = |branch| {
            let at = branch * channels + channel;
            [statistics.mean[at], statistics.variance[at]].map(f64::from)
        };
        let norms = terms.norms(channel, known);
        let sums = masked_sums(terms, channel, &norms, output, &mut gradients[0]);
        write_input_gradients(terms, channel, &norms, &sums, &mut gradients);
        let scales = norms.iter().zip(&sums.products).map(|(norm, product)| (product * norm.inverse_std) as f32);
        (scales.collect::<Vec<f32>>(), sums.gradient as f32)
    });
    let branches = inputs.into_iter().enumerate().map(|(branch, input)| {
        let scale = found.iter().map(|(scales, _)| scales[branch]).collect();
        BranchGradient { input, scale, shift: found.iter().map(|(_, shift)| *shift).collect() }
    });
    branches.collect()
}

/// Over one channel.
struct Sums {
    /// `Σ g`
    gradient: f64,
    /// `Σ g (x − mean)` of each branch.
    products: Vec<f64>,
}

/// Writes `g` into `masked`, where the first branch's gradient will stand, and sums it up.
fn masked_sums(
    terms: &Terms<'_>,
    channel: usize,
    norms: &[Norm<'_>],
    output: &OutputGradient<'_>,
    masked: &mut [&mut [f32]],
) -> Sums {
    let mut sums = Sums { gradient: 0.0, products: vec![0.0; norms.len()] };
    for (g, range) in masked.iter_mut().zip(terms.ranges(channel)) {
        let dy = &output.values[range.clone()];
        match output.relu {
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

/// `∂x` of every branch, from the `g` that stands in the place of the first.
fn write_input_gradients(
    terms: &Terms<'_>,
    channel: usize,
    norms: &[Norm<'_>],
    sums: &Sums,
    gradients: &mut [Vec<&mut [f32]>],
) {
    let [images, _, plane] = terms.shape;
    let count = (images * plane) as f64;
    let lines: Vec<[f32; 3]> = norms
        .iter()
        .zip(&sums.products)
        .map(|(norm, product)| {
            let slope = -norm.factor * norm.inverse_std * norm.inverse_std * product / count;
            [norm.factor, slope, -norm.factor * sums.gradient / count - slope * norm.mean].map(|x| x as f32)
        })
        .collect();
    let (first, others) = gradients.split_first_mut().expect("a sum has terms");
    for (image, range) in terms.ranges(channel).enumerate() {
        for ((gradient, norm), [u, v, w]) in others.iter_mut().zip(&norms[1..]).zip(&lines[1..]) {
            let pairs = first[image].iter().zip(&norm.input[range.clone()]);
            gradient[image].iter_mut().zip(pairs).for_each(|(dx, (g, x))| *dx = u * g + v * x + w);
        }
        let [u, v, w] = lines[0];
        first[image].iter_mut().zip(&norms[0].input[range]).for_each(|(g, x)| *g = u * *g + v * x + w);
    }
}

impl<'a> Terms<'a> {
    /// Where the planes of `channel` stand, image after image.
    fn ranges(&self, channel: usize) -> impl Iterator<Item = Range<usize>> + Clone + use<> {
        let [images, channels, plane] = self.shape;
        (0..images).map(move |image| (image * channels + channel) * plane).map(move |start| start..start + plane)
    }

    /// `channel` of every branch; `moments` says mean and variance of a branch.
    fn norms(&self, channel: usize, moments: impl Fn(usize) -> [f64; 2]) -> Vec<Norm<'a>> {
        let norm = |branch: usize| {
            let [mean, variance] = moments(branch);
            let inverse_std = 1.0 / (variance + self.epsilon).sqrt();
            let factor = f64::from(self.scales[branch][channel]) * inverse_std;
            Norm { input: self.inputs[branch], mean, variance, inverse_std, factor }
        };
        (0..self.inputs.len()).map(norm).collect()
    }

    /// Mean and biased variance of one channel of one branch.
    fn moments(&self, branch: usize, channel: usize) -> [f64; 2] {
        let [images, _, plane] = self.shape;
        let planes = self.ranges(channel).map(|range| &self.inputs[branch][range]);
        let count = (images * plane) as f64;
        let mean = planes.clone().map(|x| sum(x, x, |x, _| x)).sum::<f64>() / count;
        let centre = mean as f32;
        let squares: f64 = planes.map(|x| sum(x, x, |x, _| (x - centre) * (x - centre))).sum();
        [mean, squares / count]
    }
}

/// The planes of `data` `[N, C, H·W]`, by channel.
fn planes(data: &mut [f32], [images, channels, plane]: [usize; 3]) -> Vec<Vec<&mut [f32]>> {
    let mut planes: Vec<Vec<&mut [f32]>> = (0..channels).map(|_| Vec::with_capacity(images)).collect();
    for (index, slice) in data.chunks_exact_mut(plane).enumerate() {
        planes[index % channels].push(slice);
    }
    planes
}

/// `Σ term(a, b)` over pairs of elements.
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let (whole_a, rest_a) = a.as_chunks::<16>();
    let (whole_b, rest_b) = b.as_chunks::<16>();
    let mut lanes = [0.0f32; 16];
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..16 {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    let rest = rest_a.iter().zip(rest_b).map(|(&a, &b)| term(a, b));
    lanes.into_iter().chain(rest).map(f64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_equal_bit_for_bit_for_any_number_of_threads() {
        const SHAPE: [usize; 3] = [3, 7, 35];
        let noise = |seed: usize, len: usize| -> Vec<f32> {
            (0..len).map(|i| ((i * i + seed) % 1009) as f32 / 504.5 - 1.0).collect()
        };
        let len = SHAPE.iter().product();
        let data: Vec<Vec<f32>> = (0..4).map(|seed| noise(seed, len)).collect();
        let scales = noise(5, SHAPE[1]);
        let inputs = vec![&data[0][..], &data[1], &data[2]];
        let terms = Terms { shape: SHAPE, inputs, scales: vec![&scales; 3], epsilon: 1e-5 };
        let run = |threads: usize| {
            let pool = ThreadPool::new(threads);
            let mut output = vec![0.0; len];
            let statistics = forward(&pool, &terms, &scales, Activation::Relu, &mut output);
            let gradient = OutputGradient { values: &data[3], relu: Some(&output) };
            let found = backward(&pool, &terms, &statistics, &gradient, vec![vec![0.0; len]; 3]);
            let found: Vec<_> = found.into_iter().map(|branch| (branch.input, branch.scale, branch.shift)).collect();
            (output, statistics.mean, statistics.variance, found)
        };
        assert_eq!(run(1), run(3));
    }
}

//! Batch normalisation in training (Ioffe & Szegedy, arXiv 1502.03167, Algorithm 1), both directions, each in two passes
//! over memory. Statistics are summed in `f64`, so their rounding error is far below that of the values.
//!
//! A task owns a few neighbouring channels, so that even 4×4 maps are read in long runs, and sums the images in order:
//! results are bit-equal for any number of threads.

#![expect(unsafe_code, reason = "tasks write the planes of their channels, which lie apart in every image")]

use std::ops::Range;

use crate::pool::{Disjoint, ThreadPool};
use crate::simd::{Kernel, Level, Simd};

/// Channels per task.
const CHANNELS: usize = 4;
/// Partial sums per channel: independent chains that a register or two hold.
const LANES: usize = 8;

/// The operands of [`batch_norm_forward`]. `x` and `y` are `[N, C, H·W]`, the others `[C]`.
pub struct BatchNormForward<'a> {
    /// Input.
    pub x: &'a [f32],
    /// `γ`.
    pub scale: &'a [f32],
    /// `β`.
    pub shift: &'a [f32],
    /// `ε`, added to the variance.
    pub epsilon: f32,
    /// Result: `γ (x − mean) · inverse_std + β`.
    pub y: &'a mut [f32],
    /// Result: the mean of each channel over the batch.
    pub mean: &'a mut [f32],
    /// Result: `1 / √(variance + ε)`, with the biased variance of the batch.
    pub inverse_std: &'a mut [f32],
}

/// The operands of [`batch_norm_backward`]. `x`, `y_gradient` and `x_gradient` are `[N, C, H·W]`, the others `[C]`.
pub struct BatchNormBackward<'a> {
    /// The input of the forward pass.
    pub x: &'a [f32],
    /// `∂L/∂y`.
    pub y_gradient: &'a [f32],
    /// `γ`.
    pub scale: &'a [f32],
    /// From the forward pass.
    pub mean: &'a [f32],
    /// From the forward pass.
    pub inverse_std: &'a [f32],
    /// Result: `∂L/∂x`.
    pub x_gradient: &'a mut [f32],
    /// Result: `∂L/∂γ`.
    pub scale_gradient: &'a mut [f32],
    /// Result: `∂L/∂β`.
    pub shift_gradient: &'a mut [f32],
}

/// Normalises each channel by the mean and the biased variance of the batch; `shape` is `[N, C, H·W]`.
///
/// # Panics
///
/// If a slice has the wrong length.
pub fn batch_norm_forward(pool: &ThreadPool, shape: [usize; 3], operands: BatchNormForward<'_>) {
    let BatchNormForward { x, scale, shift, epsilon, y, mean, inverse_std } = operands;
    check(shape, &[x, y], &[scale, shift, mean, inverse_std]);
    let count = (shape[0] * shape[2]) as f64;
    let derive = |c: usize, [sum, squares]: [f64; 2]| {
        let mean = sum / count;
        let variance = (squares / count - mean * mean).max(0.0);
        let inverse_std = 1.0 / (variance + f64::from(epsilon)).sqrt();
        let factor = f64::from(scale[c]) * inverse_std;
        let affine = Affine { u: 0.0, v: factor as f32, centre: mean as f32, shift: shift[c] };
        (affine, [mean as f32, inverse_std as f32])
    };
    let results = [y, mean, inverse_std].map(Disjoint::new);
    for_each_block(pool, Block { shape, channels: 0..shape[1], u: x, v: x, centre: None }, results, &derive);
}

/// The gradients of [`batch_norm_forward`]; `shape` is `[N, C, H·W]`. With `x̂ = (x − mean) · inverse_std` and means over
/// the batch: `∂L/∂x = γ · inverse_std · (∂L/∂y − mean(∂L/∂y) − x̂ · mean(∂L/∂y · x̂))`.
///
/// # Panics
///
/// If a slice has the wrong length.
pub fn batch_norm_backward(pool: &ThreadPool, shape: [usize; 3], operands: BatchNormBackward<'_>) {
    let BatchNormBackward { x, y_gradient, scale, mean, inverse_std, x_gradient, scale_gradient, shift_gradient } =
        operands;
    check(shape, &[x, y_gradient, x_gradient], &[scale, mean, inverse_std, scale_gradient, shift_gradient]);
    let count = (shape[0] * shape[2]) as f64;
    let derive = |c: usize, [sum, products]: [f64; 2]| {
        let inverse_std = f64::from(inverse_std[c]);
        let factor = f64::from(scale[c]) * inverse_std;
        let affine = Affine {
            u: factor as f32,
            v: (-factor * inverse_std * inverse_std * products / count) as f32,
            centre: mean[c],
            shift: (-factor * sum / count) as f32,
        };
        (affine, [(products * inverse_std) as f32, sum as f32])
    };
    let results = [x_gradient, scale_gradient, shift_gradient].map(Disjoint::new);
    let block = Block { shape, channels: 0..shape[1], u: y_gradient, v: x, centre: Some(mean) };
    for_each_block(pool, block, results, &derive);
}

/// What happens to an element once the sums of its channel are known: `u · a + v · (b − centre) + shift`, where `a` and
/// `b` are the elements of the block's tensors.
#[derive(Clone, Copy, Default)]
struct Affine {
    u: f32,
    v: f32,
    centre: f32,
    shift: f32,
}

/// Some channels of two tensors `[N, C, H·W]`, and what is subtracted from the second in products.
#[derive(Clone)]
struct Block<'a> {
    shape: [usize; 3],
    channels: Range<usize>,
    u: &'a [f32],
    v: &'a [f32],
    centre: Option<&'a [f32]>,
}

/// Sums every channel, lets `derive(channel, [Σu, Σu·(v − centre)])` decide the map of its elements and two numbers, and
/// writes those to `results`: `[[N, C, H·W], [C], [C]]`.
fn for_each_block(
    pool: &ThreadPool,
    all: Block<'_>,
    results: [Disjoint<'_, f32>; 3],
    derive: &(dyn Fn(usize, [f64; 2]) -> (Affine, [f32; 2]) + Sync),
) {
    let level = Level::detect();
    let channels = all.shape[1];
    pool.run(channels.div_ceil(CHANNELS), &|task, _| {
        let block = Block { channels: task * CHANNELS..((task + 1) * CHANNELS).min(channels), ..all.clone() };
        let sums = level.run(Sums(&block));
        let mut maps = [Affine::default(); CHANNELS];
        for (c, (map, sums)) in block.channels.clone().zip(maps.iter_mut().zip(sums)) {
            let (affine, numbers) = derive(c, sums);
            *map = affine;
            for (result, number) in results[1..].iter().zip(numbers) {
                // SAFETY: a channel belongs to one task.
                let target = unsafe { result.slice(c, 1) };
                target[0] = number;
            }
        }
        level.run(Map { block: &block, maps, result: results[0] });
    });
}

impl Block<'_> {
    /// The planes of the block in memory order, as `(index of the channel in the block, range in the tensor)`.
    #[inline(always)]
    fn planes(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let [images, channels, len] = self.shape;
        let first = self.channels.start;
        let planes =
            (0..images).flat_map(move |n| (0..self.channels.len()).map(move |c| (c, n * channels + first + c)));
        planes.map(move |(c, plane)| (c, plane * len..(plane + 1) * len))
    }
}

/// `[Σu, Σu·(v − centre)]` of each channel.
struct Sums<'a>(&'a Block<'a>);

impl Kernel for Sums<'_> {
    type Output = [[f64; 2]; CHANNELS];

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Self::Output {
        let block = self.0;
        let mut sums = [[[0.0; LANES]; 2]; CHANNELS];
        for (c, plane) in block.planes() {
            let centre = f64::from(block.centre.map_or(0.0, |centre| centre[block.channels.start + c]));
            let [mut sum, mut products] = sums[c];
            let (us, u_rest) = block.u[plane.clone()].as_chunks::<LANES>();
            let (vs, v_rest) = block.v[plane].as_chunks::<LANES>();
            for (u, v) in us.iter().zip(vs) {
                for i in 0..LANES {
                    sum[i] += f64::from(u[i]);
                    products[i] += f64::from(u[i]) * (f64::from(v[i]) - centre);
                }
            }
            for (i, (u, v)) in u_rest.iter().zip(v_rest).enumerate() {
                sum[i] += f64::from(*u);
                products[i] += f64::from(*u) * (f64::from(*v) - centre);
            }
            sums[c] = [sum, products];
        }
        sums.map(|sums| sums.map(|lanes| lanes.iter().sum()))
    }
}

/// Applies the map of each channel to its elements.
struct Map<'a> {
    block: &'a Block<'a>,
    maps: [Affine; CHANNELS],
    result: Disjoint<'a, f32>,
}

impl Kernel for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (c, plane) in self.block.planes() {
            let Affine { u, v, centre, shift } = self.maps[c];
            let (us, vs) = (&self.block.u[plane.clone()], &self.block.v[plane.clone()]);
            // SAFETY: a channel belongs to one task, and its planes are visited one after the other.
            let result = unsafe { self.result.slice(plane.start, plane.len()) };
            for (result, (a, b)) in result.iter_mut().zip(us.iter().zip(vs)) {
                *result = u * a + (v * (b - centre) + shift);
            }
        }
    }
}

fn check(shape: [usize; 3], tensors: &[&[f32]], vectors: &[&[f32]]) {
    let len = shape.iter().product::<usize>();
    assert!(tensors.iter().all(|tensor| tensor.len() == len), "tensors are [N, C, H·W]: {len} elements");
    assert!(vectors.iter().all(|vector| vector.len() == shape[1]), "vectors are [C]: {} elements", shape[1]);
}

#[cfg(test)]
mod tests;

//! Pooling of one block of channels.

use std::ops::Range;

use repvgg_kernels::Level;

use crate::graph::Pool;

/// A block `[H, W, L]`, and the width of the block it is pooled to.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) data: &'a [f32],
    pub(super) width: usize,
    pub(super) output_width: usize,
    pub(super) lanes: usize,
}

/// The largest value of each window; padding is never the largest.
pub(super) fn max(pool: Pool, input: Block<'_>, output: &mut [f32]) {
    // A maximum would hide NaN.
    fold(pool, input, output, f32::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a });
}

/// The mean of each window; padding counts as zeros.
pub(super) fn mean(pool: Pool, input: Block<'_>, output: &mut [f32]) {
    fold(pool, input, output, 0.0, |sum, x| sum + x);
    let count = pool.kernel.iter().product::<usize>() as f32;
    output.iter_mut().for_each(|x| *x /= count);
}

/// The mean of the part of each window that lies on the map.
pub(super) fn mean_inside(pool: Pool, input: Block<'_>, output: &mut [f32]) {
    fold(pool, input, output, 0.0, |sum, x| sum + x);
    let Block { data, width, output_width, lanes } = input;
    let height = data.len() / (width * lanes);
    for (p, row) in output.chunks_exact_mut(output_width * lanes).enumerate() {
        let rows = window(pool, 0, p, height).len();
        for (q, pixel) in row.chunks_exact_mut(lanes).enumerate() {
            let count = (rows * window(pool, 1, q, width).len()) as f32;
            pixel.iter_mut().for_each(|x| *x /= count);
        }
    }
}

/// The mean of all pixels, in four interleaved sums: more exact than one running sum.
pub(super) fn global_mean(data: &[f32], output: &mut [f32]) {
    const PARTS: usize = 4;
    let lanes = output.len();
    let mut sums = [[0.0; Level::MAX_LANES]; PARTS];
    for (i, pixel) in data.chunks_exact(lanes).enumerate() {
        sums[i % PARTS].iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
    }
    let pixels = (data.len() / lanes) as f32;
    for (lane, mean) in output.iter_mut().enumerate() {
        *mean = (sums[0][lane] + sums[1][lane] + (sums[2][lane] + sums[3][lane])) / pixels;
    }
}

fn fold(pool: Pool, input: Block<'_>, output: &mut [f32], start: f32, step: impl Fn(f32, f32) -> f32) {
    let Block { data, width, output_width, lanes } = input;
    let height = data.len() / (width * lanes);
    for (p, row) in output.chunks_exact_mut(output_width * lanes).enumerate() {
        let rows = window(pool, 0, p, height);
        for (q, pixel) in row.chunks_exact_mut(lanes).enumerate() {
            let columns = window(pool, 1, q, width);
            pixel.fill(start);
            for h in rows.clone() {
                let inside = &data[(h * width + columns.start) * lanes..][..columns.len() * lanes];
                for x in inside.chunks_exact(lanes) {
                    pixel.iter_mut().zip(x).for_each(|(folded, &x)| *folded = step(*folded, x));
                }
            }
        }
    }
}

/// The part of the window of output `index` that lies on the input, along one axis.
fn window(pool: Pool, axis: usize, index: usize, extent: usize) -> Range<usize> {
    let begin = index * pool.stride[axis];
    let clamp = |place: usize| place.saturating_sub(pool.padding[axis][0]).min(extent);
    clamp(begin)..clamp(begin + pool.kernel[axis])
}

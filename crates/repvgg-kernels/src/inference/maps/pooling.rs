//! Pooling. Each lane of a register is a separate channel, so there is no matrix product and no register tile.

use super::{BlockKernel, Cpu, Map, MapMut};
use crate::isa::Simd;

/// The window of a pooling operation. Pairs are `[vertical, horizontal]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolWindow {
    /// Rows and columns.
    pub kernel: [usize; 2],
    /// Pixels between neighbouring windows.
    pub stride: [usize; 2],
    /// Pixels between neighbouring taps of a window.
    pub dilation: [usize; 2],
    /// Rows above and columns left of the map that the first window covers. Windows may extend beyond the other end as well.
    pub padding: [usize; 2],
}

/// The divisor of a mean over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divisor {
    /// All pixels of the window, so padding counts as zeros.
    Window,
    /// The pixels of the window that are inside the map.
    Inside,
}

/// Computes the largest value of each window. Padding is never the largest, and a NaN in the window gives NaN. A window
/// entirely outside the map gives −∞.
///
/// # Panics
///
/// If input and output differ in batch, channels or lanes.
pub fn max_pool(cpu: Cpu<'_>, window: PoolWindow, input: Map<'_>, output: MapMut<'_>) {
    output.expect_channels(&input);
    let width = output.layout().shape[3];
    output.compute(cpu, window.kernel[0] * window.kernel[1], &PooledWindows { window, input, width, fold: Fold::Max });
}

/// Computes the mean of each window.
///
/// # Panics
///
/// If input and output differ in batch, channels or lanes.
pub fn mean_pool(cpu: Cpu<'_>, window: PoolWindow, divisor: Divisor, input: Map<'_>, output: MapMut<'_>) {
    output.expect_channels(&input);
    let width = output.layout().shape[3];
    let fold = Fold::Mean(divisor);
    output.compute(cpu, window.kernel[0] * window.kernel[1], &PooledWindows { window, input, width, fold });
}

/// Computes the mean of each plane, `[N, C, 1, 1]`, from four interleaved sums, which are more accurate than a single running
/// sum.
///
/// # Panics
///
/// If input and output differ in batch, channels or lanes, or the output does not have exactly one pixel.
pub fn global_mean(cpu: Cpu<'_>, input: Map<'_>, output: MapMut<'_>) {
    output.expect_channels(&input);
    assert_eq!(output.layout().shape[2..], [1, 1], "the output has one pixel");
    output.compute(cpu, input.size().iter().product(), &GlobalMean { input });
}

#[derive(Clone, Copy)]
enum Fold {
    Max,
    Mean(Divisor),
}

struct PooledWindows<'a> {
    window: PoolWindow,
    input: Map<'a>,
    /// Columns of the output.
    width: usize,
    fold: Fold,
}

impl PooledWindows<'_> {
    /// The taps of the window of output `index` that are on the map, along one axis.
    #[inline(always)]
    fn covered(&self, axis: usize, index: usize) -> Taps {
        let PoolWindow { kernel, stride, dilation, padding } = self.window;
        let begin = index * stride[axis];
        // The first tap that is not in the padding before the map, and the number of taps before the padding behind it.
        let skipped = padding[axis].saturating_sub(begin).div_ceil(dilation[axis]);
        let end = (self.input.size()[axis] + padding[axis]).saturating_sub(begin).div_ceil(dilation[axis]);
        let count = kernel[axis].min(end).saturating_sub(skipped);
        let first = if count == 0 { 0 } else { begin + skipped * dilation[axis] - padding[axis] };
        Taps { first, count, step: dilation[axis] }
    }

    /// Folds the pixels of each window; `finish` gets the result and the number of pixels inside the map.
    #[inline(always)]
    fn fold<S: Simd>(
        &self,
        simd: S,
        index: usize,
        block: &mut [f32],
        start: f32,
        step: impl Fn(S::Vector, S::Vector) -> S::Vector,
        finish: impl Fn(S::Vector, usize) -> S::Vector,
    ) {
        let pixels = S::blocks(self.input.block(index));
        let [_, width] = self.input.size();
        for (p, row) in S::blocks_mut(block).chunks_exact_mut(self.width).enumerate() {
            let rows = self.covered(0, p);
            for (q, pixel) in row.iter_mut().enumerate() {
                let columns = self.covered(1, q);
                let mut folded = simd.splat(start);
                for y in (0..rows.count).map(|row| rows.first + row * rows.step) {
                    let taps = &pixels[y * width..][..width];
                    if columns.step == 1 {
                        for x in &taps[columns.first..][..columns.count] {
                            folded = step(folded, simd.load(x));
                        }
                    } else {
                        for x in (0..columns.count).map(|column| &taps[columns.first + column * columns.step]) {
                            folded = step(folded, simd.load(x));
                        }
                    }
                }
                simd.store(finish(folded, rows.count * columns.count), pixel);
            }
        }
    }
}

/// Some rows or columns of a map at equal distances.
#[derive(Clone, Copy)]
struct Taps {
    first: usize,
    count: usize,
    step: usize,
}

impl BlockKernel for PooledWindows<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, index: usize, block: &mut [f32]) {
        let PoolWindow { kernel, .. } = self.window;
        let window = simd.splat((kernel[0] * kernel[1]) as f32);
        match self.fold {
            Fold::Max => {
                self.fold(simd, index, block, f32::NEG_INFINITY, |a, b| simd.max(a, b), |x, _| x);
            }
            Fold::Mean(Divisor::Window) => {
                self.fold(simd, index, block, 0.0, |sum, x| simd.add(sum, x), |sum, _| simd.div(sum, window));
            }
            Fold::Mean(Divisor::Inside) => {
                let mean = |sum, count: usize| simd.div(sum, simd.splat(count as f32));
                self.fold(simd, index, block, 0.0, |sum, x| simd.add(sum, x), mean);
            }
        }
    }
}

struct GlobalMean<'a> {
    input: Map<'a>,
}

impl BlockKernel for GlobalMean<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, index: usize, block: &mut [f32]) {
        const PARTS: usize = 4;
        let pixels = S::blocks(self.input.block(index));
        let mut sums = [simd.splat(0.0); PARTS];
        let (quads, rest) = pixels.as_chunks::<PARTS>();
        for quad in quads {
            for part in 0..PARTS {
                sums[part] = simd.add(sums[part], simd.load(&quad[part]));
            }
        }
        for (sum, pixel) in sums.iter_mut().zip(rest) {
            *sum = simd.add(*sum, simd.load(pixel));
        }
        let total = simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]));
        simd.store(simd.div(total, simd.splat(pixels.len() as f32)), &mut S::blocks_mut(block)[0]);
    }
}

//! Depthwise convolution on blocks of channels: each lane has its own filter, so there is no product to tile.

#![expect(unsafe_code, reason = "tasks write disjoint rows of the output")]

use std::ops::Range;

use super::{Arguments, Epilogue};
use crate::isa::{Kernel, Level, MAX_LANES, Simd};
use crate::memory::Buffer;
use crate::threads::Disjoint;
use crate::{Geometry, ThreadPool};

/// Outputs of a row that are summed in registers at the same time: enough to hide the latency of a multiply-add.
const UNROLL: usize = 8;
/// Outputs per task, so that a task takes long compared with claiming it.
const OUTPUTS_PER_TASK: usize = 512;

/// The weights of a depthwise convolution: `[block][r][s][lane]`.
#[derive(Debug)]
pub(super) struct DepthwiseWeights(Buffer);

/// A plan for applying a depthwise convolution to images of one size.
#[derive(Debug)]
pub(super) struct DepthwisePlan {
    level: Level,
    geometry: Geometry,
    size: [usize; 2],
    output: [usize; 2],
    blocks: usize,
}

impl DepthwiseWeights {
    /// Packs `weights` `[C, 1, R, S]`.
    ///
    /// # Errors
    ///
    /// If the system cannot allocate the memory.
    pub(super) fn pack(level: Level, geometry: &Geometry, weights: &[f32]) -> std::io::Result<Self> {
        let lanes = level.lanes();
        let blocks = geometry.in_channels.div_ceil(lanes);
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let mut packed = Buffer::zeroed(blocks * taps * lanes)?;
        for (channel, filter) in weights.chunks_exact(taps).enumerate() {
            for (tap, &weight) in filter.iter().enumerate() {
                packed[(channel / lanes * taps + tap) * lanes + channel % lanes] = weight;
            }
        }
        Ok(Self(packed))
    }

    /// The size of the packed weights in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl DepthwisePlan {
    pub(super) fn new(level: Level, geometry: &Geometry, size: [usize; 2]) -> Self {
        let output = geometry.output_size(size).expect("the geometry fits the size");
        let blocks = geometry.in_channels.div_ceil(level.lanes());
        Self { level, geometry: *geometry, size, output, blocks }
    }

    /// Computes `output = epilogue(conv(input))`; input and output are `[N, ⌈C/L⌉, H, W, L]`.
    pub(super) fn run(&self, weights: &DepthwiseWeights, pool: &ThreadPool, arguments: Arguments<'_>) {
        let Arguments { images, input, epilogue, output, .. } = arguments;
        let [rows, columns] = self.output;
        let each = (OUTPUTS_PER_TASK / columns).clamp(1, rows);
        let parts = rows.div_ceil(each);
        let output = Disjoint::new(output);
        pool.run(images * self.blocks * parts, &|task, _| {
            let first = task % parts * each;
            let rows = first..(first + each).min(rows);
            self.level.run(RowsTask {
                plan: self,
                weights: &weights.0,
                map: task / parts,
                rows,
                input,
                epilogue,
                output,
            });
        });
    }
}

/// Some rows of one block of one image.
struct RowsTask<'a> {
    plan: &'a DepthwisePlan,
    weights: &'a [f32],
    /// Index of the block, counted over the batch.
    map: usize,
    rows: Range<usize>,
    input: &'a [f32],
    epilogue: Epilogue<'a>,
    output: Disjoint<'a, f32>,
}

impl Kernel for RowsTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan, weights, map, rows, input, epilogue, output } = self;
        let [height, width] = plan.size;
        let Geometry { kernel, .. } = plan.geometry;
        let block = map % plan.blocks;
        let plane = S::blocks(&input[map * height * width * S::LANES..][..height * width * S::LANES]);
        let taps = kernel[0] * kernel[1];
        let weights = S::blocks(&weights[block * taps * S::LANES..][..taps * S::LANES]);
        let [_, columns] = plan.output;
        let interior = plan.interior();
        for p in rows {
            let kernel_rows = plan.taps(0, p, height);
            let mut q = 0;
            while q < columns {
                let count = if interior.contains(&q) { UNROLL.min(interior.end - q) } else { 1 };
                let kernel_columns = plan.taps(1, q, width);
                let mut sums = [simd.splat(0.0); UNROLL];
                for r in kernel_rows.clone() {
                    let line = &plane[plan.position(0, p, r) * width..][..width];
                    for s in kernel_columns.clone() {
                        let weight = simd.load(&weights[r * kernel[1] + s]);
                        let first = plan.position(1, q, s);
                        let step = plan.geometry.stride[1];
                        if count == UNROLL {
                            let line = &line[first..][..(UNROLL - 1) * step + 1];
                            for i in 0..UNROLL {
                                sums[i] = simd.mul_add(weight, simd.load(&line[i * step]), sums[i]);
                            }
                        } else {
                            for (i, sum) in sums.iter_mut().take(count).enumerate() {
                                *sum = simd.mul_add(weight, simd.load(&line[first + i * step]), *sum);
                            }
                        }
                    }
                }
                let mut tile = [0.0; UNROLL * MAX_LANES];
                for (sum, block) in sums.iter().zip(S::blocks_mut(&mut tile)) {
                    simd.store(*sum, block);
                }
                let at = ((map * plan.output[0] + p) * columns + q) * S::LANES;
                let len = count * S::LANES;
                // SAFETY: only this task writes these rows of the block.
                epilogue.finish(simd, block, at, &tile[..len], unsafe { output.slice(at, len) });
                q += count;
            }
        }
    }
}

impl DepthwisePlan {
    /// The input position that tap `tap` of output `index` reads along an axis.
    #[inline(always)]
    fn position(&self, axis: usize, index: usize, tap: usize) -> usize {
        let Geometry { stride, padding, dilation, .. } = self.geometry;
        index * stride[axis] + tap * dilation[axis] - padding[axis]
    }

    /// The taps of output `index` that are inside the image along an axis.
    #[inline(always)]
    fn taps(&self, axis: usize, index: usize, extent: usize) -> Range<usize> {
        let Geometry { kernel, stride, padding, dilation, .. } = self.geometry;
        let start = index * stride[axis];
        let low = padding[axis].saturating_sub(start).div_ceil(dilation[axis]);
        let high = (extent + padding[axis]).saturating_sub(start).div_ceil(dilation[axis]);
        low.min(kernel[axis])..high.min(kernel[axis]).max(low.min(kernel[axis]))
    }

    /// The outputs of a row whose taps are all inside the image.
    fn interior(&self) -> Range<usize> {
        let Geometry { kernel, stride, padding, dilation, .. } = self.geometry;
        let reach = (kernel[1] - 1) * dilation[1];
        let first = padding[1].div_ceil(stride[1]);
        let last = (self.size[1] + padding[1]).checked_sub(reach + 1).map_or(0, |start| start / stride[1] + 1);
        first..last.min(self.output[1]).max(first)
    }
}

//! Everything between convolutions: sums, products, pooling, softmax and moves of whole maps.
//!
//! Maps lie in blocks of channels, `[N, ⌈C/L⌉, H, W, L]` ([`Blocked`]). Every kernel overwrites its output, allocates nothing,
//! and computes each block `[H, W, L]` (or each image) from the inputs alone: results are bit-equal for any number of
//! threads. Wrong shapes are mistakes of the program and panic.
//!
//! # Example
//!
//! `ReLU(x + 2 · y)` of one pixel with two channels:
//!
//! ```
//! use repvgg_kernels::maps::{Affine, Cpu, Map, MapMut, Pointwise, Term, pack, sum, unpack};
//! use repvgg_kernels::{Blocked, Level, ThreadPool};
//!
//! let (pool, level) = (ThreadPool::new(2), Level::detect());
//! let cpu = Cpu { pool: &pool, level };
//! let layout = Blocked { shape: [1, 2, 1, 1], lanes: level.lanes() };
//! let [mut x, mut y, mut output] = [(); 3].map(|()| vec![0.0; layout.len()]);
//! pack(cpu, &[1.0, -5.0], MapMut::new(&mut x, layout));
//! pack(cpu, &[3.0, 1.0], MapMut::new(&mut y, layout));
//!
//! let (scale, shift) = (vec![2.0; level.lanes()], vec![0.0; level.lanes()]);
//! let affine = Some(Affine { scale: &scale, shift: &shift });
//! let terms = [Term { map: Map::new(&x, layout), affine: None }, Term { map: Map::new(&y, layout), affine }];
//! sum(cpu, terms.into_iter(), Some(Pointwise::Relu), MapMut::new(&mut output, layout));
//!
//! let mut planar = [0.0; 2];
//! unpack(cpu, Map::new(&output, layout), &mut planar);
//! assert_eq!(planar, [7.0, 0.0]);
//! ```

mod moves;
mod pointwise;
mod pooling;
mod softmax;
mod sums;

pub use moves::{concat, flatten, gather, pack, pad, unpack};
pub use pointwise::Pointwise;
pub use pooling::{Divisor, PoolWindow, global_mean, max_pool, mean_pool};
pub use softmax::{SoftmaxForm, softmax};
pub use sums::{Affine, Term, product, sum};

use crate::isa::{Kernel, Simd};
use crate::{Blocked, Element, Level, ThreadPool};

/// The threads and the instruction set that a kernel runs on.
#[derive(Debug, Clone, Copy)]
pub struct Cpu<'a> {
    /// The threads.
    pub pool: &'a ThreadPool,
    /// The instruction set; maps lie in blocks of [`Level::lanes`] channels.
    pub level: Level,
}

/// A batch of maps that a kernel reads: `[N, ⌈C/L⌉, H, W, L]`.
///
/// Lanes beyond the last channel hold zeros or any finite numbers; kernels compute with them, and nothing depends on them.
#[derive(Debug, Clone, Copy)]
pub struct Map<'a, T: Element = f32> {
    data: &'a [T],
    layout: Blocked,
}

/// A batch of maps that a kernel overwrites: `[N, ⌈C/L⌉, H, W, L]`.
#[derive(Debug)]
pub struct MapMut<'a, T: Element = f32> {
    data: &'a mut [T],
    layout: Blocked,
}

impl<'a, T: Element> Map<'a, T> {
    /// Maps that lie in `data`.
    ///
    /// # Panics
    ///
    /// If `data` is not as long as the layout says.
    pub fn new(data: &'a [T], layout: Blocked) -> Self {
        assert_eq!(data.len(), layout.len(), "data is [N, ⌈C/L⌉, H, W, L]");
        Self { data, layout }
    }

    /// The shape and the lanes of a block.
    pub fn layout(&self) -> Blocked {
        self.layout
    }

    /// All elements.
    pub fn data(&self) -> &'a [T] {
        self.data
    }

    /// `[H, W]`.
    fn size(&self) -> [usize; 2] {
        let [_, _, height, width] = self.layout.shape;
        [height, width]
    }

    /// One block of one image, counted through the batch.
    #[inline(always)]
    fn block(&self, index: usize) -> &'a [T] {
        let len = self.layout.block_len();
        &self.data[index * len..][..len]
    }

    /// The blocks of one image.
    #[inline(always)]
    fn image(&self, index: usize) -> &'a [T] {
        let len = self.layout.blocks() * self.layout.block_len();
        &self.data[index * len..][..len]
    }
}

impl<'a, T: Element> MapMut<'a, T> {
    /// Maps that lie in `data`.
    ///
    /// # Panics
    ///
    /// If `data` is not as long as the layout says.
    pub fn new(data: &'a mut [T], layout: Blocked) -> Self {
        assert_eq!(data.len(), layout.len(), "data is [N, ⌈C/L⌉, H, W, L]");
        Self { data, layout }
    }

    /// The shape and the lanes of a block.
    pub fn layout(&self) -> Blocked {
        self.layout
    }

    /// Asserts that an input has the output's batch, channels and lanes.
    fn expect_channels(&self, input: &Map<'_, T>) {
        let [batch, channels, ..] = self.layout.shape;
        assert_eq!(input.layout.shape[..2], [batch, channels], "the input has the output's batch and channels");
        assert_eq!(input.layout.lanes, self.layout.lanes, "the input has the output's lanes");
    }
}

impl MapMut<'_> {
    /// Computes every block with `kernel`. `work` is the cost of an element, in elements.
    fn compute(self, cpu: Cpu<'_>, work: usize, kernel: &impl BlockKernel) {
        let Self { data, layout } = self;
        assert_eq!(layout.lanes, cpu.level.lanes(), "maps lie in blocks of the level's lanes");
        let block_len = layout.block_len();
        let each = (TASK / (work.max(1) * block_len).max(1)).max(1);
        cpu.pool.for_each_chunk(data, each * block_len, |task, blocks| {
            cpu.level.run(Blocks { kernel, first: task * each, block_len, blocks });
        });
    }

    /// Computes every image with `kernel`: the `index` that it gets is the image's, its block all blocks of the image.
    fn compute_images(self, cpu: Cpu<'_>, kernel: &impl BlockKernel) {
        let Self { data, layout } = self;
        assert_eq!(layout.lanes, cpu.level.lanes(), "maps lie in blocks of the level's lanes");
        let block_len = layout.blocks() * layout.block_len();
        cpu.pool.for_each_chunk(data, block_len, |first, blocks| {
            cpu.level.run(Blocks { kernel, first, block_len, blocks });
        });
    }
}

/// Elements per task, so that a task is long in comparison with claiming it.
const TASK: usize = 8192;

/// A computation of one block of the output. Mark `run` and all that it calls `#[inline(always)]`.
trait BlockKernel: Sync {
    /// Overwrites block `index`, counted through the batch.
    fn run<S: Simd>(&self, simd: S, index: usize, block: &mut [f32]);
}

/// Neighbouring blocks of the output.
struct Blocks<'a, K> {
    kernel: &'a K,
    first: usize,
    block_len: usize,
    blocks: &'a mut [f32],
}

impl<K: BlockKernel> Kernel for Blocks<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (i, block) in self.blocks.chunks_exact_mut(self.block_len).enumerate() {
            self.kernel.run(simd, self.first + i, block);
        }
    }
}

#[cfg(test)]
mod tests;

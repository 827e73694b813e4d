//! The operations between convolutions: sums, products, pooling, resampling, softmax, and moves of channels and pixels.
//!
//! Maps are stored in blocks of channels, `[N, ⌈C/L⌉, H, W, L]` ([`Blocked`]). Every kernel overwrites its output and allocates
//! nothing. Each block `[H, W, L]` (or each image) is computed from the inputs alone, so results are bit-equal for any number
//! of threads. Wrong shapes are bugs in the caller and panic.
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
mod resize;
mod softmax;
mod sums;

pub use moves::{concat, flatten, gather, pack, pad, unpack};
pub use pointwise::Pointwise;
pub use pooling::{Divisor, PoolWindow, global_mean, max_pool, mean_pool};
pub use resize::{ResizeTap, resize};
pub use softmax::{SoftmaxForm, softmax};
pub use sums::{Affine, Term, product, sum};

use crate::isa::{Kernel, Simd};
use crate::{Blocked, Element, Level, ThreadPool};

/// The threads and the instruction set that a kernel runs on.
#[derive(Debug, Clone, Copy)]
pub struct Cpu<'a> {
    /// The threads.
    pub pool: &'a ThreadPool,
    /// The instruction set; maps are stored in blocks of [`Level::lanes`] channels.
    pub level: Level,
}

/// A batch of maps that a kernel reads: `[N, ⌈C/L⌉, H, W, L]`.
///
/// Lanes beyond the last channel hold arbitrary finite numbers. Kernels compute with them, but no result depends on them.
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
    /// Views `data` as maps.
    ///
    /// # Panics
    ///
    /// If the length of `data` is not that of the layout.
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

    /// A block, counted over the batch.
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
    /// Views `data` as maps.
    ///
    /// # Panics
    ///
    /// If the length of `data` is not that of the layout.
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
    /// Computes every block with `kernel`. `cost` is the number of elements that it reads for each element of the output.
    fn compute(self, cpu: Cpu<'_>, cost: usize, kernel: &impl BlockKernel) {
        let Self { data, layout } = self;
        assert_eq!(layout.lanes, cpu.level.lanes(), "blocks have the level's lanes");
        let block_len = layout.block_len();
        let each = (ELEMENTS_PER_TASK / (cost.max(1) * block_len).max(1)).max(1);
        cpu.pool.for_each_chunk(data, each * block_len, |task, blocks| {
            cpu.level.run(Blocks { kernel, first: task * each, block_len, blocks });
        });
    }

    /// Computes every image with `kernel`, which is called with the index of an image and all its blocks.
    fn compute_images(self, cpu: Cpu<'_>, kernel: &impl BlockKernel) {
        let Self { data, layout } = self;
        assert_eq!(layout.lanes, cpu.level.lanes(), "blocks have the level's lanes");
        let block_len = layout.blocks() * layout.block_len();
        cpu.pool.for_each_chunk(data, block_len, |first, blocks| {
            cpu.level.run(Blocks { kernel, first, block_len, blocks });
        });
    }
}

/// Elements per task, so that a task takes long compared with claiming it.
const ELEMENTS_PER_TASK: usize = 8192;

/// The computation of one block of the output. Mark `run` and everything it calls `#[inline(always)]`.
trait BlockKernel: Sync {
    /// Overwrites block `index`, counted over the batch.
    fn run<S: Simd>(&self, simd: S, index: usize, block: &mut [f32]);
}

/// A task: neighbouring blocks of the output.
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

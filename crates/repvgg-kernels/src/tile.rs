//! The register tile: the matrix product behind every convolution except depthwise ones, in inference and training.
//!
//! ```text
//! out[v][n] = Σ_d panel[d][v] · columns[n][d]      v registers, n columns, d the reduction
//! ```
//!
//! Each step loads `V` registers of the panel and multiplies them by `N` broadcast elements of the columns. The reduction
//! walks through both operands in three nested loops; each operand has its own strides:
//!
//! | | panel | columns | reduction |
//! |---|---|---|---|
//! | Winograd | transformed filters | transformed tiles | channels |
//! | direct convolution, fully connected | filters | pixels | channels, kernel rows, kernel columns |
//! | training: forward, gradient of the input | pixels | filters | channels and taps |
//! | training: gradient of the weights | channels, or channels and taps | filters | images, rows, columns |

#![expect(unsafe_code, reason = "the innermost loop reads its operands without a bounds check per element")]

mod arithmetic;
mod panels;

pub(crate) use arithmetic::{Arithmetic, F32};
pub(crate) use panels::{DivideFilters, FilterPanel, PackedPanels};

use std::ops::Range;

use crate::Element;
use crate::isa::{Kernel, Simd};

/// Floats of a cache line.
const LINE: usize = 16;

/// The layout of the columns in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnLayout {
    /// A step reads a block of channels; neighbouring columns are this many floats apart.
    Blocks(usize),
    /// A step reads a single element; neighbouring columns are this many floats apart.
    Planar(usize),
}

/// The three nested loops of a reduction, outermost first. In blocks of channels, a fourth, innermost loop runs over
/// neighbouring elements of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reduction {
    /// Steps of each loop, at least one.
    pub(crate) count: [usize; 3],
    /// Floats between neighbouring steps in the columns.
    pub(crate) columns: [usize; 3],
    /// Floats between neighbouring steps in the panel.
    pub(crate) panel: [usize; 3],
}

impl Reduction {
    /// A reduction through a panel without gaps, `step` floats per step.
    pub(crate) fn packed(mut count: [usize; 3], mut columns: [usize; 3], step: usize) -> Self {
        // The innermost loop costs the least per step: loops of one step move outwards.
        let single = count.iter().rev().take_while(|&&count| count == 1).count().min(2);
        count.rotate_right(single);
        columns.rotate_right(single);
        Self { count, columns, panel: [count[1] * count[2] * step, count[2] * step, step] }
    }

    /// The end of the farthest step, where each step reads `len` floats; `None` if it exceeds the address space.
    fn reach(&self, strides: [usize; 3], len: usize) -> Option<usize> {
        (0..3).try_fold(len, |sum, i| (self.count[i] - 1).checked_mul(strides[i])?.checked_add(sum))
    }
}

/// The product of one panel and a row of columns.
pub(crate) struct Product<'a, A: Arithmetic> {
    /// `[d][vectors · lanes]`, with the strides of `reduction`.
    pub(crate) panel: &'a [A::Panel],
    /// Registers per step of the panel.
    pub(crate) vectors: usize,
    /// The operand whose elements are broadcast.
    pub(crate) columns: &'a [A::Column],
    pub(crate) layout: ColumnLayout,
    pub(crate) reduction: Reduction,
    /// The panel that is read next, of the same length, prefetched during the product; empty for no prefetching.
    pub(crate) next: &'a [A::Panel],
    pub(crate) accumulate: Accumulate,
}

/// The output of a tile: the sums of register `v` and column `n` start at `sums[v · register_stride + n · column_stride]`.
pub(crate) struct TileOutput<'a, T: Element = f32> {
    pub(crate) sums: &'a mut [T],
    pub(crate) register_stride: usize,
    pub(crate) column_stride: usize,
}

/// The treatment of previous contents of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accumulate {
    /// Sums overwrite the output.
    Overwrite,
    /// Sums are added to the output.
    Add,
}

/// Whether panels should be prefetched: if the weights exceed a second-level cache, and each is used for so few columns that
/// the latency of reading it would show. Needless prefetching costs 5 to 10 %.
pub(crate) fn should_prefetch(weight_bytes: usize, columns: usize) -> bool {
    weight_bytes > 1 << 20 && columns <= 64
}

impl<A: Arithmetic> Product<'_, A> {
    /// Multiplies the columns of a tile. Each tile of a row prefetches its part of [`Product::next`].
    #[inline(always)]
    pub(crate) fn tile<S: Simd>(&self, simd: S, tile: Span, output: TileOutput<'_, A::Output>) {
        let Span { first, count, index, tiles } = tile;
        let (ColumnLayout::Blocks(step) | ColumnLayout::Planar(step)) = self.layout;
        let lines = if self.next.is_empty() { 0 } else { self.vectors * S::LANES * S::LANES / LINE };
        let prefetched_lines = index * lines / tiles..(index + 1) * lines / tiles;
        let operands = TileOperands { product: self, first: first * step, step, prefetched_lines, output };
        match self.layout {
            ColumnLayout::Blocks(_) => dispatch::<S, A, true>(simd, count, operands),
            ColumnLayout::Planar(_) => dispatch::<S, A, false>(simd, count, operands),
        }
    }

    /// Divides `count` columns into tiles as equal as possible, because narrow tiles do not hide the latency of their
    /// multiply-adds.
    #[inline(always)]
    pub(crate) fn tiles<S: Simd>(&self, _: S, count: usize) -> impl Iterator<Item = Span> + use<S, A> {
        let tiles = count.div_ceil(S::COLUMNS[self.vectors - 1]).max(1);
        let (each, wider) = (count / tiles, count % tiles);
        (0..tiles).map(move |index| Span {
            first: index * each + index.min(wider),
            count: each + usize::from(index < wider),
            index,
            tiles,
        })
    }
}

/// The columns of one tile in a row of tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// The index of the tile in its row.
    index: usize,
    /// The number of tiles in the row.
    tiles: usize,
}

impl Span {
    /// A row of a single tile.
    pub(crate) fn single(count: usize) -> Self {
        Self { first: 0, count, index: 0, tiles: 1 }
    }
}

/// The registers and columns of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileShape {
    pub(crate) vectors: usize,
    pub(crate) columns: usize,
}

impl TileShape {
    /// The tile with the most sums whose number of columns is a power of two, as transposing planes requires. Of equal tiles,
    /// the one with more registers, which broadcasts less.
    pub(crate) const fn transposable<S: Simd>() -> Self {
        let mut best = Self { vectors: 1, columns: 1 };
        let mut vectors = 1;
        while vectors <= S::COLUMNS.len() {
            let columns = 1 << S::COLUMNS[vectors - 1].ilog2();
            if vectors * columns >= best.vectors * best.columns {
                best = Self { vectors, columns };
            }
            vectors += 1;
        }
        best
    }
}

struct TileOperands<'a, A: Arithmetic> {
    product: &'a Product<'a, A>,
    /// Offset of the first column.
    first: usize,
    /// Elements between neighbouring columns.
    step: usize,
    /// The cache lines of each step of the next panel that this tile prefetches.
    prefetched_lines: Range<usize>,
    output: TileOutput<'a, A::Output>,
}

#[inline(always)]
fn dispatch<S: Simd, A: Arithmetic, const BLOCKS: bool>(simd: S, count: usize, operands: TileOperands<'_, A>) {
    macro_rules! tiles {
        ($($vectors:literal: $($count:literal)*;)*) => {
            match (operands.product.vectors, count) {
                // Only the tiles of the level are compiled for it.
                $($(($vectors, $count) if const { has_tile::<S>($vectors, $count) } => {
                    simd.run(Tile::<'_, A, $vectors, $count, BLOCKS>(operands));
                })*)*
                (vectors, count) => unreachable!("no tile of {vectors} step_len by {count} columns"),
            }
        };
    }
    tiles! {
        1: 1 2 3 4 5 6 7 8 9 10 11 12;
        2: 1 2 3 4 5 6 7 8 9 10 11 12;
        3: 1 2 3 4 5 6 7 8;
        4: 1 2 3 4 5 6;
    }
}

const fn has_tile<S: Simd>(vectors: usize, count: usize) -> bool {
    vectors <= S::COLUMNS.len() && count <= S::COLUMNS[vectors - 1]
}

struct Tile<'a, A: Arithmetic, const V: usize, const N: usize, const BLOCKS: bool>(TileOperands<'a, A>);

impl<A: Arithmetic, const V: usize, const N: usize, const BLOCKS: bool> Kernel for Tile<'_, A, V, N, BLOCKS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if !const { has_tile::<S>(V, N) } {
            return;
        }
        let TileOperands { product, first, step, prefetched_lines, output } = self.0;
        let Product { panel, columns, reduction, .. } = *product;
        let lanes = if BLOCKS { S::LANES } else { 1 };
        let step_len = lanes * V * S::LANES;
        let panel_end = reduction.reach(reduction.panel, step_len);
        assert!(panel_end.is_some_and(|end| end <= panel.len()), "the panel holds every step");
        let columns_end = reduction.reach(reduction.columns, first + (N - 1) * step + lanes);
        assert!(columns_end.is_some_and(|end| end <= columns.len()), "the columns hold every step");
        let mut sums = [[A::zero(simd); V]; N];
        let (panel, mut next) = (panel.as_ptr(), product.next.as_ptr());
        // SAFETY: `first` is within the columns, by the assertion above.
        let columns = unsafe { columns.as_ptr().add(first) };
        for outer in 0..reduction.count[0] {
            for middle in 0..reduction.count[1] {
                let mut w = panel.wrapping_add(outer * reduction.panel[0] + middle * reduction.panel[1]);
                let mut x = columns.wrapping_add(outer * reduction.columns[0] + middle * reduction.columns[1]);
                for _ in 0..reduction.count[2] {
                    if BLOCKS {
                        for line in prefetched_lines.clone() {
                            simd.prefetch(next.wrapping_add(line * LINE).cast());
                        }
                        next = next.wrapping_add(step_len);
                    }
                    // SAFETY: the registers and elements of every step are within the panel and the columns, by the
                    // assertions above.
                    unsafe { A::multiply_steps::<S, V, N, BLOCKS>(simd, &mut sums, w, x, step) };
                    w = w.wrapping_add(reduction.panel[2]);
                    x = x.wrapping_add(reduction.columns[2]);
                }
            }
        }
        let TileOutput { sums: output, register_stride, column_stride } = output;
        let end = (V - 1) * register_stride + (N - 1) * column_stride + S::LANES;
        assert!(end <= output.len(), "the output holds every sum");
        let output = output.as_mut_ptr();
        for (n, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let at = v * register_stride + n * column_stride;
                // SAFETY: within the output, by the assertion above.
                unsafe { A::store(simd, sum, product.accumulate, output.add(at)) };
            }
        }
    }
}

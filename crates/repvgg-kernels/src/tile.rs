//! The register tile: the matrix product that all convolutions but depthwise ones come down to, in inference and in training.
//!
//! ```text
//! out[v][n] = Σ_d panel[d][v] · columns[n][d]      v registers, n columns, d the reduction
//! ```
//!
//! Each step loads `V` registers of the panel and multiplies them with `N` broadcast elements of the columns. The reduction
//! walks through both operands by three nested loops with strides of their own:
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
pub(crate) use panels::{PackedPanels, Panel, Panels};

use std::ops::Range;

use crate::Element;
use crate::isa::{Kernel, Simd};

/// Floats of a cache line.
const LINE: usize = 16;

/// How the columns lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Each step is a block of channels, and columns are this many floats apart.
    Blocks(usize),
    /// Each step is a single element, and columns are this many floats apart.
    Planar(usize),
}

/// The three nested loops of a reduction, outermost first. In blocks of channels, a fourth, innermost loop runs over
/// neighbouring elements of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Steps of each loop, at least one.
    pub(crate) count: [usize; 3],
    /// Floats between neighbouring steps in the columns.
    pub(crate) columns: [usize; 3],
    /// Floats between neighbouring steps in the panel.
    pub(crate) panel: [usize; 3],
}

impl Depth {
    /// A reduction through a panel without gaps, with `step` floats of the panel for each step.
    pub(crate) fn packed(mut count: [usize; 3], mut columns: [usize; 3], step: usize) -> Self {
        // The innermost loop costs the least per step: loops of one step move outwards.
        let single = count.iter().rev().take_while(|&&count| count == 1).count().min(2);
        count.rotate_right(single);
        columns.rotate_right(single);
        Self { count, columns, panel: [count[1] * count[2] * step, count[2] * step, step] }
    }

    /// One past the farthest of `len` floats at every step; `None` where that exceeds the address space.
    fn reach(&self, strides: [usize; 3], len: usize) -> Option<usize> {
        (0..3).try_fold(len, |sum, i| (self.count[i] - 1).checked_mul(strides[i])?.checked_add(sum))
    }
}

/// A row of columns to be multiplied with one panel.
pub(crate) struct Product<'a, A: Arithmetic> {
    /// `[d][vectors · lanes]`, where steps are as far apart as `depth` says.
    pub(crate) panel: &'a [A::Panel],
    /// Registers of the panel.
    pub(crate) vectors: usize,
    /// The operand that is broadcast.
    pub(crate) columns: &'a [A::Column],
    pub(crate) layout: Columns,
    pub(crate) depth: Depth,
    /// What is read next, as long as this panel: it is prefetched while this one is multiplied. May be empty.
    pub(crate) next: &'a [A::Panel],
    pub(crate) sum: Sum,
}

/// Where the sums go: those of register `v` and column `n` to `sums[v · register + n · column..]`.
pub(crate) struct Target<'a, T: Element = f32> {
    pub(crate) sums: &'a mut [T],
    pub(crate) register: usize,
    pub(crate) column: usize,
}

/// What happens to the previous contents of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sum {
    /// They are overwritten.
    Start,
    /// They are added to.
    Continue,
}

/// Whether panels should be prefetched: where weights of so many bytes come from beyond a second-level cache at every run,
/// and each meets so few columns that waiting for it would show. Where it is not needed, it costs 5 to 10 %.
pub(crate) fn reads_ahead(weight_bytes: usize, columns: usize) -> bool {
    weight_bytes > 1 << 20 && columns <= 64
}

impl<A: Arithmetic> Product<'_, A> {
    /// Multiplies the columns of a tile. Meanwhile the tiles of a row prefetch [`Product::next`], each its part.
    #[inline(always)]
    pub(crate) fn tile<S: Simd>(&self, simd: S, tile: Span, target: Target<'_, A::Sum>) {
        let Span { first, count, part } = tile;
        let (Columns::Blocks(step) | Columns::Planar(step)) = self.layout;
        let lines = if self.next.is_empty() { 0 } else { self.vectors * S::LANES * S::LANES / LINE };
        let ahead = part[0] * lines / part[1]..(part[0] + 1) * lines / part[1];
        let operands = Operands { product: self, first: first * step, step, ahead, target };
        match self.layout {
            Columns::Blocks(_) => dispatch::<S, A, true>(simd, count, operands),
            Columns::Planar(_) => dispatch::<S, A, false>(simd, count, operands),
        }
    }

    /// Columns of the tiles that `count` columns are divided into: as equal as they can be, since narrow tiles do not hide
    /// the latency of their multiply-adds.
    #[inline(always)]
    pub(crate) fn tiles<S: Simd>(&self, _: S, count: usize) -> impl Iterator<Item = Span> + use<S, A> {
        let parts = count.div_ceil(S::COLUMNS[self.vectors - 1]).max(1);
        let (each, more) = (count / parts, count % parts);
        (0..parts).map(move |i| Span {
            first: i * each + i.min(more),
            count: each + usize::from(i < more),
            part: [i, parts],
        })
    }
}

/// The columns of one tile in a row of tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Index of the tile, and tiles of the row.
    part: [usize; 2],
}

impl Span {
    /// A row that is a single tile.
    pub(crate) fn single(count: usize) -> Self {
        Self { first: 0, count, part: [0, 1] }
    }
}

/// Registers and columns of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileShape {
    pub(crate) vectors: usize,
    pub(crate) columns: usize,
}

impl TileShape {
    /// The tile with the most sums among those whose columns are a power of two, which is what transposing planes into
    /// columns yields; of equal ones the wider, which broadcasts less.
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

struct Operands<'a, A: Arithmetic> {
    product: &'a Product<'a, A>,
    /// Where the first column lies.
    first: usize,
    step: usize,
    /// The lines of each block of the next panel that this tile prefetches.
    ahead: Range<usize>,
    target: Target<'a, A::Sum>,
}

#[inline(always)]
fn dispatch<S: Simd, A: Arithmetic, const BLOCKS: bool>(simd: S, count: usize, operands: Operands<'_, A>) {
    macro_rules! tiles {
        ($($vectors:literal: $($count:literal)*;)*) => {
            match (operands.product.vectors, count) {
                // Tiles that the level does not have are not compiled for it.
                $($(($vectors, $count) if const { has_tile::<S>($vectors, $count) } => {
                    simd.run(Tile::<'_, A, $vectors, $count, BLOCKS>(operands));
                })*)*
                (vectors, count) => unreachable!("no tile of {vectors} registers by {count} columns"),
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

struct Tile<'a, A: Arithmetic, const V: usize, const N: usize, const BLOCKS: bool>(Operands<'a, A>);

impl<A: Arithmetic, const V: usize, const N: usize, const BLOCKS: bool> Kernel for Tile<'_, A, V, N, BLOCKS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if !const { has_tile::<S>(V, N) } {
            return;
        }
        let Operands { product, first, step, ahead, target } = self.0;
        let Product { panel, columns, depth, .. } = *product;
        let lanes = if BLOCKS { S::LANES } else { 1 };
        let registers = lanes * V * S::LANES;
        let panel_end = depth.reach(depth.panel, registers);
        assert!(panel_end.is_some_and(|end| end <= panel.len()), "the panel holds every step");
        let columns_end = depth.reach(depth.columns, first + (N - 1) * step + lanes);
        assert!(columns_end.is_some_and(|end| end <= columns.len()), "the columns hold every step");
        let mut sums = [[A::zero(simd); V]; N];
        let (panel, mut next) = (panel.as_ptr(), product.next.as_ptr());
        // SAFETY: `first` is within the columns, by the assertion above.
        let columns = unsafe { columns.as_ptr().add(first) };
        for outer in 0..depth.count[0] {
            for middle in 0..depth.count[1] {
                let mut w = panel.wrapping_add(outer * depth.panel[0] + middle * depth.panel[1]);
                let mut x = columns.wrapping_add(outer * depth.columns[0] + middle * depth.columns[1]);
                for _ in 0..depth.count[2] {
                    if BLOCKS {
                        for line in ahead.clone() {
                            simd.prefetch(next.wrapping_add(line * LINE).cast());
                        }
                        next = next.wrapping_add(registers);
                    }
                    // SAFETY: the registers and elements of every step lie within the panel and the columns, by the
                    // assertions above.
                    unsafe { A::multiply_steps::<S, V, N, BLOCKS>(simd, &mut sums, w, x, step) };
                    w = w.wrapping_add(depth.panel[2]);
                    x = x.wrapping_add(depth.columns[2]);
                }
            }
        }
        let Target { sums: target, register, column } = target;
        assert!((V - 1) * register + (N - 1) * column + S::LANES <= target.len(), "the target holds every sum");
        let target = target.as_mut_ptr();
        for (n, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                // SAFETY: within the target, by the assertion above.
                unsafe { A::store(simd, sum, product.sum, target.add(v * register + n * column)) };
            }
        }
    }
}

//! The matrix product that all inference comes down to: filters times columns, a tile at a time in registers.
//!
//! ```text
//! out[v][n] = Σ_d weights[d][v] · columns[n][d]      v registers of filters, n columns, d the reduction
//! ```
//!
//! Each step loads `V` registers of filters and multiplies them with `N` broadcast elements. The reduction walks through
//! the columns by three nested strides, so that the same kernel serves the points of Winograd (channel blocks), direct
//! convolution (channel blocks, kernel rows, kernel columns) and fully connected layers. Filters lie in memory in exactly
//! the order in which they are read: `[panel][d][V · lanes]`.

#![expect(unsafe_code, reason = "the innermost loop reads its operands without a bounds check per element")]

use std::ops::Range;

use crate::simd::{Kernel, Places, Simd};

/// Bound over all levels on the registers of filters in a tile.
pub(crate) const MAX_VECTORS: usize = 4;
/// Bound over all levels on the floats of a tile.
pub(crate) const MAX_TILE: usize = 24 * crate::simd::MAX_LANES;

/// Floats of a cache line.
const LINE: usize = 16;

/// How a tile's columns lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Blocks of channels, so many floats apart.
    Blocks(usize),
    /// Single elements, so many floats apart.
    Planar(usize),
}

/// Floats between neighbours of the reduction along each of its three loops, and their number. Within a block of
/// channels, the innermost steps are neighbours in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) count: [usize; 3],
    pub(crate) stride: [usize; 3],
}

impl Depth {
    /// Blocks of channels, `stride` floats apart.
    pub(crate) fn blocks(count: usize, stride: usize) -> Self {
        Self { count: [1, 1, count], stride: [0, 0, stride] }
    }

    fn steps(&self) -> usize {
        self.count.iter().product()
    }

    /// The distance of the farthest step; none where it does not fit the address space.
    fn reach(&self) -> Option<usize> {
        (0..3).try_fold(0_usize, |sum, i| (self.count[i] - 1).checked_mul(self.stride[i])?.checked_add(sum))
    }
}

/// A row of columns to be multiplied with one panel.
pub(crate) struct Product<'a> {
    /// `[d][vectors · lanes]`.
    pub(crate) weights: &'a [f32],
    /// Registers of the panel.
    pub(crate) vectors: usize,
    /// The operand that is broadcast.
    pub(crate) columns: &'a [f32],
    pub(crate) layout: Columns,
    pub(crate) depth: Depth,
    /// What is read next, as long as this panel: it is prefetched while this one is multiplied. May be empty.
    pub(crate) next: &'a [f32],
    pub(crate) sum: Sum,
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

impl Product<'_> {
    /// Multiplies the columns of a tile into `out`, where register `v` of column `n` is `out[v · stride + n · lanes..]`.
    ///
    /// Meanwhile the tiles of a row prefetch [`Product::next`], each its part.
    #[inline(always)]
    pub(crate) fn tile<S: Simd>(&self, simd: S, tile: Span, out: &mut [f32], stride: usize) {
        let Span { first, count, part } = tile;
        let (Columns::Blocks(step) | Columns::Planar(step)) = self.layout;
        let lines = if self.next.is_empty() { 0 } else { self.vectors * S::LANES * S::LANES / LINE };
        let ahead = part[0] * lines / part[1]..(part[0] + 1) * lines / part[1];
        let operands = Operands { product: self, first: first * step, step, ahead, out, stride };
        match self.layout {
            Columns::Blocks(_) => dispatch::<S, true>(simd, count, operands),
            Columns::Planar(_) => dispatch::<S, false>(simd, count, operands),
        }
    }

    /// Columns of the tiles that `count` columns are divided into: as equal as they can be, since narrow tiles do not hide
    /// the latency of their multiply-adds.
    #[inline(always)]
    pub(crate) fn tiles<S: Simd>(&self, _: S, count: usize) -> impl Iterator<Item = Span> + use<S> {
        let parts = count.div_ceil(S::COLUMNS[self.vectors - 1]).max(1);
        let (each, more) = (count / parts, count % parts);
        (0..parts).map(move |i| Span {
            first: i * each + i.min(more),
            count: each + usize::from(i < more),
            part: [i, parts],
        })
    }
}

/// The columns of a tile: which part it is of a row of so many tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) first: usize,
    pub(crate) count: usize,
    part: [usize; 2],
}

struct Operands<'a> {
    product: &'a Product<'a>,
    /// Where the first column lies.
    first: usize,
    step: usize,
    /// The lines of each block of the next panel that this tile asks for.
    ahead: Range<usize>,
    out: &'a mut [f32],
    stride: usize,
}

#[inline(always)]
fn dispatch<S: Simd, const BLOCKS: bool>(simd: S, count: usize, operands: Operands<'_>) {
    macro_rules! tiles {
        ($($vectors:literal: $($count:literal)*;)*) => {
            match (operands.product.vectors, count) {
                // Tiles that the level does not have are not compiled for it.
                $($(($vectors, $count) if const { has_tile::<S>($vectors, $count) } => {
                    simd.run(Tile::<'_, $vectors, $count, BLOCKS>(operands));
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

struct Tile<'a, const V: usize, const N: usize, const BLOCKS: bool>(Operands<'a>);

impl<const V: usize, const N: usize, const BLOCKS: bool> Kernel for Tile<'_, V, N, BLOCKS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if !const { has_tile::<S>(V, N) } {
            return;
        }
        let Operands { product, first, step, ahead, out, stride } = self.0;
        let Product { weights, columns, depth, .. } = *product;
        let lanes = if BLOCKS { S::LANES } else { 1 };
        let panel = depth.steps() * lanes * V * S::LANES;
        assert!(weights.len() >= panel, "weights hold the whole panel");
        let last = depth.reach().and_then(|reach| reach.checked_add(first + (N - 1) * step + lanes));
        assert!(last.is_some_and(|last| last <= columns.len()), "columns hold every step");
        let mut sums = [[simd.splat(0.0); V]; N];
        let mut weights = weights.as_ptr();
        let mut next = product.next.as_ptr();
        // SAFETY: `first` is within the columns, by the assertion above.
        let columns = unsafe { columns.as_ptr().add(first) };
        for outer in 0..depth.count[0] {
            for middle in 0..depth.count[1] {
                for inner in 0..depth.count[2] {
                    let at = outer * depth.stride[0] + middle * depth.stride[1] + inner * depth.stride[2];
                    // SAFETY: a step's distance is at most the reach, which is within the columns.
                    let x = unsafe { columns.add(at) };
                    if BLOCKS {
                        for line in ahead.clone() {
                            simd.prefetch(next.wrapping_add(line * LINE));
                        }
                    }
                    let at = Places::new(weights, x, step * size_of::<f32>());
                    // SAFETY: the panel holds a row of `V` registers for each lane of each step, and each is read once; the
                    // columns of a step lie within the columns, by the assertions above.
                    unsafe { simd.multiply_steps::<V, N, BLOCKS>(&mut sums, at) };
                    weights = weights.wrapping_add(lanes * V * S::LANES);
                    next = next.wrapping_add(lanes * V * S::LANES);
                }
            }
        }
        for v in 0..V {
            let row = S::blocks_mut(&mut out[v * stride..][..N * S::LANES]);
            for n in 0..N {
                // Sums start from zero and are added at the end, which is also the more accurate order.
                let sum =
                    if product.sum == Sum::Continue { simd.add(sums[n][v], simd.load(&row[n])) } else { sums[n][v] };
                simd.store(sum, &mut row[n]);
            }
        }
    }
}

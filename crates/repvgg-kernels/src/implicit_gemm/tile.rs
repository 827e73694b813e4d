//! The micro-kernel: a tile of a matrix product held in registers.
//!
//! `c[i, j] += Σ_k a[k, i] · b[k, j]`. Each step loads one row of `b` into `REGISTERS` registers and multiplies it with
//! `ROWS` broadcast elements of `a`. Sums start from zero and are added to `c` at the end, so long reductions that are
//! cut into blocks are summed in two levels, which is also the more accurate order.

use crate::simd::{Kernel, MAX_LANES, Simd};

/// Bound over all levels on [`Simd::REGISTERS`].
const MAX_REGISTERS: usize = 3;
/// Bound over all levels on the columns of a tile.
pub(crate) const MAX_COLUMNS: usize = MAX_LANES * MAX_REGISTERS;

/// What happens to the previous contents of `c`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sum {
    /// They are overwritten.
    Start,
    /// They are added to.
    Continue,
}

/// The steps of a reduction through `b`: `count[0]` × `count[1]` runs of `count[2]` consecutive rows. `a` has no gaps.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) count: [usize; 3],
    /// Rows of `b` between neighbouring runs, of the outer and the inner loop.
    pub(crate) stride: [usize; 2],
}

/// One tile of a product.
pub(crate) struct Tile<'a> {
    /// 1, 2, 4 or 8, at most [`Simd::ROWS`].
    pub(crate) rows: usize,
    /// 1 to [`Simd::REGISTERS`].
    pub(crate) registers: usize,
    /// `[k][rows]`.
    pub(crate) a: &'a [f32],
    /// `[k][registers · lanes]`.
    pub(crate) b: &'a [f32],
    pub(crate) steps: Steps,
    /// `[rows][registers · lanes]`.
    pub(crate) c: &'a mut [f32],
    pub(crate) sum: Sum,
}

impl Tile<'_> {
    #[inline(always)]
    pub(crate) fn multiply<S: Simd>(self, simd: S) {
        match (self.rows, self.registers) {
            (1, 1) => simd.run(Fixed::<1, 1>(self)),
            (1, 2) => simd.run(Fixed::<1, 2>(self)),
            (1, 3) => simd.run(Fixed::<1, 3>(self)),
            (2, 1) => simd.run(Fixed::<2, 1>(self)),
            (2, 2) => simd.run(Fixed::<2, 2>(self)),
            (2, 3) => simd.run(Fixed::<2, 3>(self)),
            (4, 1) => simd.run(Fixed::<4, 1>(self)),
            (4, 2) => simd.run(Fixed::<4, 2>(self)),
            (4, 3) => simd.run(Fixed::<4, 3>(self)),
            (8, 1) => simd.run(Fixed::<8, 1>(self)),
            (8, 2) => simd.run(Fixed::<8, 2>(self)),
            (8, 3) => simd.run(Fixed::<8, 3>(self)),
            (rows, registers) => unreachable!("no tile of {rows} rows by {registers} registers"),
        }
    }
}

/// A tile whose shape the compiler knows.
struct Fixed<'a, const ROWS: usize, const REGISTERS: usize>(Tile<'a>);

impl<const ROWS: usize, const REGISTERS: usize> Kernel for Fixed<'_, ROWS, REGISTERS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Tile { a, b, steps, c, sum, .. } = self.0;
        let mut a = a.as_chunks::<ROWS>().0;
        let b = S::blocks(b).as_chunks::<REGISTERS>().0;
        let mut sums = [[simd.splat(0.0); REGISTERS]; ROWS];
        for outer in 0..steps.count[0] {
            for inner in 0..steps.count[1] {
                let b = &b[outer * steps.stride[0] + inner * steps.stride[1]..][..steps.count[2]];
                let (run, rest) = a.split_at(steps.count[2]);
                sums = accumulate(simd, sums, run, b);
                a = rest;
            }
        }
        // Arrays of known length on both sides: a loop that is not unrolled would force the sums into memory.
        let c = S::blocks_mut(c).as_chunks_mut::<REGISTERS>().0.first_chunk_mut::<ROWS>().expect("c is a whole tile");
        for i in 0..ROWS {
            for j in 0..REGISTERS {
                let before = if sum == Sum::Continue { simd.load(&c[i][j]) } else { simd.splat(0.0) };
                simd.store(simd.add(sums[i][j], before), &mut c[i][j]);
            }
        }
    }
}

/// Sums of the products of the rows of `a` and `b`, added to `sums`.
#[inline(always)]
fn accumulate<S: Simd, const ROWS: usize, const REGISTERS: usize>(
    simd: S,
    mut sums: [[S::Vector; REGISTERS]; ROWS],
    a: &[[f32; ROWS]],
    b: &[[S::Block; REGISTERS]],
) -> [[S::Vector; REGISTERS]; ROWS] {
    for (a, b) in a.iter().zip(b) {
        let mut row = [simd.splat(0.0); REGISTERS];
        for j in 0..REGISTERS {
            row[j] = simd.load(&b[j]);
        }
        for i in 0..ROWS {
            let factor = simd.splat(a[i]);
            for j in 0..REGISTERS {
                sums[i][j] = simd.mul_add(factor, row[j], sums[i][j]);
            }
        }
    }
    sums
}

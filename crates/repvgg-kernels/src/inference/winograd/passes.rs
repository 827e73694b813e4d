//! The two-dimensional transforms of a row of tiles: along one axis into a scratch that stays in the first-level cache,
//! then along the other.
//!
//! ```text
//! input    image rows ─ vertical Bᵀ ─► scratch [slot y][column] ─ horizontal Bᵀ ─► V [point][block][tile]
//! output   M [point][register][tile] ─ horizontal Aᵀ ─► scratch [slot y][column] ─ vertical Aᵀ ─► image rows
//! ```
//!
//! The vertical transform of a column serves all tiles that share the column, and padding exists only in the scratch.

#![expect(unsafe_code, reason = "streams of registers are read and written at several places in step")]
#![expect(clippy::needless_range_loop, reason = "arrays of registers are used up to a bound that only the tile knows")]

use crate::simd::{Kernel, Simd};
use crate::winograd::transform::{MAX_SLOTS, Tile};

/// Registers in step: item `i` of stream `s` is at `at[s] + i · step`.
#[derive(Clone, Copy)]
pub(super) struct Streams<P> {
    pub(super) at: [P; MAX_SLOTS],
    pub(super) step: usize,
}

/// A run of tiles at one vertical slot: where it lies in the scratch, and where its slots lie in V or M.
#[derive(Clone, Copy, Default)]
pub(super) struct Line {
    pub(super) scratch: usize,
    pub(super) slots: [usize; MAX_SLOTS],
}

/// The same run of tiles at all vertical slots. Tiles are neighbours in V and M, `lanes` floats apart, their untransformed
/// slots as many times that as a tile has outputs, and so are their places in the scratch, times the stride.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) lines: &'a [Line],
    pub(super) count: usize,
}

/// What follows the convolution, for one register of channels.
#[derive(Clone, Copy)]
pub(super) struct Ending<'a> {
    pub(super) bias: &'a [f32],
    pub(super) floor: f32,
    /// What is added, in step with the outputs, and its factors.
    pub(super) addend: Option<(Streams<*const f32>, &'a [f32])>,
}

/// A tile, by its kind: `[stride, family, outputs]`.
pub(super) type Size = [usize; 3];

/// Calls a kernel for the tile of a size that is known at run time only.
macro_rules! for_tile {
    ($simd:ident, $size:expr, $kernel:ident($($field:expr),*)) => {
        match $size {
            [1, 2, 1] => $simd.run($kernel::<3, 2, 1>($($field),*)),
            [1, 2, 2] => $simd.run($kernel::<3, 2, 2>($($field),*)),
            [1, 4, 1] => $simd.run($kernel::<3, 4, 1>($($field),*)),
            [1, 4, 2] => $simd.run($kernel::<3, 4, 2>($($field),*)),
            [1, 4, 3] => $simd.run($kernel::<3, 4, 3>($($field),*)),
            [1, 4, 4] => $simd.run($kernel::<3, 4, 4>($($field),*)),
            [1, 6, 1] => $simd.run($kernel::<3, 6, 1>($($field),*)),
            [1, 6, 2] => $simd.run($kernel::<3, 6, 2>($($field),*)),
            [1, 6, 3] => $simd.run($kernel::<3, 6, 3>($($field),*)),
            [1, 6, 4] => $simd.run($kernel::<3, 6, 4>($($field),*)),
            [1, 6, 5] => $simd.run($kernel::<3, 6, 5>($($field),*)),
            [1, 6, 6] => $simd.run($kernel::<3, 6, 6>($($field),*)),
            [1, 8, 1] => $simd.run($kernel::<3, 8, 1>($($field),*)),
            [1, 8, 2] => $simd.run($kernel::<3, 8, 2>($($field),*)),
            [1, 8, 3] => $simd.run($kernel::<3, 8, 3>($($field),*)),
            [1, 8, 4] => $simd.run($kernel::<3, 8, 4>($($field),*)),
            [1, 8, 5] => $simd.run($kernel::<3, 8, 5>($($field),*)),
            [1, 8, 6] => $simd.run($kernel::<3, 8, 6>($($field),*)),
            [1, 8, 7] => $simd.run($kernel::<3, 8, 7>($($field),*)),
            [1, 8, 8] => $simd.run($kernel::<3, 8, 8>($($field),*)),
            [2, 2, 1] => $simd.run($kernel::<2, 2, 1>($($field),*)),
            [2, 2, 2] => $simd.run($kernel::<2, 2, 2>($($field),*)),
            [2, 4, 1] => $simd.run($kernel::<2, 4, 1>($($field),*)),
            [2, 4, 2] => $simd.run($kernel::<2, 4, 2>($($field),*)),
            [2, 4, 3] => $simd.run($kernel::<2, 4, 3>($($field),*)),
            [2, 4, 4] => $simd.run($kernel::<2, 4, 4>($($field),*)),
            size => unreachable!("no tile of stride {}, family {}, {} outputs", size[0], size[1], size[2]),
        }
    };
}

/// `to = Bᵀ from`, `count` times: the vertical transform of image rows into the scratch.
///
/// # Safety
///
/// Every register that the streams name must lie within memory that the caller may read or write, and what is written
/// must not overlap what is read.
#[inline(always)]
pub(super) unsafe fn input<S: Simd>(
    simd: S,
    size: Size,
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
) {
    for_tile!(simd, size, Input(count, from, to));
}

/// The horizontal transform of the scratch into V.
///
/// # Safety
///
/// As [`input`], for the lines.
#[inline(always)]
pub(super) unsafe fn input_lines<S: Simd>(simd: S, size: Size, lines: Lines<'_>, scratch: *const f32, v: *mut f32) {
    for_tile!(simd, size, InputLines(lines, scratch, v));
}

/// The horizontal transform of M into the scratch.
///
/// # Safety
///
/// As [`input`], for the lines.
#[inline(always)]
pub(super) unsafe fn output_lines<S: Simd>(simd: S, size: Size, lines: Lines<'_>, m: *const f32, scratch: *mut f32) {
    for_tile!(simd, size, OutputLines(lines, m, scratch));
}

/// `to = max(floor, Aᵀ from + bias + …)`, `count` times: the vertical transform of the scratch into image rows.
///
/// # Safety
///
/// As [`input`].
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(
    simd: S,
    size: Size,
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
    ending: Ending<'_>,
) {
    for_tile!(simd, size, Finish(count, from, to, ending));
}

/// `G g` along the columns of the filters of one channel: `taps` `[r][s][width]` to `rows` `[weight y][s][width]`.
#[inline(always)]
pub(super) fn filter_columns<S: Simd>(simd: S, size: Size, width: usize, taps: &[f32], rows: &mut [f32]) {
    for_tile!(simd, size, FilterColumns(width, taps, rows));
}

/// `g Gᵀ` along the rows: `rows` `[weight y][s][width]` to `weights`, where pairs of weights are `stride` floats apart.
#[inline(always)]
pub(super) fn filter_rows<S: Simd>(
    simd: S,
    size: Size,
    (width, stride): (usize, usize),
    rows: &[f32],
    weights: &mut [f32],
) {
    for_tile!(simd, size, FilterRows((width, stride), rows, weights));
}

struct FilterColumns<'a, const TAPS: usize, const FAMILY: usize, const M: usize>(usize, &'a [f32], &'a mut [f32]);

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for FilterColumns<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(width, taps, rows) = self;
        let registers = width / S::LANES;
        let taps = &S::blocks(taps)[..9 * registers];
        let rows = &mut S::blocks_mut(rows)[..3 * registers * Tile::<TAPS, FAMILY, M>::WEIGHTS];
        for at in 0..3 * registers {
            let tap = |r: usize| &taps[r * 3 * registers + at];
            let column = [simd.load(tap(0)), simd.load(tap(1)), simd.load(tap(2))];
            let weights = Tile::<TAPS, FAMILY, M>::filter(simd, column);
            for i in 0..Tile::<TAPS, FAMILY, M>::WEIGHTS {
                simd.store(weights[i], &mut rows[i * 3 * registers + at]);
            }
        }
    }
}

struct FilterRows<'a, const TAPS: usize, const FAMILY: usize, const M: usize>((usize, usize), &'a [f32], &'a mut [f32]);

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for FilterRows<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self((width, stride), rows, weights) = self;
        let registers = width / S::LANES;
        for (y, row) in S::blocks(rows).chunks_exact(3 * registers).enumerate() {
            for v in 0..registers {
                let tap = |s: usize| &row[s * registers + v];
                let taps = [simd.load(tap(0)), simd.load(tap(1)), simd.load(tap(2))];
                let slots = Tile::<TAPS, FAMILY, M>::filter(simd, taps);
                for x in 0..Tile::<TAPS, FAMILY, M>::WEIGHTS {
                    let at = (y * Tile::<TAPS, FAMILY, M>::WEIGHTS + x) * stride + v * S::LANES;
                    simd.store(slots[x], &mut S::blocks_mut(&mut weights[at..][..S::LANES])[0]);
                }
            }
        }
    }
}

struct Input<const TAPS: usize, const FAMILY: usize, const M: usize>(usize, Streams<*const f32>, Streams<*mut f32>);

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for Input<TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(count, from, to) = self;
        for item in 0..count {
            let mut x = [simd.splat(0.0); MAX_SLOTS];
            for i in 0..Tile::<TAPS, FAMILY, M>::INPUTS {
                // SAFETY: the caller of `input` vouches for every register of the streams.
                x[i] = simd.load(unsafe { &*from.at[i].add(item * from.step).cast::<S::Block>() });
            }
            let slots = Tile::<TAPS, FAMILY, M>::input(simd, &x);
            for i in 0..Tile::<TAPS, FAMILY, M>::SLOTS {
                // SAFETY: as above.
                simd.store(slots[i], unsafe { &mut *to.at[i].add(item * to.step).cast::<S::Block>() });
            }
        }
    }
}

/// Floats between neighbouring tiles at a slot.
#[inline(always)]
const fn step<S: Simd, const TAPS: usize, const FAMILY: usize, const M: usize>(slot: usize) -> usize {
    if slot < Tile::<TAPS, FAMILY, M>::TRANSFORMED { S::LANES } else { M * S::LANES }
}

struct InputLines<'a, const TAPS: usize, const FAMILY: usize, const M: usize>(Lines<'a>, *const f32, *mut f32);

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for InputLines<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(Lines { lines, count }, scratch, v) = self;
        let stride = if TAPS == 3 { 1 } else { 2 };
        for line in lines {
            let from = scratch.wrapping_add(line.scratch);
            let to = line.slots.map(|slot| v.wrapping_add(slot));
            for tile in 0..count {
                let mut x = [simd.splat(0.0); MAX_SLOTS];
                for i in 0..Tile::<TAPS, FAMILY, M>::INPUTS {
                    // SAFETY: the caller of `input_lines` vouches for every register of the lines.
                    x[i] = simd.load(unsafe { &*from.add((tile * M * stride + i) * S::LANES).cast::<S::Block>() });
                }
                let slots = Tile::<TAPS, FAMILY, M>::input(simd, &x);
                for i in 0..Tile::<TAPS, FAMILY, M>::SLOTS {
                    let at = tile * step::<S, TAPS, FAMILY, M>(i);
                    // SAFETY: as above.
                    simd.store(slots[i], unsafe { &mut *to[i].add(at).cast::<S::Block>() });
                }
            }
        }
    }
}

struct OutputLines<'a, const TAPS: usize, const FAMILY: usize, const M: usize>(Lines<'a>, *const f32, *mut f32);

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for OutputLines<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(Lines { lines, count }, m, scratch) = self;
        for line in lines {
            let from = line.slots.map(|slot| m.wrapping_add(slot));
            let to = scratch.wrapping_add(line.scratch);
            for tile in 0..count {
                let mut slots = [simd.splat(0.0); MAX_SLOTS];
                for i in 0..Tile::<TAPS, FAMILY, M>::SLOTS {
                    let at = tile * step::<S, TAPS, FAMILY, M>(i);
                    // SAFETY: the caller of `output_lines` vouches for every register of the lines.
                    slots[i] = simd.load(unsafe { &*from[i].add(at).cast::<S::Block>() });
                }
                let outputs = Tile::<TAPS, FAMILY, M>::output(simd, &slots);
                for i in 0..M {
                    // SAFETY: as above.
                    simd.store(outputs[i], unsafe { &mut *to.add((tile * M + i) * S::LANES).cast::<S::Block>() });
                }
            }
        }
    }
}

struct Finish<'a, const TAPS: usize, const FAMILY: usize, const M: usize>(
    usize,
    Streams<*const f32>,
    Streams<*mut f32>,
    Ending<'a>,
);

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for Finish<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(count, from, to, ending) = self;
        let [bias, floor] = [simd.load(&S::blocks(ending.bias)[0]), simd.splat(ending.floor)];
        match ending.addend {
            None => {
                for item in 0..count {
                    // SAFETY: the caller of `finish` vouches for every register of the streams.
                    let outputs = unsafe { combine::<S, TAPS, FAMILY, M>(simd, &from, item) };
                    for i in 0..M {
                        let y = simd.at_least(floor, simd.add(outputs[i], bias));
                        // SAFETY: as above.
                        simd.store(y, unsafe { &mut *to.at[i].add(item * to.step).cast::<S::Block>() });
                    }
                }
            }
            Some((addend, scale)) => {
                let scale = simd.load(&S::blocks(scale)[0]);
                for item in 0..count {
                    // SAFETY: the caller of `finish` vouches for every register of the streams.
                    let outputs = unsafe { combine::<S, TAPS, FAMILY, M>(simd, &from, item) };
                    for i in 0..M {
                        // SAFETY: as above.
                        let other = simd.load(unsafe { &*addend.at[i].add(item * addend.step).cast::<S::Block>() });
                        let y = simd.mul_add(scale, other, simd.add(outputs[i], bias));
                        // SAFETY: as above.
                        let target = unsafe { &mut *to.at[i].add(item * to.step).cast::<S::Block>() };
                        simd.store(simd.at_least(floor, y), target);
                    }
                }
            }
        }
    }
}

/// `Aᵀ` of one item of the scratch.
///
/// # Safety
///
/// The registers of the item must be readable.
#[inline(always)]
unsafe fn combine<S: Simd, const TAPS: usize, const FAMILY: usize, const M: usize>(
    simd: S,
    from: &Streams<*const f32>,
    item: usize,
) -> [S::Vector; MAX_SLOTS] {
    let mut slots = [simd.splat(0.0); MAX_SLOTS];
    for i in 0..Tile::<TAPS, FAMILY, M>::SLOTS {
        // SAFETY: the caller's promise.
        slots[i] = simd.load(unsafe { &*from.at[i].add(item * from.step).cast::<S::Block>() });
    }
    Tile::<TAPS, FAMILY, M>::output(simd, &slots)
}

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

use crate::isa::{Kernel, Simd};
use crate::winograd::cover::TileForm;
use crate::winograd::families::for_each_family;
use crate::winograd::transform::{MAX_SLOTS, TileTransform};

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
    pub(super) addend: Option<AddendStreams<'a>>,
}

/// What is added to the outputs, in step with them, and its factors.
#[derive(Clone, Copy)]
pub(super) struct AddendStreams<'a> {
    pub(super) values: Streams<*const f32>,
    pub(super) scale: &'a [f32],
}

/// Calls a kernel for the tile of a shape that is known at run time only.
macro_rules! for_tile {
    ($simd:ident, $shape:expr, $kernel:ident $fields:tt) => {
        for_each_family!(tile_arms ($simd, $shape, $kernel $fields))
    };
}

/// An arm for each tile of each family.
macro_rules! tile_arms {
    (
        ($simd:ident, $shape:expr, $kernel:ident $fields:tt)
        $((stride $stride:literal, taps $taps:literal, largest $largest:literal, outputs ($($outputs:literal)*), pairs $pairs:tt))*
    ) => {
        match $shape {
            $($(TileForm { stride: $stride, family: $largest, outputs: $outputs } => {
                $simd.run($kernel::<$taps, $largest, $outputs> $fields);
            })*)*
            shape => unreachable!("no transforms for {shape:?}"),
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
    shape: TileForm,
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
) {
    for_tile!(simd, shape, Input { count, from, to });
}

/// The horizontal transform of the scratch into V.
///
/// # Safety
///
/// As [`input`], for the lines.
#[inline(always)]
pub(super) unsafe fn input_lines<S: Simd>(
    simd: S,
    shape: TileForm,
    lines: Lines<'_>,
    scratch: *const f32,
    v: *mut f32,
) {
    for_tile!(simd, shape, InputLines { lines, scratch, v });
}

/// The horizontal transform of M into the scratch.
///
/// # Safety
///
/// As [`input`], for the lines.
#[inline(always)]
pub(super) unsafe fn output_lines<S: Simd>(
    simd: S,
    shape: TileForm,
    lines: Lines<'_>,
    m: *const f32,
    scratch: *mut f32,
) {
    for_tile!(simd, shape, OutputLines { lines, m, scratch });
}

/// `to = max(floor, Aᵀ from + bias + …)`, `count` times: the vertical transform of the scratch into image rows.
///
/// # Safety
///
/// As [`input`].
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(
    simd: S,
    shape: TileForm,
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
    ending: Ending<'_>,
) {
    for_tile!(simd, shape, Finish { count, from, to, ending });
}

/// `G g` along the columns of the filters of one channel: `taps` `[r][s][width]` to `rows` `[weight y][s][width]`.
#[inline(always)]
pub(super) fn filter_columns<S: Simd>(simd: S, shape: TileForm, width: usize, taps: &[f32], rows: &mut [f32]) {
    for_tile!(simd, shape, FilterColumns { width, taps, rows });
}

/// Filters of one channel between the two passes.
pub(super) struct HalfTransformed<'a> {
    /// Filters in a row.
    pub(super) width: usize,
    /// `[weight y][s][width]`.
    pub(super) rows: &'a [f32],
}

/// `g Gᵀ` along the rows, to `weights`, where pairs of points are `stride` floats apart.
#[inline(always)]
pub(super) fn filter_rows<S: Simd>(
    simd: S,
    shape: TileForm,
    filters: HalfTransformed<'_>,
    weights: &mut [f32],
    stride: usize,
) {
    for_tile!(simd, shape, FilterRows { filters, weights, stride });
}

struct FilterColumns<'a, const TAPS: usize, const FAMILY: usize, const M: usize> {
    width: usize,
    taps: &'a [f32],
    rows: &'a mut [f32],
}

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for FilterColumns<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { width, taps, rows } = self;
        let registers = width / S::LANES;
        let taps = &S::blocks(taps)[..9 * registers];
        let rows = &mut S::blocks_mut(rows)[..3 * registers * TileTransform::<TAPS, FAMILY, M>::WEIGHTS];
        for at in 0..3 * registers {
            let tap = |r: usize| &taps[r * 3 * registers + at];
            let column = [simd.load(tap(0)), simd.load(tap(1)), simd.load(tap(2))];
            let weights = TileTransform::<TAPS, FAMILY, M>::filter(simd, column);
            for i in 0..TileTransform::<TAPS, FAMILY, M>::WEIGHTS {
                simd.store(weights[i], &mut rows[i * 3 * registers + at]);
            }
        }
    }
}

struct FilterRows<'a, const TAPS: usize, const FAMILY: usize, const M: usize> {
    filters: HalfTransformed<'a>,
    weights: &'a mut [f32],
    stride: usize,
}

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for FilterRows<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { filters: HalfTransformed { width, rows }, weights, stride } = self;
        let registers = width / S::LANES;
        for (y, row) in S::blocks(rows).chunks_exact(3 * registers).enumerate() {
            for v in 0..registers {
                let tap = |s: usize| &row[s * registers + v];
                let taps = [simd.load(tap(0)), simd.load(tap(1)), simd.load(tap(2))];
                let slots = TileTransform::<TAPS, FAMILY, M>::filter(simd, taps);
                for x in 0..TileTransform::<TAPS, FAMILY, M>::WEIGHTS {
                    let at = (y * TileTransform::<TAPS, FAMILY, M>::WEIGHTS + x) * stride + v * S::LANES;
                    simd.store(slots[x], &mut S::blocks_mut(&mut weights[at..][..S::LANES])[0]);
                }
            }
        }
    }
}

struct Input<const TAPS: usize, const FAMILY: usize, const M: usize> {
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
}

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for Input<TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { count, from, to } = self;
        for item in 0..count {
            let mut x = [simd.splat(0.0); MAX_SLOTS];
            for i in 0..TileTransform::<TAPS, FAMILY, M>::INPUTS {
                // SAFETY: the caller of `input` vouches for every register of the streams.
                x[i] = simd.load(unsafe { &*from.at[i].add(item * from.step).cast::<S::Block>() });
            }
            let slots = TileTransform::<TAPS, FAMILY, M>::input(simd, &x);
            for i in 0..TileTransform::<TAPS, FAMILY, M>::SLOTS {
                // SAFETY: as above.
                simd.store(slots[i], unsafe { &mut *to.at[i].add(item * to.step).cast::<S::Block>() });
            }
        }
    }
}

/// Floats between neighbouring tiles at a slot.
#[inline(always)]
const fn step<S: Simd, const TAPS: usize, const FAMILY: usize, const M: usize>(slot: usize) -> usize {
    if slot < TileTransform::<TAPS, FAMILY, M>::TRANSFORMED { S::LANES } else { M * S::LANES }
}

struct InputLines<'a, const TAPS: usize, const FAMILY: usize, const M: usize> {
    lines: Lines<'a>,
    scratch: *const f32,
    v: *mut f32,
}

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for InputLines<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { lines: Lines { lines, count }, scratch, v } = self;
        let stride = if TAPS == 3 { 1 } else { 2 };
        for line in lines {
            let from = scratch.wrapping_add(line.scratch);
            let to = line.slots.map(|slot| v.wrapping_add(slot));
            for tile in 0..count {
                let mut x = [simd.splat(0.0); MAX_SLOTS];
                for i in 0..TileTransform::<TAPS, FAMILY, M>::INPUTS {
                    // SAFETY: the caller of `input_lines` vouches for every register of the lines.
                    x[i] = simd.load(unsafe { &*from.add((tile * M * stride + i) * S::LANES).cast::<S::Block>() });
                }
                let slots = TileTransform::<TAPS, FAMILY, M>::input(simd, &x);
                for i in 0..TileTransform::<TAPS, FAMILY, M>::SLOTS {
                    let at = tile * step::<S, TAPS, FAMILY, M>(i);
                    // SAFETY: as above.
                    simd.store(slots[i], unsafe { &mut *to[i].add(at).cast::<S::Block>() });
                }
            }
        }
    }
}

struct OutputLines<'a, const TAPS: usize, const FAMILY: usize, const M: usize> {
    lines: Lines<'a>,
    m: *const f32,
    scratch: *mut f32,
}

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for OutputLines<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { lines: Lines { lines, count }, m, scratch } = self;
        for line in lines {
            let from = line.slots.map(|slot| m.wrapping_add(slot));
            let to = scratch.wrapping_add(line.scratch);
            for tile in 0..count {
                let mut slots = [simd.splat(0.0); MAX_SLOTS];
                for i in 0..TileTransform::<TAPS, FAMILY, M>::SLOTS {
                    let at = tile * step::<S, TAPS, FAMILY, M>(i);
                    // SAFETY: the caller of `output_lines` vouches for every register of the lines.
                    slots[i] = simd.load(unsafe { &*from[i].add(at).cast::<S::Block>() });
                }
                let outputs = TileTransform::<TAPS, FAMILY, M>::output(simd, &slots);
                for i in 0..M {
                    // SAFETY: as above.
                    simd.store(outputs[i], unsafe { &mut *to.add((tile * M + i) * S::LANES).cast::<S::Block>() });
                }
            }
        }
    }
}

struct Finish<'a, const TAPS: usize, const FAMILY: usize, const M: usize> {
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
    ending: Ending<'a>,
}

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for Finish<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { count, from, to, ending } = self;
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
            Some(AddendStreams { values: addend, scale }) => {
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
    for i in 0..TileTransform::<TAPS, FAMILY, M>::SLOTS {
        // SAFETY: the caller's promise.
        slots[i] = simd.load(unsafe { &*from.at[i].add(item * from.step).cast::<S::Block>() });
    }
    TileTransform::<TAPS, FAMILY, M>::output(simd, &slots)
}

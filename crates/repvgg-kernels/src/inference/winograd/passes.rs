//! The two-dimensional transforms of a row of tiles: along one axis into a scratch buffer that stays in the first-level cache,
//! then along the other axis.
//!
//! ```text
//! input    image rows ─ vertical Bᵀ ─► scratch [slot y][column] ─ horizontal Bᵀ ─► V [point][block][tile]
//! output   M [point][register][tile] ─ horizontal Aᵀ ─► scratch [slot y][column] ─ vertical Aᵀ ─► image rows
//! ```
//!
//! The vertical transform of a column is shared by all tiles that read the column. Only the scratch holds padding.

#![expect(unsafe_code, reason = "several streams of registers are read and written in step")]
#![expect(clippy::needless_range_loop, reason = "the tile determines how much of an array of registers is used")]

use crate::isa::{Kernel, Simd};
use crate::winograd::cover::TileKind;
use crate::winograd::families::for_each_family;
use crate::winograd::transform::{MAX_SLOTS, TileTransform};

/// Several streams of registers: item `i` of stream `s` is at `at[s] + i · step`.
#[derive(Clone, Copy)]
pub(super) struct Streams<P> {
    pub(super) at: [P; MAX_SLOTS],
    pub(super) step: usize,
}

/// A run of tiles at one vertical slot.
#[derive(Clone, Copy, Default)]
pub(super) struct Line {
    /// Offset in the scratch.
    pub(super) scratch: usize,
    /// Offset of each horizontal slot in V or M.
    pub(super) slots: [usize; MAX_SLOTS],
}

/// A run of `count` tiles at all vertical slots.
///
/// In V and M, neighbouring tiles of `m` outputs are `lanes` floats apart, and their untransformed slots are `m · lanes`
/// floats apart. In the scratch they are `m · lanes` floats apart, times the stride for inputs.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) lines: &'a [Line],
    pub(super) count: usize,
}

/// The epilogue of one register of channels.
#[derive(Clone, Copy)]
pub(super) struct RegisterEpilogue<'a> {
    pub(super) bias: &'a [f32],
    pub(super) floor: f32,
    pub(super) addend: Option<AddendStreams<'a>>,
}

/// An addend, read in step with the outputs, and its factors.
#[derive(Clone, Copy)]
pub(super) struct AddendStreams<'a> {
    pub(super) values: Streams<*const f32>,
    pub(super) scale: &'a [f32],
}

/// Runs a kernel for a kind of tile that is only known at run time.
macro_rules! for_tile {
    ($simd:ident, $kind:expr, $kernel:ident $fields:tt) => {
        for_each_family!(tile_arms ($simd, $kind, $kernel $fields))
    };
}

/// Expands to a match with an arm for each tile of each family.
macro_rules! tile_arms {
    (
        ($simd:ident, $kind:expr, $kernel:ident $fields:tt)
        $((stride $stride:literal, taps $taps:literal, largest $largest:literal, outputs ($($outputs:literal)*), pairs $pairs:tt))*
    ) => {
        match $kind {
            $($(TileKind { stride: $stride, family: $largest, outputs: $outputs } => {
                $simd.run($kernel::<$taps, $largest, $outputs> $fields);
            })*)*
            kind => unreachable!("no transforms for {kind:?}"),
        }
    };
}

/// The vertical transform of image rows into the scratch: `to = Bᵀ from`, `count` times.
///
/// # Safety
///
/// Every register of the streams must be within memory that the caller may read or write, and writes must not overlap reads.
#[inline(always)]
pub(super) unsafe fn input_rows<S: Simd>(
    simd: S,
    kind: TileKind,
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
) {
    for_tile!(simd, kind, InputRows { count, from, to });
}

/// The horizontal transform of the scratch into V.
///
/// # Safety
///
/// As for [`input_rows`], with the registers of the lines.
#[inline(always)]
pub(super) unsafe fn input_lines<S: Simd>(simd: S, kind: TileKind, lines: Lines<'_>, scratch: *const f32, v: *mut f32) {
    for_tile!(simd, kind, InputLines { lines, scratch, v });
}

/// The horizontal transform of M into the scratch.
///
/// # Safety
///
/// As for [`input_rows`], with the registers of the lines.
#[inline(always)]
pub(super) unsafe fn output_lines<S: Simd>(
    simd: S,
    kind: TileKind,
    lines: Lines<'_>,
    m: *const f32,
    scratch: *mut f32,
) {
    for_tile!(simd, kind, OutputLines { lines, m, scratch });
}

/// The vertical transform of the scratch into image rows, with the epilogue: `to = max(floor, Aᵀ from + bias + …)`, `count`
/// times.
///
/// # Safety
///
/// As for [`input_rows`].
#[inline(always)]
pub(super) unsafe fn output_rows<S: Simd>(
    simd: S,
    kind: TileKind,
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
    epilogue: RegisterEpilogue<'_>,
) {
    for_tile!(simd, kind, OutputRows { count, from, to, epilogue });
}

/// Transforms the columns of the filters of one channel, `G g`: from `taps` `[r][s][width]` to `rows` `[weight y][s][width]`.
#[inline(always)]
pub(super) fn filter_columns<S: Simd>(simd: S, kind: TileKind, width: usize, taps: &[f32], rows: &mut [f32]) {
    for_tile!(simd, kind, FilterColumns { width, taps, rows });
}

/// The filters of one channel between the two passes.
pub(super) struct HalfTransformed<'a> {
    /// Filters in a row.
    pub(super) width: usize,
    /// `[weight y][s][width]`.
    pub(super) rows: &'a [f32],
}

/// Transforms the rows of the filters of one channel, `g Gᵀ`, into `weights`, with `stride` floats between pairs of points.
#[inline(always)]
pub(super) fn filter_rows<S: Simd>(
    simd: S,
    kind: TileKind,
    filters: HalfTransformed<'_>,
    weights: &mut [f32],
    stride: usize,
) {
    for_tile!(simd, kind, FilterRows { filters, weights, stride });
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

struct InputRows<const TAPS: usize, const FAMILY: usize, const M: usize> {
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
}

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for InputRows<TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { count, from, to } = self;
        for item in 0..count {
            let mut x = [simd.splat(0.0); MAX_SLOTS];
            for i in 0..TileTransform::<TAPS, FAMILY, M>::INPUTS {
                // SAFETY: the caller of `input_rows` guarantees every register of the streams.
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
const fn tile_step<S: Simd, const TAPS: usize, const FAMILY: usize, const M: usize>(slot: usize) -> usize {
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
                    // SAFETY: the caller of `input_lines` guarantees every register of the lines.
                    x[i] = simd.load(unsafe { &*from.add((tile * M * stride + i) * S::LANES).cast::<S::Block>() });
                }
                let slots = TileTransform::<TAPS, FAMILY, M>::input(simd, &x);
                for i in 0..TileTransform::<TAPS, FAMILY, M>::SLOTS {
                    let at = tile * tile_step::<S, TAPS, FAMILY, M>(i);
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
                    let at = tile * tile_step::<S, TAPS, FAMILY, M>(i);
                    // SAFETY: the caller of `output_lines` guarantees every register of the lines.
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

struct OutputRows<'a, const TAPS: usize, const FAMILY: usize, const M: usize> {
    count: usize,
    from: Streams<*const f32>,
    to: Streams<*mut f32>,
    epilogue: RegisterEpilogue<'a>,
}

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for OutputRows<'_, TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { count, from, to, epilogue } = self;
        let [bias, floor] = [simd.load(&S::blocks(epilogue.bias)[0]), simd.splat(epilogue.floor)];
        match epilogue.addend {
            None => {
                for item in 0..count {
                    // SAFETY: the caller of `output_rows` guarantees every register of the streams.
                    let outputs = unsafe { transform_outputs::<S, TAPS, FAMILY, M>(simd, &from, item) };
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
                    // SAFETY: the caller of `output_rows` guarantees every register of the streams.
                    let outputs = unsafe { transform_outputs::<S, TAPS, FAMILY, M>(simd, &from, item) };
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

/// Applies `Aᵀ` to one item of the streams.
///
/// # Safety
///
/// The registers of the item must be readable.
#[inline(always)]
unsafe fn transform_outputs<S: Simd, const TAPS: usize, const FAMILY: usize, const M: usize>(
    simd: S,
    from: &Streams<*const f32>,
    item: usize,
) -> [S::Vector; MAX_SLOTS] {
    let mut slots = [simd.splat(0.0); MAX_SLOTS];
    for i in 0..TileTransform::<TAPS, FAMILY, M>::SLOTS {
        // SAFETY: guaranteed by the caller.
        slots[i] = simd.load(unsafe { &*from.at[i].add(item * from.step).cast::<S::Block>() });
    }
    TileTransform::<TAPS, FAMILY, M>::output(simd, &slots)
}

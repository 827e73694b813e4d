//! The transposition of planes to pixel-major order, a block of registers at a time.
//!
//! Blocks are always read and written completely. The excess at the end of a run of pixels is overwritten by the next run, so
//! targets need [`SLACK`] extra elements at the end.

use std::ops::Range;

use crate::isa::{MAX_LANES, Simd, transpose};
use crate::training::stencil::{Images, Window};

/// Elements of the largest block.
pub(super) const SLACK: usize = MAX_LANES * MAX_LANES;

/// The start of each lane of a register in a slice of planes; lanes without a start read zeros.
pub(super) type LaneStarts = [Option<usize>; MAX_LANES];

/// Lines of planes, one for each lane of a register.
#[derive(Clone, Copy)]
pub(super) struct PlaneLines<'a> {
    pub(super) planes: &'a [f32],
    pub(super) starts: &'a LaneStarts,
}

/// Transposes `count` elements of each line to rows of `width` floats: one row per element, one lane per line.
#[inline(always)]
pub(super) fn pack_positions<S: Simd>(simd: S, lines: PlaneLines<'_>, count: usize, target: &mut [f32], width: usize) {
    for position in (0..count).step_by(S::LANES) {
        let target = &mut target[position * width..];
        match S::LANES {
            8 => pack_block::<S, 8>(simd, lines, position, target, width),
            16 => pack_block::<S, 16>(simd, lines, position, target, width),
            lanes => unreachable!("no register has {lanes} lanes"),
        }
    }
}

/// Transposes one square block for [`pack_positions`]; `LANES` is [`Simd::LANES`].
#[inline(always)]
fn pack_block<S: Simd, const LANES: usize>(
    simd: S,
    lines: PlaneLines<'_>,
    position: usize,
    target: &mut [f32],
    width: usize,
) {
    let PlaneLines { planes, starts } = lines;
    let mut rows = [simd.splat(0.0); LANES];
    for i in 0..LANES {
        if let Some(start) = starts[i] {
            rows[i] = load(simd, planes, start + position);
        }
    }
    let rows = transpose(simd, rows);
    for i in 0..LANES {
        simd.store(rows[i], &mut S::blocks_mut(&mut target[i * width..][..S::LANES])[0]);
    }
}

/// The planes of some filters in a window.
pub(super) struct FilterPlanes<'a> {
    pub(super) images: Images<'a>,
    pub(super) window: &'a Window,
    pub(super) filters: Range<usize>,
}

impl FilterPlanes<'_> {
    /// Transposes the planes to one row panel `[pixel][filter]`, with filters rounded up to a power of two of at most 8.
    #[inline(always)]
    pub(super) fn pack<S: Simd>(&self, simd: S, target: &mut [f32]) {
        match self.filters.len().next_power_of_two() {
            1 => self.pack_rows::<S, 1>(simd, target),
            2 => self.pack_rows::<S, 2>(simd, target),
            4 => self.pack_rows::<S, 4>(simd, target),
            8 => self.pack_rows::<S, 8>(simd, target),
            rows => unreachable!("no row panel has {rows} rows"),
        }
    }

    #[inline(always)]
    fn pack_rows<S: Simd, const ROWS: usize>(&self, simd: S, target: &mut [f32]) {
        let [height, width] = self.images.size;
        let per_image = self.window.rows.len() * width;
        for (n, image) in self.window.images.clone().enumerate() {
            let first = image * self.images.channels + self.filters.start;
            for pixel in (0..per_image).step_by(S::LANES) {
                let mut rows = [simd.splat(0.0); ROWS];
                for (i, row) in rows.iter_mut().enumerate() {
                    if i < self.filters.len() {
                        let start = ((first + i) * height + self.window.rows.start) * width;
                        *row = load(simd, self.images.data, start + pixel);
                    }
                }
                let rows = transpose(simd, rows);
                let target = &mut target[(n * per_image + pixel) * ROWS..][..ROWS * S::LANES];
                let blocks = S::blocks_mut(target);
                for i in 0..ROWS {
                    simd.store(rows[i], &mut blocks[i]);
                }
            }
        }
    }
}

/// Loads a register starting at `start`; elements beyond the end of the slice are zero.
#[inline(always)]
fn load<S: Simd>(simd: S, slice: &[f32], start: usize) -> S::Vector {
    let source = &slice[start.min(slice.len())..];
    if let Some(block) = S::blocks(source).first() {
        return simd.load(block);
    }
    let mut block = [0.0; MAX_LANES];
    block[..source.len()].copy_from_slice(source);
    simd.load(&S::blocks(&block)[0])
}

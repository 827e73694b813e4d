//! Packing of the right factor: `[d][column]` panels, gathered from staged planes.

use crate::simd::Simd;
use crate::stencil::Stencil;
use crate::stencil::Strides;

use super::tile::MAX_COLUMNS;

/// Planes of a few channels, in which output `[n, p, q]` of a window sits at `n · image + p · row + q`.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) strides: Strides,
    pub(crate) channels: usize,
    /// `[images, rows, columns]` of the window.
    pub(crate) window: [usize; 3],
}

/// Neighbouring columns that are neighbours in the planes as well; at most a register of them.
#[derive(Clone, Copy, Default)]
struct Segment {
    source: usize,
    column: usize,
    len: usize,
}

/// Packs the `count` columns from `start` on of every channel and tap as rows of `width` floats.
///
/// A segment is copied as a whole register, however short it is: what it writes too much is overwritten by the next
/// segment, or by the next row. `panel` is therefore one register longer than the rows.
#[inline(always)]
pub(crate) fn pack_panel<S: Simd>(
    simd: S,
    planes: Planes<'_>,
    stencil: &Stencil,
    (start, count, width): (usize, usize, usize),
    panel: &mut [f32],
) {
    let mut segments = [Segment::default(); MAX_COLUMNS];
    let segments = cut(&planes, S::LANES, start, count, &mut segments);
    let mut rows = 0..planes.channels * stencil.taps();
    for channel in 0..planes.channels {
        let plane = &planes.data[channel * planes.strides.channel..];
        for (offset, row) in stencil.offsets(planes.strides).zip(&mut rows) {
            let panel = &mut panel[row * width..][..width + S::LANES];
            for segment in segments {
                let target = &mut panel[segment.column..][..S::LANES];
                let source = &plane[offset + segment.source..];
                if source.len() < S::LANES {
                    target[..segment.len].copy_from_slice(&source[..segment.len]);
                } else {
                    simd.store(simd.load(&S::blocks(source)[0]), &mut S::blocks_mut(target)[0]);
                }
            }
        }
    }
}

/// The segments of `count` columns from `start` on.
#[inline(always)]
fn cut<'a>(
    planes: &Planes<'_>,
    lanes: usize,
    start: usize,
    count: usize,
    segments: &'a mut [Segment; MAX_COLUMNS],
) -> &'a [Segment] {
    let [_, rows, columns] = planes.window;
    let mut column = 0;
    let mut used = 0;
    while column < count {
        let position = start + column;
        let (image, within) = (position / (rows * columns), position % (rows * columns));
        let (row, q) = (within / columns, within % columns);
        let mut source = image * planes.strides.image + row * planes.strides.row + q;
        let contiguous = if planes.strides.row == columns { rows * columns - within } else { columns - q };
        let end = column + contiguous.min(count - column);
        while column < end {
            let len = lanes.min(end - column);
            segments[used] = Segment { source, column, len };
            (used, column, source) = (used + 1, column + len, source + len);
        }
    }
    &segments[..used]
}

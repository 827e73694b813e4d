//! The packing of pixels from staged planes into panels `[d][pixel]`.

use super::{MAX_PANEL_PIXELS, PixelPanel};
use crate::isa::Simd;
use crate::training::stencil::{Stencil, Strides};

/// The planes of some channels. Output `[n, p, q]` of the window is at `n · image + p · row + q`.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    pub(super) data: &'a [f32],
    pub(super) strides: Strides,
    pub(super) channels: usize,
    /// `[images, rows, columns]` of the window.
    pub(super) window: [usize; 3],
}

/// Neighbouring columns of a panel that are contiguous in the planes, at most a register of them.
#[derive(Clone, Copy, Default)]
struct PixelSegment {
    source: usize,
    column: usize,
    len: usize,
}

/// Packs the pixels of a panel as rows of `pixels.width` floats, one row for each channel and tap.
///
/// Every segment is copied as a whole register, and the next segment or row overwrites the excess. `panel` is therefore one
/// register longer than its rows.
#[inline(always)]
pub(super) fn pack_panel<S: Simd>(
    simd: S,
    planes: Planes<'_>,
    stencil: &Stencil,
    pixels: PixelPanel,
    panel: &mut [f32],
) {
    let mut segments = [PixelSegment::default(); MAX_PANEL_PIXELS];
    let segments = divide(&planes, S::LANES, pixels, &mut segments);
    let width = pixels.width;
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

/// Divides the pixels of a panel into segments.
#[inline(always)]
fn divide<'a>(
    planes: &Planes<'_>,
    lanes: usize,
    pixels: PixelPanel,
    segments: &'a mut [PixelSegment; MAX_PANEL_PIXELS],
) -> &'a [PixelSegment] {
    let [_, rows, columns] = planes.window;
    let PixelPanel { start, count, .. } = pixels;
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
            segments[used] = PixelSegment { source, column, len };
            (used, column, source) = (used + 1, column + len, source + len);
        }
    }
    &segments[..used]
}

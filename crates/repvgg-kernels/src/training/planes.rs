//! The placement of the outputs of packed filters in the planes of a tensor.

#![expect(unsafe_code, reason = "tasks write disjoint rectangles of the output, which are not contiguous")]

use std::ops::Range;

use super::stencil::{Images, Window};
use crate::threads::Disjoint;

/// The position of outputs in a plane: output `[u, v]` of the stencil's grid is pixel `origin + step · [u, v]`.
#[derive(Clone, Copy)]
pub(super) struct Placement {
    pub(super) grid: [usize; 2],
    pub(super) plane: [usize; 2],
    pub(super) origin: [usize; 2],
    pub(super) step: [usize; 2],
}

impl Placement {
    /// A grid that is identical with the plane.
    pub(super) fn identity(plane: [usize; 2]) -> Self {
        Self { grid: plane, plane, origin: [0, 0], step: [1, 1] }
    }

    fn is_identity(&self) -> bool {
        self.grid == self.plane && self.step == [1, 1]
    }
}

/// The input of packed filters and the placement of their outputs.
#[derive(Clone, Copy)]
pub(super) struct Application<'a> {
    pub(super) batch: usize,
    pub(super) images: Images<'a>,
    pub(super) placement: Placement,
}

/// The planes `[N, K, P, Q]` that tasks write.
#[derive(Clone, Copy)]
pub(super) struct OutputPlanes<'a> {
    placement: Placement,
    filters: usize,
    planes: Disjoint<'a, f32>,
}

/// The sums of `count` neighbouring outputs of a window, starting at output `start`, for some filters.
pub(super) struct OutputRun<'a> {
    /// `[filter][width]`.
    pub(super) sums: &'a [f32],
    pub(super) width: usize,
    pub(super) start: usize,
    pub(super) count: usize,
}

impl<'a> OutputPlanes<'a> {
    pub(super) fn new(placement: Placement, filters: usize, planes: &'a mut [f32]) -> Self {
        Self { placement, filters, planes: Disjoint::new(planes) }
    }

    /// Writes the outputs of `filters` in `window`. No other task may write them at the same time.
    #[inline(always)]
    pub(super) fn write(&self, window: &Window, filters: Range<usize>, run: &OutputRun<'_>) {
        let Self { placement, .. } = self;
        let OutputRun { sums, width, start, count } = *run;
        let (rows, columns) = (window.rows.len(), placement.grid[1]);
        let step = placement.step[1];
        let mut done = 0;
        while done < count {
            let (image, within) = ((start + done) / (rows * columns), (start + done) % (rows * columns));
            let (u, v) = (window.rows.start + within / columns, within % columns);
            let y = placement.origin[0] + u * placement.step[0];
            let x = placement.origin[1] + v * step;
            let contiguous = if placement.is_identity() { rows * columns - within } else { columns - v };
            let len = contiguous.min(count - done);
            for (sums, filter) in sums.chunks_exact(width).zip(filters.clone()) {
                let plane = (window.images.start + image) * self.filters + filter;
                let first = (plane * placement.plane[0] + y) * placement.plane[1] + x;
                // SAFETY: tasks that run at the same time have different windows or filters, so they write different rows or
                // planes. Within a task, this slice ends before the next one starts.
                let target = unsafe { self.planes.slice(first, (len - 1) * step + 1) };
                let sums = &sums[done..][..len];
                if step == 1 {
                    target.copy_from_slice(sums);
                } else {
                    target.iter_mut().step_by(step).zip(sums).for_each(|(target, sum)| *target = *sum);
                }
            }
            done += len;
        }
    }
}

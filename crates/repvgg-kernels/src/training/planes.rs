//! Where the outputs of packed filters go.

#![expect(unsafe_code, reason = "tasks write disjoint rectangles of the output, which are not contiguous")]

use std::ops::Range;

use super::stencil::{Images, Window};
use crate::threads::Disjoint;

/// Output `[u, v]` of the stencil's grid is pixel `origin + step · [u, v]` of a plane.
#[derive(Clone, Copy)]
pub(super) struct Placement {
    pub(super) grid: [usize; 2],
    pub(super) plane: [usize; 2],
    pub(super) origin: [usize; 2],
    pub(super) step: [usize; 2],
}

impl Placement {
    /// The grid is the plane.
    pub(super) fn whole(plane: [usize; 2]) -> Self {
        Self { grid: plane, plane, origin: [0, 0], step: [1, 1] }
    }

    fn is_whole(&self) -> bool {
        self.grid == self.plane && self.step == [1, 1]
    }
}

/// What packed filters are applied to, and where the results go.
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

/// Finished sums of some filters, `[filter][width]`: neighbouring outputs of a window from `start` on, of which `count` are
/// valid.
pub(super) struct Sums<'a> {
    pub(super) floats: &'a [f32],
    pub(super) width: usize,
    pub(super) start: usize,
    pub(super) count: usize,
}

impl<'a> OutputPlanes<'a> {
    pub(super) fn new(placement: Placement, filters: usize, planes: &'a mut [f32]) -> Self {
        Self { placement, filters, planes: Disjoint::new(planes) }
    }

    /// Writes the sums of `filters` in `window`, which no other task of the run may write.
    #[inline(always)]
    pub(super) fn write(&self, window: &Window, filters: Range<usize>, sums: &Sums<'_>) {
        let Self { placement, .. } = self;
        let Sums { floats, width, start, count } = *sums;
        let (rows, columns) = (window.rows.len(), placement.grid[1]);
        let step = placement.step[1];
        let mut done = 0;
        while done < count {
            let (image, within) = ((start + done) / (rows * columns), (start + done) % (rows * columns));
            let (u, v) = (window.rows.start + within / columns, within % columns);
            let y = placement.origin[0] + u * placement.step[0];
            let x = placement.origin[1] + v * step;
            let contiguous = if placement.is_whole() { rows * columns - within } else { columns - v };
            let len = contiguous.min(count - done);
            for (sums, filter) in floats.chunks_exact(width).zip(filters.clone()) {
                let plane = (window.images.start + image) * self.filters + filter;
                let first = (plane * placement.plane[0] + y) * placement.plane[1] + x;
                // SAFETY: tasks that run at the same time differ in the window or the filter, hence write different rows
                // or planes; within a task this slice ends before the next one starts.
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

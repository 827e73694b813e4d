//! What is computed with packed filters, and the writing of its results.

#![expect(unsafe_code, reason = "tasks write disjoint rectangles of the output, which are not contiguous")]

use std::ops::Range;

use crate::inference::Activation;
use crate::pool::Disjoint;
use crate::stencil::{Images, Window};

/// Where outputs go: output `[u, v]` of the stencil's grid is pixel `origin + step · [u, v]` of a plane.
#[derive(Clone, Copy)]
pub(crate) struct Placement {
    pub(crate) grid: [usize; 2],
    pub(crate) plane: [usize; 2],
    pub(crate) origin: [usize; 2],
    pub(crate) step: [usize; 2],
}

impl Placement {
    /// The grid is the plane.
    pub(crate) fn whole(plane: [usize; 2]) -> Self {
        Self { grid: plane, plane, origin: [0, 0], step: [1, 1] }
    }

    fn is_whole(&self) -> bool {
        self.grid == self.plane && self.step == [1, 1]
    }
}

/// One application of packed filters.
#[derive(Clone, Copy)]
pub(crate) struct Application<'a> {
    pub(crate) batch: usize,
    pub(crate) images: Images<'a>,
    pub(crate) placement: Placement,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Activation,
}

/// The planes `[N, K, P, Q]` that tasks write.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    placement: Placement,
    bias: Option<&'a [f32]>,
    activation: Activation,
    filters: usize,
    planes: Disjoint<'a, f32>,
}

impl<'a> Output<'a> {
    pub(crate) fn new(application: &Application<'a>, filters: usize, planes: &'a mut [f32]) -> Self {
        let Application { placement, bias, activation, .. } = *application;
        Self { placement, bias, activation, filters, planes: Disjoint::new(planes) }
    }

    /// Adds the bias to finished sums, activates them and writes them out. Row `i` of `sums`, `width` floats apart, belongs
    /// to filter `filters.start + i` and holds `count` outputs of `window` from `start` on, which no other task of the run
    /// may write.
    #[inline(always)]
    pub(crate) fn write(
        &self,
        window: &Window,
        filters: Range<usize>,
        (start, count): (usize, usize),
        (sums, width): (&[f32], usize),
    ) {
        let Self { placement, .. } = self;
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
            for (sums, filter) in sums.chunks_exact(width).zip(filters.clone()) {
                let plane = (window.images.start + image) * self.filters + filter;
                let first = (plane * placement.plane[0] + y) * placement.plane[1] + x;
                // SAFETY: tasks that run at the same time differ in the window or the filter, hence write different rows
                // or planes; within a task this slice ends before the next one starts.
                let target = unsafe { self.planes.slice(first, (len - 1) * step + 1) };
                let bias = self.bias.map_or(0.0, |bias| bias[filter]);
                if step == 1 {
                    activate(self.activation, &sums[done..][..len], bias, target.iter_mut());
                } else {
                    activate(self.activation, &sums[done..][..len], bias, target.iter_mut().step_by(step));
                }
            }
            done += len;
        }
    }
}

#[inline(always)]
fn activate<'a>(activation: Activation, sums: &[f32], bias: f32, target: impl Iterator<Item = &'a mut f32>) {
    match activation {
        Activation::Identity => sums.iter().zip(target).for_each(|(sum, target)| *target = sum + bias),
        Activation::Relu => sums.iter().zip(target).for_each(|(sum, target)| {
            // NaN stays NaN, as in every framework; a maximum would hide it.
            let y = sum + bias;
            *target = if y < 0.0 { 0.0 } else { y };
        }),
    }
}

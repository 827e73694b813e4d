//! One filter on one channel: nothing is reused between filters, so there is no product to tile. Each tap adds its multiple
//! of the staged plane, shifted, to a plane of sums that stays in the L1 cache.

use std::ops::Range;

use crate::ThreadPool;
use crate::implicit_gemm::{Filters, WINDOW};
use crate::output::{Application, Output};
use crate::simd::{Kernel, MAX_LANES, Simd};
use crate::stencil::{Source, Window, Windows};

/// Channels per task, so that a task is long in comparison with claiming it.
const CHANNELS: usize = 8;

/// Elements of workspace per thread: a staged plane and its sums.
pub(crate) fn scratch_len(filters: &Filters, windows: Windows) -> usize {
    let strides = filters.stencil.strides(windows.images, windows.rows, windows.columns());
    strides.channel + strides.phase.next_multiple_of(MAX_LANES) + 2 * MAX_LANES
}

/// As [`Filters::apply`].
pub(crate) fn apply(
    filters: &Filters,
    pool: &ThreadPool,
    application: &Application<'_>,
    (output, workspace): (&mut [f32], &mut [f32]),
) {
    let channels = filters.shape.groups;
    let windows = Windows::new(application.batch, application.placement.grid, WINDOW);
    let output = Output::new(application, channels, output);
    let blocks = channels.div_ceil(CHANNELS);
    let workspace = &mut workspace[..pool.threads() * scratch_len(filters, windows)];
    pool.run_with_scratch(windows.count() * blocks, workspace, |task, scratch| {
        let channels = task % blocks * CHANNELS..((task % blocks + 1) * CHANNELS).min(channels);
        let window = windows.get(task / blocks);
        filters.level.run(Task { filters, application, window, channels, scratch, output });
    });
}

struct Task<'a> {
    filters: &'a Filters,
    application: &'a Application<'a>,
    window: Window,
    channels: Range<usize>,
    scratch: &'a mut [f32],
    output: Output<'a>,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { filters, application, window, channels, scratch, output } = self;
        let (stencil, taps) = (&filters.stencil, filters.stencil.taps());
        let columns = application.placement.grid[1];
        let strides = stencil.strides(window.images.len(), window.rows.len(), columns);
        for channel in channels {
            let source = Source { images: application.images, window: &window, channels: channel..channel + 1 };
            // One register of slack behind the staged plane: sums are computed in whole registers.
            let (staged, sums) = scratch.split_at_mut(strides.channel + MAX_LANES);
            stencil.stage(simd, source, staged, strides);
            let positions = (window.images.len() - 1) * strides.image + (window.rows.len() - 1) * strides.row + columns;
            let sums = &mut sums[..positions.next_multiple_of(S::LANES)];
            sums.fill(0.0);
            for (weight, offset) in filters.packed[channel * taps..][..taps].iter().zip(stencil.offsets(strides)) {
                let weight = simd.splat(*weight);
                for (sum, x) in S::blocks_mut(sums).iter_mut().zip(S::blocks(&staged[offset..])) {
                    simd.store(simd.mul_add(weight, simd.load(x), simd.load(sum)), sum);
                }
            }
            for image in 0..window.images.len() {
                for row in 0..window.rows.len() {
                    let sums = &sums[image * strides.image + row * strides.row..][..columns];
                    let start = (image * window.rows.len() + row) * columns;
                    output.write(&window, channel..channel + 1, (start, columns), (sums, columns));
                }
            }
        }
    }
}

//! Depthwise convolution on planes: one filter per channel. Filters share no data, so there is no product to tile. Each tap
//! adds a multiple of the shifted staged plane to a plane of sums that stays in the first-level cache.
//!
//! Inference has a separate depthwise kernel (`inference/depthwise.rs`): its registers hold one pixel of several channels,
//! these hold several pixels of one channel.

use std::ops::Range;

use super::filters::Filters;
use super::planes::{Application, OutputPlanes, OutputRun};
use super::product::WINDOW_PIXELS;
use super::stencil::{ChannelWindow, Window, Windows};
use crate::ThreadPool;
use crate::isa::{Kernel, MAX_LANES, Simd};

/// Channels per task, so that a task takes long compared with claiming it.
const CHANNELS_PER_TASK: usize = 8;

/// Computes the outputs of the application's grid.
pub(super) fn apply(filters: &Filters, pool: &ThreadPool, application: &Application<'_>, output: &mut [f32]) {
    let channels = filters.shape.groups;
    let windows = Windows::new(application.batch, application.placement.grid, WINDOW_PIXELS);
    let output = OutputPlanes::new(application.placement, channels, output);
    let blocks = channels.div_ceil(CHANNELS_PER_TASK);
    let mut workspace = vec![0.0; pool.threads() * scratch_len(filters, windows)];
    pool.run_with_scratch(windows.count() * blocks, &mut workspace, |task, scratch| {
        let channels = task % blocks * CHANNELS_PER_TASK..((task % blocks + 1) * CHANNELS_PER_TASK).min(channels);
        let window = windows.get(task / blocks);
        filters.level.run(ChannelsTask { filters, application, window, channels, scratch, output });
    });
}

/// Floats of scratch per thread: a staged plane and its sums.
fn scratch_len(filters: &Filters, windows: Windows) -> usize {
    let strides = filters.stencil.strides(windows.images, windows.rows, windows.columns());
    strides.channel + strides.phase.next_multiple_of(MAX_LANES) + 2 * MAX_LANES
}

/// A task: some channels of a window.
struct ChannelsTask<'a> {
    filters: &'a Filters,
    application: &'a Application<'a>,
    window: Window,
    channels: Range<usize>,
    scratch: &'a mut [f32],
    output: OutputPlanes<'a>,
}

impl Kernel for ChannelsTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { filters, application, window, channels, scratch, output } = self;
        let (stencil, taps) = (&filters.stencil, filters.stencil.taps());
        let columns = application.placement.grid[1];
        let strides = stencil.strides(window.images.len(), window.rows.len(), columns);
        for channel in channels {
            let source = ChannelWindow { images: application.images, window: &window, channels: channel..channel + 1 };
            // The staged plane ends with a register of slack, because sums are computed in whole registers.
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
                    let run = OutputRun { sums, width: columns, start, count: columns };
                    output.write(&window, channel..channel + 1, &run);
                }
            }
        }
    }
}

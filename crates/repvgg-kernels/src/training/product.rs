//! Convolution as a matrix product whose pixel operand is never stored as a whole ("implicit GEMM").
//!
//! ```text
//! out[k, j] = Σ_d weights[k, d] · columns[d, j]      d runs over (c, r, s), j over output pixels (n, p, q)
//! ```
//!
//! A task computes a window of about [`WINDOW_PIXELS`] outputs. For each block of the reduction, it stages input planes
//! ([`super::stencil`]), packs pixels into panels as wide as a register tile, and multiplies each row panel of weights by each
//! pixel panel. Panels and staged planes are in the worker's scratch and stay in its second-level cache.
//!
//! The order of the additions of an output depends only on the geometry, so results are bit-equal for any division into tasks.

mod columns;

use std::ops::Range;

use super::filters::Filters;
use super::planes::{Application, OutputPlanes, OutputRun};
use super::stencil::{ChannelWindow, Strides, Window, Windows};
use crate::isa::{Kernel, MAX_LANES, MAX_VECTORS, Simd};
use crate::threads::ThreadPool;
use crate::tile::{Accumulate, ColumnLayout, F32, Product, Reduction, Span, TileOutput, TileShape};
use columns::{Planes, pack_panel};

/// Pixels per window: with [`BLOCK_STEPS`], panels take 256 KiB, half of a small second-level cache.
pub(super) const WINDOW_PIXELS: usize = 384;
/// Reduction steps per block: a row panel of 8 × 256 floats takes 8 KiB and stays in the first-level cache while pixel panels
/// stream through it.
const BLOCK_STEPS: usize = 256;
/// The fewest tasks per thread; below, the filters of a window are divided among tasks as well.
const MIN_TASKS_PER_THREAD: usize = 2;
/// The most pixels of a panel on any level.
const MAX_PANEL_PIXELS: usize = MAX_LANES * MAX_VECTORS;

/// Computes the outputs of the application's grid.
pub(super) fn apply(filters: &Filters, pool: &ThreadPool, application: &Application<'_>, output: &mut [f32]) {
    let windows = Windows::new(application.batch, application.placement.grid, WINDOW_PIXELS);
    let blocking = Blocking::new(filters, windows);
    let groups = filters.shape.groups;
    let panels = filters.shape.rows.div_ceil(filters.panel_rows);
    let tasks = windows.count() * groups;
    if tasks == 0 {
        return;
    }
    let splits = (MIN_TASKS_PER_THREAD * pool.threads()).div_ceil(tasks).min(panels).max(1);
    let splits = if pool.threads() == 1 { 1 } else { splits };
    let output = OutputPlanes::new(application.placement, groups * filters.shape.rows, output);
    let mut workspace = vec![0.0; pool.threads() * blocking.scratch_len()];
    pool.run_with_scratch(tasks * splits, &mut workspace, |task, scratch| {
        let (part, task) = (task % splits, task / splits);
        let block = WindowProduct {
            filters,
            application,
            blocking,
            window: windows.get(task / groups),
            group: task % groups,
            panels: part * panels / splits..(part + 1) * panels / splits,
            output,
        };
        filters.level.run(ProductTask { block, scratch });
    });
}

/// The division of a task's reduction and scratch.
#[derive(Clone, Copy)]
struct Blocking {
    /// Channels per block of the reduction.
    channels: usize,
    /// Floats of staged planes.
    staged: usize,
    /// Floats of pixel panels.
    panels: usize,
    /// Floats of the sums that tiles carry from block to block.
    tiles: usize,
}

impl Blocking {
    fn new(filters: &Filters, windows: Windows) -> Self {
        let Filters { stencil, shape, panel_rows, .. } = filters;
        let taps = stencil.taps().max(1);
        let channels = (BLOCK_STEPS / taps).clamp(1, shape.channels);
        // Blocks are equal, so that the last one is not tiny.
        let channels = shape.channels.div_ceil(shape.channels.div_ceil(channels));
        let columns = windows.outputs().next_multiple_of(MAX_LANES);
        let staged = if stencil.reads_in_place() {
            0
        } else {
            channels * stencil.strides(windows.images, windows.rows, windows.columns()).channel
        };
        let tiles = if channels == shape.channels {
            panel_rows * MAX_PANEL_PIXELS
        } else {
            shape.rows.next_multiple_of(*panel_rows) * columns
        };
        Self { channels, staged, panels: channels * taps * columns + MAX_LANES, tiles }
    }

    /// Floats of scratch per thread.
    fn scratch_len(&self) -> usize {
        self.staged + self.panels + self.tiles
    }
}

/// A task: a window of outputs with its scratch.
struct ProductTask<'a> {
    block: WindowProduct<'a>,
    scratch: &'a mut [f32],
}

impl Kernel for ProductTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, scratch } = self;
        let (staged, rest) = scratch.split_at_mut(block.blocking.staged);
        let (packed, tiles) = rest.split_at_mut(block.blocking.panels);
        let channels = block.filters.shape.channels;
        for first in (0..channels).step_by(block.blocking.channels) {
            let channels = first..(first + block.blocking.channels).min(channels);
            block.pack(simd, channels.clone(), staged, packed);
            block.multiply(simd, channels, packed, tiles);
        }
    }
}

/// The product of a window of outputs for some row panels of a group.
struct WindowProduct<'a> {
    filters: &'a Filters,
    application: &'a Application<'a>,
    blocking: Blocking,
    window: Window,
    group: usize,
    panels: Range<usize>,
    output: OutputPlanes<'a>,
}

impl WindowProduct<'_> {
    /// `[images, rows, columns]` of the window.
    fn extent(&self) -> [usize; 3] {
        [self.window.images.len(), self.window.rows.len(), self.application.placement.grid[1]]
    }

    /// Divides the pixels of the window into panels.
    #[inline(always)]
    fn pixel_panels<S: Simd>(&self, _: S) -> impl Iterator<Item = PixelPanel> {
        let pixels: usize = self.extent().iter().product();
        let width = TileShape::transposable::<S>().vectors * S::LANES;
        (0..pixels).step_by(width).map(move |start| {
            let count = width.min(pixels - start);
            PixelPanel { start, count, vectors: count.div_ceil(S::LANES), width: count.next_multiple_of(S::LANES) }
        })
    }

    /// Packs the pixels of some channels, counted within the group.
    #[inline(always)]
    fn pack<S: Simd>(&self, simd: S, channels: Range<usize>, staged: &mut [f32], packed: &mut [f32]) {
        let Self { filters, application, window, .. } = self;
        let (stencil, images) = (&filters.stencil, application.images);
        let [image_count, rows, columns] = self.extent();
        let depth = channels.len() * stencil.taps();
        let first = self.group * filters.shape.channels + channels.start;
        let (data, strides) = if stencil.reads_in_place() {
            let plane = images.size[0] * images.size[1];
            let start = (window.images.start * images.channels + first) * plane + window.rows.start * images.size[1];
            (&images.data[start..], Strides::in_place(images))
        } else {
            let strides = stencil.strides(image_count, rows, columns);
            let source = ChannelWindow { images, window, channels: first..first + channels.len() };
            stencil.stage(simd, source, staged, strides);
            (&*staged, strides)
        };
        let planes = Planes { data, strides, channels: channels.len(), window: [image_count, rows, columns] };
        for panel in self.pixel_panels(simd) {
            pack_panel(simd, planes, stencil, panel, &mut packed[panel.start * depth..]);
        }
    }

    /// Adds the products of some channels to the tiles, and writes the tiles to the output after the last channel.
    #[inline(always)]
    fn multiply<S: Simd>(&self, simd: S, channels: Range<usize>, packed: &[f32], tiles: &mut [f32]) {
        let Filters { shape, panel_rows, packed: weights, stencil, .. } = self.filters;
        let taps = stencil.taps();
        let depth = channels.len() * taps;
        let (is_first, is_last) = (channels.start == 0, channels.end == shape.channels);
        let panel_len = shape.channels * taps * panel_rows;
        let columns: usize = self.extent().iter().product();
        let padded = columns.next_multiple_of(S::LANES);
        for panel in self.panels.clone() {
            let first = panel * panel_rows;
            let valid = (*panel_rows).min(shape.rows - first);
            let rows = valid.next_power_of_two();
            let weights = &weights[(self.group * shape.rows.div_ceil(*panel_rows) + panel) * panel_len..];
            let weights = &weights[channels.start * taps * rows..][..depth * rows];
            for PixelPanel { start, count, vectors, width } in self.pixel_panels(simd) {
                let at = if is_first && is_last { 0 } else { first * padded + start * panel_rows };
                let sums = &mut tiles[at..][..rows * width];
                let product = Product::<F32> {
                    panel: &packed[start * depth..][..depth * width],
                    vectors,
                    columns: weights,
                    layout: ColumnLayout::Planar(1),
                    reduction: Reduction::packed([1, 1, depth], [0, 0, rows], width),
                    next: &[],
                    accumulate: if is_first { Accumulate::Overwrite } else { Accumulate::Add },
                };
                let output = TileOutput { sums: &mut *sums, register_stride: S::LANES, column_stride: width };
                product.tile(simd, Span::single(rows), output);
                if is_last {
                    let filter = self.group * shape.rows + first;
                    let run = OutputRun { sums, width, start, count };
                    self.output.write(&self.window, filter..filter + valid, &run);
                }
            }
        }
    }
}

/// A panel: neighbouring pixels of a window that fill the registers of a tile.
#[derive(Clone, Copy)]
struct PixelPanel {
    start: usize,
    count: usize,
    vectors: usize,
    /// Floats of a row of the packed panel.
    width: usize,
}

//! Convolution as a matrix product whose pixel operand is never stored whole ("implicit GEMM").
//!
//! ```text
//! out[k, j] = Σ_d weights[k, d] · columns[d, j]      d runs over (c, r, s), j over output pixels (n, p, q)
//! ```
//!
//! A task owns a window of outputs, about [`WINDOW`] pixels. Block by block of the reduction it stages the input planes
//! ([`super::stencil`]), packs pixels into panels as wide as a register tile, and multiplies every row panel of weights with
//! every pixel panel. Panels and staged planes live in the worker's scratch and stay in its second-level cache.
//!
//! The order of additions of an output depends on the geometry alone, so results are bit-equal for any division into tasks.

mod columns;

use std::ops::Range;

use super::filters::Filters;
use super::planes::{Application, OutputPlanes, Sums};
use super::stencil::{Source, Strides, Window, Windows};
use crate::isa::{Kernel, MAX_LANES, MAX_VECTORS, Simd};
use crate::threads::ThreadPool;
use crate::tile::{Columns, Depth, F32, Product, Span, Sum, Target, TileShape};
use columns::{Planes, pack_panel};

/// Pixels per window: with [`DEPTH`] they make panels of 256 KiB, half of a small second-level cache.
pub(super) const WINDOW: usize = 384;
/// Reduction steps per block: a row panel of 8 × 256 floats is 8 KiB and stays in the first-level cache while pixel panels
/// stream past.
const DEPTH: usize = 256;
/// Tasks per thread below which windows are shared out among threads by filters as well.
const TASKS_PER_THREAD: usize = 2;
/// Bound over all levels on the pixels of a panel.
const MAX_COLUMNS: usize = MAX_LANES * MAX_VECTORS;

/// Computes the outputs of the application's grid.
pub(super) fn apply(filters: &Filters, pool: &ThreadPool, application: &Application<'_>, output: &mut [f32]) {
    let windows = Windows::new(application.batch, application.placement.grid, WINDOW);
    let blocking = Blocking::new(filters, windows);
    let groups = filters.shape.groups;
    let panels = filters.shape.rows.div_ceil(filters.panel_rows);
    let tasks = windows.count() * groups;
    if tasks == 0 {
        return;
    }
    let splits = (TASKS_PER_THREAD * pool.threads()).div_ceil(tasks).min(panels).max(1);
    let splits = if pool.threads() == 1 { 1 } else { splits };
    let output = OutputPlanes::new(application.placement, groups * filters.shape.rows, output);
    let mut workspace = vec![0.0; pool.threads() * blocking.scratch()];
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
        filters.level.run(Task { block, scratch });
    });
}

/// How a task divides the reduction and its scratch.
#[derive(Clone, Copy)]
struct Blocking {
    /// Channels per block of the reduction.
    channels: usize,
    /// Floats of staged planes, of pixel panels, and of tiles between blocks.
    staged: usize,
    columns: usize,
    tiles: usize,
}

impl Blocking {
    fn new(filters: &Filters, windows: Windows) -> Self {
        let Filters { stencil, shape, panel_rows, .. } = filters;
        let taps = stencil.taps().max(1);
        let channels = (DEPTH / taps).clamp(1, shape.channels);
        // Equal blocks, so that the last is not a sliver.
        let channels = shape.channels.div_ceil(shape.channels.div_ceil(channels));
        let columns = windows.outputs().next_multiple_of(MAX_LANES);
        let staged = if stencil.reads_in_place() {
            0
        } else {
            channels * stencil.strides(windows.images, windows.rows, windows.columns()).channel
        };
        let tiles = if channels == shape.channels {
            panel_rows * MAX_COLUMNS
        } else {
            shape.rows.next_multiple_of(*panel_rows) * columns
        };
        Self { channels, staged, columns: channels * taps * columns + MAX_LANES, tiles }
    }

    fn scratch(&self) -> usize {
        self.staged + self.columns + self.tiles
    }
}

/// The work of one task.
struct Task<'a> {
    block: WindowProduct<'a>,
    scratch: &'a mut [f32],
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, scratch } = self;
        let (staged, rest) = scratch.split_at_mut(block.blocking.staged);
        let (packed, tiles) = rest.split_at_mut(block.blocking.columns);
        let channels = block.filters.shape.channels;
        for first in (0..channels).step_by(block.blocking.channels) {
            let channels = first..(first + block.blocking.channels).min(channels);
            block.pack(simd, channels.clone(), staged, packed);
            block.multiply(simd, channels, packed, tiles);
        }
    }
}

/// Some row panels of a group, for a window of outputs.
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

    /// The panels that the window's pixels are divided into.
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
            let source = Source { images, window, channels: first..first + channels.len() };
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
                let floats = &mut tiles[at..][..rows * width];
                let product = Product::<F32> {
                    panel: &packed[start * depth..][..depth * width],
                    vectors,
                    columns: weights,
                    layout: Columns::Planar(1),
                    depth: Depth::packed([1, 1, depth], [0, 0, rows], width),
                    next: &[],
                    sum: if is_first { Sum::Start } else { Sum::Continue },
                };
                product.tile(simd, Span::single(rows), Target { sums: floats, register: S::LANES, column: width });
                if is_last {
                    let filter = self.group * shape.rows + first;
                    let sums = Sums { floats, width, start, count };
                    self.output.write(&self.window, filter..filter + valid, &sums);
                }
            }
        }
    }
}

/// Neighbouring pixels of a window that fill the registers of a tile.
#[derive(Clone, Copy)]
struct PixelPanel {
    start: usize,
    count: usize,
    vectors: usize,
    /// Floats of a row of the packed panel.
    width: usize,
}

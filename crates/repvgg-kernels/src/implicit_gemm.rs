//! Convolution as a matrix product whose right factor is never stored whole ("implicit GEMM").
//!
//! ```text
//! out[k, j] = Σ_d weights[k, d] · columns[d, j]      d runs over (c, r, s), j over output pixels (n, p, q)
//! ```
//!
//! A task owns a window of outputs, about [`WINDOW`] columns. Block by block of the reduction it stages the input planes
//! ([`crate::stencil`]), packs `columns` into panels as wide as a register tile, and multiplies every row panel of
//! `weights` with every column panel. Panels and staged planes live in the worker's scratch and stay in its L2 cache.
//!
//! The order of additions of an output depends on the geometry only, so results are bit-equal for any division into
//! tasks.

use std::ops::Range;

use crate::depthwise;
use crate::output::{Application, Output};
use crate::pool::ThreadPool;
use crate::simd::{Kernel, Level, MAX_LANES, Simd};
use crate::stencil::{Source, Stencil, Strides, Window, Windows};
use columns::{Planes, pack_panel};
use tile::{MAX_COLUMNS, Steps, Sum, Tile};

mod columns;
pub(crate) mod tile;

/// Columns per window: with [`DEPTH`] they make panels of 256 KiB, half of a small L2 cache.
pub(crate) const WINDOW: usize = 384;
/// Reduction steps per block: a row panel of 8 × 256 floats is 8 KiB and stays in L1 while column panels stream past.
const DEPTH: usize = 256;
/// Tasks per thread below which windows are shared out among threads by filters as well.
const TASKS_PER_THREAD: usize = 2;

/// Packed weights with the stencil they go with.
///
/// Layout: `[group][row panel][c][r][s][row]`, where a panel is [`Simd::ROWS`] rows. The last panel of a group may hold
/// fewer, rounded up to a power of two; it occupies the room of a full one.
#[derive(Debug, Clone)]
pub(crate) struct Filters {
    pub(crate) level: Level,
    pub(crate) stencil: Stencil,
    pub(crate) shape: Shape,
    panel_rows: usize,
    pub(crate) packed: Vec<f32>,
}

/// The sizes of a grouped matrix of filters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) groups: usize,
    /// Filters per group.
    pub(crate) rows: usize,
    /// Input channels per group.
    pub(crate) channels: usize,
}

impl Filters {
    /// Packs weights on a pool. `index(filter, channel)` is where the `R·S` taps of a filter (counted over all groups)
    /// and a channel (counted within its group) start in `weights`; `taps` are those of them that the stencil uses.
    pub(crate) fn pack(
        pool: &ThreadPool,
        level: Level,
        (shape, stencil): (Shape, Stencil),
        weights: &[f32],
        (taps, index): (&[usize], &(dyn Fn(usize, usize) -> usize + Sync)),
    ) -> Self {
        let panel_rows = level.run(PanelRows).min(shape.rows.next_power_of_two());
        let panels = shape.rows.div_ceil(panel_rows);
        let panel_len = shape.channels * taps.len() * panel_rows;
        let mut packed = vec![0.0; shape.groups * panels * panel_len];
        pool.for_each_chunk(&mut packed, panel_len, |panel, packed| {
            let (group, first) = (panel / panels, panel % panels * panel_rows);
            let valid = panel_rows.min(shape.rows - first);
            let width = valid.next_power_of_two();
            for row in 0..valid {
                for channel in 0..shape.channels {
                    let source = &weights[index(group * shape.rows + first + row, channel)..];
                    for (i, &tap) in taps.iter().enumerate() {
                        packed[(channel * taps.len() + i) * width + row] = source[tap];
                    }
                }
            }
        });
        Self { level, stencil, shape, panel_rows, packed }
    }

    /// Elements of workspace for [`Filters::apply`].
    pub(crate) fn workspace_len(&self, batch: usize, grid: [usize; 2], threads: usize) -> usize {
        if self.shape.rows * self.shape.channels == 1 {
            return threads * depthwise::scratch_len(self, Windows::new(batch, grid, WINDOW));
        }
        threads * self.blocking(Windows::new(batch, grid, WINDOW)).scratch()
    }

    /// Computes the outputs of `placement`'s grid.
    pub(crate) fn apply(
        &self,
        pool: &ThreadPool,
        application: &Application<'_>,
        output: &mut [f32],
        workspace: &mut [f32],
    ) {
        if self.shape.rows * self.shape.channels == 1 {
            return depthwise::apply(self, pool, application, (output, workspace));
        }
        let windows = Windows::new(application.batch, application.placement.grid, WINDOW);
        let blocking = self.blocking(windows);
        let panels = self.shape.rows.div_ceil(self.panel_rows);
        let tasks = windows.count() * self.shape.groups;
        if tasks == 0 {
            return;
        }
        let splits = (TASKS_PER_THREAD * pool.threads()).div_ceil(tasks).min(panels).max(1);
        let splits = if pool.threads() == 1 { 1 } else { splits };
        let output = Output::new(application, self.shape.groups * self.shape.rows, output);
        pool.run_with_scratch(
            tasks * splits,
            &mut workspace[..pool.threads() * blocking.scratch()],
            |task, scratch| {
                let (part, task) = (task % splits, task / splits);
                let block = Block {
                    filters: self,
                    application,
                    blocking,
                    window: windows.get(task / self.shape.groups),
                    group: task % self.shape.groups,
                    panels: part * panels / splits..(part + 1) * panels / splits,
                    output,
                };
                self.level.run(Task { block, scratch });
            },
        );
    }

    fn blocking(&self, windows: Windows) -> Blocking {
        let taps = self.stencil.taps().max(1);
        let channels = (DEPTH / taps).clamp(1, self.shape.channels);
        // Equal blocks, so that the last is not a sliver.
        let channels = self.shape.channels.div_ceil(self.shape.channels.div_ceil(channels));
        let columns = windows.outputs().next_multiple_of(MAX_LANES);
        let staged = if self.stencil.reads_in_place() {
            0
        } else {
            let strides = self.stencil.strides(windows.images, windows.rows, windows.columns());
            channels * strides.channel
        };
        let tiles = if channels == self.shape.channels {
            self.panel_rows * MAX_COLUMNS
        } else {
            self.shape.rows.next_multiple_of(self.panel_rows) * columns
        };
        Blocking { channels, staged, columns: channels * taps * columns + MAX_LANES, tiles }
    }
}

/// How a task divides the reduction and its scratch.
#[derive(Clone, Copy)]
struct Blocking {
    /// Channels per block of the reduction.
    channels: usize,
    /// Elements for staged planes, column panels, and tiles between blocks.
    staged: usize,
    columns: usize,
    tiles: usize,
}

impl Blocking {
    fn scratch(&self) -> usize {
        self.staged + self.columns + self.tiles
    }
}

/// [`Simd::ROWS`] as a kernel.
struct PanelRows;

impl Kernel for PanelRows {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::ROWS
    }
}

/// The work of one task: some row panels of a group, for a window of outputs.
struct Task<'a> {
    block: Block<'a>,
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

struct Block<'a> {
    filters: &'a Filters,
    application: &'a Application<'a>,
    blocking: Blocking,
    window: Window,
    group: usize,
    panels: Range<usize>,
    output: Output<'a>,
}

impl Block<'_> {
    /// `[images, rows, columns]` of the window.
    fn extent(&self) -> [usize; 3] {
        [self.window.images.len(), self.window.rows.len(), self.application.placement.grid[1]]
    }

    /// Column panels as `(first column, columns, registers)`.
    #[inline(always)]
    fn column_panels<S: Simd>(&self, _: S) -> impl Iterator<Item = (usize, usize, usize)> {
        let columns: usize = self.extent().iter().product();
        let width = S::REGISTERS * S::LANES;
        (0..columns).step_by(width).map(move |start| {
            let count = width.min(columns - start);
            (start, count, count.div_ceil(S::LANES))
        })
    }

    /// Packs the columns of some channels, counted within the group.
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
        for (start, count, registers) in self.column_panels(simd) {
            pack_panel(simd, planes, stencil, (start, count, registers * S::LANES), &mut packed[start * depth..]);
        }
    }

    /// Adds the products of some channels to the tiles, and sends the tiles to the output after the last channel.
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
            for (start, count, registers) in self.column_panels(simd) {
                let width = registers * S::LANES;
                let at = if is_first && is_last { 0 } else { first * padded + start * panel_rows };
                let tile = &mut tiles[at..][..rows * width];
                let product = Tile {
                    rows,
                    registers,
                    a: weights,
                    b: &packed[start * depth..][..depth * width],
                    steps: Steps { count: [1, 1, depth], stride: [0, 0] },
                    c: tile,
                    sum: if is_first { Sum::Start } else { Sum::Continue },
                };
                product.multiply(simd);
                if is_last {
                    let filter = self.group * shape.rows + first;
                    self.output.write(&self.window, filter..filter + valid, (start, count), (tile, width));
                }
            }
        }
    }
}

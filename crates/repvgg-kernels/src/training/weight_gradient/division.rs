//! The division of the product into tasks, panels and tiles.

use std::ops::Range;

use super::transposition::SLACK;
use crate::Level;
use crate::isa::{Kernel, MAX_LANES, MAX_VECTORS, Simd};
use crate::tile::{Reduction, TileShape};
use crate::training::TrainingConv2d;
use crate::training::stencil::{Stencil, Strides, Window, Windows};

/// Pixels per window: for up to 256 filters, the transposed `dy` and `x` of a window stay in a second-level cache of 512 KiB.
const WINDOW_PIXELS: usize = 256;
/// The fewest weights per filter that a task covers, so that transposing `dy` is a small part of its work.
const MIN_TASK_COLUMNS: usize = 256;
/// The fewest tasks of a gradient, unless it has fewer windows.
const MIN_TASKS: usize = 16;

/// The contents of the lanes of registers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneContents {
    /// Channels. Every tap is an offset into positions, with its own product.
    Channels,
    /// Pairs of a channel and a tap, as in `[C/G, R, S]`. There is a single product.
    ChannelTaps,
}

/// The division of a gradient.
///
/// The lanes of a group fill registers. Registers are divided into panels as wide as a tile, and panels into blocks. A task
/// computes one chunk of windows for one block of one group. Its sums are `[panel][product][filter][lane]`.
pub(super) struct Division {
    pub(super) level: Level,
    pub(super) stencil: Stencil,
    pub(super) windows: Windows,
    columns: usize,
    groups: usize,
    /// Filters per group.
    pub(super) filters: usize,
    /// Channels per group.
    pub(super) channels: usize,
    pub(super) lane_contents: LaneContents,
    /// Lanes per group.
    pub(super) lanes: usize,
    /// Products per group.
    pub(super) products: usize,
    registers: usize,
    panels: usize,
    blocks: usize,
    chunks: usize,
    /// Rows of a tile.
    pub(super) tile_rows: usize,
    /// Lanes of a register.
    register: usize,
}

/// The part of a division that one task computes.
pub(super) struct Part {
    pub(super) group: usize,
    pub(super) block: usize,
    /// Indices of windows.
    pub(super) chunk: Range<usize>,
}

/// Filters that are multiplied together as the rows of a tile.
pub(super) struct RowPanel {
    /// The first filter, counted within its group.
    pub(super) first: usize,
    /// Rows of the tile: the filters, rounded up to a power of two.
    pub(super) rows: usize,
}

/// The layout of a window's operands.
pub(super) struct Extent {
    pub(super) strides: Strides,
    /// `[images, rows, columns]`.
    pub(super) count: [usize; 3],
    /// The number of positions of transposed planes.
    pub(super) positions: usize,
}

/// A panel of a block: registers of lanes that are multiplied together.
pub(super) struct LanePanel {
    /// Indices of registers, counted within the group.
    pub(super) registers: Range<usize>,
    /// The number of lanes of the block before this panel.
    pub(super) before: usize,
    /// The number of lanes of the panel.
    pub(super) width: usize,
}

impl Extent {
    /// The reduction over the pixels of a window, each with `width` floats of a panel and `rows` floats of columns.
    pub(super) fn reduction(&self, rows: usize, width: usize) -> Reduction {
        let [_, per_image, per_row] = self.count;
        Reduction {
            count: self.count,
            columns: [per_image * per_row * rows, per_row * rows, rows],
            panel: [self.strides.image * width, self.strides.row * width, width],
        }
    }
}

impl Division {
    pub(super) fn new(conv: &TrainingConv2d) -> Self {
        conv.level.run(NewDivision(conv))
    }

    pub(super) fn tasks(&self) -> usize {
        self.chunks * self.groups * self.blocks
    }

    pub(super) fn part(&self, task: usize) -> Part {
        let (block, rest) = (task % self.blocks, task / self.blocks);
        let (group, chunk) = (rest % self.groups, rest / self.groups);
        let windows = self.windows.count();
        Part { group, block, chunk: chunk * windows / self.chunks..(chunk + 1) * windows / self.chunks }
    }

    /// The panels of a block.
    pub(super) fn panels(&self, block: usize) -> impl Iterator<Item = LanePanel> {
        let start = |panel: usize| panel * self.registers / self.panels;
        let panels = block * self.panels / self.blocks..(block + 1) * self.panels / self.blocks;
        let origin = start(panels.start);
        panels.map(move |panel| {
            let registers = start(panel)..start(panel + 1);
            let before = (registers.start - origin) * self.register;
            LanePanel { before, width: registers.len() * self.register, registers }
        })
    }

    /// The row panels of a group.
    pub(super) fn row_panels(&self) -> impl Iterator<Item = RowPanel> {
        let rows = |first| self.tile_rows.min(self.filters - first).next_power_of_two();
        (0..self.filters).step_by(self.tile_rows).map(move |first| RowPanel { first, rows: rows(first) })
    }

    /// The number of filters of a group, rounded up to whole row panels.
    pub(super) fn rows(&self) -> usize {
        self.filters.next_multiple_of(self.tile_rows)
    }

    pub(super) fn extent(&self, window: &Window) -> Extent {
        let [images, rows] = [window.images.len(), window.rows.len()];
        let strides = self.stencil.strides(images, rows, self.columns);
        let positions = match self.lane_contents {
            LaneContents::Channels => strides.channel,
            LaneContents::ChannelTaps => (images - 1) * strides.image + (rows - 1) * strides.row + self.columns,
        };
        Extent { strides, count: [images, rows, self.columns], positions: positions.next_multiple_of(self.register) }
    }

    /// The number of sums of the largest task.
    pub(super) fn sums_len(&self) -> usize {
        self.block_lanes() * self.products * self.rows()
    }

    /// The numbers of scratch elements for staged planes, transposed planes and transposed filters.
    pub(super) fn scratch(&self) -> [usize; 3] {
        let extent = self.extent(&self.windows.get(0));
        [
            self.register.min(self.channels) * extent.strides.channel,
            self.block_lanes() * (extent.positions + self.register),
            self.rows() * self.windows.outputs() + SLACK,
        ]
    }

    /// The number of lanes of the largest block.
    fn block_lanes(&self) -> usize {
        let lanes = |block| self.panels(block).map(|panel| panel.width).sum();
        (0..self.blocks).map(lanes).max().unwrap_or(0)
    }

    /// Adds up the sums of all chunks for one filter, counted over all groups, and writes its gradient `dw` `[C/G, R, S]`.
    pub(super) fn reduce_chunks(&self, sums: &[f32], filter: usize, dw: &mut [f32]) {
        let (group, filter) = (filter / self.filters, filter % self.filters);
        for block in 0..self.blocks {
            for panel in self.panels(block) {
                for product in 0..self.products {
                    let row =
                        ((panel.before * self.products + product * panel.width) * self.rows()) + filter * panel.width;
                    let mut total = [0.0; MAX_VECTORS * MAX_LANES];
                    for chunk in 0..self.chunks {
                        let task = (chunk * self.groups + group) * self.blocks + block;
                        let row = &sums[task * self.sums_len() + row..][..panel.width];
                        total.iter_mut().zip(row).for_each(|(total, sum)| *total += sum);
                    }
                    let lanes = panel.registers.start * self.register..self.lanes;
                    for (lane, total) in lanes.zip(&total[..panel.width]) {
                        dw[lane * self.products + product] = *total;
                    }
                }
            }
        }
    }
}

/// [`Division::new`] as a kernel.
struct NewDivision<'a>(&'a TrainingConv2d);

impl Kernel for NewDivision<'_> {
    type Output = Division;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Division {
        let TileShape { vectors, columns: tile_rows } = TileShape::transposable::<S>();
        let TrainingConv2d { geometry, batch, output_size, level, .. } = *self.0;
        let stencil = Stencil::forward(&geometry);
        let windows = Windows::new(batch, output_size, WINDOW_PIXELS);
        let (filters, channels) = (geometry.out_channels / geometry.groups, geometry.in_channels / geometry.groups);
        let taps = stencil.taps();
        let (lane_contents, lanes, products) = if channels < S::LANES && taps > 1 {
            (LaneContents::ChannelTaps, channels * taps, 1)
        } else {
            (LaneContents::Channels, channels, taps)
        };
        let registers = lanes.div_ceil(S::LANES);
        let panels = registers.div_ceil(vectors);
        let blocks = (lanes * products / MIN_TASK_COLUMNS).clamp(1, panels);
        let chunks = MIN_TASKS.div_ceil(geometry.groups * blocks).min(windows.count());
        Division {
            level,
            stencil,
            windows,
            columns: output_size[1],
            groups: geometry.groups,
            filters,
            channels,
            lane_contents,
            lanes,
            products,
            registers,
            panels,
            blocks,
            chunks,
            tile_rows,
            register: S::LANES,
        }
    }
}

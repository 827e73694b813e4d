//! How the product is divided into tasks, panels and tiles.

use std::ops::Range;

use super::transposition::SLACK;
use crate::Level;
use crate::isa::{Kernel, MAX_LANES, MAX_VECTORS, Simd};
use crate::tile::{Depth, TileShape};
use crate::training::TrainingConv2d;
use crate::training::stencil::{Stencil, Strides, Window, Windows};

/// Pixels per window: `dy` and `x` of a window, transposed, stay in a 512 KiB L2 cache for up to 256 filters.
const WINDOW: usize = 256;
/// Weights per filter that a task covers at least, so that transposing `dy` for it is a small part of its work.
const TASK_COLUMNS: usize = 256;
/// Tasks that a gradient is divided into at least, if it has as many windows.
const TASKS: usize = 16;

/// What the lanes of registers hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lanes {
    /// Channels. Every tap is an offset into positions, and a product of its own.
    Channels,
    /// Pairs of a channel and a tap, as in `[C/G, R, S]`. There is one product.
    ChannelTaps,
}

/// The division of a gradient.
///
/// The lanes of a group fill registers; registers are cut into panels as wide as a tile, and panels are dealt out to
/// blocks. A task computes one chunk of windows for one block of one group. Its sums are laid out
/// `[panel][product][filter][lane]`.
pub(super) struct Division {
    pub(super) level: Level,
    pub(super) stencil: Stencil,
    pub(super) windows: Windows,
    columns: usize,
    groups: usize,
    /// Filters and channels per group.
    pub(super) filters: usize,
    pub(super) channels: usize,
    pub(super) lanes_hold: Lanes,
    /// Lanes and products of a group.
    pub(super) lanes: usize,
    pub(super) products: usize,
    registers: usize,
    panels: usize,
    blocks: usize,
    chunks: usize,
    /// Rows of a tile, lanes of a register.
    pub(super) tile_rows: usize,
    register: usize,
}

/// A task of a division.
pub(super) struct Part {
    pub(super) group: usize,
    pub(super) block: usize,
    /// Indices of windows.
    pub(super) chunk: Range<usize>,
}

/// The layout of what is read for a window.
pub(super) struct Extent {
    pub(super) strides: Strides,
    /// `[images, rows, columns]`.
    pub(super) count: [usize; 3],
    /// Positions of transposed planes.
    pub(super) positions: usize,
}

/// A panel of a block.
pub(super) struct Panel {
    /// Registers of the group.
    pub(super) registers: Range<usize>,
    /// Lanes of the block before this panel.
    pub(super) before: usize,
    /// Lanes of the panel.
    pub(super) width: usize,
}

impl Extent {
    /// The reduction over the pixels of a window: `width` floats of a panel and `rows` floats of columns for each.
    pub(super) fn depth(&self, rows: usize, width: usize) -> Depth {
        let [_, per_image, per_row] = self.count;
        Depth {
            count: self.count,
            columns: [per_image * per_row * rows, per_row * rows, rows],
            panel: [self.strides.image * width, self.strides.row * width, width],
        }
    }
}

impl Division {
    pub(super) fn new(conv: &TrainingConv2d) -> Self {
        conv.level.run(Divide(conv))
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
    pub(super) fn panels(&self, block: usize) -> impl Iterator<Item = Panel> {
        let start = |panel: usize| panel * self.registers / self.panels;
        let panels = block * self.panels / self.blocks..(block + 1) * self.panels / self.blocks;
        let origin = start(panels.start);
        panels.map(move |panel| {
            let registers = start(panel)..start(panel + 1);
            let before = (registers.start - origin) * self.register;
            Panel { before, width: registers.len() * self.register, registers }
        })
    }

    /// Row panels as `(first filter, rows of the tile)`.
    pub(super) fn row_panels(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = |first| self.tile_rows.min(self.filters - first).next_power_of_two();
        (0..self.filters).step_by(self.tile_rows).map(move |first| (first, rows(first)))
    }

    /// Filters of a group, rounded up to whole row panels.
    pub(super) fn rows(&self) -> usize {
        self.filters.next_multiple_of(self.tile_rows)
    }

    pub(super) fn extent(&self, window: &Window) -> Extent {
        let [images, rows] = [window.images.len(), window.rows.len()];
        let strides = self.stencil.strides(images, rows, self.columns);
        let positions = match self.lanes_hold {
            Lanes::Channels => strides.channel,
            Lanes::ChannelTaps => (images - 1) * strides.image + (rows - 1) * strides.row + self.columns,
        };
        Extent { strides, count: [images, rows, self.columns], positions: positions.next_multiple_of(self.register) }
    }

    /// Elements of the sums of the largest task.
    pub(super) fn sums_len(&self) -> usize {
        self.block_lanes() * self.products * self.rows()
    }

    /// Elements of scratch for staged planes, transposed planes and transposed filters.
    pub(super) fn scratch(&self) -> [usize; 3] {
        let extent = self.extent(&self.windows.get(0));
        [
            self.register.min(self.channels) * extent.strides.channel,
            self.block_lanes() * (extent.positions + self.register),
            self.rows() * self.windows.outputs() + SLACK,
        ]
    }

    /// Lanes of the largest block.
    fn block_lanes(&self) -> usize {
        let lanes = |block| self.panels(block).map(|panel| panel.width).sum();
        (0..self.blocks).map(lanes).max().unwrap_or(0)
    }

    /// Adds up the sums of all chunks for one filter, counted over all groups: `dw` is its `[C/G, R, S]`.
    pub(super) fn collect(&self, sums: &[f32], filter: usize, dw: &mut [f32]) {
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
struct Divide<'a>(&'a TrainingConv2d);

impl Kernel for Divide<'_> {
    type Output = Division;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Division {
        let TileShape { vectors, columns: tile_rows } = TileShape::transposable::<S>();
        let TrainingConv2d { geometry, batch, output_size, level, .. } = *self.0;
        let stencil = Stencil::forward(&geometry);
        let windows = Windows::new(batch, output_size, WINDOW);
        let (filters, channels) = (geometry.out_channels / geometry.groups, geometry.in_channels / geometry.groups);
        let taps = stencil.taps();
        let (lanes_hold, lanes, products) = if channels < S::LANES && taps > 1 {
            (Lanes::ChannelTaps, channels * taps, 1)
        } else {
            (Lanes::Channels, channels, taps)
        };
        let registers = lanes.div_ceil(S::LANES);
        let panels = registers.div_ceil(vectors);
        let blocks = (lanes * products / TASK_COLUMNS).clamp(1, panels);
        let chunks = TASKS.div_ceil(geometry.groups * blocks).min(windows.count());
        Division {
            level,
            stencil,
            windows,
            columns: output_size[1],
            groups: geometry.groups,
            filters,
            channels,
            lanes_hold,
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

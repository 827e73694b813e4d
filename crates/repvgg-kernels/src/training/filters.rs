//! Filters packed for one call, with their stencil.

use super::stencil::Stencil;
use crate::isa::{Kernel, Simd};
use crate::tile::TileShape;
use crate::{Geometry, Level, ThreadPool};

/// Packed weights with their stencil.
///
/// The layout is `[group][row panel][c][r][s][row]`, where a panel has one row per column of a tile. The last panel of a group
/// may have fewer rows, rounded up to a power of two, but occupies the space of a full panel.
#[derive(Debug, Clone)]
pub(super) struct Filters {
    pub(super) level: Level,
    pub(super) stencil: Stencil,
    pub(super) shape: FilterShape,
    pub(super) panel_rows: usize,
    pub(super) packed: Vec<f32>,
}

/// The sizes of a grouped matrix of filters.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilterShape {
    pub(super) groups: usize,
    /// Filters per group.
    pub(super) rows: usize,
    /// Input channels per group.
    pub(super) channels: usize,
}

/// Weights in memory and the offsets of their taps.
struct FilterSource<'a, Start> {
    weights: &'a [f32],
    /// The taps of a kernel that the stencil uses.
    taps: &'a [usize],
    /// The start of the `R·S` taps of a filter (counted over all groups) and a channel (counted within its group).
    start: Start,
}

impl Filters {
    /// Packs the weights `[K, C/G, R, S]` of a convolution.
    pub(super) fn forward(pool: &ThreadPool, level: Level, geometry: &Geometry, weights: &[f32]) -> Self {
        let groups = geometry.groups;
        let shape =
            FilterShape { groups, rows: geometry.out_channels / groups, channels: geometry.in_channels / groups };
        let stencil = Stencil::forward(geometry);
        let taps: Vec<usize> = stencil.kernel_indices(geometry.kernel[1]).collect();
        let start = |filter: usize, channel: usize| (filter * shape.channels + channel) * taps.len();
        Self::pack(pool, level, shape, stencil, &FilterSource { weights, taps: &taps, start })
    }

    /// Packs the weights `[K, C/G, R, S]` of a convolution, transposed and rotated, for a backward stencil.
    pub(super) fn backward(
        pool: &ThreadPool,
        level: Level,
        geometry: &Geometry,
        stencil: Stencil,
        weights: &[f32],
    ) -> Self {
        let groups = geometry.groups;
        let shape =
            FilterShape { groups, rows: geometry.in_channels / groups, channels: geometry.out_channels / groups };
        let [r, s] = geometry.kernel;
        let taps: Vec<usize> = stencil.kernel_indices(s).collect();
        let start = |row: usize, channel: usize| {
            let (group, row) = (row / shape.rows, row % shape.rows);
            ((group * shape.channels + channel) * shape.rows + row) * r * s
        };
        Self::pack(pool, level, shape, stencil, &FilterSource { weights, taps: &taps, start })
    }

    /// Whether each filter reads a single channel of its own group.
    pub(super) fn is_depthwise(&self) -> bool {
        self.shape.rows * self.shape.channels == 1
    }

    fn pack(
        pool: &ThreadPool,
        level: Level,
        shape: FilterShape,
        stencil: Stencil,
        source: &FilterSource<'_, impl Fn(usize, usize) -> usize + Sync>,
    ) -> Self {
        let FilterSource { weights, taps, start } = source;
        let panel_rows = level.run(PanelRows).min(shape.rows.next_power_of_two());
        let panels = shape.rows.div_ceil(panel_rows);
        let panel_len = shape.channels * taps.len() * panel_rows;
        let mut packed = vec![0.0; shape.groups * panels * panel_len];
        pool.for_each_chunk(&mut packed, panel_len.max(1), |panel, packed| {
            let (group, first) = (panel / panels, panel % panels * panel_rows);
            let valid = panel_rows.min(shape.rows - first);
            let width = valid.next_power_of_two();
            for row in 0..valid {
                for channel in 0..shape.channels {
                    let kernel = &weights[start(group * shape.rows + first + row, channel)..];
                    for (i, &tap) in taps.iter().enumerate() {
                        packed[(channel * taps.len() + i) * width + row] = kernel[tap];
                    }
                }
            }
        });
        Self { level, stencil, shape, panel_rows, packed }
    }
}

/// The columns of [`TileShape::transposable`] as a kernel.
struct PanelRows;

impl Kernel for PanelRows {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        TileShape::transposable::<S>().columns
    }
}

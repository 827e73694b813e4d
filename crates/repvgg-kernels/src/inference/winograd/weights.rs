//! The filters `U = G g Gᵀ`, computed in `f64`, rounded once, and packed in the order in which products read them; or raw
//! filters for [`Storage::Raw`].

use super::{FilterForm, Storage};
use crate::isa::{Kernel, MAX_LANES, MAX_VECTORS, Simd};
use crate::tile::{DivideFilters, FilterPanel, PackedPanels};
use crate::winograd::cover::AxisTiles;
use crate::winograd::transform::MAX_SLOTS;
use crate::{Geometry, Level, ThreadPool};

/// The filters of a 3×3 convolution: `[panel][point][c][V · lanes]` transformed, `[panel][c][r][s][V · lanes]` raw.
#[derive(Debug)]
pub(crate) struct WinogradWeights {
    pub(super) form: FilterForm,
    pub(super) packed: PackedPanels,
}

impl WinogradWeights {
    /// Packs `weights` `[K, C/G, 3, 3]`.
    ///
    /// # Errors
    ///
    /// If the system cannot allocate the memory.
    pub(crate) fn pack(
        pool: &ThreadPool,
        level: Level,
        geometry: &Geometry,
        form: FilterForm,
        weights: &[f32],
    ) -> std::io::Result<Self> {
        let lanes = level.lanes();
        let len = |panel: &FilterPanel| form.stored_floats() * panel.area(lanes);
        let pack = |panel: &FilterPanel, target: &mut [f32]| match form.storage {
            Storage::Transformed => {
                level.run(TransformFilters { geometry, axes: form.axes, weights, panel, target });
            }
            Storage::Raw => pack_raw(geometry, lanes, panel, weights, target),
        };
        let packed = PackedPanels::pack(pool, level.run(DivideFilters(geometry)), len, pack)?;
        Ok(Self { form, packed })
    }

    /// The size of the packed filters in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// The transformed filters of a panel at a pair of points; empty beyond the last panel.
    #[inline(always)]
    pub(super) fn at(&self, panel: usize, point: usize) -> &[f32] {
        let weights = self.packed.weights_or_empty(panel);
        let len = weights.len() / self.form.points();
        &weights[point * len..][..len]
    }
}

/// Packs the raw filters of one panel: `[c][r][s][V · lanes]`.
fn pack_raw(geometry: &Geometry, lanes: usize, panel: &FilterPanel, weights: &[f32], target: &mut [f32]) {
    let [filters, channels] = [geometry.out_channels, geometry.in_channels].map(|count| count / geometry.groups);
    let (width, first) = (panel.vectors.len() * lanes, panel.vectors.start * lanes);
    for filter in first..(first + width).min(geometry.out_channels) {
        for within in 0..channels {
            let channel = filter / filters * channels + within - panel.blocks.start * lanes;
            let kernel = &weights[(filter * channels + within) * 9..][..9];
            for (tap, &weight) in kernel.iter().enumerate() {
                target[(channel * 9 + tap) * width + filter - first] = weight;
            }
        }
    }
}

/// Transforms the filters of one panel: `[point][c][V · lanes]`.
struct TransformFilters<'a> {
    geometry: &'a Geometry,
    axes: [AxisTiles; 2],
    weights: &'a [f32],
    panel: &'a FilterPanel,
    target: &'a mut [f32],
}

impl Kernel for TransformFilters<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        const WIDTH: usize = MAX_VECTORS * MAX_LANES;
        let Self { geometry, axes, weights, panel, target } = self;
        let [vertical, horizontal] = axes.map(AxisTiles::filter);
        let [rows, columns] = axes.map(AxisTiles::weights);
        let [filters, channels] = [geometry.out_channels, geometry.in_channels].map(|count| count / geometry.groups);
        let width = panel.vectors.len() * S::LANES;
        let first = panel.vectors.start * S::LANES;
        for (index, channel) in (panel.blocks.start * S::LANES..panel.blocks.end * S::LANES).enumerate() {
            let mut taps = [[0.0; WIDTH]; 9];
            for lane in 0..width {
                let filter = first + lane;
                let within = channel.checked_sub(filter / filters * channels);
                if let (true, Some(within)) = (filter < geometry.out_channels, within.filter(|&c| c < channels)) {
                    let kernel = &weights[(filter * channels + within) * 9..][..9];
                    taps.iter_mut().zip(kernel).for_each(|(tap, &weight)| tap[lane] = f64::from(weight));
                }
            }
            let mut half = [[[0.0; WIDTH]; 3]; MAX_SLOTS];
            for (half, g) in half.iter_mut().zip(&vertical).take(rows) {
                for (column, half) in half.iter_mut().enumerate() {
                    for lane in 0..width {
                        let tap = |row: usize| g[row] * taps[row * 3 + column][lane];
                        half[lane] = tap(0) + tap(1) + tap(2);
                    }
                }
            }
            for (row, half) in half.iter().enumerate().take(rows) {
                for (column, g) in horizontal.iter().enumerate().take(columns) {
                    let start = (row * columns + column) * panel.area(S::LANES) + index * width;
                    for (lane, target) in target[start..][..width].iter_mut().enumerate() {
                        *target = (half[0][lane] * g[0] + half[1][lane] * g[1] + half[2][lane] * g[2]) as f32;
                    }
                }
            }
        }
    }
}

//! The division of filters into panels as wide as a register tile, and weights packed panel by panel.

use std::ops::Range;

use crate::isa::{Kernel, Simd};
use crate::memory::Buffer;
use crate::{Element, Geometry, ThreadPool};

/// A panel: registers of filters that are multiplied together, and the blocks of channels that they read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterPanel {
    /// Indices of registers, counted over all filters.
    pub(crate) vectors: Range<usize>,
    /// Indices of blocks of input channels, each with one channel per lane.
    pub(crate) blocks: Range<usize>,
}

impl FilterPanel {
    /// Filters times input channels, both padded to whole registers.
    pub(crate) fn area(&self, lanes: usize) -> usize {
        self.vectors.len() * self.blocks.len() * lanes * lanes
    }
}

/// Divides the filters into panels, with the least estimated work; wide panels are a little faster.
///
/// A panel of a grouped convolution reads the blocks of all groups of its filters, with zeros for weights that do not exist.
pub(crate) fn divide_filters<S: Simd>(_: S, geometry: &Geometry) -> Vec<FilterPanel> {
    let lanes = S::LANES;
    let total = geometry.out_channels.div_ceil(lanes);
    let [filters, channels] = [geometry.out_channels, geometry.in_channels].map(|count| count / geometry.groups);
    let blocks = |vectors: Range<usize>| {
        let last = (vectors.end * lanes).min(geometry.out_channels) - 1;
        let groups = [vectors.start * lanes / filters, last / filters + 1];
        groups[0] * channels / lanes..(groups[1] * channels).div_ceil(lanes)
    };
    // Broadcasts limit narrow tiles: the relative time per register of panels of 1, 2, 3, … registers.
    let work = |vectors: usize, blocks: usize| (blocks * vectors) as f64 * [1.25, 1.03, 1.0, 1.0][vectors - 1];
    let mut best = vec![(0.0, 0)];
    for end in 1..=total {
        let options = (1..=S::COLUMNS.len().min(end)).map(|vectors| {
            let start = end - vectors;
            (best[start].0 + work(vectors, blocks(start..end).len()), vectors)
        });
        best.push(options.min_by(|a, b| a.0.total_cmp(&b.0)).expect("a panel of one register is always possible"));
    }
    let mut panels = Vec::new();
    let mut end = total;
    while end > 0 {
        let start = end - best[end].1;
        panels.push(FilterPanel { vectors: start..end, blocks: blocks(start..end) });
        end = start;
    }
    panels.reverse();
    panels
}

/// [`divide_filters`] as a kernel.
pub(crate) struct DivideFilters<'a>(pub(crate) &'a Geometry);

impl Kernel for DivideFilters<'_> {
    type Output = Vec<FilterPanel>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<FilterPanel> {
        divide_filters(simd, self.0)
    }
}

/// Weights packed panel by panel.
#[derive(Debug)]
pub(crate) struct PackedPanels<T: Element = f32> {
    pub(crate) panels: Vec<FilterPanel>,
    /// The start of each panel's weights, and the end of the last panel's.
    starts: Vec<usize>,
    weights: Buffer<T>,
}

impl<T: Element> PackedPanels<T> {
    /// Packs panels of `len` elements each; `pack` fills the zeroed weights of one panel.
    ///
    /// # Errors
    ///
    /// If the system cannot allocate the memory.
    pub(crate) fn pack(
        pool: &ThreadPool,
        panels: Vec<FilterPanel>,
        len: impl Fn(&FilterPanel) -> usize,
        pack: impl Fn(&FilterPanel, &mut [T]) + Sync,
    ) -> std::io::Result<Self> {
        let mut starts = vec![0];
        for panel in &panels {
            starts.push(starts[starts.len() - 1] + len(panel));
        }
        let mut weights = Buffer::zeroed(starts[panels.len()])?;
        pool.for_each_part(&mut weights, &starts, |index, part| pack(&panels[index], part));
        Ok(Self { panels, starts, weights })
    }

    /// The weights of a panel.
    pub(crate) fn weights(&self, panel: usize) -> &[T] {
        &self.weights[self.starts[panel]..self.starts[panel + 1]]
    }

    /// The weights of a panel, or an empty slice beyond the last panel.
    pub(crate) fn weights_or_empty(&self, panel: usize) -> &[T] {
        if panel < self.panels.len() { self.weights(panel) } else { &[] }
    }

    /// The size of all weights in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.weights.bytes()
    }
}

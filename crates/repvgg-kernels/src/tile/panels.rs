//! Filters divided into panels as wide as a register tile, and their weights packed panel by panel.

use std::ops::Range;

use crate::isa::{Kernel, Simd};
use crate::memory::Buffer;
use crate::{Element, Geometry, ThreadPool};

/// Registers of filters that are multiplied together, and the channel blocks that they read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panel {
    /// Registers, counted over all filters.
    pub(crate) vectors: Range<usize>,
    /// Blocks of as many input channels as a register has lanes.
    pub(crate) blocks: Range<usize>,
}

impl Panel {
    /// Filters times input channels, both as padded.
    pub(crate) fn area(&self, lanes: usize) -> usize {
        self.vectors.len() * self.blocks.len() * lanes * lanes
    }
}

/// Divides the filters into panels.
///
/// A panel of a grouped convolution reads the blocks of all groups that its filters belong to, with zeros for weights
/// that do not exist. Of all divisions the one with the least work is taken, where wide panels work a little faster.
pub(crate) fn panels<S: Simd>(_: S, geometry: &Geometry) -> Vec<Panel> {
    let lanes = S::LANES;
    let total = geometry.out_channels.div_ceil(lanes);
    let [filters, channels] = [geometry.out_channels, geometry.in_channels].map(|count| count / geometry.groups);
    let blocks = |vectors: Range<usize>| {
        let last = (vectors.end * lanes).min(geometry.out_channels) - 1;
        let groups = [vectors.start * lanes / filters, last / filters + 1];
        groups[0] * channels / lanes..(groups[1] * channels).div_ceil(lanes)
    };
    // Broadcasts limit a narrow tile: 1, 2, 3, … registers work at about this fraction of the peak.
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
        panels.push(Panel { vectors: start..end, blocks: blocks(start..end) });
        end = start;
    }
    panels.reverse();
    panels
}

/// [`panels`] as a kernel.
pub(crate) struct Panels<'a>(pub(crate) &'a Geometry);

impl Kernel for Panels<'_> {
    type Output = Vec<Panel>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<Panel> {
        panels(simd, self.0)
    }
}

/// Weights packed panel by panel.
#[derive(Debug)]
pub(crate) struct PackedPanels<T: Element = f32> {
    pub(crate) panels: Vec<Panel>,
    /// Where the weights of each panel start, and the end of the last.
    starts: Vec<usize>,
    weights: Buffer<T>,
}

impl<T: Element> PackedPanels<T> {
    /// Packs panels of `len` elements; `pack` gets each panel and its zeroed place.
    ///
    /// # Errors
    ///
    /// When the system refuses the memory.
    pub(crate) fn pack(
        pool: &ThreadPool,
        panels: Vec<Panel>,
        len: impl Fn(&Panel) -> usize,
        pack: impl Fn(&Panel, &mut [T]) + Sync,
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

    /// The weights of a panel, or nothing beyond the last.
    pub(crate) fn weights_or_none(&self, panel: usize) -> &[T] {
        if panel < self.panels.len() { self.weights(panel) } else { &[] }
    }

    /// Bytes of all weights.
    pub(crate) fn bytes(&self) -> usize {
        self.weights.bytes()
    }
}

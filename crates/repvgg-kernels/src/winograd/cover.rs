//! The outputs of an axis, divided into tiles.

use std::ops::Range;

use super::families::Family;
use super::points::Points;
use super::transform::MAX_SLOTS;

/// Tiles that cover the outputs of an axis exactly, the largest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cover {
    pub(crate) axis: AxisTiles,
    pub(crate) tiles: Vec<TileExtent>,
    /// For each row of weights, how often the axis uses it.
    pub(crate) uses: [usize; MAX_SLOTS],
}

/// The tiles of an axis: their family, and which of them are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AxisTiles {
    /// 1 or 2.
    pub(crate) stride: usize,
    /// The largest tile of the family, whose weights are used.
    pub(crate) family: usize,
    /// The largest tile of the cover.
    pub(crate) largest: usize,
}

/// What tells a tile's transforms from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileForm {
    /// Input pixels between neighbouring outputs.
    pub(crate) stride: usize,
    /// The largest tile of its family.
    pub(crate) family: usize,
    pub(crate) outputs: usize,
}

/// A tile and the first of its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileExtent {
    pub(crate) outputs: usize,
    pub(crate) start: usize,
}

/// Neighbouring tiles of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileRun {
    pub(crate) outputs: usize,
    pub(crate) count: usize,
    /// The first tile's first output.
    pub(crate) start: usize,
    /// For each slot of the first tile its row of weights, and its place among all that use the row.
    pub(crate) slots: [(usize, usize); MAX_SLOTS],
}

/// The most sizes of tiles in a cover: the largest, one less, two less.
pub(crate) const MAX_RUNS: usize = 3;

impl AxisTiles {
    /// The tiles for `outputs` outputs: as few of up to `tile` as there can be, none larger than it has to be.
    ///
    /// # Panics
    ///
    /// If the stride has no tiles of this size.
    pub(crate) fn new(stride: usize, tile: usize, outputs: usize) -> Self {
        let largest = outputs.div_ceil(outputs.div_ceil(tile));
        let family = Family::smallest(stride, largest).expect("a family has tiles of this size");
        Self { stride, family: family.largest, largest }
    }

    fn points(self) -> Points {
        let family = Family::smallest(self.stride, self.family).expect("it has a family");
        Points::of(&family)
    }

    /// A tile of some outputs.
    pub(crate) fn shape(self, outputs: usize) -> TileForm {
        TileForm { stride: self.stride, family: self.family, outputs }
    }

    /// Slots of a tile that are points.
    pub(crate) fn transformed(self, outputs: usize) -> usize {
        self.points().count(outputs)
    }

    /// All slots of a tile: products per output of the other axis.
    pub(crate) fn slots(self, outputs: usize) -> usize {
        self.transformed(outputs) + if self.stride == 2 { outputs } else { 0 }
    }

    /// Inputs that `outputs` neighbouring outputs read.
    pub(crate) fn inputs(self, outputs: usize) -> usize {
        self.stride * (outputs - 1) + 3
    }

    /// Rows of transformed weights: one for each point of the largest tile, and for stride 2 the middle tap.
    pub(crate) fn weights(self) -> usize {
        self.transformed(self.largest) + self.stride - 1
    }

    /// The row of weights that a slot of a tile uses.
    pub(crate) fn weight(self, outputs: usize, slot: usize) -> usize {
        if slot < self.transformed(outputs) { slot } else { self.weights() - 1 }
    }

    /// `G`, `[weight][tap]`, for the three taps of the filter.
    pub(crate) fn filter(self) -> [[f64; 3]; MAX_SLOTS] {
        let mut matrix = self.points().filter();
        if self.stride == 2 {
            matrix.iter_mut().for_each(|row| *row = [row[0], 0.0, row[1]]);
            matrix[self.weights() - 1] = [0.0, 1.0, 0.0];
        }
        matrix
    }
}

impl Cover {
    /// Covers `outputs` outputs with as few tiles as there can be, none larger than it has to be. Where some tiles
    /// must be smaller than others, even ones are preferred to odd ones, because their points come in pairs.
    pub(crate) fn new(axis: AxisTiles, outputs: usize) -> Self {
        let count = outputs.div_ceil(axis.largest);
        let largest = outputs.div_ceil(count);
        let mut spare = count * largest - outputs;
        let mut sizes = vec![largest; count];
        for size in sizes.iter_mut().rev() {
            let less = match spare {
                0 => break,
                1 => 1,
                _ if largest.is_multiple_of(2) && largest > 2 => 2,
                _ => 1,
            };
            *size -= less;
            spare -= less;
        }
        debug_assert_eq!(spare, 0, "every tile gives up at most one output on average");
        sizes.sort_unstable_by_key(|&size| std::cmp::Reverse(size));
        let mut start = 0;
        let mut uses = [0; MAX_SLOTS];
        let mut tiles = Vec::with_capacity(count);
        for outputs in sizes {
            (0..axis.slots(outputs)).for_each(|slot| uses[axis.weight(outputs, slot)] += 1);
            tiles.push(TileExtent { outputs, start });
            start += outputs;
        }
        Self { axis, tiles, uses }
    }

    /// The tiles of a range as runs of equal ones.
    pub(crate) fn runs(&self, tiles: Range<usize>) -> Vec<TileRun> {
        let mut first = tiles.start;
        let mut runs = Vec::with_capacity(MAX_RUNS);
        for tiles in self.tiles[tiles].chunk_by(|a, b| a.outputs == b.outputs) {
            let TileExtent { outputs, start } = tiles[0];
            let transformed = self.axis.transformed(outputs);
            let slots = std::array::from_fn(|slot| match slot {
                slot if slot < transformed => (slot, first),
                slot if slot < self.axis.slots(outputs) => (self.axis.weights() - 1, start + slot - transformed),
                _ => (0, 0),
            });
            runs.push(TileRun { outputs, count: tiles.len(), start, slots });
            first += tiles.len();
        }
        runs
    }

    /// All outputs.
    pub(crate) fn extent(&self) -> usize {
        self.tiles.last().map_or(0, |tile| tile.start + tile.outputs)
    }

    /// The outputs of a range of tiles.
    pub(crate) fn outputs(&self, tiles: Range<usize>) -> Range<usize> {
        let last = self.tiles[tiles.end - 1];
        self.tiles[tiles.start].start..last.start + last.outputs
    }
}

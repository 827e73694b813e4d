//! The division of an axis of outputs into tiles.

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

/// The tiles of an axis: their family and the largest size in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AxisTiles {
    /// 1 or 2.
    pub(crate) stride: usize,
    /// The family, by the outputs of its largest tile. All tiles use the weights of that tile.
    pub(crate) family: usize,
    /// The largest tile of the cover.
    pub(crate) largest: usize,
}

/// The properties of a tile that determine its transforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileKind {
    /// Input pixels between neighbouring outputs.
    pub(crate) stride: usize,
    /// The outputs of the family's largest tile.
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
    /// The first output of the first tile.
    pub(crate) start: usize,
    /// The place of each slot of the first tile.
    pub(crate) slots: [SlotPlace; MAX_SLOTS],
}

/// The place of a tile's slot among the products of its axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SlotPlace {
    /// The row of weights of the slot.
    pub(crate) weight: usize,
    /// The index of the slot among all that use this row.
    pub(crate) index: usize,
}

/// The most tile sizes of a cover: the largest, one less, two less.
pub(crate) const MAX_RUNS: usize = 3;

impl AxisTiles {
    /// The tiles for `outputs` outputs: as few tiles of up to `tile` outputs as possible, none larger than necessary.
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
        let family = Family::smallest(self.stride, self.family).expect("the tiles have a family");
        Points::of(&family)
    }

    /// The kind of a tile with `outputs` outputs.
    pub(crate) fn kind(self, outputs: usize) -> TileKind {
        TileKind { stride: self.stride, family: self.family, outputs }
    }

    /// The number of a tile's slots that are points.
    pub(crate) fn transformed(self, outputs: usize) -> usize {
        self.points().count(outputs)
    }

    /// The number of slots of a tile, which is its number of products per slot of the other axis.
    pub(crate) fn slots(self, outputs: usize) -> usize {
        self.transformed(outputs) + if self.stride == 2 { outputs } else { 0 }
    }

    /// The number of inputs that `outputs` neighbouring outputs read.
    pub(crate) fn inputs(self, outputs: usize) -> usize {
        self.stride * (outputs - 1) + 3
    }

    /// The number of rows of transformed weights: one for each point of the largest tile, and for stride 2 the middle tap.
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
    /// Covers `outputs` outputs with as few tiles as possible, none larger than necessary. If tiles differ in size, even sizes
    /// are preferred, because their points come in pairs.
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
        debug_assert_eq!(spare, 0, "there are fewer spare outputs than tiles");
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

    /// The tiles of a range, as runs of equal size.
    pub(crate) fn runs(&self, tiles: Range<usize>) -> Vec<TileRun> {
        let mut first = tiles.start;
        let mut runs = Vec::with_capacity(MAX_RUNS);
        for tiles in self.tiles[tiles].chunk_by(|a, b| a.outputs == b.outputs) {
            let TileExtent { outputs, start } = tiles[0];
            let transformed = self.axis.transformed(outputs);
            let slots = std::array::from_fn(|slot| match slot {
                slot if slot < transformed => SlotPlace { weight: slot, index: first },
                slot if slot < self.axis.slots(outputs) => {
                    SlotPlace { weight: self.axis.weights() - 1, index: start + slot - transformed }
                }
                _ => SlotPlace::default(),
            });
            runs.push(TileRun { outputs, count: tiles.len(), start, slots });
            first += tiles.len();
        }
        runs
    }

    /// The number of outputs.
    pub(crate) fn extent(&self) -> usize {
        self.tiles.last().map_or(0, |tile| tile.start + tile.outputs)
    }

    /// The outputs of a range of tiles.
    pub(crate) fn outputs(&self, tiles: Range<usize>) -> Range<usize> {
        let last = self.tiles[tiles.end - 1];
        self.tiles[tiles.start].start..last.start + last.outputs
    }
}

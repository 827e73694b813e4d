//! Winograd's minimal filtering on packed filters; see [`crate::winograd`] for the algebra.
//!
//! Tiles are processed in chunks small enough that V stays in the cache. For each group of filters, all points are multiplied
//! and then transformed back, so M stays in the cache as well.

mod passes;
mod plan;
mod run;
mod weights;

pub(super) use plan::WinogradPlan;
pub(super) use weights::WinogradWeights;

use crate::winograd::cover::AxisTiles;

/// The stored form of filters, and the tiles that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FilterForm {
    /// `[vertical, horizontal]`.
    pub(super) axes: [AxisTiles; 2],
    pub(super) storage: Storage,
}

/// The stored form of filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Storage {
    /// Transformed.
    Transformed,
    /// Untransformed; a run transforms a few channels at a time. This is faster where weights come from main memory and are
    /// used for few tiles, because reading transformed weights would take longer than transforming them.
    Raw,
}

impl FilterForm {
    /// The number of pairs of points of a transformed filter.
    pub(super) fn points(&self) -> usize {
        self.axes.iter().map(|axis| axis.weights()).product()
    }

    /// Floats stored per filter and channel.
    pub(super) fn stored_floats(&self) -> usize {
        match self.storage {
            Storage::Transformed => self.points(),
            Storage::Raw => 9,
        }
    }
}

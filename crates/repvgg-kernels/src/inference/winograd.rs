//! Winograd's minimal filtering on packed filters ([`crate::winograd`] has the algebra).
//!
//! * **Blocking.** Tiles are processed in chunks so small that V stays in the cache, and all points of a group of filters
//!   are multiplied before they are transformed back, so that M does.

mod passes;
mod plan;
mod run;
mod weights;

pub(super) use plan::WinogradPlan;
pub(super) use weights::WinogradWeights;

use crate::winograd::cover::Kind;

/// How filters are stored, and for which tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FilterForm {
    /// `[vertical, horizontal]`.
    pub(super) kinds: [Kind; 2],
    pub(super) storage: Storage,
}

/// How filters are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Storage {
    /// Transformed.
    Transformed,
    /// As they are; a few channels at a time are transformed while the convolution runs. Where weights come from main
    /// memory and meet few tiles, reading them takes longer than transforming them.
    Raw,
}

impl FilterForm {
    /// Pairs of points of transformed filters.
    pub(super) fn points(&self) -> usize {
        self.kinds.iter().map(|kind| kind.weights()).product()
    }

    /// Floats stored for a pair of a filter and a channel.
    pub(super) fn stored(&self) -> usize {
        match self.storage {
            Storage::Transformed => self.points(),
            Storage::Raw => 9,
        }
    }
}

//! The one list of families of tiles. Points, transforms, proofs, algorithms, their names and their tests come from it.
//!
//! A family is a set of interpolation points that tiles of one to `largest` outputs share, and with them one set of
//! transformed filters. Along an axis of stride 2, every second input meets the outer two of three taps, so its families
//! have two taps ([`super`]).

/// Calls `$then! { $context families… }`: an entry of the list is a new family, in everything that is made of families.
///
/// Sizes are even, so that points come in pairs `±p`; for each stride they ascend.
macro_rules! for_each_family {
    ($then:ident $context:tt) => {
        $then! {
            $context
            (stride 1, taps 3, largest 2, outputs (1 2), pairs [1.0])
            (stride 1, taps 3, largest 4, outputs (1 2 3 4), pairs [0.625, 1.5])
            (stride 1, taps 3, largest 6, outputs (1 2 3 4 5 6), pairs [0.5, 2.0, 1.0])
            (stride 1, taps 3, largest 8, outputs (1 2 3 4 5 6 7 8), pairs [0.375, 0.75, 1.25, 2.5])
            (stride 2, taps 2, largest 2, outputs (1 2), pairs [1.0])
            (stride 2, taps 2, largest 4, outputs (1 2 3 4), pairs [0.75, 1.5])
        }
    };
}
pub(crate) use for_each_family;

/// A family of tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    /// Input pixels between neighbouring outputs.
    pub(crate) stride: usize,
    /// Taps of the filter that is transformed.
    pub(crate) taps: usize,
    /// Outputs of the largest tile.
    pub(crate) largest: usize,
    /// The points beside 0 and ∞ are `±p` for each of these.
    ///
    /// Chosen among halves to sixteenths for the least error of random layers, measured in `f32`: the root mean square of
    /// the error over that of the result, for 64 channels, was 3e-7 for F(2, 3), 9e-7 for F(4, 3), 2.7e-6 for F(6, 3),
    /// 1.3e-5 for F(8, 3), and 2e-7 and 6e-7 for F(2, 2) and F(4, 2). (0, ±1, ±2) gives F(4, 3) 2.0e-6.
    pub(crate) pairs: &'static [f64],
}

macro_rules! families {
    (() $((stride $stride:literal, taps $taps:literal, largest $largest:literal, outputs $outputs:tt, pairs $pairs:tt))*) => {
        &[$(Family { stride: $stride, taps: $taps, largest: $largest, pairs: &$pairs }),*]
    };
}

impl Family {
    /// Every family.
    pub(crate) const ALL: &'static [Self] = for_each_family!(families());

    /// The family of some taps whose largest tile has `largest` outputs.
    pub(crate) const fn of(taps: usize, largest: usize) -> Self {
        let mut i = 0;
        while i < Self::ALL.len() {
            if Self::ALL[i].taps == taps && Self::ALL[i].largest == largest {
                return Self::ALL[i];
            }
            i += 1;
        }
        panic!("no such family")
    }

    /// The smallest family of a stride with tiles of `outputs`: it has the best points.
    pub(crate) fn smallest(stride: usize, outputs: usize) -> Option<Self> {
        Self::ALL.iter().copied().find(|family| family.stride == stride && family.largest >= outputs)
    }

    /// Outputs of the largest tile of a stride; 0 where it has none.
    pub(crate) const fn largest(stride: usize) -> usize {
        let (mut largest, mut i) = (0, 0);
        while i < Self::ALL.len() {
            if Self::ALL[i].stride == stride && Self::ALL[i].largest > largest {
                largest = Self::ALL[i].largest;
            }
            i += 1;
        }
        largest
    }

    /// Points of the family's largest tile, infinity included.
    pub(crate) const fn points(&self) -> usize {
        self.largest + self.taps - 1
    }
}

/// The most points of a tile of any family.
pub(crate) const MAX_POINTS: usize = {
    let (mut most, mut i) = (0, 0);
    while i < Family::ALL.len() {
        if Family::ALL[i].points() > most {
            most = Family::ALL[i].points();
        }
        i += 1;
    }
    most
};

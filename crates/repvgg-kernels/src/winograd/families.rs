//! The list of families of tiles. Points, transforms, proofs, algorithms, their names and their tests are generated from it.
//!
//! A family is a set of interpolation points, and with it one set of transformed filters, shared by tiles of one to `largest`
//! outputs. Families of stride 2 have two taps, because every second input is multiplied by the outer two of three taps
//! ([`super`]).

/// Calls `$then! { $context families… }`. A new entry of the list adds a family to everything generated from it.
///
/// Sizes are even, so that points come in pairs `±p`, and ascend for each stride.
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
    /// The number of outputs of the largest tile.
    pub(crate) largest: usize,
    /// The points are 0, ∞, and `±p` for each of these.
    ///
    /// Chosen among halves to sixteenths for the least error on random layers of 64 channels, measured in `f32`. The root mean
    /// square of the error, relative to that of the result, is 3e-7 for F(2, 3), 9e-7 for F(4, 3), 2.7e-6 for F(6, 3), 1.3e-5
    /// for F(8, 3), 2e-7 for F(2, 2) and 6e-7 for F(4, 2). With the points (0, ±1, ±2), F(4, 3) has 2.0e-6.
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

    /// The family with `taps` taps whose largest tile has `largest` outputs.
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

    /// The smallest family of a stride with tiles of `outputs` outputs, which has the most accurate points.
    pub(crate) fn smallest(stride: usize, outputs: usize) -> Option<Self> {
        Self::ALL.iter().copied().find(|family| family.stride == stride && family.largest >= outputs)
    }

    /// The number of outputs of the largest tile of a stride; 0 if there are no tiles.
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

    /// The number of points of the family's largest tile, infinity included.
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

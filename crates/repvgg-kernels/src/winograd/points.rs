//! Interpolation points, and the matrices that follow from them.
//!
//! [`super::derivation`] has the formula and its proof; here it is computed once more, by the compiler, for the sizes that the
//! kernels have. The tests hold both to be equal.
//!
//! The points of a family are ordered `0, ∞, a, −a, b, −b, …`, and a tile of `m` outputs uses the first `m + r − 1` of
//! them: tiles of every size share one set of transformed weights, those of the family's largest tile, and the ratio of
//! the two `N(p)` is left to the smaller tile's `Bᵀ`. So any number of outputs is covered exactly, and no product is
//! spent on outputs that nobody asked for.
//!
//! All points are small dyadic rationals, so every entry of `Bᵀ` and `Aᵀ` is exact in `f32`.

/// Bound on the points of a tile.
pub(crate) const MAX_POINTS: usize = 10;

/// The points of a family. They fill *slots*, infinity the second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Points {
    /// Taps of the filter: 3, or 2 of every second input of a filter of stride 2.
    pub(crate) taps: usize,
    /// Outputs of the largest tile.
    pub(crate) largest: usize,
    finite: [f64; MAX_POINTS - 1],
}

impl Points {
    /// The slot of infinity.
    pub(crate) const INFINITY: usize = 1;

    /// The points for `taps` taps and tiles of up to `largest` outputs.
    ///
    /// Chosen among halves to sixteenths for the least error of random layers, measured in `f32`; the root mean square of
    /// the error over that of the result, for 64 channels, was 3e-7 for F(2, 3), 9e-7 for F(4, 3), 2.7e-6 for F(6, 3),
    /// 1.3e-5 for F(8, 3), and 2e-7 and 6e-7 for F(2, 2) and F(4, 2). (0, ±1, ±2) gives F(4, 3) 2.0e-6.
    pub(crate) const fn of(taps: usize, largest: usize) -> Self {
        let pairs: [f64; 4] = match (taps, largest) {
            (3, 2) => [1.0, 0.0, 0.0, 0.0],
            (3, 4) => [0.625, 1.5, 0.0, 0.0],
            (3, 6) => [0.5, 2.0, 1.0, 0.0],
            (3, 8) => [0.375, 0.75, 1.25, 2.5],
            (2, 2) => [1.0, 0.0, 0.0, 0.0],
            (2, 4) => [0.75, 1.5, 0.0, 0.0],
            _ => panic!("no such family"),
        };
        let mut finite = [0.0; MAX_POINTS - 1];
        let mut i = 1;
        while i < finite.len() {
            let pair = pairs[(i - 1) / 2];
            finite[i] = if i % 2 == 1 { pair } else { -pair };
            i += 1;
        }
        Self { taps, largest, finite }
    }

    /// Points of a tile of `outputs`, infinity included.
    pub(crate) const fn count(&self, outputs: usize) -> usize {
        outputs + self.taps - 1
    }

    /// The point of a slot other than infinity's.
    pub(crate) const fn at(&self, slot: usize) -> f64 {
        if slot == 0 { self.finite[0] } else { self.finite[slot - 1] }
    }

    /// `Π (p − q)` over the finite points `q ≠ p` of a tile.
    const fn spread(&self, slot: usize, outputs: usize) -> f64 {
        let mut product = 1.0;
        let mut other = 0;
        while other < self.count(outputs) {
            if other != slot && other != Self::INFINITY {
                product *= self.at(slot) - self.at(other);
            }
            other += 1;
        }
        product
    }

    /// `Bᵀ` of a tile, `[slot][input]`.
    pub(crate) const fn input(&self, outputs: usize) -> [[f64; MAX_POINTS]; MAX_POINTS] {
        let mut matrix = [[0.0; MAX_POINTS]; MAX_POINTS];
        let mut slot = 0;
        while slot < self.count(outputs) {
            let mut row = [0.0; MAX_POINTS];
            row[0] =
                if slot == Self::INFINITY { 1.0 } else { self.spread(slot, self.largest) / self.spread(slot, outputs) };
            let mut other = 0;
            while other < self.count(outputs) {
                if other != slot && other != Self::INFINITY {
                    // Multiply by `x − q`.
                    let mut power = MAX_POINTS;
                    while power > 0 {
                        power -= 1;
                        let below = if power == 0 { 0.0 } else { row[power - 1] };
                        row[power] = below - self.at(other) * row[power];
                    }
                }
                other += 1;
            }
            matrix[slot] = row;
            slot += 1;
        }
        matrix
    }

    /// `G` of the family, `[slot][tap]`.
    pub(crate) const fn filter(&self) -> [[f64; 3]; MAX_POINTS] {
        let mut matrix = [[0.0; 3]; MAX_POINTS];
        let mut slot = 0;
        while slot < self.count(self.largest) {
            if slot == Self::INFINITY {
                matrix[slot][self.taps - 1] = 1.0;
            } else {
                let mut power = 1.0 / self.spread(slot, self.largest);
                let mut tap = 0;
                while tap < self.taps {
                    matrix[slot][tap] = power;
                    power *= self.at(slot);
                    tap += 1;
                }
            }
            slot += 1;
        }
        matrix
    }

    /// `Aᵀ` of a tile, `[output][slot]`.
    pub(crate) const fn output(&self, outputs: usize) -> [[f64; MAX_POINTS]; MAX_POINTS] {
        let mut matrix = [[0.0; MAX_POINTS]; MAX_POINTS];
        let mut slot = 0;
        while slot < self.count(outputs) {
            let mut power = 1.0;
            let mut output = 0;
            while output < outputs {
                matrix[output][slot] =
                    if slot == Self::INFINITY { (output + 1 == outputs) as u8 as f64 } else { power };
                power *= self.at(slot);
                output += 1;
            }
            slot += 1;
        }
        matrix
    }
}

#[cfg(test)]
mod tests;

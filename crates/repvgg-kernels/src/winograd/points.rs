//! Interpolation points and their matrices, as constants.
//!
//! [`super::derivation`] has the formula and its proof. Here the compiler evaluates the formula for the families that the
//! kernels use ([`super::families`]). A test compares the two.
//!
//! The points of a family are ordered `0, ∞, a, −a, b, −b, …`, and a tile of `m` outputs uses the first `m + r − 1` of them.
//! Tiles of all sizes share the transformed weights of the family's largest tile; the `Bᵀ` of a smaller tile corrects for the
//! ratio of the two `N(p)`. Any number of outputs is therefore covered exactly, without products for outputs that do not exist.
//!
//! All points are small dyadic rationals, so every entry of `Bᵀ` and `Aᵀ` is exact in `f32`.

use super::families::{Family, MAX_POINTS};

/// The points of a family, each in a *slot*; infinity has the second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Points {
    /// Taps of the filter: 3, or the outer 2 of a filter of stride 2.
    pub(crate) taps: usize,
    /// The number of outputs of the largest tile.
    pub(crate) largest: usize,
    finite: [f64; MAX_POINTS - 1],
}

impl Points {
    /// The slot of infinity.
    pub(crate) const INFINITY: usize = 1;

    /// The points of a family: `0, ∞, a, −a, b, −b, …`.
    pub(crate) const fn of(family: &Family) -> Self {
        let mut finite = [0.0; MAX_POINTS - 1];
        let mut i = 0;
        while i < family.pairs.len() {
            finite[2 * i + 1] = family.pairs[i];
            if 2 * i + 2 < finite.len() {
                finite[2 * i + 2] = -family.pairs[i];
            }
            i += 1;
        }
        Self { taps: family.taps, largest: family.largest, finite }
    }

    /// The number of points of a tile of `outputs` outputs, infinity included.
    pub(crate) const fn count(&self, outputs: usize) -> usize {
        outputs + self.taps - 1
    }

    /// The point of a slot other than infinity's.
    pub(crate) const fn at(&self, slot: usize) -> f64 {
        if slot == 0 { self.finite[0] } else { self.finite[slot - 1] }
    }

    /// `N(p) = Π (p − q)` over the finite points `q ≠ p` of a tile.
    const fn denominator(&self, slot: usize, outputs: usize) -> f64 {
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
            row[0] = if slot == Self::INFINITY {
                1.0
            } else {
                self.denominator(slot, self.largest) / self.denominator(slot, outputs)
            };
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
                let mut power = 1.0 / self.denominator(slot, self.largest);
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

//! The transforms of one tile along one axis, on registers.
//!
//! Slots `2k` and `2k + 1` belong to the points `p` and `−p`. Their rows of `Bᵀ` differ only in the sign of the odd half, so
//! both are computed from two half rows `e` and `o`, as `e + p·o` and `e − p·o`. Similarly, `Aᵀ` needs the sum of the two slots
//! for even powers and their difference for odd powers. The rest is a product with a constant sparse matrix, which the compiler
//! specialises entry by entry.

use super::families::{Family, MAX_POINTS};
use super::points::Points;
use crate::isa::Simd;

/// Repeats a block for each constant `$i` in `0..10`.
macro_rules! unroll {
    ($i:ident $body:block) => {
        unroll!($i $body 0 1 2 3 4 5 6 7 8 9)
    };
    ($i:ident $body:block $($n:literal)*) => {
        $({
            const $i: usize = $n;
            $body
        })*
    };
}

/// Upper bound on the inputs and slots of a tile.
pub(crate) const MAX_SLOTS: usize = {
    let stride_2 = 2 * Family::largest(2) + 1;
    if stride_2 > MAX_POINTS { stride_2 } else { MAX_POINTS }
};

const _: () = assert!(MAX_SLOTS == 10, "`unroll!` counts up to the number of slots");

/// The transforms of a tile of `M` outputs, of the family with `TAPS` taps and a largest tile of `LARGEST` outputs.
///
/// Three taps are a filter of stride 1. Two taps are the outer taps of a three-tap filter of stride 2; its middle tap
/// multiplies every second input, untransformed.
pub(crate) struct TileTransform<const TAPS: usize, const LARGEST: usize, const M: usize>;

impl<const TAPS: usize, const LARGEST: usize, const M: usize> TileTransform<TAPS, LARGEST, M> {
    const POINTS: Points = Points::of(&Family::of(TAPS, LARGEST));
    /// The number of slots that are points.
    pub(crate) const TRANSFORMED: usize = M + TAPS - 1;
    /// The number of all slots.
    pub(crate) const SLOTS: usize = if TAPS == 3 { Self::TRANSFORMED } else { Self::TRANSFORMED + M };
    /// The number of inputs that a tile reads.
    pub(crate) const INPUTS: usize = if TAPS == 3 { M + 2 } else { 2 * M + 1 };
    /// Half rows of `Bᵀ`.
    const HALVES: [[f32; MAX_POINTS]; MAX_POINTS] = halves(Self::POINTS, M);
    /// `Aᵀ` applied to sums and differences of pairs.
    const SUMS: [[f32; MAX_POINTS]; MAX_POINTS] = sums(Self::POINTS, M);

    /// The number of rows of weights: one for each point, and with two taps the untransformed middle tap.
    pub(crate) const WEIGHTS: usize = Self::TRANSFORMED + if TAPS == 3 { 0 } else { 1 };
    /// `G`.
    const FILTER: [[f32; MAX_POINTS]; MAX_POINTS] = filter(Self::POINTS);

    const fn is_paired(slot: usize) -> bool {
        slot >= 2 && (slot | 1) < Self::TRANSFORMED
    }

    /// `Bᵀ x`, followed by the untransformed inputs.
    #[inline(always)]
    pub(crate) fn input<S: Simd>(simd: S, x: &[S::Vector; MAX_SLOTS]) -> [S::Vector; MAX_SLOTS] {
        let mut slots = [simd.splat(0.0); MAX_SLOTS];
        let mut halves = [simd.splat(0.0); MAX_SLOTS];
        // With stride 2, only every second input is transformed.
        let step = const { if TAPS == 3 { 1 } else { 2 } };
        unroll!(I {
            if const { I < Self::TRANSFORMED } {
                let mut sum = simd.splat(0.0);
                unroll!(J {
                    if const { Self::HALVES[I][J] != 0.0 } {
                        let coefficient = const { Self::HALVES[I][J] };
                        sum = accumulate(simd, const { is_first(&Self::HALVES[I], J) }, coefficient, x[J * step], sum);
                    }
                });
                halves[I] = sum;
            }
        });
        unroll!(I {
            if const { I < Self::TRANSFORMED } {
                slots[I] = if const { Self::is_paired(I) } {
                    let (even, odd) = (halves[I & !1], halves[I | 1]);
                    accumulate(simd, false, const { Self::POINTS.at(I) as f32 }, odd, even)
                } else {
                    halves[I]
                };
            }
        });
        unroll!(I {
            if const { TAPS == 2 && I < M } {
                slots[const { if TAPS == 2 && I < M { Self::TRANSFORMED + I } else { 0 } }] =
                    x[const { if TAPS == 2 && I < M { 2 * I + 1 } else { 0 } }];
            }
        });
        slots
    }

    /// `G g`, for the three taps of a filter.
    #[inline(always)]
    pub(crate) fn filter<S: Simd>(simd: S, taps: [S::Vector; 3]) -> [S::Vector; MAX_SLOTS] {
        let outer = if TAPS == 3 { taps } else { [taps[0], taps[2], taps[1]] };
        let mut weights = [simd.splat(0.0); MAX_SLOTS];
        unroll!(I {
            if const { I < Self::TRANSFORMED } {
                let mut sum = simd.splat(0.0);
                unroll!(J {
                    if const { J < 3 && Self::FILTER[I][J] != 0.0 } {
                        let coefficient = const { Self::FILTER[I][J] };
                        sum = accumulate(simd, const { is_first(&Self::FILTER[I], J) }, coefficient, outer[J % 3], sum);
                    }
                });
                weights[I] = sum;
            }
        });
        if TAPS == 2 {
            weights[Self::TRANSFORMED] = taps[1];
        }
        weights
    }

    /// `Aᵀ y`, plus the untransformed slots.
    #[inline(always)]
    pub(crate) fn output<S: Simd>(simd: S, y: &[S::Vector; MAX_SLOTS]) -> [S::Vector; MAX_SLOTS] {
        let mut terms = *y;
        unroll!(I {
            if const { I.is_multiple_of(2) && I < Self::TRANSFORMED && Self::is_paired(I) } {
                terms[I] = simd.add(y[I], y[I | 1]);
                terms[I | 1] = simd.sub(y[I], y[I | 1]);
            }
        });
        let mut outputs = [simd.splat(0.0); MAX_SLOTS];
        unroll!(I {
            if const { I < M } {
                let mut sum = simd.splat(0.0);
                unroll!(J {
                    if const { Self::SUMS[I][J] != 0.0 } {
                        let coefficient = const { Self::SUMS[I][J] };
                        sum = accumulate(simd, const { is_first(&Self::SUMS[I], J) }, coefficient, terms[J], sum);
                    }
                });
                if TAPS == 2 {
                    sum = simd.add(sum, y[const { if TAPS == 2 && I < M { Self::TRANSFORMED + I } else { 0 } }]);
                }
                outputs[I] = sum;
            }
        });
        outputs
    }
}

/// `coefficient · x + sum`; the first term of a sum ignores `sum`.
#[inline(always)]
fn accumulate<S: Simd>(simd: S, is_first: bool, coefficient: f32, x: S::Vector, sum: S::Vector) -> S::Vector {
    match (is_first, coefficient) {
        (true, 1.0) => x,
        (true, _) => simd.mul(simd.splat(coefficient), x),
        (false, 1.0) => simd.add(sum, x),
        (false, -1.0) => simd.sub(sum, x),
        (false, _) => simd.mul_add(simd.splat(coefficient), x, sum),
    }
}

const fn is_first(row: &[f32; MAX_POINTS], column: usize) -> bool {
    let mut before = 0;
    while before < column {
        if row[before] != 0.0 {
            return false;
        }
        before += 1;
    }
    true
}

const fn halves(points: Points, outputs: usize) -> [[f32; MAX_POINTS]; MAX_POINTS] {
    let rows = points.input(outputs);
    let mut halves = [[0.0; MAX_POINTS]; MAX_POINTS];
    let mut slot = 0;
    while slot < points.count(outputs) {
        let paired = slot >= 2 && (slot | 1) < points.count(outputs);
        let mut input = 0;
        while input < MAX_POINTS {
            halves[slot][input] = if !paired {
                rows[slot][input] as f32
            } else {
                let [plus, minus] = [rows[slot & !1][input], rows[slot | 1][input]];
                let half = if slot % 2 == 0 { plus + minus } else { (plus - minus) / points.at(slot & !1) };
                (half / 2.0) as f32
            };
            input += 1;
        }
        slot += 1;
    }
    halves
}

const fn sums(points: Points, outputs: usize) -> [[f32; MAX_POINTS]; MAX_POINTS] {
    let rows = points.output(outputs);
    let mut sums = [[0.0; MAX_POINTS]; MAX_POINTS];
    let mut output = 0;
    while output < outputs {
        let mut slot = 0;
        while slot < points.count(outputs) {
            let paired = slot >= 2 && (slot | 1) < points.count(outputs);
            // Even powers use the sum of a pair, odd powers its difference, both with the power of the positive point.
            sums[output][slot] = if !paired {
                rows[output][slot] as f32
            } else if slot % 2 == output % 2 {
                rows[output][slot & !1] as f32
            } else {
                0.0
            };
            slot += 1;
        }
        output += 1;
    }
    sums
}

const fn filter(points: Points) -> [[f32; MAX_POINTS]; MAX_POINTS] {
    let rows = points.filter();
    let mut filter = [[0.0; MAX_POINTS]; MAX_POINTS];
    let mut slot = 0;
    while slot < MAX_POINTS {
        let mut tap = 0;
        while tap < points.taps {
            filter[slot][tap] = rows[slot][tap] as f32;
            tap += 1;
        }
        slot += 1;
    }
    filter
}

#[cfg(test)]
mod tests;

//! Transforms on registers compared with the matrices that define them. Both are exact on unit vectors, so they must be equal.

#![expect(clippy::needless_range_loop, reason = "loops use the indices of the matrices")]

use super::{MAX_SLOTS, TileTransform};
use crate::cases::levels;
use crate::isa::{Kernel, MAX_LANES, Simd};
use crate::winograd::families::for_each_family;

/// Checks the three transforms of a tile on every unit vector.
struct Check<const TAPS: usize, const FAMILY: usize, const M: usize>;

impl<const TAPS: usize, const FAMILY: usize, const M: usize> Kernel for Check<TAPS, FAMILY, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let points = TileTransform::<TAPS, FAMILY, M>::POINTS;
        let transformed = TileTransform::<TAPS, FAMILY, M>::TRANSFORMED;
        let step = if TAPS == 3 { 1 } else { 2 };
        let first = |x: S::Vector| {
            let mut out = [0.0; MAX_LANES];
            simd.store(x, &mut S::blocks_mut(&mut out)[0]);
            f64::from(out[0])
        };
        let unit = |i: usize| {
            let mut unit = [simd.splat(0.0); MAX_SLOTS];
            unit[i] = simd.splat(1.0);
            unit
        };
        for i in 0..TileTransform::<TAPS, FAMILY, M>::INPUTS {
            let slots = TileTransform::<TAPS, FAMILY, M>::input(simd, &unit(i));
            for slot in 0..TileTransform::<TAPS, FAMILY, M>::SLOTS {
                let expected = if slot >= transformed {
                    f64::from(u8::from(i == 2 * (slot - transformed) + 1))
                } else if i % step == 0 {
                    points.input(M)[slot][i / step]
                } else {
                    0.0
                };
                assert_eq!(first(slots[slot]), expected, "input {i}, slot {slot} of F({M}, {TAPS}) of {FAMILY}");
            }
        }
        for slot in 0..TileTransform::<TAPS, FAMILY, M>::SLOTS {
            let outputs = TileTransform::<TAPS, FAMILY, M>::output(simd, &unit(slot));
            for output in 0..M {
                let expected = if slot < transformed {
                    points.output(M)[output][slot]
                } else {
                    f64::from(u8::from(slot - transformed == output))
                };
                assert_eq!(first(outputs[output]), expected, "slot {slot}, output {output} of F({M}, {TAPS})");
            }
        }
        for tap in 0..3 {
            let mut taps = [simd.splat(0.0); 3];
            taps[tap] = simd.splat(1.0);
            let weights = TileTransform::<TAPS, FAMILY, M>::filter(simd, taps);
            for weight in 0..TileTransform::<TAPS, FAMILY, M>::WEIGHTS {
                let expected = match (TAPS, tap) {
                    (2, 1) => f64::from(u8::from(weight == transformed)),
                    (2, _) if weight == transformed => 0.0,
                    (2, _) => points.filter()[weight][tap / 2],
                    _ => points.filter()[weight][tap],
                };
                assert_eq!(first(weights[weight]), f64::from(expected as f32), "tap {tap}, weight {weight}");
            }
        }
    }
}

macro_rules! check_families {
    ($level:ident $((stride $stride:literal, taps $taps:literal, largest $largest:literal, outputs ($($outputs:literal)*), pairs $pairs:tt))*) => {
        $($($level.run(Check::<$taps, $largest, $outputs>);)*)*
    };
}

#[test]
fn transforms_equal_their_matrices() {
    for level in levels() {
        for_each_family!(check_families level);
    }
}

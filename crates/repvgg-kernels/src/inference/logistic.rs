//! The logistic function `1 / (1 + e⁻ˣ)` and SiLU `x / (1 + e⁻ˣ)` of many values.
//!
//! `e^x = 2ⁿ · e^r` with `x = n ln 2 + r`, `|r| ≤ ln 2 / 2`, and `e^r` by its Taylor series to the seventh power, whose rest
//! is below `r⁸ / 8! < 6e-9`. There are no branches and no calls, so a loop over it becomes vector instructions.

use crate::simd::{Kernel, Level, Simd};

/// `x ← 1 / (1 + e⁻ˣ)`, within three units in the last place, or 3e-38; NaN stays NaN.
pub fn sigmoid(level: Level, values: &mut [f32]) {
    level.run(Each { values, function: |x: f32| 1.0 / (1.0 + exp(-x)) });
}

/// `x ← x / (1 + e⁻ˣ)`, within four units in the last place, or 3e-38 x; NaN stays NaN.
pub fn silu(level: Level, values: &mut [f32]) {
    level.run(Each { values, function: |x: f32| x / (1.0 + exp(-x)) });
}

/// A function of each value, in place.
struct Each<'a, F> {
    values: &'a mut [f32],
    function: F,
}

impl<F: Fn(f32) -> f32> Kernel for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for x in self.values {
            *x = (self.function)(*x);
        }
    }
}

/// `e^x`; beyond ±87, where single precision ends, what it is there.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const BOUND: f32 = 87.0;
    // Adding it leaves the nearest integer in the last bits; 127 is the exponent's bias.
    const SHIFT: f32 = 12_582_912.0 + 127.0;
    // ln 2 in two parts, the first with few bits: its product with n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = if x > BOUND { BOUND } else { x };
    let x = if x < -BOUND { -BOUND } else { x };
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let mut series = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + coefficient;
    }
    series * f32::from_bits(shifted.to_bits() << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values over the whole range, dense near zero.
    fn values() -> impl Iterator<Item = f32> {
        (-4000..=4000).map(|i| (i as f32 / 400.0).powi(3) * 0.1).chain((-1000..=1000).map(|i| i as f32 * 0.01))
    }

    /// Beyond -87 the gate stays at e⁻⁸⁷, which is less than the least normal number times two.
    fn assert_close(found: f32, expected: f64, (ulps, factor): (f64, f64), what: &str) {
        let unit = f64::from(f32::EPSILON) * expected.abs();
        let floor = 2.0 * f64::from(f32::MIN_POSITIVE) * factor.abs();
        assert!(
            (f64::from(found) - expected).abs() <= ulps * unit + floor,
            "{what}: expected {expected}, found {found}"
        );
    }

    #[test]
    fn both_functions_are_exact_to_a_few_units_on_every_level() {
        for level in Level::NAMES.into_iter().filter_map(Level::named) {
            let (mut gates, mut products): (Vec<f32>, Vec<f32>) = (values().collect(), values().collect());
            sigmoid(level, &mut gates);
            silu(level, &mut products);
            for ((x, gate), product) in values().zip(gates).zip(products) {
                let x = f64::from(x);
                let expected = 1.0 / (1.0 + (-x).exp());
                assert_close(gate, expected, (3.0, 1.0), &format!("sigmoid({x}) on {}", level.name()));
                assert_close(product, x * expected, (4.0, x), &format!("silu({x}) on {}", level.name()));
            }
        }
    }

    #[test]
    fn ends_of_the_range() {
        let mut values = [f32::NEG_INFINITY, -1e30, -104.0, 104.0, 1e30, f32::INFINITY, f32::NAN];
        sigmoid(Level::detect(), &mut values);
        assert!(values[..3].iter().all(|x| (0.0..1e-36).contains(x)), "{values:?}");
        assert!(values[3..6].iter().all(|x| *x == 1.0) && values[6].is_nan(), "{values:?}");
    }
}

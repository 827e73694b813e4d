//! Elementwise functions. They are plain expressions without branches or calls, so the compiler vectorises loops over them for
//! every level.
//!
//! The exponential is `e^x = 2ⁿ · e^r` with `x = n ln 2 + r` and `|r| ≤ ln 2 / 2`. `e^r` is the Taylor series to the seventh
//! power, whose remainder is below `r⁸ / 8! < 6e-9`.

use crate::isa::Simd;

/// An elementwise function. All of them map NaN to NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Pointwise {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + e⁻ˣ)`, to within three units in the last place or 3e-38.
    Sigmoid,
    /// `x / (1 + e⁻ˣ)`, to within four units in the last place or 3e-38 x.
    Silu,
    /// `min(max(x, low), high)`, in this order.
    Clip {
        /// The least value.
        low: f32,
        /// The greatest value.
        high: f32,
    },
    /// `slope · x` where `x` is negative, otherwise `x`.
    LeakyRelu {
        /// The factor of negative values.
        slope: f32,
    },
    /// `min(max(slope · x + offset, 0), 1)`.
    HardSigmoid {
        /// The factor.
        slope: f32,
        /// The summand.
        offset: f32,
    },
}

impl Pointwise {
    /// Applies the function to each value, in place.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, _: S, values: &mut [f32]) {
        match self {
            Self::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
            Self::Sigmoid => each(values, |x| 1.0 / (1.0 + exp(-x))),
            Self::Silu => each(values, |x| x / (1.0 + exp(-x))),
            Self::Clip { low, high } => each(values, |x| clip(x, low, high)),
            Self::LeakyRelu { slope } => each(values, |x| if x < 0.0 { x * slope } else { x }),
            Self::HardSigmoid { slope, offset } => each(values, |x| clip(x * slope + offset, 0.0, 1.0)),
        }
    }
}

#[inline(always)]
fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    values.iter_mut().for_each(|x| *x = function(*x));
}

/// `min(max(x, low), high)`; `low` may exceed `high`.
#[inline(always)]
fn clip(x: f32, low: f32, high: f32) -> f32 {
    let raised = if x < low { low } else { x };
    if raised > high { high } else { raised }
}

/// `e^x` for `|x| ≤ 87`; beyond, the value at the nearest bound.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let (series, bits) = exp_parts(x, [-87.0, 87.0]);
    series * f32::from_bits(bits.wrapping_add(EXPONENT_BIAS) << 23)
}

/// `e^x` for `x ≤ 0`, over the full range of single precision, subnormal results and zero included.
#[inline(always)]
pub(super) fn exp_of_negative(x: f32) -> f32 {
    let (series, bits) = exp_parts(x, [-126.0, 0.0]);
    // 2ⁿ itself may be subnormal and lose digits that the product has, so it is applied in two factors.
    let n = bits.cast_signed();
    let power = |n: i32| f32::from_bits((n + EXPONENT_BIAS.cast_signed()).cast_unsigned() << 23);
    series * power(n >> 1) * power(n - (n >> 1))
}

const EXPONENT_BIAS: u32 = 127;

/// `e^r`, and `n` in two's complement, for `x` clamped to `[low, high]`.
#[inline(always)]
fn exp_parts(x: f32, [low, high]: [f32; 2]) -> (f32, u32) {
    // A sum with this number has the nearest integer in its last bits.
    const SHIFT: f32 = 12_582_912.0;
    // ln 2 in two parts. The first has so few bits that its product with n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = clip(x, low, high);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let mut series = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + coefficient;
    }
    (series, shifted.to_bits().wrapping_sub(SHIFT.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;
    use crate::cases::levels;
    use crate::isa::Kernel;

    struct Apply<'a>(Pointwise, &'a mut [f32]);

    impl Kernel for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            self.0.apply(simd, self.1);
        }
    }

    fn apply(level: Level, function: Pointwise, mut values: Vec<f32>) -> Vec<f32> {
        level.run(Apply(function, &mut values));
        values
    }

    /// Values over the full range, dense near zero.
    fn values() -> Vec<f32> {
        let dense = (-1000..=1000).map(|i| i as f32 * 0.01);
        (-4000..=4000).map(|i| (i as f32 / 400.0).powi(3) * 0.1).chain(dense).collect()
    }

    /// Below -87 the sigmoid stays at e⁻⁸⁷, which is less than twice the smallest normal number.
    fn assert_close(found: f32, expected: f64, ulps: f64, factor: f64, what: &str) {
        let unit = f64::from(f32::EPSILON) * expected.abs();
        let floor = 2.0 * f64::from(f32::MIN_POSITIVE) * factor.abs();
        assert!(
            (f64::from(found) - expected).abs() <= ulps * unit + floor,
            "{what}: expected {expected}, found {found}"
        );
    }

    #[test]
    fn logistic_functions_are_accurate_to_a_few_units_on_every_level() {
        for level in levels() {
            let [gates, products] =
                [Pointwise::Sigmoid, Pointwise::Silu].map(|function| apply(level, function, values()));
            for ((x, gate), product) in values().into_iter().zip(gates).zip(products) {
                let x = f64::from(x);
                let expected = 1.0 / (1.0 + (-x).exp());
                assert_close(gate, expected, 3.0, 1.0, &format!("sigmoid({x}) on {}", level.name()));
                assert_close(product, x * expected, 4.0, x, &format!("silu({x}) on {}", level.name()));
            }
        }
    }

    #[test]
    fn the_sigmoid_saturates_and_propagates_nan() {
        let values = vec![f32::NEG_INFINITY, -1e30, -104.0, 104.0, 1e30, f32::INFINITY, f32::NAN];
        let values = apply(Level::detect(), Pointwise::Sigmoid, values);
        assert!(values[..3].iter().all(|x| (0.0..1e-36).contains(x)), "{values:?}");
        assert!(values[3..6].iter().all(|x| *x == 1.0) && values[6].is_nan(), "{values:?}");
    }

    #[test]
    fn the_exponential_of_negative_numbers_reaches_zero() {
        for i in 0..=120_000 {
            let x = -i as f32 / 1000.0;
            let (found, expected) = (exp_of_negative(x), f64::from(x).exp());
            let bound = 2.0 * f64::from(f32::EPSILON) * expected + 1.5e-45;
            assert!((f64::from(found) - expected).abs() <= bound, "e^{x}: expected {expected}, found {found}");
        }
        assert_eq!([-200.0, f32::NEG_INFINITY].map(exp_of_negative), [0.0; 2]);
        assert!(exp_of_negative(f32::NAN).is_nan());
    }

    #[test]
    fn other_functions_equal_their_definitions() {
        let x = vec![f32::NEG_INFINITY, -3.0, -0.5, 0.0, 0.5, 3.0, 7.0, f32::INFINITY];
        for level in levels() {
            let applied = |function| apply(level, function, x.clone());
            assert_eq!(applied(Pointwise::Relu), [0.0, 0.0, 0.0, 0.0, 0.5, 3.0, 7.0, f32::INFINITY]);
            let six = Pointwise::Clip { low: 0.0, high: 6.0 };
            assert_eq!(applied(six), [0.0, 0.0, 0.0, 0.0, 0.5, 3.0, 6.0, 6.0]);
            // The upper bound is applied last.
            assert_eq!(applied(Pointwise::Clip { low: 1.0, high: -1.0 }), [-1.0; 8]);
            let leaky = Pointwise::LeakyRelu { slope: 0.25 };
            assert_eq!(applied(leaky), [f32::NEG_INFINITY, -0.75, -0.125, 0.0, 0.5, 3.0, 7.0, f32::INFINITY]);
            let hard = Pointwise::HardSigmoid { slope: 0.25, offset: 0.5 };
            assert_eq!(applied(hard), [0.0, 0.0, 0.375, 0.5, 0.625, 1.0, 1.0, 1.0]);
            for function in [Pointwise::Relu, six, leaky, hard, Pointwise::Sigmoid, Pointwise::Silu] {
                assert!(apply(level, function, vec![f32::NAN; 17]).iter().all(|x| x.is_nan()), "{function:?}");
            }
        }
    }
}

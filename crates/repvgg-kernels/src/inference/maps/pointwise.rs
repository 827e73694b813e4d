//! Elementwise functions. They are plain expressions without branches or calls, so the compiler vectorises loops over them for
//! every level.
//!
//! The exponential is `e^x = 2ⁿ · e^r` with `x = n ln 2 + r` and `|r| ≤ ln 2 / 2`. `e^r` is the Taylor series to the seventh
//! power, whose remainder is below `r⁸ / 8! < 6e-9`. `e^x - 1` leaves the series' one out, so that nothing cancels near zero.
//!
//! The error function is `x · P(x²) / Q(x²)` with a minimax fit on `|x| ≤ 3.92`, whose relative error is 2e-8; beyond, it is
//! one to rounding.

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
    /// `(eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)`, to within four units in the last place.
    Tanh,
    /// The error function `2/√π ∫₀ˣ e^(-t²) dt`, to within four units in the last place.
    Erf,
    /// `x/2 · (1 + erf(x/√2))`, to within `3e-7 x`.
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, to within `3e-7 x`.
    GeluTanh,
    /// `ln(1 + eˣ)`, to within four units in the last place or 3e-38.
    Softplus,
    /// `x · tanh(ln(1 + eˣ))`, to within six units in the last place or 3e-38 x.
    Mish,
    /// `x` where it is positive, otherwise `scale · (eˣ - 1)`.
    Elu {
        /// The factor of negative values.
        scale: f32,
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
            Self::Tanh => each(values, tanh),
            Self::Erf => each(values, erf),
            Self::Gelu => each(values, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
            Self::GeluTanh => each(values, |x| 0.5 * x * (1.0 + tanh(x * (GELU_TANH[0] + GELU_TANH[1] * (x * x))))),
            Self::Softplus => each(values, softplus),
            Self::Mish => each(values, mish),
            Self::Elu { scale } => each(values, |x| if x < 0.0 { scale * exp_m1(x) } else { x }),
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

/// `√(2/π)`, and its product with 0.044715.
const GELU_TANH: [f32; 2] = [0.797_884_6, 0.035_677_407];

/// `tanh x = (e²ˣ - 1) / (e²ˣ + 1)`. Beyond 20 it is one to rounding.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let less_one = exp_m1(clip(2.0 * x, -40.0, 40.0));
    less_one / (less_one + 2.0)
}

/// The error function.
#[inline(always)]
fn erf(x: f32) -> f32 {
    // A least-squares fit of erf(x) / x, weighted until its largest relative error was least, from the last power down.
    #[allow(clippy::approx_constant, reason = "fitted: not 2/√π to the last place")]
    const NUMERATOR: [f32; 6] =
        [2.050_033_1e-6, 2.848_751_6e-4, 3.765_515e-3, 5.274_841e-2, 1.904_048_2e-1, 1.128_379_1];
    const DENOMINATOR: [f32; 6] = [3.809_075_5e-5, 1.162_500_6e-3, 1.496_902_3e-2, 1.141_083_4e-1, 5.020_746e-1, 1.0];
    let x = clip(x, -3.92, 3.92);
    let square = x * x;
    let [numerator, denominator] = [NUMERATOR, DENOMINATOR]
        .map(|[first, rest @ ..]| rest.into_iter().fold(first, |sum, coefficient| sum * square + coefficient));
    clip(x * numerator / denominator, -1.0, 1.0)
}

/// `ln(1 + eˣ) = max(x, 0) + ln(1 + y)` with `y = e^-|x|` and `ln(1 + y) = 2 artanh(y / (2 + y))`.
#[inline(always)]
fn softplus(x: f32) -> f32 {
    let y = exp(-x.abs());
    let s = y / (2.0 + y);
    // s ≤ 1/3, so the first term left out is below 2e-9 of the sum.
    let mut series = 2.0 / 15.0;
    for coefficient in [2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0] {
        series = series * (s * s) + coefficient;
    }
    (if x < 0.0 { 0.0 } else { x }) + s * series
}

/// `x · tanh(ln(1 + e)) = x · (e² + 2e) / (e² + 2e + 2)` with `e = eˣ`, which is `x` to rounding beyond 20.
#[inline(always)]
fn mish(x: f32) -> f32 {
    let e = exp(clip(x, -87.0, 20.0));
    let part = e * (e + 2.0);
    x * (part / (part + 2.0))
}

/// `e^x - 1` for `x ≤ 87`; beyond, the value at the bound.
#[inline(always)]
fn exp_m1(x: f32) -> f32 {
    let (r, bits) = reduce(x, [-87.0, 87.0]);
    let mut series = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        series = series * r + coefficient;
    }
    let power = f32::from_bits(bits.wrapping_add(EXPONENT_BIAS) << 23);
    series * r * power + (power - 1.0)
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
fn exp_parts(x: f32, bounds: [f32; 2]) -> (f32, u32) {
    let (r, bits) = reduce(x, bounds);
    let mut series = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + coefficient;
    }
    (series, bits)
}

/// `r`, and `n` in two's complement, for `x` clamped to `[low, high]`.
#[inline(always)]
fn reduce(x: f32, [low, high]: [f32; 2]) -> (f32, u32) {
    // A sum with this number has the nearest integer in its last bits.
    const SHIFT: f32 = 12_582_912.0;
    // ln 2 in two parts. The first has so few bits that its product with n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = clip(x, low, high);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    (x - n * LN_2[0] - n * LN_2[1], shifted.to_bits().wrapping_sub(SHIFT.to_bits()))
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

    /// `ln(1 + eˣ)` in double precision.
    fn exact_softplus(x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    /// The error function in double precision: its Taylor series near zero, and else the continued fraction of `1 - erf`.
    fn exact_erf(x: f64) -> f64 {
        let square = x * x;
        if x.abs() < 3.0 {
            let terms = (1..100).scan(x, |term, n| {
                let last = *term;
                *term *= -square / f64::from(n);
                Some(last / f64::from(2 * n - 1))
            });
            return terms.sum::<f64>() * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let fraction = (1..100).rev().fold(0.0, |rest, n| f64::from(n) / 2.0 / (x.abs() + rest));
        let complement = (-square).exp() / (x.abs() + fraction) / std::f64::consts::PI.sqrt();
        (1.0 - complement) * x.signum()
    }

    #[test]
    fn other_transcendental_functions_are_accurate_on_every_level() {
        let gelu = |x: f64| 0.5 * x * (1.0 + exact_erf(x / 2_f64.sqrt()));
        let cubic = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        for level in levels() {
            let check = |function: Pointwise, exact: &dyn Fn(f64) -> f64, ulps: f64, of_input: f64| {
                for (x, found) in values().into_iter().zip(apply(level, function, values())) {
                    let (x, found) = (f64::from(x), f64::from(found));
                    let floor = 2.0 * f64::from(f32::MIN_POSITIVE) * x.abs().max(1.0);
                    let bound = ulps * f64::from(f32::EPSILON) * exact(x).abs() + of_input * x.abs() + floor;
                    let what = format!("{function:?} at {x} on {}", level.name());
                    assert!((found - exact(x)).abs() <= bound, "{what}: expected {}, found {found}", exact(x));
                }
            };
            check(Pointwise::Tanh, &f64::tanh, 4.0, 0.0);
            check(Pointwise::Erf, &exact_erf, 4.0, 0.0);
            check(Pointwise::Gelu, &gelu, 0.0, 3e-7);
            check(Pointwise::GeluTanh, &|x| 0.5 * x * (1.0 + cubic(x).tanh()), 0.0, 3e-7);
            check(Pointwise::Softplus, &exact_softplus, 4.0, 0.0);
            check(Pointwise::Mish, &|x| x * exact_softplus(x).tanh(), 6.0, 0.0);
            check(Pointwise::Elu { scale: 0.75 }, &|x| if x < 0.0 { 0.75 * x.exp_m1() } else { x }, 4.0, 0.0);
        }
    }

    /// Their limits, where an intermediate result could overflow.
    #[test]
    fn other_transcendental_functions_at_infinity() {
        let at = |function| apply(Level::detect(), function, vec![f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY]);
        assert_eq!(at(Pointwise::Tanh), [-1.0, -1.0, 1.0, 1.0]);
        let erf = at(Pointwise::Erf);
        assert!(
            erf.iter().zip([-1.0, -1.0, 1.0, 1.0]).all(|(x, limit): (&f32, f32)| (x - limit).abs() < 2e-7),
            "{erf:?}"
        );
        let elu = at(Pointwise::Elu { scale: 2.0 });
        assert_eq!(elu, [-2.0, -2.0, 1e30, f32::INFINITY]);
        assert_eq!(at(Pointwise::Softplus)[2..], [1e30, f32::INFINITY]);
        assert_eq!(at(Pointwise::Mish)[2..], [1e30, f32::INFINITY]);
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
            let elu = Pointwise::Elu { scale: 0.5 };
            let gelus = [Pointwise::Gelu, Pointwise::GeluTanh, Pointwise::Erf, Pointwise::Tanh];
            let others = [Pointwise::Sigmoid, Pointwise::Silu, Pointwise::Softplus, Pointwise::Mish, elu];
            for function in [Pointwise::Relu, six, leaky, hard].into_iter().chain(gelus).chain(others) {
                assert!(apply(level, function, vec![f32::NAN; 17]).iter().all(|x| x.is_nan()), "{function:?}");
            }
        }
    }
}

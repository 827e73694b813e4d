//! Elementwise nonlinearities.

use serde::{Deserialize, Serialize};

use crate::error::{Problem, expected};

/// An elementwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// `max(x, 0)`
    Relu,
    /// `1 / (1 + e⁻ˣ)`
    Sigmoid,
    /// `x / (1 + e⁻ˣ)` (Swish with β = 1, Ramachandran et al., 1710.05941)
    Silu,
    /// `min(max(x, low), high)`. Both are finite, as in JSON: `f32::MIN` and `f32::MAX` stand for no bound.
    Clip {
        /// The least value.
        low: f32,
        /// The greatest value, at least `low`.
        high: f32,
    },
    /// `x` where it is positive, `slope · x` elsewhere.
    LeakyRelu {
        /// The factor of negative values.
        slope: f32,
    },
    /// `min(max(slope · x + offset, 0), 1)`
    HardSigmoid {
        /// The factor.
        slope: f32,
        /// The value at zero.
        offset: f32,
    },
    /// `(eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)`
    Tanh,
    /// The error function: `2/√π ∫₀ˣ e^(−t²) dt`
    Erf,
    /// `x/2 · (1 + erf(x/√2))` (Hendrycks & Gimpel, 1606.08415)
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, an approximation of [`Self::Gelu`]
    GeluTanh,
    /// `ln(1 + eˣ)`
    Softplus,
    /// `x · tanh(ln(1 + eˣ))` (Misra, 1908.08681)
    Mish,
    /// `x` where it is positive, `scale · (eˣ − 1)` elsewhere (Clevert et al., 1511.07289)
    Elu {
        /// The factor of negative values.
        scale: f32,
    },
}

impl ActivationKind {
    /// `min(max(x, 0), 6)`
    pub const RELU6: Self = Self::Clip { low: 0.0, high: 6.0 };

    /// Checks that the numbers are finite and the bounds in order.
    pub(super) fn check(self) -> Result<(), Problem> {
        let [a, b] = match self {
            Self::Relu | Self::Sigmoid | Self::Silu | Self::Tanh | Self::Erf => [0.0; 2],
            Self::Gelu | Self::GeluTanh | Self::Softplus | Self::Mish => [0.0; 2],
            Self::Elu { scale } => [scale; 2],
            Self::Clip { low, high } => [low, high],
            Self::LeakyRelu { slope } => [slope; 2],
            Self::HardSigmoid { slope, offset } => [slope, offset],
        };
        match self {
            _ if !(a.is_finite() && b.is_finite()) => {
                Err(expected("finite numbers").found(format_args!("{a} and {b}")))
            }
            Self::Clip { low, high } if low > high => {
                Err(expected("low of at most high").found(format_args!("{low} and {high}")))
            }
            _ => Ok(()),
        }
    }

    /// The value at `x`; NaN stays NaN.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::Relu => clip(x, 0.0, f64::INFINITY),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Clip { low, high } => clip(x, low.into(), high.into()),
            Self::LeakyRelu { slope } => {
                if x < 0.0 {
                    x * f64::from(slope)
                } else {
                    x
                }
            }
            Self::HardSigmoid { slope, offset } => clip(x * f64::from(slope) + f64::from(offset), 0.0, 1.0),
            Self::Tanh => x.tanh(),
            Self::Erf => libm::erf(x),
            Self::Gelu => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Self::Softplus => softplus(x),
            Self::Mish => x * softplus(x).tanh(),
            Self::Elu { scale } => {
                if x < 0.0 {
                    f64::from(scale) * x.exp_m1()
                } else {
                    x
                }
            }
        }
    }

    /// Its name in reports.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Relu => "ReLU",
            Self::Sigmoid => "Sigmoid",
            Self::Silu => "SiLU",
            Self::RELU6 => "ReLU6",
            Self::Clip { .. } => "Clip",
            Self::LeakyRelu { .. } => "LeakyReLU",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::Tanh => "Tanh",
            Self::Erf => "Erf",
            Self::Gelu | Self::GeluTanh => "GELU",
            Self::Softplus => "Softplus",
            Self::Mish => "Mish",
            Self::Elu { .. } => "ELU",
        }
    }
}

/// `ln(1 + eˣ)` without overflow; NaN stays NaN.
fn softplus(x: f64) -> f64 {
    clip(x, 0.0, f64::INFINITY) + (-x.abs()).exp().ln_1p()
}

/// `x` within the bounds; NaN stays NaN.
fn clip(x: f64, low: f64, high: f64) -> f64 {
    let raised = if x < low { low } else { x };
    if raised > high { high } else { raised }
}

//! Why a derivation fails, or its proof.

use std::fmt;

use num_rational::BigRational;

use super::MAX_PRODUCTS;
use crate::winograd::families::Family;

/// Why a derivation cannot be made from points, or does not compute the convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DerivationError {
    /// No outputs, no taps, or too many products.
    Size {
        /// `m`.
        outputs: usize,
        /// `r`.
        taps: usize,
    },
    /// The wrong number of points.
    Count {
        /// `m`.
        outputs: usize,
        /// `r`.
        taps: usize,
        /// Finite points that the size asks for.
        expected: usize,
        /// Points that were given.
        found: usize,
    },
    /// A point is given twice.
    Repeated {
        /// Which.
        point: BigRational,
    },
    /// A point is not a number.
    Number {
        /// As it was written.
        text: String,
    },
    /// A point has the denominator 0.
    Denominator {
        /// As it was written.
        text: String,
    },
    /// The kernels have no tiles of this size.
    Engine {
        /// `m`.
        outputs: usize,
        /// `r`.
        taps: usize,
    },
    /// The matrices do not compute the convolution.
    Refuted {
        /// The output.
        output: usize,
        /// The tap.
        tap: usize,
        /// The input.
        input: usize,
        /// The coefficient that the matrices give the product of the two.
        found: BigRational,
    },
}

impl fmt::Display for DerivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { outputs, taps } => write!(
                f,
                "size: expected M and R of at least 1 with M + R - 1 of at most {MAX_PRODUCTS}, found M = {outputs}, R = {taps}"
            ),
            Self::Count { outputs, taps, expected, found } => {
                write!(f, "points: expected {expected} beside infinity for F({outputs}, {taps}), found {found}")
            }
            Self::Repeated { point } => write!(f, "points: expected distinct numbers, found {point} twice"),
            Self::Number { text } => {
                write!(f, "points: expected numbers such as 2, -3/2 or 0.625, of up to 18 digits, found {text:?}")
            }
            Self::Denominator { text } => write!(f, "points: expected a denominator other than 0, found {text}"),
            Self::Engine { outputs, taps } => {
                let sizes = [1, 2].map(|stride| {
                    let taps = Family::smallest(stride, 1).map_or(0, |family| family.taps);
                    format!("F(1, {taps}) to F({}, {taps})", Family::largest(stride))
                });
                let sizes = sizes.join(" or ");
                write!(f, "points: expected a size that the engine has, {sizes}, found F({outputs}, {taps})")
            }
            Self::Refuted { output, tap, input, found } => write!(
                f,
                "output {output}: expected tap {tap} times input {input} with coefficient {}, found {found}",
                u8::from(*input == output + tap)
            ),
        }
    }
}

impl std::error::Error for DerivationError {}

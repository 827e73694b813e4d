//! The errors of derivations and proofs.

use std::fmt;

use num_rational::BigRational;

use super::MAX_PRODUCTS;
use crate::winograd::families::Family;

/// The reason why matrices cannot be derived, or do not compute the convolution.
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
        /// The number of finite points that the size requires.
        expected: usize,
        /// The number of points that were given.
        found: usize,
    },
    /// A point is given twice.
    Repeated {
        /// The point.
        point: BigRational,
    },
    /// A point is not a number.
    Number {
        /// The text of the point.
        text: String,
    },
    /// A point has the denominator 0.
    Denominator {
        /// The text of the point.
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
        /// The index of the output.
        output: usize,
        /// The index of the tap.
        tap: usize,
        /// The index of the input.
        input: usize,
        /// The coefficient of the product of tap and input.
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

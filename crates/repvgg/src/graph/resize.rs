//! Resampling of maps, as ONNX's `Resize` defines it.

use serde::{Deserialize, Serialize};

use super::Shape;
use crate::error::{Problem, expected};
use crate::{Error, Result};

/// The most rows or columns of a resampled map.
const EXTENT_LIMIT: usize = 1 << 16;

/// The resampling of a map to another size, one axis after the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    /// The size of the result.
    pub target: ResizeTarget,
    /// The value between pixels.
    pub sampling: Sampling,
    /// Where the pixels of the result lie on the map.
    pub coordinates: Coordinates,
}

/// The size of a resampled map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeTarget {
    /// Height and width times these factors, rounded down.
    Scale([f32; 2]),
    /// This height and width.
    Size([usize; 2]),
}

/// The value of a resampled map between the pixels of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// That of one pixel.
    Nearest(Rounding),
    /// Between the two nearest pixels of each axis, in proportion to their distances; beyond the outermost, theirs.
    Linear,
}

/// The pixel of a coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// The largest that is at most the coordinate.
    Floor,
    /// The smallest that is at least the coordinate.
    Ceil,
    /// The nearest, the smaller of two.
    HalfDown,
    /// The nearest, the larger of two.
    HalfUp,
}

/// The coordinate on the map of pixel `i` of the result, where the map has `n` pixels, the result `m`, and `s` is the factor
/// between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coordinates {
    /// `(i + 1/2) / s − 1/2`
    HalfPixel,
    /// `(i + 1/2) / s − 1/2`, and 0 for a result of one pixel
    HalfPixelOrOrigin,
    /// `i (n − 1) / (m − 1)`, and 0 for a result of one pixel
    AlignCorners,
    /// `i / s`
    Asymmetric,
}

/// A pixel of the result along one axis: `(1 − weight) · x[indices[0]] + weight · x[indices[1]]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tap {
    /// The pixels of the map.
    pub indices: [usize; 2],
    /// The weight of the second, from 0 to 1.
    pub weight: f64,
}

impl Resize {
    /// Nearest neighbours for whole `factors`: every pixel repeated.
    pub fn repeat(factors: [u16; 2]) -> Self {
        let (sampling, coordinates) = (Sampling::Nearest(Rounding::Floor), Coordinates::Asymmetric);
        Self { target: ResizeTarget::Scale(factors.map(f32::from)), sampling, coordinates }
    }

    /// The pixels of the result along an axis (0 for rows, 1 for columns), for a map of `extent` pixels that becomes `output`.
    pub fn taps(&self, axis: usize, extent: usize, output: usize) -> Vec<Tap> {
        let scale = match self.target {
            ResizeTarget::Scale(factors) => f64::from(factors[axis]),
            ResizeTarget::Size(_) => output as f64 / extent as f64,
        };
        let last = extent.saturating_sub(1);
        let tap = |index: usize| {
            let index = index as f64;
            let at = match self.coordinates {
                Coordinates::HalfPixelOrOrigin | Coordinates::AlignCorners if output == 1 => 0.0,
                Coordinates::HalfPixel | Coordinates::HalfPixelOrOrigin => (index + 0.5) / scale - 0.5,
                Coordinates::AlignCorners => index * last as f64 / (output as f64 - 1.0),
                Coordinates::Asymmetric => index / scale,
            };
            let at = at.clamp(0.0, last as f64);
            match self.sampling {
                Sampling::Nearest(rounding) => Tap { indices: [rounding.apply(at).min(last); 2], weight: 0.0 },
                Sampling::Linear => {
                    let first = at.floor();
                    Tap { indices: [first as usize, (first as usize + 1).min(last)], weight: at - first }
                }
            }
        };
        (0..output).map(tap).collect()
    }

    /// Checks everything that does not depend on the map.
    pub(super) fn check(&self) -> Result<(), Problem> {
        match self.target {
            ResizeTarget::Scale(factors) => match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0))
            {
                Some(factor) => Err(expected("factors above 0").found(factor)),
                None => Ok(()),
            },
            ResizeTarget::Size(size) => match size.iter().find(|extent| !(1..=EXTENT_LIMIT).contains(*extent)) {
                Some(extent) => Err(expected(format_args!("1 to {EXTENT_LIMIT} rows and columns")).found(extent)),
                None => Ok(()),
            },
        }
    }

    /// The shape of the result, for a map of this shape.
    ///
    /// # Errors
    /// When the result has no pixels, or absurdly many.
    pub fn output(&self, shape: Shape) -> Result<Shape> {
        self.shape(shape).map_err(|problem| Error::shape("resize", problem))
    }

    /// The output shape.
    pub(super) fn shape(&self, [channels, height, width]: Shape) -> Result<Shape, Problem> {
        let size = match self.target {
            ResizeTarget::Size(size) => size,
            ResizeTarget::Scale([rows, columns]) => {
                [(height, rows), (width, columns)].map(|(extent, factor)| (extent as f64 * f64::from(factor)) as usize)
            }
        };
        match size.iter().find(|extent| !(1..=EXTENT_LIMIT).contains(*extent)) {
            Some(extent) => Err(expected(format_args!("1 to {EXTENT_LIMIT} rows and columns")).found(extent)),
            None => Ok([channels, size[0], size[1]]),
        }
    }
}

impl Rounding {
    /// The pixel of a coordinate of at least 0.
    fn apply(self, at: f64) -> usize {
        let rounded = match self {
            Self::Floor => at.floor(),
            Self::Ceil => at.ceil(),
            Self::HalfDown => (at - 0.5).ceil(),
            Self::HalfUp => (at + 0.5).floor(),
        };
        rounded.max(0.0) as usize
    }
}

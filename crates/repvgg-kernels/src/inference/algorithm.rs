//! The convolution algorithms and the geometries that each supports.

use std::fmt;
use std::str::FromStr;

use super::spec::{ConvSpec, Layout};
use crate::winograd::families::Family;

/// A convolution algorithm.
///
/// Each has a name, which [`Display`](fmt::Display) prints and [`FromStr`] parses: `direct`, `depthwise`, `winograd4`,
/// `winograd4-raw` and so on.
///
/// # Example
///
/// ```
/// use repvgg_kernels::{Algorithm, TileSize};
///
/// let algorithm: Algorithm = "winograd4".parse()?;
/// assert_eq!(algorithm.tile(), TileSize::new(4));
/// assert!("winograd42".parse::<Algorithm>().is_err());
/// # Ok::<(), repvgg_kernels::UnknownAlgorithm>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// A matrix product over all kernel positions, for any geometry.
    Direct,
    /// One filter per lane, for convolutions in which each channel is its own group.
    Depthwise,
    /// Winograd's minimal filtering with tiles of up to this size, for 3×3 kernels of stride 1 or 2 without dilation.
    Winograd(TileSize),
    /// Minimal filtering with untransformed weights (9 floats instead of 36 for tiles of 4), which are transformed in `f32`
    /// while the convolution runs.
    WinogradRaw(TileSize),
}

/// The size of the largest Winograd tile, in outputs along an axis: 2 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileSize(usize);

impl TileSize {
    /// Every size, from the smallest to the largest.
    pub const ALL: [Self; Family::largest(1) - 1] = {
        let mut all = [Self(2); Family::largest(1) - 1];
        let mut i = 0;
        while i < all.len() {
            all[i] = Self(i + 2);
            i += 1;
        }
        all
    };

    /// The size with `outputs` outputs, or `None` if there are no tiles of this size.
    pub fn new(outputs: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.0 == outputs)
    }

    /// Outputs along an axis.
    pub fn outputs(self) -> usize {
        self.0
    }
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 2 + 2 * TileSize::ALL.len()] = {
        let mut all = [Self::Direct; 2 + 2 * TileSize::ALL.len()];
        all[1] = Self::Depthwise;
        let mut i = 0;
        while i < TileSize::ALL.len() {
            all[2 + i] = Self::Winograd(TileSize::ALL[i]);
            all[2 + TileSize::ALL.len() + i] = Self::WinogradRaw(TileSize::ALL[i]);
            i += 1;
        }
        all
    };

    /// The tile size of a Winograd algorithm, `None` for the others.
    pub fn tile(self) -> Option<TileSize> {
        match self {
            Self::Winograd(tile) | Self::WinogradRaw(tile) => Some(tile),
            Self::Direct | Self::Depthwise => None,
        }
    }

    /// Whether the algorithm computes convolutions of this kind.
    pub fn fits(self, spec: &ConvSpec) -> bool {
        let geometry = &spec.geometry;
        let blocked = spec.layout == Layout::Blocked;
        match self {
            Self::Direct => true,
            Self::Depthwise => {
                blocked && geometry.groups == geometry.in_channels && geometry.groups == geometry.out_channels
            }
            Self::Winograd(TileSize(tile)) | Self::WinogradRaw(TileSize(tile)) => {
                blocked
                    && geometry.kernel == [3, 3]
                    && geometry.dilation == [1, 1]
                    && geometry.stride.iter().all(|&stride| tile <= Family::largest(stride))
            }
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Depthwise => f.write_str("depthwise"),
            Self::Winograd(TileSize(tile)) => write!(f, "winograd{tile}"),
            Self::WinogradRaw(TileSize(tile)) => write!(f, "winograd{tile}-raw"),
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.to_string() == name);
        found.ok_or_else(|| UnknownAlgorithm { name: name.escape_debug().take(80).collect() })
    }
}

/// The error for a name that is no algorithm's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAlgorithm {
    name: String,
}

impl UnknownAlgorithm {
    /// The valid names.
    pub fn expected(&self) -> String {
        format!("one of {}", Algorithm::ALL.map(|algorithm| algorithm.to_string()).join(", "))
    }

    /// The first 80 characters of the name that was given.
    pub fn found(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected(), self.found())
    }
}

impl std::error::Error for UnknownAlgorithm {}

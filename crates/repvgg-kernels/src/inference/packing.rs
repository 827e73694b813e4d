//! How the weights of a convolution are packed.

use super::algorithm::{Algorithm, TileSize};
use super::winograd::{FilterForm, Storage};
use crate::winograd::cover::{Cover, Kind};
use crate::{Geometry, GeometryError};

/// The kind of a convolution: its geometry, and how its input lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSpec {
    /// Channels, kernel, stride, padding, dilation and groups.
    pub geometry: Geometry,
    /// How the input lies in memory; the output always lies in blocks.
    pub layout: Layout,
}

/// How the input of a convolution lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[N, C, H, W]`: images as a caller has them.
    Planar,
    /// `[N, ⌈C/L⌉, H, W, L]` ([`crate::Blocked`]).
    Blocked,
}

/// The images that a convolution is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site {
    /// The most images in one run.
    pub batch: usize,
    /// `[H, W]` of the input.
    pub size: [usize; 2],
}

/// The form that weights are packed in.
///
/// For one convolution on one [`Level`](crate::Level), equal packings hold the same bytes. It does not depend on the
/// number of images or threads, and on the image size only as far as that decides which tiles Winograd's algorithm uses,
/// so convolutions of many sites can share their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packing(pub(super) Scheme);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Direct,
    Depthwise,
    Winograd(FilterForm),
}

impl Packing {
    /// What an algorithm reads for images of `size` `[H, W]`.
    ///
    /// # Errors
    ///
    /// Those of [`Geometry::output_size`], and an algorithm that does not fit the convolution ([`Algorithm::fits`]).
    pub fn of(algorithm: Algorithm, spec: &ConvSpec, size: [usize; 2]) -> Result<Self, GeometryError> {
        let output = spec.geometry.output_size(size)?;
        if !algorithm.fits(spec) {
            return Err(GeometryError::Algorithm { algorithm });
        }
        let winograd = |tile: TileSize, storage| {
            let kinds = [0, 1].map(|axis| Kind::new(spec.geometry.stride[axis], tile.outputs(), output[axis]));
            Scheme::Winograd(FilterForm { kinds, storage })
        };
        Ok(Self(match algorithm {
            Algorithm::Direct => Scheme::Direct,
            Algorithm::Depthwise => Scheme::Depthwise,
            Algorithm::Winograd(tile) => winograd(tile, Storage::Transformed),
            Algorithm::WinogradRaw(tile) => winograd(tile, Storage::Raw),
        }))
    }

    /// Whether the weights of a convolution can be packed so.
    pub(super) fn fits(&self, spec: &ConvSpec) -> bool {
        match self.0 {
            Scheme::Direct => true,
            Scheme::Depthwise => Algorithm::Depthwise.fits(spec),
            Scheme::Winograd(FilterForm { kinds, .. }) => {
                Algorithm::Winograd(TileSize::ALL[0]).fits(spec)
                    && kinds.map(|kind| kind.stride) == spec.geometry.stride
            }
        }
    }

    /// The sizes of the tiles that cover each axis of an output of `[P, Q]` pixels, `[vertical, horizontal]`; `None` where
    /// the algorithm has no tiles.
    pub fn tiles(&self, output: [usize; 2]) -> Option<[Vec<usize>; 2]> {
        let covers = self.covers(output)?;
        Some(covers.map(|cover| cover.tiles.iter().map(|tile| tile.outputs).collect()))
    }

    /// The tiles of each axis, `[vertical, horizontal]`.
    pub(super) fn covers(&self, output: [usize; 2]) -> Option<[Cover; 2]> {
        let Scheme::Winograd(FilterForm { kinds, .. }) = self.0 else { return None };
        Some([0, 1].map(|axis| Cover::new(kinds[axis], output[axis])))
    }
}

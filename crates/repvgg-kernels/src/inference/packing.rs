//! The forms in which the weights of a convolution are packed.

use super::algorithm::{Algorithm, TileSize};
use super::spec::ConvSpec;
use super::winograd::{FilterForm, Storage};
use crate::GeometryError;
use crate::winograd::cover::{AxisTiles, Cover};

/// The form that weights are packed in.
///
/// For one convolution on one [`Level`](crate::Level), equal packings hold the same bytes. A packing does not depend on the
/// number of images or threads. It depends on the image size only through the tiles of Winograd's algorithm, so convolutions of
/// many sites can share their weights.
///
/// ```
/// use repvgg_kernels::{Algorithm, ConvSpec, Geometry, Layout, Packing, TileSize};
///
/// let geometry = Geometry {
///     in_channels: 8,
///     out_channels: 8,
///     kernel: [3, 3],
///     stride: [1, 1],
///     padding: [1, 1],
///     dilation: [1, 1],
///     groups: 1,
/// };
/// let spec = ConvSpec { geometry, layout: Layout::Blocked };
/// let tile = TileSize::new(4).expect("there are tiles of 4");
/// let packing = Packing::of(Algorithm::Winograd(tile), &spec, [14, 14])?;
/// assert_eq!(packing.tiles([14, 14]), Some([vec![4, 4, 4, 2], vec![4, 4, 4, 2]]));
/// assert_eq!(packing, Packing::of(Algorithm::Winograd(tile), &spec, [56, 28])?);
/// # Ok::<(), repvgg_kernels::GeometryError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packing(pub(super) Scheme);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Direct,
    Depthwise,
    Winograd(FilterForm),
}

impl Packing {
    /// The packing that an algorithm reads for images of `size` `[H, W]`.
    ///
    /// # Errors
    ///
    /// Those of [`Geometry::output_size`](crate::Geometry::output_size), and if the algorithm does not fit the convolution ([`Algorithm::fits`]).
    pub fn of(algorithm: Algorithm, spec: &ConvSpec, size: [usize; 2]) -> Result<Self, GeometryError> {
        let output = spec.geometry.output_size(size)?;
        if !algorithm.fits(spec) {
            return Err(GeometryError::Algorithm { algorithm });
        }
        let winograd = |tile: TileSize, storage| {
            let axes = [0, 1].map(|axis| AxisTiles::new(spec.geometry.stride[axis], tile.outputs(), output[axis]));
            Scheme::Winograd(FilterForm { axes, storage })
        };
        Ok(Self(match algorithm {
            Algorithm::Direct => Scheme::Direct,
            Algorithm::Depthwise => Scheme::Depthwise,
            Algorithm::Winograd(tile) => winograd(tile, Storage::Transformed),
            Algorithm::WinogradRaw(tile) => winograd(tile, Storage::Raw),
        }))
    }

    /// Whether the weights of a convolution can be packed in this form.
    pub(super) fn fits(&self, spec: &ConvSpec) -> bool {
        match self.0 {
            Scheme::Direct => true,
            Scheme::Depthwise => Algorithm::Depthwise.fits(spec),
            Scheme::Winograd(FilterForm { axes, .. }) => {
                Algorithm::Winograd(TileSize::ALL[0]).fits(spec) && axes.map(|axis| axis.stride) == spec.geometry.stride
            }
        }
    }

    /// The sizes of the tiles that cover each axis of an output `[P, Q]`, `[vertical, horizontal]`; `None` if the algorithm has
    /// no tiles.
    pub fn tiles(&self, output: [usize; 2]) -> Option<[Vec<usize>; 2]> {
        let covers = self.covers(output)?;
        Some(covers.map(|cover| cover.tiles.iter().map(|tile| tile.outputs).collect()))
    }

    /// The tiles of each axis, `[vertical, horizontal]`.
    pub(super) fn covers(&self, output: [usize; 2]) -> Option<[Cover; 2]> {
        let Scheme::Winograd(FilterForm { axes, .. }) = self.0 else { return None };
        Some([0, 1].map(|axis| Cover::new(axes[axis], output[axis])))
    }
}

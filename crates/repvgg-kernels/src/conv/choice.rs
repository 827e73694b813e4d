//! Which algorithm: what a geometry can be computed with, and a formula for the time that each will take.

use std::fmt;
use std::str::FromStr;

use super::Site;
use crate::direct::Layout;
use crate::lanewise::Lanewise;
use crate::product::{Panel, Panels};
use crate::winograd::cover::{Cover, Kind};
use crate::{Geometry, Level};

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// As a product over all kernel positions: any geometry.
    Direct,
    /// One filter for each lane: as many groups as channels.
    Depthwise,
    /// Minimal filtering with tiles of up to so many outputs along each axis: 3×3 kernels of stride 1 or 2 without
    /// dilation. Tiles of 2 to 8 outputs; with stride 2, of 2 to 4.
    Winograd(usize),
    /// The same with weights kept as they are, 9 floats instead of 36 for tiles of 4, and transformed in `f32` while it runs.
    WinogradRaw(usize),
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Direct,
        Self::Depthwise,
        Self::Winograd(2),
        Self::Winograd(3),
        Self::Winograd(4),
        Self::Winograd(5),
        Self::Winograd(6),
        Self::Winograd(7),
        Self::Winograd(8),
        Self::WinogradRaw(2),
        Self::WinogradRaw(3),
        Self::WinogradRaw(4),
        Self::WinogradRaw(5),
        Self::WinogradRaw(6),
        Self::WinogradRaw(7),
        Self::WinogradRaw(8),
    ];

    /// The largest tile, where it has tiles.
    pub fn tile(self) -> Option<usize> {
        match self {
            Self::Winograd(tile) | Self::WinogradRaw(tile) => Some(tile),
            Self::Direct | Self::Depthwise => None,
        }
    }

    /// Whether it computes convolutions of this shape.
    pub fn fits(self, geometry: &Geometry, site: Site) -> bool {
        let blocked = site.layout == Layout::Blocked;
        match self {
            Self::Direct => true,
            Self::Depthwise => blocked && Lanewise::fits(geometry),
            Self::Winograd(tile) | Self::WinogradRaw(tile) => {
                let largest = |stride| if stride == 1 { 8 } else { 4 };
                blocked
                    && geometry.kernel == [3, 3]
                    && geometry.dilation == [1, 1]
                    && geometry.stride.iter().all(|&stride| (1..=2).contains(&stride) && tile <= largest(stride))
                    && (2..=8).contains(&tile)
            }
        }
    }
}

/// The sizes of the tiles that an algorithm covers the outputs of each axis with, `[vertical, horizontal]`, where it has
/// tiles.
///
/// # Panics
///
/// If the algorithm does not fit or the geometry does not fit the size.
pub fn tiles(geometry: &Geometry, site: Site, algorithm: Algorithm) -> Option<[Vec<usize>; 2]> {
    let tile = algorithm.tile()?;
    let output = geometry.output_size(site.size).expect("the geometry fits the size");
    let kinds = kinds(geometry, output, tile);
    Some([0, 1].map(|axis| Cover::new(kinds[axis], output[axis]).tiles.iter().map(|tile| tile.outputs).collect()))
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Depthwise => f.write_str("depthwise"),
            Self::Winograd(tile) => write!(f, "winograd{tile}"),
            Self::WinogradRaw(tile) => write!(f, "winograd{tile}-raw"),
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(|algorithm| algorithm.to_string()).join(", ");
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.to_string() == name);
        found.ok_or_else(|| {
            format!("expected one of {}, found {}", names(), name.escape_debug().take(80).collect::<String>())
        })
    }
}

/// How large tiles may be: larger ones save more multiplications and lose more digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Accuracy {
    /// Tiles of 2: as exact as direct convolution. Measured on whole networks: 3e-7 to 7e-7 of the largest logit.
    Strict,
    /// Tiles of up to 6. Measured: 6e-7 to 2.2e-6, official networks included.
    #[default]
    Default,
    /// Tiles of up to 8. Measured: 2e-6 to 8e-6.
    Fast,
}

impl Accuracy {
    fn largest_tile(self) -> usize {
        match self {
            Self::Strict => 2,
            Self::Default => 6,
            Self::Fast => 8,
        }
    }
}

/// What the formula knows of the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// Multiply-adds per nanosecond of one thread.
    pub macs: f64,
    /// Bytes per nanosecond at which one thread reads weights from beyond its own caches.
    pub weights: f64,
    /// Bytes per nanosecond at which a transform reads and writes, both counted.
    pub transform: f64,
}

impl Machine {
    /// Round figures of a current server core, by lanes of the level: they decide between algorithms, where only ratios
    /// count.
    pub fn typical(level: Level) -> Self {
        let lanes = level.lanes() as f64;
        Self { macs: 6.0 * lanes, weights: 22.0, transform: 5.0 * lanes }
    }
}

/// What a convolution is estimated to take on one thread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// How.
    pub algorithm: Algorithm,
    /// Multiply-adds that are really done.
    pub macs: u64,
    /// Bytes of packed weights.
    pub weight_bytes: u64,
    /// Bytes that transforms read and write.
    pub transform_bytes: u64,
    /// Nanoseconds: `macs / (0.9 · rate) + weights / bandwidth + transforms / bandwidth`. Reading weights overlaps with multiplying,
    /// but measured layers are closer to the sum than to the larger of the two.
    pub time: f64,
}

impl Estimate {
    /// The estimate for one algorithm, which must fit.
    pub fn new(level: Level, machine: Machine, (geometry, site): (&Geometry, Site), algorithm: Algorithm) -> Self {
        let lanes = level.lanes();
        let output = geometry.output_size(site.size).expect("the geometry fits the size");
        let [channels, filters] =
            [geometry.in_channels, geometry.out_channels].map(|count| count.next_multiple_of(lanes));
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let outputs = site.batch * output[0] * output[1];
        let inputs = site.batch * site.size[0] * site.size[1];
        let panels = level.run(Panels(geometry));
        // Pairs of a filter and a channel that are multiplied.
        let area = |inner: usize| -> usize {
            let channels = |panel: &Panel| (panel.blocks.end * lanes).min(channels) - panel.blocks.start * lanes;
            let whole = |panel: &Panel| channels(panel).min(geometry.in_channels.next_multiple_of(inner));
            panels.iter().map(|panel| panel.vectors.len() * lanes * whole(panel)).sum()
        };
        let (products, points, moved) = match algorithm {
            Algorithm::Direct => {
                let area = area(if site.layout == Layout::Planar { 1 } else { lanes });
                // Padded input is staged.
                let staged = if geometry.padding == [0, 0] { 0 } else { 2 * inputs * channels };
                (outputs * taps * area, taps * area, staged)
            }
            // No product is tiled: a load for every multiply-add.
            Algorithm::Depthwise => (4 * outputs * taps * filters, taps * filters, 0),
            Algorithm::Winograd(tile) | Algorithm::WinogradRaw(tile) => {
                let covers = kinds(geometry, output, tile);
                let covers = [0, 1].map(|axis| Cover::new(covers[axis], output[axis]));
                let products: usize = covers.iter().map(|cover| cover.uses.iter().sum::<usize>()).product();
                let points: usize = covers.iter().map(|cover| cover.kind.weights()).product();
                let moved = inputs * channels + outputs * filters + 3 * site.batch * products * (channels + filters);
                if matches!(algorithm, Algorithm::WinogradRaw(_)) {
                    // Weights are written and read near the core, half transformed and whole.
                    (site.batch * products * area(lanes), 9 * area(lanes), moved + 5 * points * area(lanes))
                } else {
                    (site.batch * products * area(lanes), points * area(lanes), moved)
                }
            }
        };
        let [weight_bytes, transform_bytes] = [points, moved].map(|floats| (floats * size_of::<f32>()) as u64);
        let multiply = products as f64 / (0.9 * machine.macs);
        let time = multiply + weight_bytes as f64 / machine.weights + transform_bytes as f64 / machine.transform;
        Self { algorithm, macs: products as u64, weight_bytes, transform_bytes, time }
    }

    /// The estimates of all algorithms that fit and that an accuracy allows, the fastest first.
    pub fn all(level: Level, machine: Machine, (geometry, site): (&Geometry, Site), accuracy: Accuracy) -> Vec<Self> {
        let allowed = |algorithm: &Algorithm| algorithm.tile().is_none_or(|tile| tile <= accuracy.largest_tile());
        let fitting = Algorithm::ALL.into_iter().filter(|algorithm| algorithm.fits(geometry, site)).filter(allowed);
        let mut estimates: Vec<Self> =
            fitting.map(|algorithm| Self::new(level, machine, (geometry, site), algorithm)).collect();
        estimates.sort_by(|a, b| a.time.total_cmp(&b.time));
        estimates
    }
}

/// The tiles of both axes.
pub(crate) fn kinds(geometry: &Geometry, output: [usize; 2], tile: usize) -> [Kind; 2] {
    [0, 1].map(|axis| Kind::new(geometry.stride[axis], tile, output[axis]))
}

//! Estimates of the time that each algorithm takes.

use super::algorithm::Algorithm;
use super::packing::Packing;
use super::spec::{ConvSpec, Layout, Site};
use crate::Level;
use crate::tile::{DivideFilters, FilterPanel};
use crate::winograd::families::Family;

/// The accuracy of Winograd's algorithm, which limits the size of its tiles: larger ones save more multiplications and lose
/// more digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Accuracy {
    /// Tiles of 2: as exact as direct convolution. Errors measured on entire networks are 3e-7 to 7e-7 of the largest logit.
    Strict,
    /// Tiles of up to 6. Measured errors are 6e-7 to 2.2e-6, official networks included.
    #[default]
    Default,
    /// Tiles of up to 8. Measured errors are 2e-6 to 8e-6.
    Fast,
}

impl Accuracy {
    fn largest_tile(self) -> usize {
        match self {
            Self::Strict => 2,
            Self::Default => 6,
            Self::Fast => Family::largest(1),
        }
    }
}

/// The speeds of a machine, for [`Estimate`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// Multiply-adds per nanosecond of one thread.
    pub macs: f64,
    /// Bytes per nanosecond at which one thread reads weights from beyond its own caches.
    pub weights: f64,
    /// Bytes per nanosecond that a transform reads and writes, added up.
    pub transform: f64,
}

impl Machine {
    /// Round figures for a current server core. Only their ratios affect the choice of an algorithm.
    pub fn typical(level: Level) -> Self {
        let lanes = level.lanes() as f64;
        Self { macs: 6.0 * lanes, weights: 22.0, transform: 5.0 * lanes }
    }
}

/// The estimated cost of a convolution on one thread.
///
/// ```
/// use repvgg_kernels::{Accuracy, Algorithm, ConvSpec, Estimate, Geometry, Layout, Level, Machine, Site};
///
/// let geometry = Geometry {
///     in_channels: 64,
///     out_channels: 64,
///     kernel: [3, 3],
///     stride: [1, 1],
///     padding: [1, 1],
///     dilation: [1, 1],
///     groups: 1,
/// };
/// let spec = ConvSpec { geometry, layout: Layout::Blocked };
/// let (level, site) = (Level::detect(), Site { batch: 1, size: [56, 56] });
/// let estimates = Estimate::all(level, Machine::typical(level), &spec, site, Accuracy::Strict);
/// let algorithms: Vec<String> = estimates.iter().map(|estimate| estimate.algorithm.to_string()).collect();
/// assert!(algorithms.contains(&"direct".to_owned()) && algorithms.contains(&"winograd2".to_owned()));
/// assert!(estimates[0].time <= estimates[1].time, "the fastest comes first");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Multiply-adds, those of padded channels and filters included.
    pub macs: u64,
    /// The size of the packed weights in bytes.
    pub weight_bytes: u64,
    /// Bytes that transforms read and write.
    pub transform_bytes: u64,
    /// Nanoseconds: `macs / (0.9 · rate) + weights / bandwidth + transforms / bandwidth`. Reading weights overlaps with
    /// multiplying, but measured times are closer to the sum than to the larger of the two.
    pub time: f64,
}

impl Estimate {
    /// Estimates the cost of one algorithm.
    ///
    /// # Panics
    ///
    /// If the algorithm does not fit the convolution, or its geometry does not fit the size.
    pub fn new(level: Level, machine: Machine, spec: &ConvSpec, site: Site, algorithm: Algorithm) -> Self {
        let lanes = level.lanes();
        let geometry = &spec.geometry;
        let output = geometry.output_size(site.size).expect("the geometry fits the size");
        let [channels, filters] =
            [geometry.in_channels, geometry.out_channels].map(|count| count.next_multiple_of(lanes));
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let outputs = site.batch * output[0] * output[1];
        let inputs = site.batch * site.size[0] * site.size[1];
        let panels = level.run(DivideFilters(geometry));
        // Pairs of a filter and a channel that are multiplied.
        let area = |inner: usize| -> usize {
            let channels = |panel: &FilterPanel| (panel.blocks.end * lanes).min(channels) - panel.blocks.start * lanes;
            let padded = |panel: &FilterPanel| channels(panel).min(geometry.in_channels.next_multiple_of(inner));
            panels.iter().map(|panel| panel.vectors.len() * lanes * padded(panel)).sum()
        };
        let (products, points, moved) = match algorithm {
            Algorithm::Direct => {
                let area = area(if spec.layout == Layout::Planar { 1 } else { lanes });
                // Padded input is staged.
                let staged = if geometry.padding == [0, 0] { 0 } else { 2 * inputs * channels };
                (outputs * taps * area, taps * area, staged)
            }
            // Without a register tile, every multiply-add needs a load.
            Algorithm::Depthwise => (4 * outputs * taps * filters, taps * filters, 0),
            Algorithm::Winograd(_) | Algorithm::WinogradRaw(_) => {
                let packing = Packing::of(algorithm, spec, site.size).expect("the algorithm fits");
                let covers = packing.covers(output).expect("a Winograd packing has tiles");
                let products: usize = covers.iter().map(|cover| cover.uses.iter().sum::<usize>()).product();
                let points: usize = covers.iter().map(|cover| cover.axis.weights()).product();
                let moved = inputs * channels + outputs * filters + 3 * site.batch * products * (channels + filters);
                if matches!(algorithm, Algorithm::WinogradRaw(_)) {
                    // Half-transformed and transformed weights are written to a near cache and read again.
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

    /// Estimates all algorithms that fit the convolution and the accuracy, the fastest first.
    ///
    /// # Panics
    ///
    /// If the geometry does not fit the size.
    pub fn all(level: Level, machine: Machine, spec: &ConvSpec, site: Site, accuracy: Accuracy) -> Vec<Self> {
        let allowed =
            |algorithm: &Algorithm| algorithm.tile().is_none_or(|tile| tile.outputs() <= accuracy.largest_tile());
        let fitting = Algorithm::ALL.into_iter().filter(|algorithm| algorithm.fits(spec)).filter(allowed);
        let mut estimates: Vec<Self> =
            fitting.map(|algorithm| Self::new(level, machine, spec, site, algorithm)).collect();
        estimates.sort_by(|a, b| a.time.total_cmp(&b.time));
        estimates
    }
}

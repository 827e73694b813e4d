//! A convolution in f64, and the operations under which convolutions are closed.
//!
//! Shapes and values are separate. [`Geometry`] arithmetic alone decides *whether* two convolutions combine; computing the
//! combined kernel then needs no further conditions.

use std::fmt;

use repvgg_kernels::Geometry;

use super::{Affine, parameter};
use crate::error::Problem;
use crate::graph::{Conv2d, LEAST_NORM, Node, Op, WINDOW_LIMIT};
use crate::{Tensor, Weights};

/// A linear map of activations: a convolution with a bias, in double precision.
///
/// Kernel `[K, C/G, R, S]`, bias `[K]`, both row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearConv {
    /// Channels, kernel size, stride, padding, dilation, groups.
    pub geometry: Geometry,
    /// The kernel `[K, C/G, R, S]`.
    pub kernel: Vec<f64>,
    /// The bias `[K]`.
    pub bias: Vec<f64>,
}

/// Why two convolutions do not combine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfusable(pub(crate) String);

impl fmt::Display for Unfusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Unfusable> for Problem {
    fn from(reason: Unfusable) -> Self {
        reason.0.into()
    }
}

fn refuse<T>(what: impl Into<String>) -> Result<T, Unfusable> {
    Err(Unfusable(what.into()))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The geometry of the identity: a 1×1 convolution with one group per channel.
pub(crate) fn identity_geometry(channels: usize) -> Geometry {
    Geometry {
        in_channels: channels,
        out_channels: channels,
        kernel: [1; 2],
        stride: [1; 2],
        padding: [0; 2],
        dilation: [1; 2],
        groups: channels,
    }
}

/// The geometry of `first` followed by `second`; with `first_has_bias`, `first` may add a constant.
pub(crate) fn then_geometry(first: &Geometry, second: &Geometry, first_has_bias: bool) -> Result<Geometry, Unfusable> {
    let pointwise = first.kernel == [1, 1] && first.padding == [0, 0];
    if second.padding != [0, 0] {
        // The second convolution sees zeros beyond the border, where a single one would see the first's response.
        if first_has_bias {
            return refuse("a bias precedes a padded convolution");
        }
        if !pointwise {
            return refuse("a convolution larger than 1×1 precedes a padded convolution");
        }
    }
    let mut composed = Geometry { out_channels: second.out_channels, ..*first };
    composed.groups = gcd(first.groups, second.groups);
    for axis in 0..2 {
        let step = first.stride[axis];
        composed.stride[axis] = step * second.stride[axis];
        composed.padding[axis] = first.padding[axis] + step * second.padding[axis];
        match (reach(first, axis), reach(second, axis)) {
            (_, 0) => {}
            (0, _) => {
                composed.kernel[axis] = second.kernel[axis];
                composed.dilation[axis] = second.dilation[axis] * step;
            }
            (a, b) => {
                composed.dilation[axis] = gcd(first.dilation[axis], second.dilation[axis] * step);
                composed.kernel[axis] = (a + b * step) / composed.dilation[axis] + 1;
            }
        }
    }
    within_window(composed)
}

/// The geometry of the sum of two convolutions of the same input. Its taps lie on the coarsest grid that holds those of both:
/// a 3×3 kernel and one dilated by 2 are one 5×5 kernel.
pub(crate) fn sum_geometry(a: &Geometry, b: &Geometry) -> Result<Geometry, Unfusable> {
    if (a.in_channels, a.out_channels) != (b.in_channels, b.out_channels) {
        return refuse(format!(
            "branches map {} to {} and {} to {} channels",
            a.in_channels, a.out_channels, b.in_channels, b.out_channels
        ));
    }
    if a.stride != b.stride {
        return refuse(format!("branches have strides {:?} and {:?}", a.stride, b.stride));
    }
    let mut sum = Geometry { groups: gcd(a.groups, b.groups), ..*a };
    for axis in 0..2 {
        let (large, small) = if reach(a, axis) >= reach(b, axis) { (a, b) } else { (b, a) };
        // Equal borders on both sides, which are equal sizes of both outputs.
        let border = large.padding[axis].checked_sub(small.padding[axis]);
        let Some(border) = border.filter(|border| 2 * border == reach(large, axis) - reach(small, axis)) else {
            return refuse(format!(
                "kernels {} and {} are not centred on each other",
                describe_window(a),
                describe_window(b)
            ));
        };
        let step = |geometry: &Geometry| if geometry.kernel[axis] > 1 { geometry.dilation[axis] } else { 0 };
        sum.dilation[axis] = gcd(gcd(step(large), step(small)), border).max(1);
        sum.kernel[axis] = reach(large, axis) / sum.dilation[axis] + 1;
        sum.padding[axis] = large.padding[axis];
    }
    within_window(sum)
}

/// Input pixels from the first tap to the last.
fn reach(geometry: &Geometry, axis: usize) -> usize {
    (geometry.kernel[axis] - 1) * geometry.dilation[axis]
}

/// The kernel and what differs from the defaults of its padding and dilation.
fn describe_window(geometry: &Geometry) -> String {
    let dilated = match geometry.dilation {
        [1, 1] => String::new(),
        dilation => format!(" dilated by {dilation:?}"),
    };
    format!("{:?}{dilated} padded by {:?}", geometry.kernel, geometry.padding)
}

/// Refuses a kernel with more rows or columns than any convolution may have.
fn within_window(geometry: Geometry) -> Result<Geometry, Unfusable> {
    if geometry.kernel.iter().any(|&extent| extent > WINDOW_LIMIT) {
        return refuse(format!("a single kernel would be {:?}, larger than {WINDOW_LIMIT}", geometry.kernel));
    }
    Ok(geometry)
}

impl LinearConv {
    /// The map of a convolution or a fully connected layer, which is a 1×1 convolution of one-pixel maps.
    ///
    /// # Errors
    /// When a parameter of `node` is missing.
    ///
    /// # Panics
    /// When `node` is neither a convolution nor a fully connected layer.
    pub fn of(node: &Node, weights: &Weights) -> crate::Result<Self> {
        let (geometry, has_bias) = match node.op {
            Op::Conv2d(Conv2d { geometry, bias }) | Op::NormalizedConv2d(Conv2d { geometry, bias }) => (geometry, bias),
            Op::Linear(layer) => (layer.geometry(), layer.bias),
            ref other => panic!("{}: expected a convolution, found {}", node.name, other.kind()),
        };
        let kernel = match node.op {
            Op::NormalizedConv2d(_) => normalized(weights.require(&format!("{}.weight", node.name))?),
            _ => parameter(node, "weight", weights)?,
        };
        let bias = if has_bias { parameter(node, "bias", weights)? } else { vec![0.0; geometry.out_channels] };
        Ok(Self { geometry, kernel, bias })
    }

    /// The identity on maps of `channels`.
    pub fn identity(channels: usize) -> Self {
        Self { geometry: identity_geometry(channels), kernel: vec![1.0; channels], bias: vec![0.0; channels] }
    }

    /// The mean over each window as a convolution, one group per channel; padding counts as zeros.
    pub fn average(geometry: Geometry) -> Self {
        let window = (geometry.kernel[0] * geometry.kernel[1]) as f64;
        Self { kernel: vec![1.0 / window; geometry.weight_len()], bias: vec![0.0; geometry.out_channels], geometry }
    }

    /// This convolution followed by a batch norm or a factor per channel.
    ///
    /// # Panics
    /// When `affine` has another number of channels.
    #[must_use]
    pub fn scale(mut self, affine: &Affine) -> Self {
        let Affine { scale, shift } = affine;
        let filters = self.geometry.out_channels;
        assert_eq!((scale.len(), shift.len()), (filters, filters), "one factor and one shift per output channel");
        let filter_len = self.kernel.len() / filters;
        for (filter, t) in self.kernel.chunks_exact_mut(filter_len).zip(scale) {
            filter.iter_mut().for_each(|weight| *weight *= t);
        }
        for ((bias, t), b) in self.bias.iter_mut().zip(scale).zip(shift) {
            *bias = *bias * t + b;
        }
        self
    }

    /// The same map with its kernel zero-padded to the size and groups of `target`.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    pub fn pad_to(&self, target: &Geometry) -> Result<Self, Unfusable> {
        let geometry = sum_geometry(&self.geometry, target)?;
        let mut padded = Self::zero(geometry);
        padded.accumulate(self);
        Ok(padded)
    }

    /// The sum of two convolutions of the same input.
    ///
    /// # Errors
    /// When their strides differ, or they are not centred on each other.
    pub fn sum(&self, other: &Self) -> Result<Self, Unfusable> {
        let mut sum = self.pad_to(&other.geometry)?;
        sum.accumulate(other);
        Ok(sum)
    }

    /// This convolution followed by `second` (DBB's transform III, 2103.13425, Sect. 3.2, generalised to any
    /// kernel, stride and groups).
    ///
    /// # Errors
    /// When `second` pads a map that this convolution has enlarged or shifted: no single convolution computes that.
    pub fn then(&self, second: &Self) -> Result<Self, Unfusable> {
        let has_bias = self.bias.iter().any(|&bias| bias != 0.0);
        let mut composed = Self::zero(then_geometry(&self.geometry, &second.geometry, has_bias)?);
        composed.compose(self, second);
        Ok(composed)
    }

    fn zero(geometry: Geometry) -> Self {
        Self { kernel: vec![0.0; geometry.weight_len()], bias: vec![0.0; geometry.out_channels], geometry }
    }

    /// The flat index of the weight from input channel `c` to filter `k` at kernel position `[r, s]`.
    fn index(&self, k: usize, c: usize, r: usize, s: usize) -> usize {
        let Geometry { in_channels, groups, kernel: [height, width], .. } = self.geometry;
        let per_group = in_channels / groups;
        ((k * per_group + c % per_group) * height + r) * width + s
    }

    /// The input channels that filter `k` reads.
    fn inputs_of(&self, k: usize) -> std::ops::Range<usize> {
        let Geometry { in_channels, out_channels, groups, .. } = self.geometry;
        let (per_group, group) = (in_channels / groups, k / (out_channels / groups));
        group * per_group..(group + 1) * per_group
    }

    /// Adds `branch`, its taps at their places in this kernel.
    fn accumulate(&mut self, branch: &Self) {
        let [height, width] = branch.geometry.kernel;
        let place = |axis: usize, tap: usize| {
            let border = self.geometry.padding[axis] - branch.geometry.padding[axis];
            (border + tap * branch.geometry.dilation[axis]) / self.geometry.dilation[axis]
        };
        let rows: Vec<usize> = (0..height).map(|tap| place(0, tap)).collect();
        let columns: Vec<usize> = (0..width).map(|tap| place(1, tap)).collect();
        for k in 0..self.geometry.out_channels {
            for c in branch.inputs_of(k) {
                for (r, &row) in rows.iter().enumerate() {
                    for (s, &column) in columns.iter().enumerate() {
                        let target = self.index(k, c, row, column);
                        self.kernel[target] += branch.kernel[branch.index(k, c, r, s)];
                    }
                }
            }
            self.bias[k] += branch.bias[k];
        }
    }

    /// Adds `first` followed by `second`: `K[k, c, r₁ + σr₂] += Σₘ second[k, m, r₂] · first[m, c, r₁]`, with
    /// positions in input pixels and σ the stride of `first`.
    fn compose(&mut self, first: &Self, second: &Self) {
        let position = |axis: usize, r1: usize, r2: usize| {
            let pixels =
                r1 * first.geometry.dilation[axis] + r2 * second.geometry.dilation[axis] * first.geometry.stride[axis];
            pixels / self.geometry.dilation[axis]
        };
        let taps = |geometry: &Geometry| {
            let [height, width] = geometry.kernel;
            (0..height * width).map(move |tap| (tap / width, tap % width)).collect::<Vec<_>>()
        };
        let (first_taps, second_taps) = (taps(&first.geometry), taps(&second.geometry));
        let mut targets = Vec::with_capacity(first_taps.len() * second_taps.len());
        for &(r2, s2) in &second_taps {
            for &(r1, s1) in &first_taps {
                targets.push((position(0, r1, r2), position(1, s1, s2)));
            }
        }
        for k in 0..second.geometry.out_channels {
            self.bias[k] += second.bias[k];
            for m in second.inputs_of(k) {
                for (tap2, &(r2, s2)) in second_taps.iter().enumerate() {
                    let weight = second.kernel[second.index(k, m, r2, s2)];
                    self.bias[k] += weight * first.bias[m];
                    for c in first.inputs_of(m) {
                        for (tap1, &(r1, s1)) in first_taps.iter().enumerate() {
                            let (r, s) = targets[tap2 * first_taps.len() + tap1];
                            let target = self.index(k, c, r, s);
                            self.kernel[target] += weight * first.kernel[first.index(m, c, r1, s1)];
                        }
                    }
                }
            }
        }
    }
}

/// The filters `[K, …]`, each divided by its Euclidean norm; zero filters stay zero.
pub(crate) fn normalized(weight: &Tensor) -> Vec<f64> {
    let filters = weight.shape()[0];
    let mut values: Vec<f64> = weight.data().iter().copied().map(f64::from).collect();
    let filter_len = values.len() / filters.max(1);
    for filter in values.chunks_exact_mut(filter_len.max(1)) {
        let norm = filter.iter().map(|x| x * x).sum::<f64>().sqrt().max(LEAST_NORM);
        filter.iter_mut().for_each(|x| *x /= norm);
    }
    values
}

#[cfg(test)]
mod tests;

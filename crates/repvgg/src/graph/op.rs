//! The closed set of operations, their parameters and their shapes.

use std::ops::RangeInclusive;

use repvgg_kernels::Geometry;
use serde::{Deserialize, Serialize};

use super::Shape;
use super::activation::ActivationKind;
use super::pool::Pool;
use super::resize::Resize;
use crate::element_count;
use crate::error::{Problem, expected};

/// An operation on activations `[N, C, H, W]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The images `[N, channels, H, W]`.
    Input {
        /// Channels of the image.
        channels: usize,
    },
    /// A convolution (cross-correlation, as in every framework).
    Conv2d(Conv2d),
    /// A convolution whose filters are each divided by their Euclidean norm: the `W_norm` of DiracNets (Zagoruyko &
    /// Komodakis, 1706.00388, Sect. 3.1).
    NormalizedConv2d(Conv2d),
    /// Batch normalisation per channel.
    BatchNorm(BatchNorm),
    /// A learned factor per channel.
    Scale {
        /// Channels.
        channels: usize,
        /// The value of every factor before training.
        #[serde(default = "one")]
        initial: f32,
    },
    /// An elementwise nonlinearity.
    Activation(ActivationKind),
    /// The elementwise sum of two or more equal shapes.
    Add,
    /// The elementwise product of `[C, H, W]` with `[C, H, W]` or `[C, 1, 1]`.
    Mul,
    /// The concatenation of the inputs along the channels.
    Concat,
    /// A permutation of the channels: `[groups, C/groups]` transposed (ShuffleNet, 1707.01083, Sect. 3.1).
    Shuffle {
        /// The groups whose channels are interleaved.
        groups: usize,
    },
    /// A range of channels.
    Slice {
        /// The first channel.
        start: usize,
        /// The number of channels.
        channels: usize,
    },
    /// Zeros around the map; negative numbers crop rows or columns instead.
    Pad {
        /// Rows above and below, columns left and right.
        padding: [[isize; 2]; 2],
    },
    /// The map resampled to another size.
    Resize(Resize),
    /// The largest value of each window.
    MaxPool(Pool),
    /// The mean of each window; padding counts as zeros.
    AvgPool(Pool),
    /// The mean of each window's pixels on the map; padding does not count.
    AvgPoolInside(Pool),
    /// The mean over the whole map: `[C, H, W] → [C, 1, 1]`.
    GlobalAvgPool,
    /// `[C, H, W] → [C·H·W, 1, 1]`.
    Flatten,
    /// A fully connected layer on `[C, 1, 1]`.
    Linear(Linear),
    /// The softmax over the channels of each pixel.
    Softmax(Softmax),
}

fn one() -> f32 {
    1.0
}

/// The most channels or features of a value.
const EXTENT_LIMIT: usize = 1 << 24;

/// The most rows or columns of a kernel, a stride, a padding or a dilation.
pub(crate) const WINDOW_LIMIT: usize = 1 << 12;

/// A convolution's geometry, and whether it has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Channels, kernel, stride, padding, dilation, groups.
    #[serde(flatten, with = "GeometryFields")]
    pub geometry: Geometry,
    /// Whether a bias `[K]` is added.
    pub bias: bool,
}

/// The serialised form of a [`Geometry`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Geometry")]
struct GeometryFields {
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

impl Conv2d {
    /// A dense square convolution of stride 1 without bias that preserves the map's size, for an odd `kernel`.
    pub fn square(in_channels: usize, out_channels: usize, kernel: usize) -> Self {
        let geometry = Geometry {
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
            groups: 1,
        };
        Self { geometry, bias: false }
    }

    /// The same with this stride.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.geometry.stride = [stride; 2];
        self
    }

    /// The same with this many groups.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.geometry.groups = groups;
        self
    }

    /// The same with a bias.
    #[must_use]
    pub fn with_bias(mut self) -> Self {
        self.bias = true;
        self
    }
}

/// The lower bound on a filter's norm, as in PyTorch's `normalize`.
pub const LEAST_NORM: f64 = 1e-12;

/// Batch normalisation: `y = γ (x − μ) / √(σ² + ε) + β` per channel (Ioffe & Szegedy, 1502.03167).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Channels normalised.
    pub channels: usize,
    /// The ε under the root.
    pub eps: f64,
}

impl BatchNorm {
    /// PyTorch's defaults: ε = 1e-5.
    pub fn new(channels: usize) -> Self {
        Self { channels, eps: 1e-5 }
    }
}

/// The output of a softmax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Softmax {
    /// `p = eˣ / Σ eˣ`
    Probabilities,
    /// `ln p`
    Logarithms,
}

/// A fully connected layer: `y = W x + b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linear {
    /// Features read.
    pub in_features: usize,
    /// Features written.
    pub out_features: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Linear {
    /// The geometry of the same layer as a 1×1 convolution on one-pixel maps.
    pub fn geometry(&self) -> Geometry {
        Geometry {
            in_channels: self.in_features,
            out_channels: self.out_features,
            kernel: [1; 2],
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
        }
    }
}

/// The role of a parameter; recipes choose weight decay by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A convolution kernel `[K, C/G, R, S]`.
    Kernel,
    /// A fully connected layer's matrix `[out, in]`.
    Matrix,
    /// An additive bias.
    Bias,
    /// A batch norm's γ.
    NormScale,
    /// A batch norm's β.
    NormShift,
    /// A factor per channel.
    Scale,
    /// A batch norm's running mean: state, not trained.
    RunningMean,
    /// A batch norm's running variance: state, not trained.
    RunningVar,
}

impl Role {
    /// Whether training updates it by gradients; running statistics are state.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar)
    }
}

/// One parameter of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The last part of its name, such as `weight` or `running_var`.
    pub suffix: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its role.
    pub role: Role,
}

impl Parameter {
    fn new(suffix: &'static str, shape: impl Into<Vec<usize>>, role: Role) -> Self {
        Self { suffix, shape: shape.into(), role }
    }
}

impl Op {
    /// A convolution.
    pub fn conv(conv: Conv2d) -> Self {
        Self::Conv2d(conv)
    }

    /// The convolution, of either kind.
    pub fn convolution(&self) -> Option<&Conv2d> {
        if let Self::Conv2d(conv) | Self::NormalizedConv2d(conv) = self { Some(conv) } else { None }
    }

    /// A batch norm with PyTorch's defaults.
    pub fn batch_norm(channels: usize) -> Self {
        Self::BatchNorm(BatchNorm::new(channels))
    }

    /// A factor per channel that starts as 1.
    pub fn scale(channels: usize) -> Self {
        Self::Scale { channels, initial: one() }
    }

    /// A rectified linear unit.
    pub fn relu() -> Self {
        Self::Activation(ActivationKind::Relu)
    }

    /// The operation's name in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input { .. } => "Input",
            Self::Conv2d(_) => "Conv2d",
            Self::NormalizedConv2d(_) => "NormalizedConv2d",
            Self::BatchNorm(_) => "BatchNorm",
            Self::Scale { .. } => "Scale",
            Self::Activation(kind) => kind.title(),
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::Concat => "Concat",
            Self::Shuffle { .. } => "Shuffle",
            Self::Slice { .. } => "Slice",
            Self::Pad { .. } => "Pad",
            Self::Resize(_) => "Resize",
            Self::MaxPool(_) => "MaxPool",
            Self::AvgPool(_) => "AvgPool",
            Self::AvgPoolInside(_) => "AvgPoolInside",
            Self::GlobalAvgPool => "GlobalAvgPool",
            Self::Flatten => "Flatten",
            Self::Linear(_) => "Linear",
            Self::Softmax(Softmax::Probabilities) => "Softmax",
            Self::Softmax(Softmax::Logarithms) => "LogSoftmax",
        }
    }

    /// The number of inputs.
    pub fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Self::Input { .. } => 0..=0,
            Self::Add | Self::Concat => 2..=usize::MAX,
            Self::Mul => 2..=2,
            _ => 1..=1,
        }
    }

    /// Checks every condition that does not depend on the image.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let extents = match self {
            Self::Conv2d(Conv2d { geometry: g, .. }) | Self::NormalizedConv2d(Conv2d { geometry: g, .. }) => {
                g.validate()?;
                return check_window(&[g.kernel, g.stride, g.padding, g.dilation]);
            }
            Self::MaxPool(pool) | Self::AvgPool(pool) | Self::AvgPoolInside(pool) => {
                return check_window(&[pool.kernel, pool.stride, pool.dilation, pool.padding[0], pool.padding[1]]);
            }
            Self::Resize(resize) => return resize.check(),
            Self::Pad { padding } => return check_window(&padding.map(|ends| ends.map(isize::unsigned_abs))),
            Self::Scale { initial, .. } if !initial.is_finite() => {
                return Err(expected("a finite initial factor").found(initial));
            }
            Self::Input { channels } | Self::Scale { channels, .. } => [*channels, 1],
            Self::Shuffle { groups } => [*groups, 1],
            Self::Slice { start, channels } => [start.saturating_add(1), *channels],
            Self::BatchNorm(BatchNorm { eps, .. }) if !(eps.is_finite() && *eps >= 0.0) => {
                return Err(expected("an epsilon of at least 0").found(eps));
            }
            Self::BatchNorm(BatchNorm { channels, .. }) => [*channels, 1],
            Self::Activation(kind) => return kind.check(),
            Self::Linear(linear) => [linear.in_features, linear.out_features],
            _ => return Ok(()),
        };
        match extents.iter().find(|extent| !(1..=EXTENT_LIMIT).contains(*extent)) {
            Some(extent) => Err(expected(format_args!("1 to {EXTENT_LIMIT} channels")).found(extent)),
            None => Ok(()),
        }
    }

    /// Its parameters, with the suffixes and shapes that PyTorch gives them.
    pub fn parameters(&self) -> Vec<Parameter> {
        let bias = |has: bool, length| has.then(|| Parameter::new("bias", [length], Role::Bias));
        match self {
            Self::Conv2d(Conv2d { geometry: g, bias: has_bias })
            | Self::NormalizedConv2d(Conv2d { geometry: g, bias: has_bias }) => {
                let shape = [g.out_channels, g.in_channels / g.groups, g.kernel[0], g.kernel[1]];
                let kernel = Parameter::new("weight", shape, Role::Kernel);
                [Some(kernel), bias(*has_bias, g.out_channels)].into_iter().flatten().collect()
            }
            Self::BatchNorm(BatchNorm { channels, .. }) => vec![
                Parameter::new("weight", [*channels], Role::NormScale),
                Parameter::new("bias", [*channels], Role::NormShift),
                Parameter::new("running_mean", [*channels], Role::RunningMean),
                Parameter::new("running_var", [*channels], Role::RunningVar),
            ],
            Self::Scale { channels, .. } => vec![Parameter::new("weight", [*channels], Role::Scale)],
            Self::Linear(linear) => {
                let matrix = Parameter::new("weight", [linear.out_features, linear.in_features], Role::Matrix);
                [Some(matrix), bias(linear.bias, linear.out_features)].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The output shape for these input shapes; `size` is the image's `[height, width]`.
    pub(crate) fn shape(&self, size: [usize; 2], inputs: &[Shape]) -> Result<Shape, Problem> {
        let same = |channels: usize| match inputs[0][0] {
            found if found == channels => Ok(inputs[0]),
            found => Err(expected(format_args!("{channels} input channels")).found(found)),
        };
        match self {
            Self::Input { channels } => Ok([*channels, size[0], size[1]]),
            Self::Conv2d(Conv2d { geometry, .. }) | Self::NormalizedConv2d(Conv2d { geometry, .. }) => {
                let [_, height, width] = same(geometry.in_channels)?;
                let [p, q] = geometry.output_size([height, width])?;
                Ok([geometry.out_channels, p, q])
            }
            Self::BatchNorm(BatchNorm { channels, .. }) | Self::Scale { channels, .. } => same(*channels),
            Self::Activation(_) | Self::Softmax(_) => Ok(inputs[0]),
            Self::Add => match inputs.iter().find(|&shape| *shape != inputs[0]) {
                None => Ok(inputs[0]),
                Some(other) => Err(expected("equal shapes").found(format_args!("{:?} and {other:?}", inputs[0]))),
            },
            Self::Mul => match inputs {
                [a, b] if a == b || (a[0] == b[0] && b[1..] == [1, 1]) => Ok(*a),
                [a, b] => {
                    Err(expected(format_args!("{a:?} or [{}, 1, 1] as the factor", a[0])).found(format_args!("{b:?}")))
                }
                _ => unreachable!("the arity is checked when a node is added"),
            },
            Self::Concat => match inputs.iter().find(|shape| shape[1..] != inputs[0][1..]) {
                None => {
                    let channels = inputs.iter().try_fold(0_usize, |sum, shape| sum.checked_add(shape[0]));
                    Ok([channels.ok_or_else(too_many_channels)?, inputs[0][1], inputs[0][2]])
                }
                Some(other) => {
                    Err(expected("equal heights and widths").found(format_args!("{:?} and {other:?}", inputs[0])))
                }
            },
            Self::Shuffle { groups } => match inputs[0] {
                [channels, ..] if channels.is_multiple_of(*groups) => Ok(inputs[0]),
                [channels, ..] => Err(expected(format_args!("channels divisible by {groups} groups")).found(channels)),
            },
            Self::Slice { start, channels } => match inputs[0] {
                [found, height, width] if start.checked_add(*channels).is_some_and(|end| end <= found) => {
                    Ok([*channels, height, width])
                }
                [found, ..] => {
                    Err(expected(format_args!("at least {channels} channels starting at {start}")).found(found))
                }
            },
            Self::Pad { padding } => {
                let [channels, height, width] = inputs[0];
                // Cropping applies to the map, not to zeros added on the other side.
                let padded = |extent: usize, ends: [isize; 2]| {
                    let cut = ends.map(|end| end.min(0).unsigned_abs()).into_iter().sum::<usize>();
                    let left = extent.checked_sub(cut).filter(|left| *left > 0)?;
                    ends.into_iter().try_fold(left, |sum, end| sum.checked_add_signed(end.max(0)))
                };
                match (padded(height, padding[0]), padded(width, padding[1])) {
                    (Some(height), Some(width)) => Ok([channels, height, width]),
                    _ => Err(expected(format_args!("a map larger than what padding {padding:?} cuts off"))
                        .found(format_args!("[{height}, {width}]"))),
                }
            }
            Self::Resize(resize) => resize.shape(inputs[0]),
            Self::MaxPool(pool) | Self::AvgPool(pool) | Self::AvgPoolInside(pool) => pool.shape(inputs[0]),
            Self::GlobalAvgPool => Ok([inputs[0][0], 1, 1]),
            Self::Flatten => Ok([element_count(&inputs[0]).ok_or_else(too_many_channels)?, 1, 1]),
            Self::Linear(linear) => match inputs[0] {
                [channels, 1, 1] if channels == linear.in_features => Ok([linear.out_features, 1, 1]),
                found => Err(expected(format_args!("[{}, 1, 1]", linear.in_features)).found(format_args!("{found:?}"))),
            },
        }
    }
}

fn too_many_channels() -> Problem {
    "the number of channels exceeds the address space".into()
}

/// Checks a window's kernel, stride, padding and dilation, which could overflow if absurdly large.
fn check_window(extents: &[[usize; 2]]) -> Result<(), Problem> {
    match extents.as_flattened().iter().find(|extent| **extent > WINDOW_LIMIT) {
        Some(extent) => {
            Err(expected(format_args!("kernel, stride, padding and dilation up to {WINDOW_LIMIT}")).found(extent))
        }
        None => Ok(()),
    }
}

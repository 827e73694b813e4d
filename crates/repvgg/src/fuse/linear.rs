//! What each linear operation does to a convolution of the source: to its geometry, and to its numbers.

use std::collections::HashMap;

use repvgg_kernels::Geometry;

use crate::algebra::{Affine, LinearConv, Unfusable, identity_geometry, sum_geometry, then_geometry};
use crate::graph::{Conv2d, Graph, NodeId, Op, Pool, WINDOW_LIMIT};
use crate::{Error, Result, Weights};

/// A node's value as a convolution of the source, without the numbers.
#[derive(Clone, Copy)]
pub(super) struct ConvShape {
    pub(super) geometry: Geometry,
    /// Whether it may add a constant.
    has_bias: bool,
    /// Whether the map has one pixel, because a fully connected layer reads or computes it.
    is_row: bool,
}

impl ConvShape {
    /// The source itself.
    pub(super) fn identity(channels: usize) -> Self {
        Self { geometry: identity_geometry(channels), has_bias: false, is_row: false }
    }
}

/// Whether a region may contain the operation.
pub(super) fn is_linear(op: &Op) -> bool {
    layer_weights(op).is_some()
        || matches!(op, Op::BatchNorm(_) | Op::Scale { .. } | Op::AvgPool(_) | Op::Pad { .. } | Op::Add)
}

/// The number of weights of a convolution or a fully connected layer, which is its multiply-adds per output pixel.
pub(super) fn layer_weights(op: &Op) -> Option<usize> {
    match op {
        Op::Linear(layer) => Some(weight_count(&layer.geometry())),
        _ => op.convolution().map(|conv| weight_count(&conv.geometry)),
    }
}

/// `K·(C/G)·R·S`; a number that does not fit is the largest one.
pub(super) fn weight_count(geometry: &Geometry) -> usize {
    let Geometry { in_channels, out_channels, kernel: [height, width], groups, .. } = *geometry;
    [in_channels / groups, height, width].into_iter().fold(out_channels, usize::saturating_mul)
}

/// The output of a linear operation, from its inputs.
pub(super) fn conv_shape(op: &Op, inputs: &[ConvShape]) -> Result<ConvShape, Unfusable> {
    let ConvShape { geometry, has_bias, is_row } = inputs[0];
    let then = |second: &Geometry, bias: bool| {
        let extents = [&geometry, second].map(|g| [g.kernel, g.stride, g.padding, g.dilation]);
        if extents.as_flattened().as_flattened().iter().any(|&extent| extent > WINDOW_LIMIT) {
            return Err(Unfusable(format!("its kernel, stride or padding is larger than {WINDOW_LIMIT}")));
        }
        let geometry = then_geometry(&geometry, second, has_bias)?;
        Ok(ConvShape { geometry, has_bias: has_bias || bias, is_row: is_row || matches!(op, Op::Linear(_)) })
    };
    let shape = match op {
        Op::Conv2d(conv) | Op::NormalizedConv2d(conv) => then(&conv.geometry, conv.bias),
        Op::Linear(layer) => then(&layer.geometry(), layer.bias),
        Op::Pad { padding } => then(&pad_geometry(*padding, geometry.out_channels)?, false),
        Op::AvgPool(pool) => then(&pool_geometry(pool, geometry.out_channels)?, false),
        Op::BatchNorm(_) => Ok(ConvShape { has_bias: true, ..inputs[0] }),
        Op::Add => inputs[1..].iter().try_fold(inputs[0], |sum, other| {
            let geometry = sum_geometry(&sum.geometry, &other.geometry)?;
            Ok(ConvShape { geometry, has_bias: sum.has_bias || other.has_bias, is_row: sum.is_row || other.is_row })
        }),
        _ => Ok(inputs[0]),
    }?;
    let Geometry { kernel, stride, padding, .. } = shape.geometry;
    if shape.is_row && (kernel, stride, padding) != ([1; 2], [1; 2], [0; 2]) {
        return Err(Unfusable(
            "a fully connected layer does not combine with a convolution larger than 1×1".to_owned(),
        ));
    }
    Ok(shape)
}

/// A sum of branches of different dilation may have this many times their weights. A dense 3×3 kernel and one dilated by 2 or
/// 3 (18 weights) are worth one 5×5 or 7×7 kernel (25 or 49), which reads and writes each map once; a dense one and one dilated
/// by 6 are not worth one 13×13 kernel (169).
const FILLING_LIMIT: usize = 3;

/// The weights that a sum may have beyond those of its branches, because their dilations leave gaps that it fills.
pub(super) fn filling(op: &Op, inputs: &[ConvShape], sum: &ConvShape) -> usize {
    let differ = (0..2).any(|axis| {
        let wide = inputs.iter().filter(|input| input.geometry.kernel[axis] > 1);
        let mut dilations = wide.map(|input| input.geometry.dilation[axis]);
        let first = dilations.next();
        dilations.any(|dilation| Some(dilation) != first)
    });
    let branches = inputs.iter().map(|input| weight_count(&input.geometry)).fold(0, usize::saturating_add);
    let filled = weight_count(&sum.geometry);
    let is_worth_it = *op == Op::Add && differ && filled / FILLING_LIMIT <= branches;
    if is_worth_it { filled.saturating_sub(branches) } else { 0 }
}

/// The operation that computes a region's value: a convolution, or a fully connected layer where one is among its `nodes`.
pub(super) fn merged_op(graph: &Graph, nodes: &[NodeId], geometry: Geometry) -> Op {
    if nodes.iter().any(|&id| matches!(graph.node(id).op, Op::Linear(_))) {
        let Geometry { in_channels, out_channels, .. } = geometry;
        return Op::Linear(crate::graph::Linear { in_features: in_channels, out_features: out_channels, bias: true });
    }
    Op::Conv2d(Conv2d { geometry, bias: true })
}

/// The value of a linear node from its inputs' values.
pub(super) fn evaluate(
    graph: &Graph,
    id: NodeId,
    weights: &Weights,
    values: &HashMap<NodeId, LinearConv>,
) -> Result<LinearConv> {
    let node = graph.node(id);
    let input = &values[&node.inputs[0]];
    let combined = match &node.op {
        Op::Conv2d(_) | Op::NormalizedConv2d(_) | Op::Linear(_) => input.then(&LinearConv::of(node, weights)?),
        Op::Pad { padding } => {
            let channels = input.geometry.out_channels;
            let pad = |geometry| input.then(&LinearConv { geometry, ..LinearConv::identity(channels) });
            pad_geometry(*padding, channels).and_then(pad)
        }
        Op::BatchNorm(_) | Op::Scale { .. } => Ok(input.clone().scale(&Affine::of(node, weights)?)),
        Op::AvgPool(pool) => {
            let geometry = pool_geometry(pool, input.geometry.out_channels);
            geometry.and_then(|geometry| input.then(&LinearConv::average(geometry)))
        }
        Op::Add => node.inputs[1..].iter().try_fold(input.clone(), |sum, other| sum.sum(&values[other])),
        other => unreachable!("{} is not linear", other.kind()),
    };
    combined.map_err(|reason| Error::fuse(&node.name, reason))
}

/// An average pool as a convolution, which requires equal padding on opposite sides.
fn pool_geometry(pool: &Pool, channels: usize) -> Result<Geometry, Unfusable> {
    let Pool { kernel, stride, padding } = *pool;
    if padding.iter().any(|[begin, end]| begin != end) {
        return Err(Unfusable(format!("padding {padding:?} is not equal on opposite sides")));
    }
    Ok(Geometry { kernel, stride, padding: padding.map(|[begin, _]| begin), ..identity_geometry(channels) })
}

/// Zero padding as a convolution, which requires equal padding on opposite sides.
fn pad_geometry(padding: [[isize; 2]; 2], channels: usize) -> Result<Geometry, Unfusable> {
    let even = padding.map(|[begin, end]| usize::try_from(begin).ok().filter(|_| begin == end));
    match even {
        [Some(rows), Some(columns)] => Ok(Geometry { padding: [rows, columns], ..identity_geometry(channels) }),
        _ => Err(Unfusable(format!("padding {padding:?} is negative or not equal on opposite sides"))),
    }
}

//! The parameters of steps: computed in double precision, rounded once to single.

use std::borrow::Cow;

use crate::algebra::{self, LinearConv};
use crate::graph::{Node, NodeId, Op};
use crate::program::Convolution;
use crate::{Graph, Result, Weights};

/// `scale · x + shift` per channel, padded with zeros to whole blocks of channels.
#[derive(Debug)]
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// The parameters of a convolution after folding.
pub(super) struct Folded<'a> {
    /// `[K, C/G, R, S]`.
    pub(super) weights: Cow<'a, [f32]>,
    /// `[K]`.
    pub(super) bias: Vec<f32>,
    /// `[K]`, if the second input has factors.
    pub(super) addend_scale: Option<Vec<f32>>,
}

impl Affine {
    /// The map of a batch norm or a factor per channel, for blocks of `lanes` channels.
    pub(super) fn of(node: &Node, weights: &Weights, lanes: usize) -> Result<Self> {
        let algebra::Affine { scale, shift } = algebra::Affine::of(node, weights)?;
        let [scale, shift] = [scale, shift].map(|values| {
            let mut values = rounded(&values);
            values.resize(values.len().next_multiple_of(lanes), 0.0);
            values
        });
        Ok(Self { scale, shift })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.scale) + size_of_val(&*self.shift)
    }
}

impl<'a> Folded<'a> {
    /// The parameters of `convolution`.
    pub(super) fn of(graph: &Graph, convolution: &Convolution, weights: &'a Weights) -> Result<Self> {
        let node = graph.node(convolution.filters);
        let affine = |id: &NodeId| algebra::Affine::of(graph.node(*id), weights);
        let addend = convolution.addend_affine.as_ref().map(affine).transpose()?;
        let is_plain = convolution.affines.is_empty() && !matches!(node.op, Op::NormalizedConv2d(_));
        if is_plain && addend.is_none() {
            // Nothing to fold: the stored weights are packed as they are.
            let stored = |suffix: &str| weights.require(&format!("{}.{suffix}", node.name)).map(|tensor| tensor.data());
            let has_bias = node.op.parameters().iter().any(|parameter| parameter.suffix == "bias");
            let filters = convolution.geometry.out_channels;
            let bias = if has_bias { stored("bias")?.to_vec() } else { vec![0.0; filters] };
            return Ok(Self { weights: Cow::Borrowed(stored("weight")?), bias, addend_scale: None });
        }
        let mut folded = LinearConv::of(node, weights)?;
        for id in &convolution.affines {
            folded = folded.scale(&affine(id)?);
        }
        if let Some(addend) = &addend {
            folded.bias.iter_mut().zip(&addend.shift).for_each(|(bias, shift)| *bias += shift);
        }
        Ok(Self {
            weights: Cow::Owned(rounded(&folded.kernel)),
            bias: rounded(&folded.bias),
            addend_scale: addend.map(|addend| rounded(&addend.scale)),
        })
    }
}

fn rounded(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

//! Batch norms, softmax and concatenation.

use super::attributes::axis;
use super::constant::{Constant, ConstantData};
use super::convolution::module_name;
use super::value::{Axis, Data};
use super::{ReadResult, Reader, proto};
use crate::Op;
use crate::error::expected;
use crate::graph::{BatchNorm, Softmax};

/// The first opsets in which an operator changed.
const NORMS_ARE_FOR_INFERENCE: i64 = 7;
const SOFTMAX_OF_ONE_AXIS: i64 = 13;

impl<'m> Reader<'m> {
    /// `BatchNormalization` with its running statistics.
    pub(super) fn batch_norm(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        // Before opset 7 a node is for inference if it says so, or has one output.
        let says_so = self.opset < NORMS_ARE_FOR_INFERENCE && node.int("is_test", 0) != 0;
        let more_outputs = node.output.iter().skip(1).any(|name| !name.is_empty());
        let is_training = node.int("training_mode", 0) != 0 || more_outputs && !says_so;
        if is_training || node.int("spatial", 1) == 0 {
            return Err(expected("a batch norm for inference and per channel").found("another").into());
        }
        if data.axes.get(1) != Some(&Axis::Channel) {
            return Err(expected("channels as the second axis").found(format_args!("axes {:?}", data.axes)).into());
        }
        let eps = decimal(node.float("epsilon", 1e-5)?);
        let mut parameters = Vec::new();
        let gamma = self.constant(node, 1)?;
        let channels = gamma.floats()?.len();
        for (index, suffix) in ["weight", "bias", "running_mean", "running_var"].into_iter().enumerate() {
            parameters.push((suffix, self.constant(node, index + 1)?.tensor([channels])?));
        }
        let least = parameters[3].1.data().iter().copied().fold(f32::INFINITY, f32::min);
        if !(eps >= 0.0 && f64::from(least) + eps > 0.0) {
            return Err(expected("a positive variance plus epsilon").found(format_args!("{least} plus {eps}")).into());
        }
        let op = Op::BatchNorm(BatchNorm { channels, eps });
        let draft = self.drafts.add_with(module_name(node, &gamma), op, &[data.draft], parameters)?;
        Ok(Data::new(draft, data.axes))
    }

    /// `BatchNormalization` of a constant `[N, C, …]` by its own mean and variance, as networks without normalisers
    /// standardise their weights.
    pub(super) fn normalise_constant(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        let constant = self.constant(node, 0)?;
        // Before opset 14, further outputs say that the statistics are the input's own.
        let has_own_statistics =
            node.int("training_mode", 0) != 0 || node.output.iter().skip(1).any(|name| !name.is_empty());
        let &[images, channels, ref rest @ ..] = constant.shape.as_slice() else {
            return Err(expected("two axes or more").found(format_args!("{:?}", constant.shape)).into());
        };
        let (gamma, beta) = (self.constant(node, 1)?.tensor([channels])?, self.constant(node, 2)?.tensor([channels])?);
        if !has_own_statistics || constant.floats()?.is_empty() {
            return Err(expected("a constant normalised by its own statistics").found("others").into());
        }
        let (eps, plane) = (decimal(node.float("epsilon", 1e-5)?), rest.iter().product::<usize>());
        self.budget.take(constant.floats()?.len())?;
        let mut values = constant.floats()?.to_vec();
        for channel in 0..channels {
            let places = (0..images).flat_map(|image| {
                let start = (image * channels + channel) * plane;
                start..start + plane
            });
            let count = (images * plane) as f64;
            let mean = places.clone().map(|place| f64::from(values[place])).sum::<f64>() / count;
            let variance = places.clone().map(|place| (f64::from(values[place]) - mean).powi(2)).sum::<f64>() / count;
            let factor = f64::from(gamma.data()[channel]) / (variance + eps).sqrt();
            for place in places {
                values[place] = ((f64::from(values[place]) - mean) * factor + f64::from(beta.data()[channel])) as f32;
            }
        }
        Ok(Constant { values: ConstantData::Floats(values), ..(*constant).clone() })
    }

    /// `Softmax` and `LogSoftmax` over the channels.
    pub(super) fn softmax(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let of_one_axis = self.opset >= SOFTMAX_OF_ONE_AXIS;
        let first = axis(node.int("axis", if of_one_axis { -1 } else { 1 }), data.axes.len())?;
        // Earlier opsets combine the given axis and all that follow.
        let end = if of_one_axis { first + 1 } else { data.axes.len() };
        let [_, height, width] = self.drafts.get(data.draft).extents;
        let is_single = |axis: &Axis| match axis {
            Axis::One => true,
            Axis::Height => height == Some(1),
            Axis::Width => width == Some(1),
            _ => false,
        };
        let together = &data.axes[first..end];
        if node.op_type == "Softmax" && together == [Axis::Group(2)] {
            return self.softmax_of_two_groups(node, data);
        }
        let channels = together.iter().filter(|axis| matches!(axis, Axis::Channel | Axis::Interleaved(_))).count();
        if channels != 1 || together.iter().filter(|axis| !is_single(axis)).count() != 1 {
            return Err(expected("a softmax over the channels").found(format_args!("one over {together:?}")).into());
        }
        let kind = if node.op_type == "Softmax" { Softmax::Probabilities } else { Softmax::Logarithms };
        let draft = self.drafts.add(node.title(), Op::Softmax(kind), &[data.draft])?;
        Ok(Data::new(draft, data.axes))
    }

    /// `Concat` along the channels.
    pub(super) fn concat(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let parts = (0..node.input.len()).map(|index| self.data(node, index)).collect::<ReadResult<Vec<Data>>>()?;
        let Some(first) = parts.first() else { return Err(expected("parts").found("none").into()) };
        let along = axis(node.int("axis", 1), first.axes.len())?;
        if first.axes[along] == Axis::One && parts.len() > 1 && parts.iter().all(|part| part.axes == first.axes) {
            return self.stack(node, &parts, along);
        }
        if first.axes[along] != Axis::Channel || parts.iter().any(|part| part.axes != first.axes) {
            let axes: Vec<&Vec<Axis>> = parts.iter().map(|part| &part.axes).take(2).collect();
            return Err(expected("parts joined along their channels")
                .found(format_args!("axis {along} of {axes:?}"))
                .into());
        }
        if parts.len() == 1 {
            return Ok(first.clone());
        }
        let inputs: Vec<usize> = parts.iter().map(|part| part.draft).collect();
        let draft = self.drafts.add(node.title(), Op::Concat, &inputs)?;
        Ok(Data::new(draft, first.axes.clone()))
    }
}

/// The decimal number that an exporter rounded to single precision: `1e-5` for the nearest `f32`.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::NAN)
}

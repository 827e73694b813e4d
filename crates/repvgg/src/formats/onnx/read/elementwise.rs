//! Batch norms, activations, softmax and concatenation.

use super::attributes::axis;
use super::convolution::module_name;
use super::value::{Axis, Data};
use super::{ReadResult, Reader, proto};
use crate::Op;
use crate::error::expected;
use crate::graph::{ActivationKind, BatchNorm, Softmax};

/// The first opsets in which an operator changed.
const CLIP_BOUNDS_ARE_INPUTS: i64 = 11;
const SOFTMAX_OF_ONE_AXIS: i64 = 13;

impl<'m> Reader<'m> {
    /// `BatchNormalization` with its running statistics.
    pub(super) fn batch_norm(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let is_training = node.int("training_mode", 0) != 0 || node.output.iter().skip(1).any(|name| !name.is_empty());
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

    fn activation(&mut self, node: &'m proto::Node, kind: ActivationKind) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let draft = self.drafts.add(node.title(), Op::Activation(kind), &[data.draft])?;
        Ok(Data::new(draft, data.axes))
    }

    /// `Relu`
    pub(super) fn relu(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        self.activation(node, ActivationKind::Relu)
    }

    /// `Sigmoid`
    pub(super) fn sigmoid(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        self.activation(node, ActivationKind::Sigmoid)
    }

    /// `LeakyRelu`
    pub(super) fn leaky_relu(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let slope = finite("alpha", node.float("alpha", 0.01)?)?;
        self.activation(node, ActivationKind::LeakyRelu { slope })
    }

    /// `PRelu` with one slope.
    pub(super) fn p_relu(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let slopes = self.constant(node, 1)?;
        let slope = match slopes.floats()? {
            [first, rest @ ..] if rest.iter().all(|slope| slope == first) => finite("slope", *first)?,
            _ => return Err(expected("one slope for all channels").found("several").into()),
        };
        self.activation(node, ActivationKind::LeakyRelu { slope })
    }

    /// `HardSigmoid`
    pub(super) fn hard_sigmoid(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let slope = finite("alpha", node.float("alpha", 0.2)?)?;
        let offset = finite("beta", node.float("beta", 0.5)?)?;
        self.activation(node, ActivationKind::HardSigmoid { slope, offset })
    }

    /// `HardSwish`: `x · min(max(x / 6 + 1/2, 0), 1)`
    pub(super) fn hard_swish(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let gate = Op::Activation(ActivationKind::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 });
        let gate = self.drafts.add(&format!("{}.gate", node.title()), gate, &[data.draft])?;
        let draft = self.drafts.add(node.title(), Op::Mul, &[data.draft, gate])?;
        Ok(Data::new(draft, data.axes))
    }

    /// `Clip`
    pub(super) fn clip(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let mut bounds = [f32::NEG_INFINITY, f32::INFINITY];
        for (index, name) in ["min", "max"].into_iter().enumerate() {
            if self.opset < CLIP_BOUNDS_ARE_INPUTS {
                bounds[index] = node.float(name, bounds[index])?;
            } else if let Some(bound) = self.optional_constant(node, index + 1)? {
                bounds[index] = bound.scalar()?;
            }
            // Some exporters write the largest finite numbers in place of no bound.
            if bounds[index].abs() == f32::MAX {
                bounds[index] *= 2.0;
            }
        }
        let [low, high] = bounds;
        match (low, high) {
            (0.0, f32::INFINITY) => self.activation(node, ActivationKind::Relu),
            (f32::NEG_INFINITY, f32::INFINITY) => self.data(node, 0),
            (low, high) if low <= high => {
                let [low, high] = [low, high].map(|bound| bound.clamp(f32::MIN, f32::MAX));
                self.activation(node, ActivationKind::Clip { low, high })
            }
            _ => Err(expected("min of at most max").found(format_args!("{low} and {high}")).into()),
        }
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

fn finite(name: &str, value: f32) -> ReadResult<f32> {
    if value.is_finite() { Ok(value) } else { Err(expected(format_args!("a finite {name}")).found(value).into()) }
}

//! Activations.

use super::constant::{Constant, ConstantData};
use super::convolution::module_name;
use super::value::Data;
use super::{ReadResult, Reader, proto};
use crate::error::expected;
use crate::graph::ActivationKind;
use crate::{Op, Tensor};

/// The first opset in which the bounds of `Clip` are inputs.
const CLIP_BOUNDS_ARE_INPUTS: i64 = 11;

impl<'m> Reader<'m> {
    /// One activation of the first input.
    pub(super) fn activation(&mut self, node: &'m proto::Node, kind: ActivationKind) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let draft = self.drafts.add(node.title(), Op::Activation(kind), &[data.draft])?;
        Ok(Data::new(draft, data.axes))
    }

    /// `LeakyRelu`
    pub(super) fn leaky_relu(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let slope = finite("alpha", node.float("alpha", 0.01)?)?;
        self.activation(node, ActivationKind::LeakyRelu { slope })
    }

    /// `PRelu`: with one slope a leaky ReLU, or else `max(x, 0) + slope · min(x, 0)`.
    pub(super) fn p_relu(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let slopes = self.constant(node, 1)?;
        let values = slopes.floats()?;
        if let Some(slope) = values.iter().find(|slope| !slope.is_finite()) {
            return Err(expected("finite slopes").found(slope).into());
        }
        if let [slope, rest @ ..] = values
            && rest.iter().all(|other| other == slope)
        {
            return self.activation(node, ActivationKind::LeakyRelu { slope: *slope });
        }
        let data = self.data(node, 0)?;
        let slopes = self.placed(node, &data, &slopes)?;
        let factors = self.per_channel(&data, &slopes)?;
        let channels = factors.len();
        let mut part = |name: &str, op: Op| self.drafts.add(&format!("{}.{name}", node.title()), op, &[data.draft]);
        let above = part("above", Op::relu())?;
        let below = part("below", Op::Activation(ActivationKind::Clip { low: f32::MIN, high: 0.0 }))?;
        let factors = vec![("weight", Tensor::from_fn([channels], |channel| factors[channel]))];
        let below = self.drafts.add_with(module_name(node, &slopes), Op::scale(channels), &[below], factors)?;
        let draft = self.drafts.add(&format!("{}.sum", node.title()), Op::Add, &[above, below])?;
        Ok(Data::new(draft, data.axes))
    }

    /// `Elu`
    pub(super) fn elu(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let scale = finite("alpha", node.float("alpha", 1.0)?)?;
        self.activation(node, ActivationKind::Elu { scale })
    }

    /// `Gelu`
    pub(super) fn gelu(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        match node.text("approximate", "none")? {
            "none" => self.activation(node, ActivationKind::Gelu),
            "tanh" => self.activation(node, ActivationKind::GeluTanh),
            other => Err(expected("approximate as none or tanh").found(format_args!("{other:?}")).into()),
        }
    }

    /// `Swish` with α = 1.
    pub(super) fn swish(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        match node.float("alpha", 1.0)? {
            1.0 => self.activation(node, ActivationKind::Silu),
            other => Err(expected("an alpha of 1").found(other).into()),
        }
    }

    /// `Pow` with the exponent 1, 2 or 3.
    pub(super) fn power(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let exponent = self.constant(node, 1)?;
        let exponent = match exponent.floats() {
            Ok(values) => values.to_vec(),
            Err(_) => exponent.known()?.into_iter().map(|value| value as f32).collect(),
        };
        let times = match exponent.as_slice() {
            [1.0] => return Ok(data),
            [2.0] => 1,
            [3.0] => 2,
            found => return Err(expected("the power 1, 2 or 3").found(format_args!("{found:?}")).into()),
        };
        let mut draft = data.draft;
        for _ in 0..times {
            draft = self.drafts.add(node.title(), Op::Mul, &[draft, data.draft])?;
        }
        Ok(Data::new(draft, data.axes))
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

    /// The least and the greatest value of a `Clip`, infinite where it states none.
    fn clip_bounds(&mut self, node: &'m proto::Node) -> ReadResult<[f32; 2]> {
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
        Ok(bounds)
    }

    /// `Clip` of a constant.
    pub(super) fn clip_constant(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        let constant = self.constant(node, 0)?;
        let [low, high] = self.clip_bounds(node)?;
        self.budget.take(constant.floats()?.len())?;
        let values = ConstantData::Floats(constant.floats()?.iter().map(|x| x.max(low).min(high)).collect());
        Ok(Constant { values, ..(*constant).clone() })
    }

    /// `Clip`
    pub(super) fn clip(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let bounds = self.clip_bounds(node)?;
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
}

fn finite(name: &str, value: f32) -> ReadResult<f32> {
    if value.is_finite() { Ok(value) } else { Err(expected(format_args!("a finite {name}")).found(value).into()) }
}

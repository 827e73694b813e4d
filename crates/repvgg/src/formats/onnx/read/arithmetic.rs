//! Sums, differences, products and quotients of two values, or of a value and a constant.

use std::rc::Rc;

use super::attributes::axis;
use super::constant::Constant;
use super::convolution::module_name;
use super::draft::Name;
use super::value::{Axis, Binding, Data};
use super::{ReadResult, Reader, proto};
use crate::error::{Problem, expected};
use crate::graph::BatchNorm;
use crate::{Op, Tensor};

/// The first opset in which operands broadcast without attributes.
const BROADCASTS_LIKE_NUMPY: i64 = 7;

/// One factor or summand for each channel.
type PerChannel = Vec<f32>;

impl<'m> Reader<'m> {
    /// `Add`, `Sub`, `Mul`, `Div`
    pub(super) fn arithmetic(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let (first, second) = (self.input_value(node, 0)?, self.input_value(node, 1)?);
        let op_type = node.op_type.as_str();
        match (first, second) {
            (Binding::Data(_), Binding::Data(_)) => {
                let (first, second) = (self.data(node, 0)?, self.data(node, 1)?);
                self.combine(node, first, second)
            }
            (Binding::Data(_), Binding::Constant(constant)) => {
                let data = self.data(node, 0)?;
                let constant = self.placed(node, &data, &constant)?;
                let values = self.per_channel(&data, &constant)?;
                match op_type {
                    "Add" => self.shift(node, data, values, &constant),
                    "Sub" => self.shift(node, data, values.iter().map(|x| -x).collect(), &constant),
                    "Mul" => self.scale(node, data, values, &constant),
                    _ => self.scale(node, data, values.iter().map(|x| 1.0 / x).collect(), &constant),
                }
            }
            (Binding::Constant(constant), Binding::Data(_)) => {
                let data = self.data(node, 1)?;
                let values = self.per_channel(&data, &constant)?;
                match op_type {
                    "Add" => self.shift(node, data, values, &constant),
                    "Sub" => {
                        let negative = self.scale(node, data, vec![-1.0; values.len()], &constant)?;
                        self.shift(node, negative, values, &constant)
                    }
                    "Mul" => self.scale(node, data, values, &constant),
                    _ => Err(expected("a constant divisor").found("a computed one").into()),
                }
            }
            _ => Err(expected("a value that depends on the input").found("constants").into()),
        }
    }

    /// `Sum`
    pub(super) fn sum(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let terms = (0..node.input.len()).map(|index| self.data(node, index)).collect::<ReadResult<Vec<Data>>>()?;
        let Some((first, rest)) = terms.split_first() else {
            return Err(expected("terms").found("none").into());
        };
        if rest.is_empty() {
            return Ok(first.clone());
        }
        if let Some(other) = rest.iter().find(|other| !other.aligns_with(first)) {
            return Err(unaligned(first, other).into());
        }
        let inputs: Vec<usize> = terms.iter().map(|term| term.draft).collect();
        let draft = self.drafts.add(node.title(), Op::Add, &inputs)?;
        Ok(Data::new(draft, first.axes.clone()))
    }

    fn combine(&mut self, node: &'m proto::Node, first: Data, mut second: Data) -> ReadResult<Data> {
        if self.opset < BROADCASTS_LIKE_NUMPY && node.int("broadcast", 0) != 0 {
            let place = legacy_place(node, first.axes.len(), second.axes.len())?;
            let after = first.axes.len() - place - second.axes.len();
            second.axes = [vec![Axis::One; place], second.axes, vec![Axis::One; after]].concat();
        }
        if node.op_type == "Mul"
            && let Some(merged) = self.gated(node, &first, &second)?
        {
            return Ok(merged);
        }
        if !first.aligns_with(&second) {
            return Err(unaligned(&first, &second).into());
        }
        let is_pixel = |data: &Data| self.drafts.get(data.draft).extents[1..] == [Some(1), Some(1)];
        let (first_is_pixel, second_is_pixel) = (is_pixel(&first), is_pixel(&second));
        let (op, inputs) = match node.op_type.as_str() {
            "Add" => (Op::Add, [first.draft, second.draft]),
            // The factor per channel comes second.
            "Mul" if first_is_pixel && !second_is_pixel => {
                let draft = self.drafts.add(node.title(), Op::Mul, &[second.draft, first.draft])?;
                return Ok(Data::new(draft, second.axes));
            }
            "Mul" => (Op::Mul, [first.draft, second.draft]),
            "Sub" => {
                let channels = self.channels(&second)?;
                self.budget.take(channels)?;
                let name = format!("{}.negative", node.title());
                let factors = vec![("weight", Tensor::full([channels], -1.0))];
                let negative =
                    self.drafts.add_with(Name::Other(&name), Op::scale(channels), &[second.draft], factors)?;
                (Op::Add, [first.draft, negative])
            }
            _ => return Err(expected("a constant divisor").found("a computed one").into()),
        };
        let draft = self.drafts.add(node.title(), op, &inputs)?;
        let axes = if first.axes.contains(&Axis::One) { second.axes } else { first.axes };
        Ok(Data::new(draft, axes))
    }

    /// A constant operand in the shape that lines up with the last axes of `data`, as in later opsets.
    pub(super) fn placed(
        &self,
        node: &'m proto::Node,
        data: &Data,
        constant: &Rc<Constant>,
    ) -> ReadResult<Rc<Constant>> {
        let (rank, own) = (data.axes.len(), constant.shape.len());
        if self.opset >= BROADCASTS_LIKE_NUMPY || own >= rank || own == 0 {
            return Ok(constant.clone());
        }
        let place = match node.op_type.as_str() {
            // A slope for each channel.
            "PRelu" => 1,
            _ if node.int("broadcast", 0) == 0 => {
                return Err(expected("operands of one shape, or broadcast").found("neither").into());
            }
            _ => legacy_place(node, rank, own)?,
        };
        let after = rank.saturating_sub(place + own);
        Ok(Rc::new(constant.reshaped([constant.shape.clone(), vec![1; after]].concat())))
    }

    /// Expands a constant, which may vary only along the channels.
    pub(super) fn per_channel(&mut self, data: &Data, constant: &Constant) -> ReadResult<PerChannel> {
        let values = constant.floats()?;
        let (rank, axes) = (constant.shape.len(), data.axes.len());
        let refusal = || {
            let shape = &constant.shape;
            expected("a constant for each channel or one for all").found(format_args!("one of shape {shape:?}"))
        };
        let varying: Vec<usize> = (0..rank).filter(|&axis| constant.shape[axis] != 1).collect();
        let channels = match varying.as_slice() {
            [] if rank <= axes => self.channels(data)?,
            &[axis] if rank <= axes && data.axes[axes - rank + axis] == Axis::Channel => constant.shape[axis],
            _ => return Err(refusal().into()),
        };
        if channels == 0 || self.drafts.get(data.draft).extents[0].is_some_and(|found| found != channels) {
            return Err(refusal().into());
        }
        self.budget.take(channels)?;
        Ok(if varying.is_empty() { vec![values[0]; channels] } else { values.to_vec() })
    }

    /// Multiplies each channel of a value by a factor.
    fn scale(
        &mut self,
        node: &'m proto::Node,
        data: Data,
        factors: PerChannel,
        constant: &Constant,
    ) -> ReadResult<Data> {
        if factors.iter().all(|&factor| factor == 1.0) {
            return Ok(data);
        }
        if let Some(input) = self.undone(&data, &factors) {
            return Ok(Data { draft: input, ..data });
        }
        let channels = factors.len();
        let parameters = vec![("weight", tensor(factors))];
        let draft =
            self.drafts.add_with(module_name(node, constant), Op::scale(channels), &[data.draft], parameters)?;
        Ok(Data::new(draft, data.axes))
    }

    /// Adds a summand to each channel of a value: to the bias of the layer that computes it, if nothing else reads that
    /// layer, or else by a batch norm with mean 0 and variance 1.
    fn shift(
        &mut self,
        node: &'m proto::Node,
        data: Data,
        shifts: PerChannel,
        constant: &Constant,
    ) -> ReadResult<Data> {
        if shifts.iter().all(|&shift| shift == 0.0) {
            return Ok(data);
        }
        let name = module_name(node, constant);
        if data.is_exclusive {
            let draft = self.drafts.get_mut(data.draft);
            let has_bias = match &mut draft.op {
                Op::Conv2d(conv) => Some(&mut conv.bias),
                Op::Linear(linear) => Some(&mut linear.bias),
                _ => None,
            };
            match has_bias {
                Some(has_bias @ false) => {
                    *has_bias = true;
                    draft.parameters.push(("bias", tensor(shifts)));
                    if let (Name::Module(module), false) = (name, draft.is_named_by_parameters) {
                        (draft.name, draft.is_named_by_parameters) = (module.to_owned(), true);
                    }
                    return Ok(data);
                }
                Some(true) => {
                    let (_, bias) = draft.parameters.last_mut().expect("a bias is the last parameter");
                    bias.data_mut().iter_mut().zip(shifts).for_each(|(bias, shift)| *bias += shift);
                    return Ok(data);
                }
                None => {}
            }
            if let (Op::Scale { channels, .. }, [(_, factors)]) = (&draft.op, draft.parameters.as_mut_slice()) {
                let norm = Op::BatchNorm(BatchNorm { channels: *channels, eps: 0.0 });
                let factors = std::mem::replace(factors, tensor(Vec::new()));
                self.budget.take(3 * shifts.len())?;
                let draft = self.drafts.get_mut(data.draft);
                (draft.op, draft.parameters) = (norm, affine(factors, shifts));
                return Ok(data);
            }
        }
        let channels = shifts.len();
        self.budget.take(4 * channels)?;
        let norm = Op::BatchNorm(BatchNorm { channels, eps: 0.0 });
        let parameters = affine(Tensor::full([channels], 1.0), shifts);
        let draft = self.drafts.add_with(name, norm, &[data.draft], parameters)?;
        Ok(Data::new(draft, data.axes))
    }
}

/// The axis at which the second operand of early opsets begins: the one stated, or else the operands end together.
fn legacy_place(node: &proto::Node, rank: usize, own: usize) -> ReadResult<usize> {
    let last = rank.checked_sub(own).ok_or_else(|| expected("a second operand of no more axes").found(own))?;
    match node.has("axis") {
        true => match axis(node.int("axis", 0), rank)? {
            place if place <= last => Ok(place),
            place => Err(expected(format_args!("an axis of at most {last}")).found(place).into()),
        },
        false => Ok(last),
    }
}

fn tensor(values: Vec<f32>) -> Tensor {
    Tensor::from_fn([values.len()], |index| values[index])
}

/// The parameters of a batch norm that computes `factor · x + shift` exactly, with ε = 0.
fn affine(factors: Tensor, shifts: PerChannel) -> Vec<(&'static str, Tensor)> {
    let channels = shifts.len();
    let [mean, variance] = [0.0, 1.0].map(|value| Tensor::full([channels], value));
    vec![("weight", factors), ("bias", tensor(shifts)), ("running_mean", mean), ("running_var", variance)]
}

fn unaligned(first: &Data, second: &Data) -> Problem {
    expected("inputs with the same axes").found(format_args!("{:?} and {:?}", first.axes, second.axes))
}

//! Sums, differences, products and quotients of values, or of a value and a constant per channel.

use super::{Finder, Layout, Step};
use crate::Tensor;
use crate::formats::onnx::proto;
use crate::formats::onnx::read::constant::Constant;
use crate::formats::onnx::read::{ReadResult, Reader, short};
use crate::fuse::Obstacle;
use crate::graph::{BatchNorm, NodeId, Op};

/// `factor · x + summand` per channel.
struct PerChannel {
    factors: Vec<f32>,
    summands: Vec<f32>,
}

impl<'m> Finder<'m> {
    /// `Identity`, `Dropout` without training, and `Neg`.
    pub(super) fn identity(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<bool> {
        let is_training = node.op_type == "Dropout" && Reader::name(node, 2).is_some();
        let factor = if node.op_type == "Neg" { -1.0 } else { 1.0 };
        let Some(layout) = node.input.first().and_then(|name| self.layout(&[name])).filter(|_| !is_training) else {
            return Ok(false);
        };
        let Some((_, channels)) = self.operand(&node.input[0], layout) else { return Ok(false) };
        let affine = PerChannel { factors: vec![factor; channels], summands: vec![0.0; channels] };
        self.affine(index, node, &node.input[0], layout, affine)
    }

    /// `Add`, `Sub`, `Mul`, `Div`, `Sum`
    pub(super) fn arithmetic(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<bool> {
        // Until version 7 an attribute said how to broadcast.
        if node.has("broadcast") || node.has("axis") || node.input.is_empty() {
            return Ok(false);
        }
        let is_constant: Vec<bool> = node.input.iter().map(|name| self.is_constant(name)).collect();
        match (node.op_type.as_str(), is_constant.as_slice()) {
            ("Add" | "Sub" | "Sum", all) if all.len() > 1 && !all.contains(&true) => self.sum(index, node),
            ("Sum", _) => Ok(false),
            (_, [false, true]) => self.with_constant(index, node, [0, 1]),
            (_, [true, false]) => self.with_constant(index, node, [1, 0]),
            _ => Ok(false),
        }
    }

    /// The sum or difference of values.
    fn sum(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<bool> {
        let names: Vec<&'m str> = node.input.iter().map(String::as_str).collect();
        // Values that other operators compute are no branches.
        if !names.iter().any(|name| self.values.contains_key(name)) {
            return Ok(false);
        }
        let layout = self.layout(&names);
        let operands = layout.and_then(|layout| {
            names.iter().map(|name| self.operand(name, layout)).collect::<Option<Vec<(NodeId, usize)>>>()
        });
        let (Some(layout), Some(operands)) = (layout, operands) else {
            self.report_branch(node);
            return Ok(false);
        };
        let channels = operands[0].1;
        if operands.iter().any(|&(_, found)| found != channels) {
            return Ok(false);
        }
        let is_matrix = names.iter().all(|name| self.values.get(name).is_some_and(|known| known.is_matrix));
        let mut inputs: Vec<NodeId> = operands.into_iter().map(|(id, _)| id).collect();
        if node.op_type == "Sub" {
            let negative = self.add_inner(index, node, Op::scale(channels), inputs[1]);
            let name = format!("{}.weight", self.parts.graph.node(negative).name);
            self.parts.weights.insert(name, Tensor::full([channels], -1.0));
            inputs[1] = negative;
        }
        let step = Step { inputs: &inputs, layout, channels, is_matrix, element: 0, parameters: Vec::new() };
        self.commit(index, node, Op::Add, step).map(|_| true)
    }

    /// Notes that a sum remains because another operator computes one of its branches.
    fn report_branch(&mut self, node: &'m proto::Node) {
        let mut unknown = node.input.iter().rev().filter(|name| !self.values.contains_key(name.as_str()));
        let producer = unknown.find_map(|name| self.producers.get(name.as_str()));
        if let Some(producer) = producer {
            let why = format!("{} inside a branch", short(&producer.op_type));
            let (sum, by) = (node.title().to_owned(), producer.title().to_owned());
            self.parts.obstacles.push(Obstacle { sum, by, why });
        }
    }

    /// A value and a constant, at these places of the inputs.
    fn with_constant(
        &mut self,
        index: usize,
        node: &'m proto::Node,
        [value, constant]: [usize; 2],
    ) -> ReadResult<bool> {
        let value_first = value == 0;
        let name = node.input[value].as_str();
        let Some(layout) = self.layout(&[name]) else { return Ok(false) };
        let Some((_, channels)) = self.operand(name, layout) else { return Ok(false) };
        let constant = self.reader.constant(node, constant)?;
        let Some(values) = per_channel(&constant, layout, channels) else { return Ok(false) };
        let same = |value: f32| vec![value; channels];
        let (factors, summands) = match node.op_type.as_str() {
            "Add" => (same(1.0), values),
            "Sub" if value_first => (same(1.0), values.iter().map(|x| -x).collect()),
            "Sub" => (same(-1.0), values),
            "Mul" => (values, same(0.0)),
            "Div" if value_first => (values.iter().map(|x| 1.0 / x).collect(), same(0.0)),
            _ => return Ok(false),
        };
        self.affine(index, node, name, layout, PerChannel { factors, summands })
    }

    /// Adds a factor and a summand per channel.
    fn affine(
        &mut self,
        index: usize,
        node: &'m proto::Node,
        name: &'m str,
        layout: Layout,
        affine: PerChannel,
    ) -> ReadResult<bool> {
        let Some((input, channels)) = self.operand(name, layout) else { return Ok(false) };
        let is_matrix = self.values.get(name).is_some_and(|known| known.is_matrix);
        let tensor = |values: Vec<f32>| Tensor::from_fn([channels], |index| values[index]);
        let (op, parameters) = if affine.summands.iter().all(|&summand| summand == 0.0) {
            (Op::scale(channels), vec![("weight", tensor(affine.factors))])
        } else {
            let [mean, variance] = [0.0, 1.0].map(|value| Tensor::full([channels], value));
            let (factors, summands) = (tensor(affine.factors), tensor(affine.summands));
            let parameters =
                vec![("weight", factors), ("bias", summands), ("running_mean", mean), ("running_var", variance)];
            (Op::BatchNorm(BatchNorm { channels, eps: 0.0 }), parameters)
        };
        let step = Step { inputs: &[input], layout, channels, is_matrix, element: 0, parameters };
        self.commit(index, node, op, step).map(|_| true)
    }
}

/// Expands a constant that does not change a value's shape and varies only along its channels.
fn per_channel(constant: &Constant, layout: Layout, channels: usize) -> Option<Vec<f32>> {
    let values = constant.floats().ok()?;
    // The most axes that never add any to the value, and the place of the channels, counted from the last axis.
    let (most_axes, place) = match layout {
        Layout::Map => (4, 3),
        Layout::Row => (1, 1),
    };
    let axes = constant.shape.len();
    let varying: Vec<usize> = (0..axes).filter(|&axis| constant.shape[axis] != 1).collect();
    match varying.as_slice() {
        _ if axes > most_axes => None,
        [] => Some(vec![values[0]; channels]),
        &[axis] if axes - axis == place && constant.shape[axis] == channels => Some(values.to_vec()),
        _ => None,
    }
}

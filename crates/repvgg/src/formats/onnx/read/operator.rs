//! The supported operators.

use crate::error::expected;
use std::rc::Rc;

use super::broadcast::is_float;
use super::value::{Binding, Data};
use super::{Constant, Failure, ReadResult, Reader, is_own_domain, proto, short};
use crate::graph::ActivationKind;

/// The first opset in which a dropout is for inference unless it says otherwise.
const DROPOUT_IS_FOR_INFERENCE: i64 = 7;

impl<'m> Reader<'m> {
    /// Translates a node and returns the values of its outputs, in order; those that the reader does not support are missing.
    pub(super) fn operator(&mut self, node: &'m proto::Node) -> ReadResult<Vec<Binding<'m>>> {
        if !is_own_domain(&node.domain) {
            return Err(unknown(&format!("{}.{}", short(&node.domain), short(&node.op_type))));
        }
        if let Some(folded) = self.fold(node)? {
            return Ok(vec![Binding::Constant(Rc::new(folded))]);
        }
        let data = match node.op_type.as_str() {
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node)?,
            "AveragePool" => self.average_pool(node)?,
            "BatchNormalization" => self.batch_norm(node)?,
            "Cast" | "Dropout" | "Identity" => return Ok(vec![self.identity(node)?]),
            "Clip" => self.clip(node)?,
            "Concat" => self.concat(node)?,
            "Conv" => self.convolution(node)?,
            "Elu" => self.elu(node)?,
            "Erf" => self.activation(node, ActivationKind::Erf)?,
            "Flatten" => self.flatten(node)?,
            "Gather" => self.gather(node)?,
            "Gelu" => self.gelu(node)?,
            "Gemm" => self.gemm(node)?,
            "GlobalAveragePool" => self.global_average_pool(node)?,
            "GlobalMaxPool" => self.global_max_pool(node)?,
            "HardSigmoid" => self.hard_sigmoid(node)?,
            "HardSwish" => self.hard_swish(node)?,
            "If" => return self.branch(node),
            "LeakyRelu" => self.leaky_relu(node)?,
            "LogSoftmax" | "Softmax" => self.softmax(node)?,
            "MatMul" => self.mat_mul(node)?,
            "MaxPool" => self.max_pool(node)?,
            "Mish" => self.activation(node, ActivationKind::Mish)?,
            "Pad" => self.pad(node)?,
            "Pow" => self.power(node)?,
            "PRelu" => self.p_relu(node)?,
            "ReduceMax" | "ReduceMean" | "ReduceSum" => self.reduce(node)?,
            "Relu" => self.activation(node, ActivationKind::Relu)?,
            "Reshape" => self.reshape(node)?,
            "Resize" | "Upsample" => self.resize(node)?,
            "SequenceAt" => self.sequence_at(node)?,
            "Sigmoid" => self.activation(node, ActivationKind::Sigmoid)?,
            "Slice" => self.slice(node)?,
            "Softplus" => self.activation(node, ActivationKind::Softplus)?,
            "Split" => return Ok(self.split(node)?.into_iter().map(Binding::Data).collect()),
            "SplitToSequence" => {
                let parts = self.split_to_sequence(node)?;
                return Ok(vec![Binding::Sequence(Rc::new(parts))]);
            }
            "Squeeze" => self.squeeze(node)?,
            "Sum" => self.sum(node)?,
            "Swish" => self.swish(node)?,
            "Tanh" => self.activation(node, ActivationKind::Tanh)?,
            "Transpose" => self.transpose(node)?,
            "Unsqueeze" => self.unsqueeze(node)?,
            other => return Err(unknown(short(other))),
        };
        Ok(vec![Binding::Data(data)])
    }

    /// The name of an input, unless it is omitted.
    pub(super) fn name(node: &'m proto::Node, index: usize) -> Option<&'m str> {
        node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The input at `index`.
    pub(super) fn input_value(&mut self, node: &'m proto::Node, index: usize) -> ReadResult<Binding<'m>> {
        match Self::name(node, index) {
            Some(name) => self.value(name),
            None => Err(expected(format_args!("input {}", index + 1)).found("none").into()),
        }
    }

    /// The input at `index`, which must depend on the image.
    pub(super) fn data(&mut self, node: &'m proto::Node, index: usize) -> ReadResult<Data> {
        let value = self.input_value(node, index)?;
        self.computed_value(value)
    }

    /// The input at `index`, which must be a constant.
    pub(super) fn constant(&mut self, node: &'m proto::Node, index: usize) -> ReadResult<Rc<Constant>> {
        match self.input_value(node, index)? {
            Binding::Constant(constant) => Ok(constant),
            _ => {
                let name = short(Self::name(node, index).unwrap_or_default());
                Err(expected(format_args!("its input {name:?} to be constant")).found("one that is computed").into())
            }
        }
    }

    /// The input at `index`, which must be a constant unless it is omitted.
    pub(super) fn optional_constant(
        &mut self,
        node: &'m proto::Node,
        index: usize,
    ) -> ReadResult<Option<Rc<Constant>>> {
        Self::name(node, index).map(|_| self.constant(node, index)).transpose()
    }

    /// A list of integers: an input in later opsets, an attribute in earlier ones.
    pub(super) fn integers(&mut self, node: &'m proto::Node, name: &str, index: usize) -> ReadResult<Option<Vec<i64>>> {
        if let Some(ints) = node.ints(name) {
            return Ok(Some(ints.to_vec()));
        }
        self.optional_constant(node, index)?.map(|constant| constant.known()).transpose()
    }

    /// The first input, unchanged.
    fn identity(&mut self, node: &'m proto::Node) -> ReadResult<Binding<'m>> {
        // A cast to other types would round.
        let to = node.int("to", 1);
        if node.op_type == "Cast" && !is_float(to) {
            return Err(expected("a cast to floating-point numbers")
                .found(format_args!("one to element type {to}"))
                .into());
        }
        if node.op_type == "Dropout" && self.opset < DROPOUT_IS_FOR_INFERENCE && node.int("is_test", 0) == 0 {
            return Err(expected("a network for inference").found("a dropout without is_test").into());
        }
        if node.op_type == "Dropout"
            && self.optional_constant(node, 2)?.is_some_and(|training| training.known().is_ok_and(|t| t.contains(&1)))
        {
            return Err(expected("a network for inference").found("a training dropout").into());
        }
        self.input_value(node, 0)
    }
}

/// What keeps the nodes that the engine does not run.
pub(super) const KEPT: &str =
    "`repvgg fuse any.onnx -o fused.onnx` keeps such nodes and fuses the convolutions around them";

fn unknown(found: &str) -> Failure {
    let supported = "Conv, BatchNormalization, Gemm, Add, Mul, Concat, pools, activations, Resize, shapes";
    expected(format_args!("an operator that the engine runs ({supported})"))
        .found(format_args!("{found}; {KEPT}"))
        .into()
}

//! Constants: folded nodes, and the values that depend on no input at all.

use std::rc::Rc;

use half::{bf16, f16};

use super::Finder;
use crate::formats::onnx::proto::{self, data_type};
use crate::formats::onnx::read::constant::{Constant, ConstantData};
use crate::formats::onnx::read::value::Binding;
use crate::formats::onnx::read::{is_own_domain, short};

/// The most elements of an expanded constant.
const MOST_ELEMENTS: usize = 1 << 16;

impl<'m> Finder<'m> {
    /// Folds a node with a constant value.
    pub(super) fn fold(&mut self, index: usize, node: &'m proto::Node) {
        let [output] = node.output.as_slice() else { return };
        if !is_own_domain(&node.domain) {
            return;
        }
        let folded = match node.op_type.as_str() {
            "Expand" => self.expand(node),
            "CastLike" => self.cast_like(node),
            _ => self.reader.fold(node).ok().flatten(),
        };
        let Some(constant) = folded else { return };
        let first = node.input.first().and_then(|name| self.elements.get(name.as_str())).copied();
        let element = match node.op_type.as_str() {
            "Constant" => node.tensor("value").map_or(data_type::FLOAT, |tensor| tensor.data_type),
            "Cast" => node.int("to", 0) as i32,
            _ => first.unwrap_or(0),
        };
        self.elements.insert(output, element);
        self.reader.values.insert(output, Binding::Constant(Rc::new(constant)));
        self.parts.constants.insert(index);
    }

    /// `Expand` of one number.
    fn expand(&mut self, node: &'m proto::Node) -> Option<Constant> {
        if !node.input.iter().all(|name| self.is_constant(name)) {
            return None;
        }
        let number = self.reader.constant(node, 0).ok()?;
        let target = self.reader.constant(node, 1).ok()?.known().ok()?;
        let mut shape = vec![1; number.shape.len().saturating_sub(target.len())];
        shape.extend(target.iter().map(|&extent| usize::try_from(extent).unwrap_or(usize::MAX)));
        let elements = shape.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent));
        let elements = elements.filter(|&elements| elements <= MOST_ELEMENTS)?;
        self.reader.budget.take(elements).ok()?;
        let values = match &number.values {
            ConstantData::Floats(values) if values.len() == 1 => ConstantData::Floats(vec![values[0]; elements]),
            ConstantData::Integers(values) if values.len() == 1 => ConstantData::Integers(vec![values[0]; elements]),
            _ => return None,
        };
        Some(Constant { name: short(&node.output[0]).to_owned(), shape, values })
    }

    /// `CastLike` of numbers that every floating-point type holds.
    fn cast_like(&mut self, node: &'m proto::Node) -> Option<Constant> {
        if !node.input.first().is_some_and(|name| self.is_constant(name)) {
            return None;
        }
        let constant = self.reader.constant(node, 0).ok()?;
        let is_exact = |&x: &f32| f16::from_f32(x).to_f32() == x && bf16::from_f32(x).to_f32() == x;
        constant.floats().is_ok_and(|values| values.iter().all(is_exact)).then(|| (*constant).clone())
    }

    /// Notes the values that depend on an input of the file.
    pub(super) fn read_dependence(&mut self, node: &'m proto::Node) {
        if node.input.iter().any(|name| self.dependent.contains(name.as_str())) {
            self.dependent.extend(node.output.iter().map(String::as_str));
        }
    }
}

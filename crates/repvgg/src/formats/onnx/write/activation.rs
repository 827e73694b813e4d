//! Writes activations: one operator where the opset has it, or else the operators that define it.

use super::build::{Builder, float};
use super::nodes::Operator;
use crate::error::expected;
use crate::graph::ActivationKind;
use crate::{Error, Result};

/// The first opsets in which an operator exists or changed.
const ERF: i64 = 9;
const CLIP_BOUNDS_ARE_INPUTS: i64 = 11;
const MISH: i64 = 18;
const GELU: i64 = 20;

/// The operator of the activation of a node called `name`, with its attributes; appends its constants to `inputs`.
///
/// # Errors
/// When the opset cannot express it.
pub(super) fn activation(
    builder: &mut Builder<'_>,
    name: &str,
    kind: ActivationKind,
    inputs: &mut Vec<String>,
) -> Result<Operator> {
    let mut parts = Parts { builder, name };
    let single = |op_type| Ok((op_type, Vec::new()));
    match kind {
        ActivationKind::Relu => single("Relu"),
        ActivationKind::Sigmoid => single("Sigmoid"),
        ActivationKind::Tanh => single("Tanh"),
        ActivationKind::Softplus => single("Softplus"),
        ActivationKind::Silu => {
            inputs.push(parts.apply("sigmoid", "Sigmoid", &[&inputs[0]]));
            single("Mul")
        }
        ActivationKind::LeakyRelu { slope } => Ok(("LeakyRelu", vec![float("alpha", slope)])),
        ActivationKind::Elu { scale } => Ok(("Elu", vec![float("alpha", scale)])),
        ActivationKind::HardSigmoid { slope, offset } => {
            Ok(("HardSigmoid", vec![float("alpha", slope), float("beta", offset)]))
        }
        ActivationKind::Clip { low, high } => Ok(parts.clip([low, high], inputs)),
        ActivationKind::Mish if parts.builder.opset >= MISH => single("Mish"),
        ActivationKind::Mish => {
            let softplus = parts.apply("softplus", "Softplus", &[&inputs[0]]);
            inputs.push(parts.apply("tanh", "Tanh", &[&softplus]));
            single("Mul")
        }
        ActivationKind::Gelu if parts.builder.opset >= GELU => single("Gelu"),
        ActivationKind::GeluTanh if parts.builder.opset >= GELU => {
            Ok(("Gelu", vec![super::build::text("approximate", "tanh")]))
        }
        ActivationKind::GeluTanh => {
            let inner = parts.gelu_tanh_inner(&inputs[0]);
            let tanh = parts.apply("tanh", "Tanh", &[&inner]);
            parts.gate(&tanh, inputs);
            single("Mul")
        }
        ActivationKind::Erf | ActivationKind::Gelu if parts.builder.opset < ERF => {
            let what = expected(format_args!("an opset of at least {ERF} for the error function"));
            Err(Error::spec(name, what.found(parts.builder.opset)))
        }
        ActivationKind::Erf => single("Erf"),
        ActivationKind::Gelu => {
            let scaled = parts.with_number("scaled", "Mul", &inputs[0], std::f32::consts::FRAC_1_SQRT_2);
            let erf = parts.apply("erf", "Erf", &[&scaled]);
            parts.gate(&erf, inputs);
            single("Mul")
        }
    }
}

/// Adds the nodes that an activation consists of.
struct Parts<'b, 'a> {
    builder: &'b mut Builder<'a>,
    /// The name of the activation's node.
    name: &'b str,
}

impl Parts<'_, '_> {
    fn apply(&mut self, part: &str, op_type: &str, inputs: &[&str]) -> String {
        self.builder.node(&format!("{}.{part}", self.name), op_type, inputs, Vec::new())
    }

    /// An operation with a number as the second input.
    fn with_number(&mut self, part: &str, op_type: &str, input: &str, number: f32) -> String {
        let number = self.builder.floats(&format!("{}.{part}.number", self.name), &[], vec![number]);
        self.apply(part, op_type, &[input, &number])
    }

    /// Makes `inputs` the factors of a GELU: `x / 2` and `1 + value`.
    fn gate(&mut self, value: &str, inputs: &mut Vec<String>) {
        let gate = self.with_number("gate", "Add", value, 1.0);
        inputs[0] = self.with_number("half", "Mul", &inputs[0], 0.5);
        inputs.push(gate);
    }

    /// `√(2/π) (x + 0.044715 x³)`
    fn gelu_tanh_inner(&mut self, x: &str) -> String {
        let square = self.apply("square", "Mul", &[x, x]);
        let cube = self.apply("cube", "Mul", &[&square, x]);
        let small = self.with_number("small", "Mul", &cube, 0.044_715);
        let sum = self.apply("sum", "Add", &[x, &small]);
        self.with_number("inner", "Mul", &sum, 0.797_884_6)
    }

    fn clip(&mut self, [low, high]: [f32; 2], inputs: &mut Vec<String>) -> Operator {
        let bounds = [("min", low), ("max", high)];
        let is_bound = |bound: f32| bound.abs() < f32::MAX;
        if self.builder.opset < CLIP_BOUNDS_ARE_INPUTS {
            let present = bounds.into_iter().filter(|&(_, bound)| is_bound(bound));
            return ("Clip", present.map(|(name, bound)| float(name, bound)).collect());
        }
        for (part, bound) in bounds {
            let name = format!("{}.{part}", self.name);
            inputs.push(if is_bound(bound) { self.builder.floats(&name, &[], vec![bound]) } else { String::new() });
        }
        while inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        ("Clip", Vec::new())
    }
}

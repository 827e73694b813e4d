//! Activations that exporters write as several nodes, recognised by what the nodes compute.
//!
//! Each is `x` times a function of `x`. The nodes that are no longer needed vanish at the end.

use super::draft::Draft;
use super::value::Data;
use super::{ReadResult, Reader, proto};
use crate::graph::{ActivationKind, BatchNorm};
use crate::{Op, Tensor};

/// The most factors and summands in a row; files do not decide how long the search takes.
const LONGEST: usize = 4;

/// A value as `factor · y + summand`, with the same numbers for all channels.
struct Affine {
    factor: f32,
    summand: f32,
    /// The draft of `y`.
    of: usize,
}

impl<'m> Reader<'m> {
    /// The product of two values, if it is an activation of one of them.
    pub(super) fn gated(&mut self, node: &'m proto::Node, a: &Data, b: &Data) -> ReadResult<Option<Data>> {
        if a.axes != b.axes {
            return Ok(None);
        }
        let found = self.gate(a.draft, b.draft).or_else(|| self.gate(b.draft, a.draft));
        let Some((kind, input, factor)) = found else { return Ok(None) };
        let mut draft = self.drafts.add(node.title(), Op::Activation(kind), &[input])?;
        if factor != 1.0 {
            let channels = self.channels(a)?;
            self.budget.take(channels)?;
            let factors = vec![("weight", Tensor::full([channels], factor))];
            let name = format!("{}.factor", node.title());
            draft = self.drafts.add_with(super::draft::Name::Other(&name), Op::scale(channels), &[draft], factors)?;
        }
        Ok(Some(Data::new(draft, a.axes.clone())))
    }

    /// The activation, its input and a factor, if `gate` times `value` is one.
    fn gate(&self, value: usize, gate: usize) -> Option<(ActivationKind, usize, f32)> {
        let (value, outer) = (self.affine(value), self.affine(gate));
        let Draft { op: Op::Activation(kind), inputs, .. } = self.drafts.get(outer.of) else { return None };
        let inner = self.affine(inputs[0]);
        let is_plain = |affine: &Affine| affine.factor == 1.0 && affine.summand == 0.0;
        let input = value.of;
        match kind {
            _ if value.summand != 0.0 => None,
            ActivationKind::Sigmoid if is_plain(&outer) && is_plain(&inner) && inner.of == input => {
                Some((ActivationKind::Silu, input, value.factor))
            }
            ActivationKind::Tanh if is_plain(&outer) && is_plain(&inner) => {
                let Draft { op, inputs, .. } = self.drafts.get(inner.of);
                let is_softplus = *op == Op::Activation(ActivationKind::Softplus) && inputs[0] == input;
                is_softplus.then_some((ActivationKind::Mish, input, value.factor))
            }
            // x · (1 + erf(x / √2)) is twice the GELU.
            ActivationKind::Erf
                if outer.factor == outer.summand
                    && inner.of == input
                    && inner.summand == 0.0
                    && (inner.factor - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-6 =>
            {
                Some((ActivationKind::Gelu, input, 2.0 * value.factor * outer.factor))
            }
            _ => None,
        }
    }

    /// A draft's value, with factors and summands that are the same for all channels taken apart.
    fn affine(&self, draft: usize) -> Affine {
        let mut affine = Affine { factor: 1.0, summand: 0.0, of: draft };
        for _ in 0..LONGEST {
            let Some([factor, summand]) = uniform(self.drafts.get(affine.of)) else { break };
            affine.summand += affine.factor * summand;
            affine.factor *= factor;
            affine.of = self.drafts.get(affine.of).inputs[0];
        }
        affine
    }

    /// The input of the factor that a value is, if `factors` undo it.
    pub(super) fn undone(&self, data: &Data, factors: &[f32]) -> Option<usize> {
        let draft = self.drafts.get(data.draft);
        let [factor, 0.0] = uniform(draft)? else { return None };
        (data.is_exclusive && factors.iter().all(|other| other * factor == 1.0)).then(|| draft.inputs[0])
    }
}

/// The factor and the summand of a draft, if it is a linear function that is the same for all channels.
fn uniform(draft: &Draft) -> Option<[f32; 2]> {
    let same = |tensor: &Tensor| {
        let (first, rest) = tensor.data().split_first()?;
        rest.iter().all(|value| value == first).then_some(*first)
    };
    match (&draft.op, draft.parameters.as_slice()) {
        (Op::Scale { .. }, [(_, factors)]) => Some([same(factors)?, 0.0]),
        (Op::BatchNorm(BatchNorm { eps: 0.0, .. }), [(_, factors), (_, summands), (_, means), (_, variances)]) => {
            (same(means)? == 0.0 && same(variances)? == 1.0).then_some([same(factors)?, same(summands)?])
        }
        _ => None,
    }
}

//! Fully connected layers.

use super::constant::Constant;
use super::convolution::module_name;
use super::operator::KEPT;
use super::value::{Axis, Binding, Data};
use super::{ReadResult, Reader, proto};
use crate::error::expected;
use crate::graph::Linear;
use crate::{Op, Tensor};

impl<'m> Reader<'m> {
    /// `Gemm`: `α · x · B + β · C`
    pub(super) fn gemm(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let (data, matrix, bias) = (self.data(node, 0)?, self.constant(node, 1)?, self.optional_constant(node, 2)?);
        if node.int("transA", 0) != 0 {
            return Err(expected("rows of features").found("a transposed input").into());
        }
        let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
        check_matrix(&matrix)?;
        let matrix = if node.int("transB", 0) != 0 { (*matrix).clone() } else { matrix.transposed(&[1, 0])? };
        let bias = bias.filter(|bias| !is_zero(bias));
        let bias = match bias {
            Some(bias) => Some(row(&bias, matrix.shape.first().copied().unwrap_or(0), beta)?),
            None => None,
        };
        self.linear(node, data, &matrix, alpha, bias)
    }

    /// `MatMul` by a constant on the right.
    pub(super) fn mat_mul(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let Binding::Constant(matrix) = self.input_value(node, 1)? else {
            let what = expected("a matrix of constants");
            return Err(what.found(format_args!("a computed one, as in attention; {KEPT}")).into());
        };
        check_matrix(&matrix)?;
        let matrix = matrix.transposed(&[1, 0])?;
        self.linear(node, data, &matrix, 1.0, None)
    }

    /// Adds a layer with the matrix `[out, in]`, times `factor`, and a bias.
    fn linear(
        &mut self,
        node: &'m proto::Node,
        data: Data,
        matrix: &Constant,
        factor: f32,
        bias: Option<Tensor>,
    ) -> ReadResult<Data> {
        let [out_features, in_features] = [matrix.shape[0], matrix.shape[1]];
        let (Some((&last, before)), extents) = (data.axes.split_last(), self.drafts.get(data.draft).extents) else {
            return Err(expected("rows of features").found("a number").into());
        };
        let is_row = before.first() == Some(&Axis::Batch)
            && before[1..].iter().all(|&axis| axis == Axis::One)
            && extents[1..] == [Some(1), Some(1)];
        let features = match last {
            Axis::Channel | Axis::Interleaved(_) if is_row => extents[0],
            Axis::One if is_row && extents[0] == Some(1) => Some(1),
            _ => return Err(expected("rows [N, features]").found(format_args!("axes {:?}", data.axes)).into()),
        };
        if features.is_some_and(|features| features != in_features) || in_features == 0 || out_features == 0 {
            let found = features.map_or("unknown".to_owned(), |features| features.to_string());
            return Err(expected(format_args!("{in_features} features")).found(found).into());
        }
        let mut weights = matrix.tensor([out_features, in_features])?;
        if let Axis::Interleaved(shape) = last {
            weights = planar(&weights, shape);
        }
        if factor != 1.0 {
            weights.data_mut().iter_mut().for_each(|weight| *weight *= factor);
        }
        let op = Op::Linear(Linear { in_features, out_features, bias: bias.is_some() });
        let parameters = [("weight", Some(weights)), ("bias", bias)];
        let parameters = parameters.into_iter().filter_map(|(suffix, tensor)| Some((suffix, tensor?))).collect();
        let axes = [before, &[Axis::Channel]].concat();
        let draft = self.drafts.add_with(module_name(node, matrix), op, &[data.draft], parameters)?;
        Ok(Data::new(draft, axes))
    }
}

fn check_matrix(constant: &Constant) -> ReadResult<()> {
    match constant.shape.as_slice() {
        [_, _] => Ok(()),
        other => Err(expected("a matrix").found(format_args!("an array of shape {other:?}")).into()),
    }
}

/// Whether a bias is the single zero that opsets without bias-free layers require.
fn is_zero(bias: &Constant) -> bool {
    bias.floats().is_ok_and(|values| values == [0.0]) && !bias.name.ends_with(".bias")
}

/// Expands a bias, which has one value per feature or one for all, and multiplies it by `factor`.
fn row(bias: &Constant, features: usize, factor: f32) -> ReadResult<Tensor> {
    let values = bias.floats()?;
    let leading = bias.shape.split_last().map_or(1, |(_, leading)| leading.iter().product::<usize>());
    if leading != 1 || (values.len() != features && values.len() != 1) {
        return Err(expected(format_args!("a bias of {features}")).found(format_args!("{:?}", bias.shape)).into());
    }
    let value = |index: usize| values[if values.len() == 1 { 0 } else { index }] * factor;
    Ok(Tensor::from_fn([features], value))
}

/// Reorders a matrix for features in the order `[H, W, C]` to the order `[C, H, W]`.
fn planar(weights: &Tensor, [channels, height, width]: [usize; 3]) -> Tensor {
    let (features, pixels) = (channels * height * width, height * width);
    Tensor::from_fn(weights.shape().to_vec(), |place| {
        let (row, feature) = (place / features, place % features);
        let (channel, pixel) = (feature / pixels, feature % pixels);
        weights.data()[row * features + pixel * channels + channel]
    })
}

//! Convolutions, fully connected layers, batch norms, pools and padding.

use repvgg_kernels::Geometry;

use super::{Finder, Known, Layout, Step};
use crate::Tensor;
use crate::error::expected;
use crate::formats::onnx::proto;
use crate::formats::onnx::read::ReadResult;
use crate::formats::onnx::read::attributes::count;
use crate::formats::onnx::read::constant::Constant;
use crate::formats::onnx::read::convolution::Window;
use crate::graph::{BatchNorm, Conv2d, Linear, Op, Pool};

impl<'m> Finder<'m> {
    /// `Conv` with constant weights.
    pub(super) fn convolution(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<()> {
        let bias = self.bias(node)?;
        let weights = self.constant(node, 1, "weights")?;
        let &[out_channels, per_group, rows, columns] = weights.shape.as_slice() else {
            let axes = weights.shape.len().saturating_sub(2);
            return Err(expected("a convolution of two axes").found(format_args!("one of {axes}")).into());
        };
        let element = self.element(node, 1)?;
        if node.ints("kernel_shape").is_some_and(|stated| stated != [rows as i64, columns as i64]) {
            return Err(expected(format_args!("kernel_shape {:?} as the weights have", [rows, columns]))
                .found("another")
                .into());
        }
        if rows == 0 || columns == 0 {
            return Err(expected("a kernel of at least 1×1").found(format_args!("{rows}×{columns}")).into());
        }
        let window = Window::new(node, [rows, columns])?;
        let padding = window.padding(node, [None, None])?;
        let groups = count("group", node.int("group", 1))?;
        let (mut input, in_channels) = self
            .operand(&node.input[0], Layout::Map)
            .filter(|(_, channels)| Some(*channels) == per_group.checked_mul(groups))
            .ok_or_else(|| expected("an input with the channels of its weights").found("another"))?;
        let is_even = padding.iter().all(|[begin, end]| begin == end);
        let geometry = Geometry {
            in_channels,
            out_channels,
            kernel: [rows, columns],
            stride: window.stride,
            padding: if is_even { padding.map(|[begin, _]| begin) } else { [0; 2] },
            dilation: window.dilation,
            groups,
        };
        geometry.validate().map_err(|error| error.to_string())?;
        let mut parameters = vec![("weight", weights.tensor(weights.shape.clone())?)];
        if let Some(bias) = &bias {
            parameters.push((
                "bias",
                row(bias, out_channels, 1.0).ok_or_else(|| {
                    expected(format_args!("a bias of {out_channels}")).found(format_args!("{:?}", bias.shape))
                })?,
            ));
        }
        let op = Op::Conv2d(Conv2d { geometry, bias: bias.is_some() });
        op.check()?;
        if !is_even {
            let padding = padding.map(|ends| ends.map(|end| end as isize));
            input = self.add_inner(index, node, Op::Pad { padding }, input);
        }
        let step = Step {
            inputs: &[input],
            layout: Layout::Map,
            channels: out_channels,
            is_matrix: false,
            element,
            parameters,
        };
        self.commit(index, node, op, step).map(|_| ())
    }

    /// `BatchNormalization` with running statistics.
    pub(super) fn batch_norm(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<()> {
        if node.int("training_mode", 0) != 0 || node.int("is_test", 1) == 0 || node.int("spatial", 1) == 0 {
            return Err(expected("a batch norm with running statistics per channel").found("another").into());
        }
        let mut parameters = Vec::new();
        for (place, suffix) in [(1, "weight"), (2, "bias"), (3, "running_mean"), (4, "running_var")] {
            let constant = self.constant(node, place, suffix)?;
            parameters.push((suffix, constant.tensor([constant.floats()?.len()])?));
        }
        let channels = parameters[0].1.data().len();
        let value = node.input[0].as_str();
        let is_matrix = self.matrices.contains(value) || self.values.get(value).is_some_and(|known| known.is_matrix);
        let layout = if is_matrix { Layout::Row } else { Layout::Map };
        let input = self.operand(value, layout).filter(|(_, found)| *found == channels);
        let (input, _) =
            input.filter(|_| parameters.iter().all(|(_, tensor)| tensor.data().len() == channels)).ok_or_else(
                || expected(format_args!("an input of {channels} channels, as its parameters have")).found("another"),
            )?;
        let eps = f64::from(node.float("epsilon", 1e-5)?);
        let step = Step { inputs: &[input], layout, channels, is_matrix, element: 0, parameters };
        self.commit(index, node, Op::BatchNorm(BatchNorm { channels, eps }), step).map(|_| ())
    }

    /// `MatMul` by a constant on the right.
    pub(super) fn mat_mul(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<bool> {
        let Some(matrix) = self.matrix(node)? else { return Ok(false) };
        let matrix = matrix.transposed(&[1, 0])?;
        self.fully_connected(index, node, &matrix, None)
    }

    /// `Gemm` by a constant on the right: `α · x · B + β · C`.
    pub(super) fn gemm(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<bool> {
        let bias = self.bias(node)?;
        let Some(matrix) = self.matrix(node)?.filter(|_| node.int("transA", 0) == 0) else { return Ok(false) };
        let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
        let matrix = if node.int("transB", 0) != 0 { (*matrix).clone() } else { matrix.transposed(&[1, 0])? };
        let bias = match bias {
            Some(bias) => match row(&bias, matrix.shape[0], beta) {
                Some(bias) => Some(bias),
                None => return Ok(false),
            },
            None => None,
        };
        // Scaling in single precision would round the weights once more.
        if alpha != 1.0 || (beta != 1.0 && bias.is_some()) {
            return Ok(false);
        }
        self.fully_connected(index, node, &matrix, bias)
    }

    /// The constant matrix on the right, if there is one of a supported element type.
    fn matrix(&mut self, node: &'m proto::Node) -> ReadResult<Option<std::rc::Rc<Constant>>> {
        let is_constant = node.input.get(1).is_some_and(|name| self.is_constant(name));
        if !is_constant || self.element(node, 1).is_err() {
            return Ok(None);
        }
        let matrix = self.constant(node, 1, "weights")?;
        Ok(Some(matrix).filter(|matrix| matrix.shape.len() == 2 && !matrix.shape.contains(&0)))
    }

    /// Adds a layer with the matrix `[out, in]`.
    fn fully_connected(
        &mut self,
        index: usize,
        node: &'m proto::Node,
        matrix: &Constant,
        bias: Option<Tensor>,
    ) -> ReadResult<bool> {
        let (out_features, in_features) = (matrix.shape[0], matrix.shape[1]);
        let Some((input, _)) = self.operand(&node.input[0], Layout::Row).filter(|(_, found)| *found == in_features)
        else {
            return Ok(false);
        };
        let element = self.element(node, 1)?;
        let op = Op::Linear(Linear { in_features, out_features, bias: bias.is_some() });
        let mut parameters = vec![("weight", matrix.tensor([out_features, in_features])?)];
        parameters.extend(bias.map(|bias| ("bias", bias)));
        let is_matrix = node.op_type == "Gemm";
        let step =
            Step { inputs: &[input], layout: Layout::Row, channels: out_features, is_matrix, element, parameters };
        self.commit(index, node, op, step).map(|_| true)
    }

    /// `Flatten` or `Reshape` of a layer's rows to a matrix, if its reader states that the features stay.
    pub(super) fn view(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<bool> {
        let (Some(name), Some(output)) = (node.input.first(), node.output.first()) else { return Ok(false) };
        let known = self.values.get(name.as_str()).filter(|known| known.layout == Layout::Row && !known.is_matrix);
        let Some(&Known { node: input, channels, .. }) = known else { return Ok(false) };
        let stated = [Layout::Map, Layout::Row].map(|layout| self.channels.get(&(output.as_str(), layout)));
        if !stated.contains(&Some(&channels)) {
            return Ok(false);
        }
        if node.op_type == "Reshape" {
            let target = node.input.get(1).filter(|name| self.is_constant(name));
            let target = target.and_then(|_| self.reader.constant(node, 1).ok()?.known().ok());
            if !matches!(target.as_deref(), Some(&[_, features]) if features == channels as i64) {
                return Ok(false);
            }
        }
        let parameters = vec![("weight", Tensor::full([channels], 1.0))];
        let step = Step { inputs: &[input], layout: Layout::Row, channels, is_matrix: true, element: 0, parameters };
        let view = self.commit(index, node, Op::scale(channels), step)?;
        self.parts.views.insert(view);
        Ok(true)
    }

    /// `AveragePool` whose padding counts as zeros.
    pub(super) fn average_pool(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<bool> {
        let Some(&[rows, columns]) = node.ints("kernel_shape") else { return Ok(false) };
        let window = Window::new(node, [count("kernel_shape", rows)?, count("kernel_shape", columns)?]);
        let Ok(window) = window else { return Ok(false) };
        let Ok(padding) = window.padding(node, [None, None]) else { return Ok(false) };
        let counts_zeros = padding == [[0; 2]; 2] || node.int("count_include_pad", 0) != 0;
        if !counts_zeros || node.int("ceil_mode", 0) != 0 || window.dilation != [1, 1] || window.kernel.contains(&0) {
            return Ok(false);
        }
        let Some((input, channels)) = self.operand(&node.input[0], Layout::Map) else { return Ok(false) };
        let Window { kernel, stride, .. } = window;
        let op = Op::AvgPool(Pool { kernel, stride, dilation: window.dilation, padding });
        let step = Step {
            inputs: &[input],
            layout: Layout::Map,
            channels,
            is_matrix: false,
            element: 0,
            parameters: Vec::new(),
        };
        self.commit(index, node, op, step).map(|_| true)
    }

    /// `Pad` with zeros around maps.
    pub(super) fn pad(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<bool> {
        const WITH_AXES: usize = 3;
        let has_axes = node.input.get(WITH_AXES).is_some_and(|name| !name.is_empty());
        if node.text("mode", "constant")? != "constant" || has_axes || node.float("value", 0.0)? != 0.0 {
            return Ok(false);
        }
        for place in [1, 2] {
            if node.input.get(place).is_some_and(|name| !name.is_empty() && !self.is_constant(name)) {
                return Ok(false);
            }
        }
        let value = self.reader.optional_constant(node, 2)?;
        if value.is_some_and(|value| value.scalar().ok() != Some(0.0)) {
            return Ok(false);
        }
        let pads = self.reader.integers(node, "pads", 1)?;
        let Some(&[0, 0, top, left, 0, 0, bottom, right]) = pads.as_deref() else { return Ok(false) };
        let Some((input, channels)) = self.operand(&node.input[0], Layout::Map) else { return Ok(false) };
        let padding = [[top, bottom], [left, right]].map(|ends| ends.map(|end| end as isize));
        let step = Step {
            inputs: &[input],
            layout: Layout::Map,
            channels,
            is_matrix: false,
            element: 0,
            parameters: Vec::new(),
        };
        self.commit(index, node, Op::Pad { padding }, step).map(|_| true)
    }
}

/// A bias of one value per channel or one for all, times `factor`.
fn row(bias: &Constant, channels: usize, factor: f32) -> Option<Tensor> {
    let values = bias.floats().ok()?;
    let leading: usize = bias.shape.split_last().map_or(1, |(_, leading)| leading.iter().product());
    if leading != 1 || (values.len() != channels && values.len() != 1) {
        return None;
    }
    Some(Tensor::from_fn([channels], |index| values[if values.len() == 1 { 0 } else { index }] * factor))
}

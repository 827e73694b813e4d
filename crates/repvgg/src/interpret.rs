//! The oracle: interprets a graph node by node in double precision.
//!
//! Plain loops over `[N, C, H, W]` tensors, nothing fused and nothing reordered; batch norms use running statistics. All
//! faster code is tested against it.
//!
//! ```
//! use repvgg::interpret::interpret;
//! use repvgg::{Graph, Op, Tensor, Weights};
//!
//! let mut graph = Graph::new();
//! let input = graph.add("input", Op::Input { channels: 1 }, &[]);
//! let sum = graph.add("sum", Op::Add, &[input, input]);
//! graph.output("main", sum);
//! let values = interpret(&graph, &Weights::new(), &Tensor::full([1, 1, 2, 2], 0.5))?;
//! assert_eq!(values[sum.index()].data(), [1.0; 4]);
//! # Ok::<(), repvgg::Error>(())
//! ```

use std::thread;

use repvgg_kernels::Geometry;

use crate::algebra::normalized;
use crate::error::expected;
use crate::graph::{ActivationKind, BatchNorm, Node, Op, Pool, Resize, Role, Softmax, Tap};
use crate::{Error, Graph, Result, Tensor, Weights, element_count};

/// The value of every node for the images `input` `[N, C, H, W]`, in the order of the nodes.
///
/// # Errors
/// When a parameter is missing, or the graph cannot take images of this shape.
pub fn interpret(graph: &Graph, weights: &Weights, input: &Tensor<f64>) -> Result<Vec<Tensor<f64>>> {
    evaluate(graph, weights, input, &VALUES, |_, _| ())
}

/// The main output for the images `input` `[N, C, H, W]`, as `[N, K]`.
///
/// # Errors
/// As [`interpret`].
pub fn logits(graph: &Graph, weights: &Weights, input: &Tensor<f64>) -> Result<Tensor<f64>> {
    let graph = graph.inference();
    let mut readers: Vec<usize> = graph.users().iter().map(Vec::len).collect();
    // Drop values that no later node reads.
    let release = |values: &mut [Tensor<f64>], node: &Node| {
        for input in node.inputs.iter().map(|input| input.index()) {
            readers[input] -= 1;
            if readers[input] == 0 {
                values[input] = Tensor::full([0], 0.0);
            }
        }
    };
    rows(evaluate(&graph, weights, input, &VALUES, release)?.swap_remove(graph.main_output().index()))
}

/// `Σ|x||w|` at every node: the sum of the magnitudes of its terms, before they cancel.
///
/// The rounding error of a few layers is at most a small multiple of `ε · Σ|x||w|`, in any order of summation (Higham,
/// *Accuracy and Stability of Numerical Algorithms*, §3.1, applied layer by layer): the bound for every comparison with the
/// oracle. A nonlinearity counts as its largest slope times `x`, plus its offset: a sigmoid as `1 + x / 4`, a softmax as
/// `1 + max x / 2`.
///
/// # Errors
/// As [`interpret`].
pub fn magnitudes(graph: &Graph, weights: &Weights, input: &Tensor<f64>) -> Result<Vec<Tensor<f64>>> {
    let mut absolute = weights.clone();
    for (name, parameter) in graph.parameters() {
        let tensor = absolute.get_mut(&name).ok_or_else(|| Error::weights(&name, "missing"))?;
        // The running mean is subtracted: its magnitude is added.
        let sign = if parameter.role == Role::RunningMean { -1.0 } else { 1.0 };
        tensor.data_mut().iter_mut().for_each(|x| *x = x.abs() * sign);
    }
    let softmax = |_: Softmax, x: &mut [f64]| {
        let largest = x.iter().copied().fold(0.0, f64::max);
        x.iter_mut().for_each(|x| *x += 1.0 + largest);
    };
    evaluate(graph, &absolute, &input.map(f64::abs), &Nonlinear { activation: magnitude, softmax }, |_, _| ())
}

/// The magnitude of an activation at magnitude `x`.
fn magnitude(activation: ActivationKind, x: f64) -> f64 {
    match activation {
        ActivationKind::Relu => x,
        ActivationKind::Sigmoid => 1.0 + x / 4.0,
        // Its slope is at most 1.1.
        ActivationKind::Silu => 1.1 * x,
        ActivationKind::Clip { low, high } => x.max(low.into()).max((-high).into()),
        ActivationKind::LeakyRelu { slope } => x * f64::from(slope.abs()).max(1.0),
        ActivationKind::HardSigmoid { slope, offset } => x * f64::from(slope.abs()) + f64::from(offset.abs()),
        ActivationKind::Tanh => x,
        ActivationKind::Erf => std::f64::consts::FRAC_2_SQRT_PI * x,
        // Their slopes are at most 1.13 and 1.09.
        ActivationKind::Gelu | ActivationKind::GeluTanh => 1.13 * x,
        ActivationKind::Mish => 1.09 * x,
        ActivationKind::Softplus => x + std::f64::consts::LN_2,
        ActivationKind::Elu { scale } => x * f64::from(scale.abs()).max(1.0),
    }
}

/// The softmax of the channels of one pixel, in place.
fn softmax(kind: Softmax, x: &mut [f64]) {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| (x - largest).exp()).sum();
    for x in x {
        *x = match kind {
            Softmax::Probabilities => (*x - largest).exp() / sum,
            Softmax::Logarithms => *x - largest - sum.ln(),
        };
    }
}

/// The nonlinear functions, for values or for magnitudes.
struct Nonlinear {
    activation: fn(ActivationKind, f64) -> f64,
    /// Applied to the channels of one pixel, in place.
    softmax: fn(Softmax, &mut [f64]),
}

/// The functions for values.
const VALUES: Nonlinear = Nonlinear { activation: ActivationKind::apply, softmax };

/// The most values of one node (512 MiB): the oracle is for small images.
const VALUE_LIMIT: usize = 1 << 26;

/// `[N, C, H, W]` as `[N, C·H·W]`.
fn rows(tensor: Tensor<f64>) -> Result<Tensor<f64>> {
    let [n, c, h, w] = tensor.nchw()?;
    Tensor::new([n, c * h * w], tensor.into_data())
}

/// The value of every node; calls `done` after each node.
fn evaluate(
    graph: &Graph,
    weights: &Weights,
    input: &Tensor<f64>,
    nonlinear: &Nonlinear,
    mut done: impl FnMut(&mut [Tensor<f64>], &Node),
) -> Result<Vec<Tensor<f64>>> {
    let [n, c, h, w] = input.nchw()?;
    if c != graph.input_channels() {
        return Err(Error::shape("input", expected(format_args!("{} channels", graph.input_channels())).found(c)));
    }
    let shapes = graph.shapes([h, w])?;
    let mut values: Vec<Tensor<f64>> = Vec::with_capacity(shapes.len());
    for (node, [c, h, w]) in graph.nodes().iter().zip(shapes) {
        if element_count(&[n, c, h, w]).is_none_or(|count| count > VALUE_LIMIT) {
            let what = expected(format_args!("at most {VALUE_LIMIT} values in double precision"))
                .found(format_args!("[{n}, {c}, {h}, {w}]"));
            return Err(Error::shape(&node.name, what));
        }
        let inputs: Vec<&Tensor<f64>> = node.inputs.iter().map(|input| &values[input.index()]).collect();
        let call = Call { node, weights, inputs, shape: [n, c, h, w] };
        let value = match &node.op {
            Op::Input { .. } => input.clone(),
            Op::Conv2d(conv) => call.conv(&conv.geometry, call.parameter("weight")?.data(), conv.bias)?,
            Op::NormalizedConv2d(conv) => call.conv(&conv.geometry, &call.normalized()?, conv.bias)?,
            Op::Linear(linear) => call.linear(linear.bias)?,
            Op::BatchNorm(norm) => call.batch_norm(norm)?,
            Op::Scale { .. } => call.scale()?,
            Op::Activation(kind) => call.inputs[0].map(|x| (nonlinear.activation)(*kind, x)),
            Op::Softmax(kind) => call.each_pixel(|channels| (nonlinear.softmax)(*kind, channels)),
            Op::Add => call.each(|[n, c, h, w]| call.inputs.iter().map(|x| at(x, [n, c, h, w])).sum()),
            Op::Mul => call.mul(),
            Op::Concat => call.concat(),
            Op::Shuffle { groups } => call.each(|[n, k, h, w]| {
                let source = k % groups * (c / groups) + k / groups;
                at(call.inputs[0], [n, source, h, w])
            }),
            Op::Slice { start, .. } => call.each(|[n, c, h, w]| at(call.inputs[0], [n, start + c, h, w])),
            Op::Pad { padding } => call.pad(padding.map(|[begin, _]| begin)),
            Op::Resize(resize) => call.resize(resize),
            Op::MaxPool(pool) => call.pool(pool, |window| window.fold(f64::NEG_INFINITY, f64::max)),
            Op::AvgPool(pool) => {
                call.pool(pool, |window| window.sum::<f64>() / pool.kernel.iter().product::<usize>() as f64)
            }
            Op::AvgPoolInside(pool) => call.pool(pool, |window| {
                let (count, sum) = window.fold((0.0, 0.0), |(count, sum), x| (count + 1.0, sum + x));
                sum / count
            }),
            Op::GlobalAvgPool => call.global_avg_pool(),
            Op::Flatten => Tensor::new([n, c, h, w], call.inputs[0].data().to_vec())?,
        };
        values.push(value);
        done(&mut values, node);
    }
    Ok(values)
}

/// The element at `[n, c, h, w]`.
fn at(tensor: &Tensor<f64>, index: [usize; 4]) -> f64 {
    let shape = tensor.shape();
    tensor.data()[index.iter().zip(shape).fold(0, |flat, (i, extent)| flat * extent + i)]
}

/// One node with its inputs, and the shape `[N, C, H, W]` of its output.
struct Call<'a> {
    node: &'a Node,
    weights: &'a Weights,
    inputs: Vec<&'a Tensor<f64>>,
    shape: [usize; 4],
}

impl Call<'_> {
    /// The node's own parameter `suffix`, in double precision.
    fn parameter(&self, suffix: &str) -> Result<Tensor<f64>> {
        Ok(self.weights.require(&format!("{}.{suffix}", self.node.name))?.to_f64())
    }

    /// The bias, or zeros.
    fn bias(&self, has_bias: bool) -> Result<Tensor<f64>> {
        if has_bias { self.parameter("bias") } else { Ok(Tensor::full([self.shape[1]], 0.0)) }
    }

    /// The tensor whose element at `[n, c, h, w]` is `value([n, c, h, w])`, computed on all cores.
    fn each(&self, value: impl Fn([usize; 4]) -> f64 + Sync) -> Tensor<f64> {
        let [_, channels, height, width] = self.shape;
        let mut result = Tensor::full(self.shape, 0.0);
        let plane = (height * width).max(1);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let planes_each = (result.data().len() / plane).div_ceil(threads).max(1);
        thread::scope(|scope| {
            for (part, chunk) in result.data_mut().chunks_mut(planes_each * plane).enumerate() {
                let value = &value;
                scope.spawn(move || {
                    for (offset, x) in chunk.iter_mut().enumerate() {
                        let flat = part * planes_each * plane + offset;
                        let (image, channel) = (flat / plane / channels, flat / plane % channels);
                        *x = value([image, channel, flat % plane / width, flat % width]);
                    }
                });
            }
        });
        result
    }

    /// `y[n, k, p, q] = b[k] + Σ x[n, c, p·stride + r·dilation − padding, …] · w[k, c, r, s]`
    fn conv(&self, geometry: &Geometry, kernel: &[f64], has_bias: bool) -> Result<Tensor<f64>> {
        let bias = self.bias(has_bias)?;
        let group_channels = geometry.in_channels / geometry.groups;
        let group_filters = geometry.out_channels / geometry.groups;
        let [rows, columns] = geometry.kernel;
        Ok(self.each(|[n, k, p, q]| {
            let first_channel = k / group_filters * group_channels;
            let mut sum = bias.data()[k];
            for c in 0..group_channels {
                for r in 0..rows {
                    let h = p * geometry.stride[0] + r * geometry.dilation[0];
                    let Some(row) = self.row(n, first_channel + c, h, geometry.padding[0]) else { continue };
                    let taps = &kernel[((k * group_channels + c) * rows + r) * columns..][..columns];
                    for (s, tap) in taps.iter().enumerate() {
                        let w = q * geometry.stride[1] + s * geometry.dilation[1];
                        let x = w.checked_sub(geometry.padding[1]).and_then(|w| row.get(w)).unwrap_or(&0.0);
                        sum += x * tap;
                    }
                }
            }
            sum
        }))
    }

    /// The kernel with normalised filters.
    fn normalized(&self) -> Result<Vec<f64>> {
        Ok(normalized(self.weights.require(&format!("{}.weight", self.node.name))?))
    }

    /// `y = W x + b`
    fn linear(&self, has_bias: bool) -> Result<Tensor<f64>> {
        let (matrix, bias) = (self.parameter("weight")?, self.bias(has_bias)?);
        let features = matrix.shape()[1];
        Ok(self.each(|[n, k, _, _]| {
            let row = &matrix.data()[k * features..][..features];
            let x = &self.inputs[0].data()[n * features..][..features];
            bias.data()[k] + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()
        }))
    }

    /// `y = γ (x − μ) / √(σ² + ε) + β`
    fn batch_norm(&self, norm: &BatchNorm) -> Result<Tensor<f64>> {
        let (gamma, beta) = (self.parameter("weight")?, self.parameter("bias")?);
        let (mean, var) = (self.parameter("running_mean")?, self.parameter("running_var")?);
        Ok(self.each(|[n, c, h, w]| {
            let centred = at(self.inputs[0], [n, c, h, w]) - mean.data()[c];
            gamma.data()[c] * centred / (var.data()[c] + norm.eps).sqrt() + beta.data()[c]
        }))
    }

    fn scale(&self) -> Result<Tensor<f64>> {
        let factor = self.parameter("weight")?;
        Ok(self.each(|[n, c, h, w]| at(self.inputs[0], [n, c, h, w]) * factor.data()[c]))
    }

    fn mul(&self) -> Tensor<f64> {
        let [x, factor] = [self.inputs[0], self.inputs[1]];
        let per_channel = factor.shape()[2..] == [1, 1];
        self.each(|[n, c, h, w]| {
            let index = if per_channel { [n, c, 0, 0] } else { [n, c, h, w] };
            at(x, [n, c, h, w]) * at(factor, index)
        })
    }

    fn concat(&self) -> Tensor<f64> {
        self.each(|[n, mut c, h, w]| {
            for input in &self.inputs {
                if c < input.shape()[1] {
                    return at(input, [n, c, h, w]);
                }
                c -= input.shape()[1];
            }
            unreachable!("the output has the channels of all inputs")
        })
    }

    /// The map shifted by `begin` rows and columns, with zeros elsewhere.
    fn pad(&self, begin: [isize; 2]) -> Tensor<f64> {
        let input = self.inputs[0];
        self.each(|[n, c, h, w]| {
            let [h, w] = [(h, begin[0], 2), (w, begin[1], 3)]
                .map(|(output, begin, axis)| output.checked_add_signed(-begin).filter(|&i| i < input.shape()[axis]));
            h.zip(w).map_or(0.0, |(h, w)| at(input, [n, c, h, w]))
        })
    }

    /// The map interpolated between the rows and columns of the taps.
    fn resize(&self, resize: &Resize) -> Tensor<f64> {
        let input = self.inputs[0];
        let taps = [0, 1].map(|axis| resize.taps(axis, input.shape()[axis + 2], self.shape[axis + 2]));
        let blend = |tap: &Tap, at: &dyn Fn(usize) -> f64| {
            let [first, second] = tap.indices;
            (1.0 - tap.weight) * at(first) + tap.weight * at(second)
        };
        self.each(|[n, c, p, q]| blend(&taps[0][p], &|h| blend(&taps[1][q], &|w| at(input, [n, c, h, w]))))
    }

    /// `reduce` over each window. Padding is skipped, so it is never a maximum and adds nothing to a sum.
    fn pool(&self, pool: &Pool, reduce: impl Fn(&mut dyn Iterator<Item = f64>) -> f64 + Sync) -> Tensor<f64> {
        self.each(|[n, c, p, q]| {
            let row = |r| self.row(n, c, p * pool.stride[0] + r * pool.dilation[0], pool.padding[0][0]);
            let rows = (0..pool.kernel[0]).filter_map(row);
            let mut window = rows.flat_map(|row| {
                let columns = (0..pool.kernel[1]).map(|s| q * pool.stride[1] + s * pool.dilation[1]);
                columns.filter_map(|w| row.get(w.checked_sub(pool.padding[1][0])?).copied())
            });
            reduce(&mut window)
        })
    }

    fn global_avg_pool(&self) -> Tensor<f64> {
        let plane: usize = self.inputs[0].shape()[2..].iter().product();
        self.each(|[n, c, _, _]| {
            let values = &self.inputs[0].data()[(n * self.shape[1] + c) * plane..][..plane];
            values.iter().sum::<f64>() / plane as f64
        })
    }

    /// The first input with `change` applied to the channels of each pixel.
    fn each_pixel(&self, change: impl Fn(&mut [f64])) -> Tensor<f64> {
        let [_, channels, height, width] = self.shape;
        let (mut result, plane) = (self.inputs[0].clone(), height * width);
        let mut pixel = vec![0.0; channels];
        for image in result.data_mut().chunks_exact_mut(channels * plane) {
            for start in 0..plane {
                pixel.iter_mut().zip(image[start..].iter().step_by(plane)).for_each(|(x, value)| *x = *value);
                change(&mut pixel);
                image[start..].iter_mut().step_by(plane).zip(&pixel).for_each(|(value, x)| *value = *x);
            }
        }
        result
    }

    /// The first input's row at height `h` of the padded map, or `None` in the padding.
    fn row(&self, n: usize, c: usize, h: usize, padding: usize) -> Option<&[f64]> {
        let &[_, channels, height, width] = self.inputs[0].shape() else { unreachable!("values are [N, C, H, W]") };
        let h = h.checked_sub(padding).filter(|&h| h < height)?;
        Some(&self.inputs[0].data()[((n * channels + c) * height + h) * width..][..width])
    }
}

#[cfg(test)]
mod tests;

//! The definition of a convolution: seven loops in `f64`, written for clarity, not for speed.
//!
//! Every function returns each value with its magnitude, the same sum over absolute values. The rounding error of a sum in
//! `f32`, in any order, is bounded by a multiple of `ε · magnitude`. Fast kernels are compared within that bound.
//!
//! # Example
//!
//! ```
//! use repvgg_kernels::{Geometry, reference};
//!
//! let geometry = Geometry {
//!     in_channels: 1,
//!     out_channels: 1,
//!     kernel: [1, 2],
//!     stride: [1, 1],
//!     padding: [0, 0],
//!     dilation: [1, 1],
//!     groups: 1,
//! };
//! let y = reference::conv2d(&geometry, &[1.0, 2.0, 3.0], [1, 3], &[1.0, -1.0], Some(&[0.5]));
//! assert_eq!(y.values, [-0.5, -0.5]);
//! assert_eq!(y.magnitudes, [3.5, 5.5]);
//! ```

use crate::Geometry;

/// Values and the magnitudes that bound their rounding errors, element by element.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The result.
    pub values: Vec<f64>,
    /// `Σ|x||w| + |b|`.
    pub magnitudes: Vec<f64>,
}

impl Reference {
    fn zeros(len: usize) -> Self {
        Self { values: vec![0.0; len], magnitudes: vec![0.0; len] }
    }

    fn add(&mut self, index: usize, term: f64) {
        self.values[index] += term;
        self.magnitudes[index] += term.abs();
    }
}

/// Returns `y = conv(x, w) + b`, `[N, K, P, Q]`, from `input` `[N, C, H, W]` with `size` `[H, W]`, `weights`
/// `[K, C/G, R, S]` and `bias` `[K]`.
///
/// # Panics
///
/// If the geometry does not fit the size or a slice has the wrong length.
pub fn conv2d(
    geometry: &Geometry,
    input: &[f64],
    size: [usize; 2],
    weights: &[f64],
    bias: Option<&[f64]>,
) -> Reference {
    let batch = input.len() / (geometry.in_channels * size[0] * size[1]);
    let mut output = Reference::zeros(batch * geometry.out_channels * output_len(geometry, size));
    if let Some(bias) = bias {
        let plane = output_len(geometry, size);
        for index in 0..output.values.len() {
            output.add(index, bias[index / plane % geometry.out_channels]);
        }
    }
    for_each_product(geometry, batch, size, |x, w, y| output.add(y, input[x] * weights[w]));
    output
}

/// Returns `∂L/∂x`, `[N, C, H, W]` with `size` `[H, W]`, from `∂L/∂y`, `output_gradient` `[N, K, P, Q]`.
///
/// # Panics
///
/// As [`conv2d`].
pub fn gradient_input(geometry: &Geometry, output_gradient: &[f64], size: [usize; 2], weights: &[f64]) -> Reference {
    let batch = output_gradient.len() / (geometry.out_channels * output_len(geometry, size));
    let mut gradient = Reference::zeros(batch * geometry.in_channels * size[0] * size[1]);
    for_each_product(geometry, batch, size, |x, w, y| gradient.add(x, output_gradient[y] * weights[w]));
    gradient
}

/// Returns `∂L/∂w`, `[K, C/G, R, S]`, from `input` `[N, C, H, W]` with `size` `[H, W]` and `∂L/∂y`, `output_gradient`
/// `[N, K, P, Q]`.
///
/// # Panics
///
/// As [`conv2d`].
pub fn gradient_weights(geometry: &Geometry, input: &[f64], size: [usize; 2], output_gradient: &[f64]) -> Reference {
    let batch = input.len() / (geometry.in_channels * size[0] * size[1]);
    let mut gradient = Reference::zeros(geometry.weight_len());
    for_each_product(geometry, batch, size, |x, w, y| gradient.add(w, input[x] * output_gradient[y]));
    gradient
}

/// `P·Q`.
fn output_len(geometry: &Geometry, size: [usize; 2]) -> usize {
    geometry.output_size(size).expect("the geometry fits the image").iter().product()
}

/// The seven loops: visits every product of an input element and a weight, with the output element that it is added to, as
/// indices `(x, w, y)` into `[N, C, H, W]`, `[K, C/G, R, S]` and `[N, K, P, Q]`.
fn for_each_product(geometry: &Geometry, batch: usize, [h, w]: [usize; 2], mut visit: impl FnMut(usize, usize, usize)) {
    let [p_end, q_end] = geometry.output_size([h, w]).expect("the geometry fits the image");
    let [r_end, s_end] = geometry.kernel;
    let (channels, filters) = (geometry.in_channels / geometry.groups, geometry.out_channels / geometry.groups);
    for n in 0..batch {
        for k in 0..geometry.out_channels {
            for c in 0..channels {
                let c_in = k / filters * channels + c;
                for p in 0..p_end {
                    for q in 0..q_end {
                        for r in 0..r_end {
                            for s in 0..s_end {
                                let Some(y) = input_position(geometry, 0, p, r, h) else { continue };
                                let Some(x) = input_position(geometry, 1, q, s, w) else { continue };
                                visit(
                                    ((n * geometry.in_channels + c_in) * h + y) * w + x,
                                    ((k * channels + c) * r_end + r) * s_end + s,
                                    ((n * geometry.out_channels + k) * p_end + p) * q_end + q,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The input position that output `p` reads through tap `r` along `axis`, or `None` in the padding.
fn input_position(geometry: &Geometry, axis: usize, p: usize, r: usize, len: usize) -> Option<usize> {
    let position = p * geometry.stride[axis] + r * geometry.dilation[axis];
    position.checked_sub(geometry.padding[axis]).filter(|&position| position < len)
}

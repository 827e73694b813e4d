//! The algebra of fusion: the linear maps that nodes compute, and how these combine, in double precision.
//!
//! [`LinearConv`] is a convolution with a bias; [`Affine`] is a factor and a shift per channel. Fusion and the engine both
//! compute parameters here, in f64, and round once when they store the result.
//!
//! ```
//! use repvgg::algebra::{Affine, LinearConv};
//! use repvgg::graph::Conv2d;
//!
//! // `2 · (w * x) + 1`, then the identity of the same channel added: one 3×3 convolution.
//! let geometry = Conv2d::square(1, 1, 3).geometry;
//! let conv = LinearConv { geometry, kernel: vec![1.0; 9], bias: vec![0.0] };
//! let branch = conv.scale(&Affine { scale: vec![2.0], shift: vec![1.0] });
//! let block = branch.sum(&LinearConv::identity(1)).expect("both keep the map's size");
//! assert_eq!(block.kernel, [2.0, 2.0, 2.0, 2.0, 3.0, 2.0, 2.0, 2.0, 2.0]);
//! assert_eq!(block.bias, [1.0]);
//! ```

mod affine;
mod linear;

pub use affine::Affine;
pub use linear::{LinearConv, Unfusable};
pub(crate) use linear::{identity_geometry, normalized, sum_geometry, then_geometry};

use crate::graph::Node;
use crate::{Result, Weights};

/// The parameter of `node` with this suffix, in double precision.
fn parameter(node: &Node, suffix: &str, weights: &Weights) -> Result<Vec<f64>> {
    Ok(weights.require(&format!("{}.{suffix}", node.name))?.data().iter().copied().map(f64::from).collect())
}

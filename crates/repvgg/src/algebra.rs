//! The algebra of fusion: what the parameters of linear nodes mean, and how their maps combine, in double precision.
//!
//! [`LinearConv`] is a convolution with a bias, [`Affine`] a factor and a shift per channel. Fusing a graph and preparing a
//! program both compute parameters here, in f64, and round once where they store the result.

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

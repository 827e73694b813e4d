//! Structural re-parameterization: exact algebra that folds the linear parts of a graph into single convolutions
//! (Ding et al., 2101.03697, Sect. 3.3).
//!
//! Batch norm with running statistics, identity, average pooling and a factor per channel are convolutions too. Any part of a
//! graph that consists only of chains and sums of such operations is therefore *one* convolution:
//!
//! ```text
//! y = BN₃(W₃ * x) + BN₁(W₁ * x) + BN₀(x)
//!   = (t₃W₃ + pad(t₁W₁) + t₀I) * x + Σ (βᵢ − μᵢtᵢ),      t = γ / √(σ² + ε)
//! ```
//!
//! Nothing here is specific to RepVGG's blocks. [`Fusion::new`] finds such regions from shapes alone;
//! [`Fusion::apply`] computes their kernels in f64 and rounds once; [`check::verify`](crate::check::verify) compares the
//! result with the training form.

mod linear;
mod region;
mod search;

pub use crate::algebra::{LinearConv, Unfusable};
pub use region::{Fusion, Obstacle, Region};

use crate::{Graph, Result, Weights};

/// A fused network.
#[derive(Debug, Clone)]
pub struct Fused {
    /// The plain graph.
    pub graph: Graph,
    /// Its parameters.
    pub weights: Weights,
}

/// Fuses every region of the main output's graph that is one convolution. Drops auxiliary heads.
///
/// A region becomes one convolution only where that adds no multiply-adds, with one exception: branches of different dilation
/// become one dense kernel of at most three times their weights, so that a 3×3 kernel and one dilated by 2 are one 5×5 kernel.
/// A sum that is not part of a convolution stays as it is; [`Fusion::obstacles`] gives the reason.
///
/// ```
/// use repvgg::graph::Conv2d;
/// use repvgg::{Graph, Op, Weights, fuse::fuse};
///
/// let mut graph = Graph::new();
/// let input = graph.add("input", Op::Input { channels: 4 }, &[]);
/// let conv = graph.add("conv", Op::conv(Conv2d::square(4, 4, 3)), &[input]);
/// let sum = graph.add("sum", Op::Add, &[conv, input]);
/// graph.output("main", sum);
///
/// let fused = fuse(&graph, &Weights::initialise(&graph, 0))?;
/// // The input and one convolution remain.
/// assert_eq!((graph.nodes().len(), fused.graph.nodes().len()), (3, 2));
/// # Ok::<(), repvgg::Error>(())
/// ```
///
/// # Errors
/// When the weights do not fit the graph, or a fused value is not finite.
pub fn fuse(graph: &Graph, weights: &Weights) -> Result<Fused> {
    weights.check(graph)?;
    let fusion = Fusion::new(&graph.inference());
    let weights = fusion.apply(weights)?;
    Ok(Fused { graph: fusion.into_graph(), weights })
}

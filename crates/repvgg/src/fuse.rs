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
//! Nothing here knows a RepVGG block. [`Fusion::new`] finds such regions from shapes alone;
//! [`Fusion::apply`] computes their kernels in f64 and rounds once; [`check::verify`](crate::check::verify) compares the
//! result with the training form.

mod region;

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
/// A sum that is not part of a convolution stays as it is; [`Fusion::obstacles`] gives the reason.
///
/// # Errors
/// When the weights are not those of the graph, or a fused value is not finite.
pub fn fuse(graph: &Graph, weights: &Weights) -> Result<Fused> {
    weights.check(graph)?;
    let fusion = Fusion::new(&graph.inference());
    let weights = fusion.apply(weights)?;
    Ok(Fused { graph: fusion.into_graph(), weights })
}

//! Maps per channel: batch norms with running statistics, and factors.

use super::parameter;
use crate::graph::{BatchNorm, Node, Op};
use crate::{Result, Weights};

/// `scale · x + shift` per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// `[C]`
    pub scale: Vec<f64>,
    /// `[C]`
    pub shift: Vec<f64>,
}

impl Affine {
    /// The map of a batch norm or a factor per channel.
    ///
    /// A batch norm is `t·x + b` with `t = γ / √(σ² + ε)` and `b = β − μt` (2101.03697, Sect. 3.3, Eq. 3).
    ///
    /// # Errors
    /// When a parameter of `node` is missing.
    ///
    /// # Panics
    /// When `node` is neither of these.
    pub fn of(node: &Node, weights: &Weights) -> Result<Self> {
        let parameter = |suffix| parameter(node, suffix, weights);
        match node.op {
            Op::BatchNorm(BatchNorm { eps, .. }) => {
                let (gamma, beta) = (parameter("weight")?, parameter("bias")?);
                let (mean, var) = (parameter("running_mean")?, parameter("running_var")?);
                let scale: Vec<f64> = gamma.iter().zip(var).map(|(gamma, var)| gamma / (var + eps).sqrt()).collect();
                let shift = beta.iter().zip(mean).zip(&scale).map(|((beta, mean), t)| beta - mean * t).collect();
                Ok(Self { scale, shift })
            }
            Op::Scale { channels, .. } => Ok(Self { scale: parameter("weight")?, shift: vec![0.0; channels] }),
            ref other => panic!("{}: expected a batch norm or a factor, found {}", node.name, other.kind()),
        }
    }
}

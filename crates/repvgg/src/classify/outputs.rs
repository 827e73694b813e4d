//! The meaning of a network's outputs.

use crate::graph::{ActivationKind, Softmax};
use crate::{Graph, Op};

/// The meaning of a network's outputs, by the operation that it ends in.
///
/// ```
/// use repvgg::classify::Outputs;
///
/// let network = repvgg::Specification::named("repvgg-a0").unwrap().training_graph()?;
/// assert_eq!(Outputs::of(&network), Outputs::Logits);
/// assert_eq!(Outputs::Logits.probabilities(&[1.0, 1.0]), [0.5, 0.5]);
/// assert_eq!(Outputs::Logits.probabilities(&[0.0]), [0.5]);
/// # Ok::<(), repvgg::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outputs {
    /// Logits: their softmax is the probability of each class. The sigmoid of a single logit is the probability of its class.
    Logits,
    /// The probabilities of classes that exclude each other, after a softmax.
    Probabilities,
    /// The logarithms of such probabilities.
    LogProbabilities,
    /// The probabilities of independent classes, or of a single one, after a sigmoid.
    Independent,
}

impl Outputs {
    /// The meaning of the main output of `graph`.
    pub fn of(graph: &Graph) -> Self {
        let mut node = graph.node(graph.main_output());
        // Other operations that may follow keep the values.
        while let (Op::Flatten, [input]) = (&node.op, node.inputs.as_slice()) {
            node = graph.node(*input);
        }
        match node.op {
            Op::Softmax(Softmax::Probabilities) => Self::Probabilities,
            Op::Softmax(Softmax::Logarithms) => Self::LogProbabilities,
            Op::Activation(ActivationKind::Sigmoid) => Self::Independent,
            _ => Self::Logits,
        }
    }

    /// The probability of each output's class, 0 to 1.
    pub fn probabilities(self, outputs: &[f32]) -> Vec<f32> {
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        match self {
            Self::Logits if outputs.len() == 1 => outputs.iter().map(|&x| sigmoid(x)).collect(),
            Self::Logits => {
                let largest = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = outputs.iter().map(|x| (x - largest).exp()).sum();
                outputs.iter().map(|x| (x - largest).exp() / sum).collect()
            }
            Self::LogProbabilities => outputs.iter().map(|x| x.exp()).collect(),
            Self::Probabilities | Self::Independent => outputs.to_vec(),
        }
    }

    /// The number of classes that `outputs` values distinguish: a single one distinguishes the absence and presence of its class.
    pub fn classes(self, outputs: usize) -> usize {
        if outputs == 1 { 2 } else { outputs }
    }

    /// Logits of all [`classes`](Self::classes): their softmax is the probability of each. Those of independent classes are
    /// normalised.
    pub fn logits(self, outputs: &[f32]) -> Vec<f32> {
        let log = |p: f32| p.max(f32::MIN_POSITIVE).ln();
        match (self, outputs) {
            (Self::Logits, &[logit]) => vec![0.0, logit],
            (Self::Independent, &[p]) => vec![log(1.0 - p), log(p)],
            (Self::Logits | Self::LogProbabilities, _) => outputs.to_vec(),
            (Self::Probabilities | Self::Independent, _) => outputs.iter().map(|&p| log(p)).collect(),
        }
    }
}

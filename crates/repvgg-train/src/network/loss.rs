//! Cross-entropy with label smoothing, summed over the main and auxiliary heads.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor as BurnTensor, TensorData};
use repvgg::error::expected;
use repvgg::{Error, Result};

use super::StepReport;

/// The settings of the training loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossSettings {
    /// The share ε of the target that is spread evenly over all classes (Szegedy et al., 1512.00567, §7).
    pub label_smoothing: f64,
    /// The weight of each auxiliary head. The main head has weight 1.
    pub auxiliary_weight: f64,
}

impl Default for LossSettings {
    /// Plain cross-entropy. Auxiliary heads have weight 0.1, as in the training of RepVGGplus.
    fn default() -> Self {
        Self { label_smoothing: 0.0, auxiliary_weight: 0.1 }
    }
}

impl LossSettings {
    /// Computes the loss of `outputs` (`[N, classes, 1, 1]` each, the main head first) as a differentiable tensor, and the report.
    pub(super) fn evaluate(
        &self,
        outputs: Vec<BurnTensor<4>>,
        labels: &[usize],
    ) -> Result<(BurnTensor<1>, StepReport)> {
        let [n, classes, ..] = outputs[0].dims();
        if labels.len() != n {
            return Err(Error::shape("labels", expected(format_args!("{n}, one per image")).found(labels.len())));
        }
        if let Some(label) = labels.iter().find(|&&label| label >= classes) {
            return Err(Error::shape("labels", expected(format_args!("classes below {classes}")).found(label)));
        }
        let logits = outputs[0].to_data().try_into_vec::<f32>().expect("logits are single precision");
        let device = outputs[0].device();
        let targets = BurnTensor::<2>::from_data(self.targets(labels, classes), &device);
        let total = outputs.into_iter().enumerate().map(|(index, output)| {
            let weight = if index == 0 { 1.0 } else { self.auxiliary_weight };
            let logarithms = log_softmax(output.reshape([n, classes]), 1);
            (logarithms * targets.clone()).sum() * (-weight / n as f64)
        });
        let total = total.reduce(|a, b| a + b).expect("a graph has at least one output");
        let loss = f64::from(total.clone().into_scalar::<f32>());
        Ok((total, StepReport { loss, correct: correct(&logits, labels), images: n }))
    }

    /// The target distributions `[N, classes]`: `ε / classes` for every class, plus `1 − ε` for the label.
    fn targets(&self, labels: &[usize], classes: usize) -> TensorData {
        let mut targets = vec![(self.label_smoothing / classes as f64) as f32; labels.len() * classes];
        for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
            row[label] = (1.0 - self.label_smoothing + self.label_smoothing / classes as f64) as f32;
        }
        TensorData::new(targets, [labels.len(), classes])
    }
}

/// The number of rows of `logits` whose strictly largest entry is that of the label.
fn correct(logits: &[f32], labels: &[usize]) -> usize {
    let rows = logits.chunks_exact(logits.len() / labels.len()).zip(labels);
    rows.filter(|&(row, &label)| row.iter().enumerate().all(|(class, &x)| class == label || x < row[label])).count()
}

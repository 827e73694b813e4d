//! Fully connected layers.
//!
//! One image's layer reads each weight once, so memory sets its pace; for a batch, each row of the matrix meets all
//! images while it is in the first cache.

use repvgg_conv::{Activation, ThreadPool};

use super::kernel::each_chunk;

/// `activation(W x + b)`.
pub(super) struct Linear {
    /// `[out, in]`.
    matrix: Vec<f32>,
    /// `[out]`.
    bias: Vec<f32>,
    activation: Activation,
}

/// Rows of the matrix that a thread takes at once.
const TASK_ROWS: usize = 32;

impl Linear {
    /// A layer of `matrix` `[out, in]`, `bias` `[out]`.
    pub(super) fn new(matrix: &[f32], bias: Vec<f32>, activation: Activation) -> Self {
        Self { matrix: matrix.to_vec(), bias, activation }
    }

    /// Bytes of matrix and bias.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.matrix) + size_of_val(&*self.bias)
    }

    /// Elements of workspace that a run of `batch` images needs.
    pub(super) fn workspace_len(&self, batch: usize) -> usize {
        batch * self.bias.len()
    }

    /// `input` `[N, in]` to `output` `[N, out]`, by way of `workspace` `[out, N]`.
    pub(super) fn run(&self, pool: &ThreadPool, input: &[f32], output: &mut [f32], workspace: &mut [f32]) {
        let rows = self.bias.len();
        let features = self.matrix.len() / rows;
        let images = output.len() / rows;
        let columns = &mut workspace[..output.len()];
        each_chunk(pool, columns, TASK_ROWS * images, |task, chunk| {
            for (offset, sums) in chunk.chunks_exact_mut(images).enumerate() {
                let row = task * TASK_ROWS + offset;
                let weights = &self.matrix[row * features..][..features];
                for (sum, x) in sums.iter_mut().zip(input.chunks_exact(features)) {
                    *sum = self.activate(self.bias[row] + dot(weights, x));
                }
            }
        });
        for (image, logits) in output.chunks_exact_mut(rows).enumerate() {
            logits.iter_mut().zip(columns.chunks_exact(images)).for_each(|(y, sums)| *y = sums[image]);
        }
    }

    fn activate(&self, x: f32) -> f32 {
        match self.activation {
            Activation::Identity => x,
            Activation::Relu if x < 0.0 => 0.0,
            Activation::Relu => x,
        }
    }
}

/// `Σ aᵢ bᵢ` in sixteen interleaved parts.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut parts = [0.0; 16];
    for (a, b) in a.iter().zip(b) {
        parts.iter_mut().zip(a).zip(b).for_each(|((part, a), b)| *part += a * b);
    }
    parts.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

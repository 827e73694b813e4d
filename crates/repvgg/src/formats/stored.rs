//! Tensors as files hold them.

use crate::Tensor;

/// A tensor as a file holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// Floating-point elements of any width, as f32.
    Float(Tensor),
    /// Anything else, such as PyTorch's counters `num_batches_tracked`: no parameter of a network, but accounted for.
    Other {
        /// The elements' type as the file calls it.
        dtype: String,
        /// The extent of each axis.
        shape: Vec<usize>,
    },
}

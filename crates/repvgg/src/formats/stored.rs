//! Tensors as stored in files.

use crate::Tensor;

/// A tensor as stored in a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// Floating-point elements of any width, as f32.
    Float(Tensor),
    /// Any other elements, such as PyTorch's counters `num_batches_tracked`: never a parameter, but accounted for.
    Other {
        /// The file's name for the element type.
        dtype: String,
        /// The extent of each axis.
        shape: Vec<usize>,
    },
}

impl Stored {
    /// The extent of each axis.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(tensor) => tensor.shape(),
            Self::Other { shape, .. } => shape,
        }
    }
}

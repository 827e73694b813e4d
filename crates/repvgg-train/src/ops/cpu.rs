//! The threads of CPU operations, and slices of the framework's CPU tensors.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use repvgg::{Error, Result};
use repvgg_kernels::ThreadPool;

/// The threads that a network computes on: a pool for our kernels, and one of the same size for the framework's operations.
#[derive(Debug, Clone)]
pub(crate) struct Threads {
    pub(super) kernels: Arc<ThreadPool>,
    framework: Arc<rayon::ThreadPool>,
}

impl Threads {
    /// Shares `kernels`, and starts as many threads for the framework.
    ///
    /// # Errors
    /// When the system cannot create the threads.
    pub(crate) fn new(kernels: &Arc<ThreadPool>) -> Result<Self> {
        let framework = rayon::ThreadPoolBuilder::new().num_threads(kernels.threads()).build();
        let framework = framework.map_err(|error| Error::io("threads", std::io::Error::other(error)))?;
        Ok(Self { kernels: Arc::clone(kernels), framework: Arc::new(framework) })
    }

    /// Calls `compute` where the framework's operations use these threads.
    pub(crate) fn scope<T: Send>(&self, compute: impl FnOnce() -> T + Send) -> T {
        self.framework.install(compute)
    }
}

/// The elements of a contiguous tensor.
///
/// # Panics
/// When the tensor is not contiguous or not in single precision.
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("kernels read contiguous single-precision tensors")
}

/// A tensor over `values`.
pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

//! The CPU thread pool, and slices of the framework's CPU tensors.

use std::sync::OnceLock;

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use repvgg::error::expected;
use repvgg::{Error, Result};
use repvgg_kernels::ThreadPool;

static POOL: OnceLock<ThreadPool> = OnceLock::new();

/// Sets the number of CPU threads of this process. The default is one per core. Results do not depend on the number.
///
/// # Errors
/// When training has already begun with another number.
pub(crate) fn use_threads(threads: usize) -> Result<()> {
    // The framework uses the global rayon pool. If the program has already configured it, its setting takes precedence.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build_global();
    let found = POOL.get_or_init(|| ThreadPool::new(threads)).threads();
    if found != threads.max(1) {
        return Err(Error::spec(
            "threads",
            expected(format_args!("{threads} set before training begins")).found(format_args!("{found} running")),
        ));
    }
    Ok(())
}

/// The thread pool of the process.
pub(super) fn pool() -> &'static ThreadPool {
    POOL.get_or_init(|| ThreadPool::new(std::thread::available_parallelism().map_or(1, usize::from)))
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

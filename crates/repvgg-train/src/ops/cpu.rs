//! The threads of the CPU and the framework's CPU tensors as slices.

use std::sync::OnceLock;

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use repvgg::error::expected;
use repvgg::{Error, Result};
use repvgg_kernels::ThreadPool;

static POOL: OnceLock<ThreadPool> = OnceLock::new();

/// Sets how many threads this process trains with on the CPU; without it, as many as there are cores.
/// The results do not depend on it.
///
/// # Errors
/// When training has begun already, with another number.
pub(crate) fn use_threads(threads: usize) -> Result<()> {
    // The framework's own threads; where somebody has set their number already, it stands.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build_global();
    let found = POOL.get_or_init(|| ThreadPool::new(threads)).threads();
    if found != threads.max(1) {
        return Err(Error::spec(
            "threads",
            expected(format_args!("{threads} before the first step")).found(format_args!("{found} at work")),
        ));
    }
    Ok(())
}

/// The threads of the process.
pub(super) fn pool() -> &'static ThreadPool {
    POOL.get_or_init(|| ThreadPool::new(std::thread::available_parallelism().map_or(1, usize::from)))
}

/// The elements of a contiguous tensor.
///
/// # Panics
/// When the tensor is not contiguous or not in single precision.
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("kernels read contiguous tensors in single precision")
}

/// A tensor over `values`.
pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

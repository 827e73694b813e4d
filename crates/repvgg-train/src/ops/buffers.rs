//! Reuse of the memory of dead tensors.
//!
//! Every training step allocates tensors of the same sizes. The system zeroes fresh memory page by page, which costs about
//! a tenth of a step. Kernels overwrite every element and need no zeros.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::backend::flex::FlexTensor;

/// The buffers of one length.
struct BufferPool {
    idle: Vec<Vec<f32>>,
    /// The number of buffers in use. The framework's own tensors are released here too. Keeping those as well would grow
    /// the pool with every step.
    in_use: usize,
}

/// All pools, by the length of their buffers.
static POOLS: Mutex<BTreeMap<usize, BufferPool>> = Mutex::new(BTreeMap::new());

/// The smallest number of elements for which a pool is faster than the system's allocator.
const MIN_POOLED: usize = 1 << 13;

/// A buffer of `len` elements with arbitrary values.
pub(super) fn acquire(len: usize) -> Vec<f32> {
    if len < MIN_POOLED {
        return vec![0.0; len];
    }
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pools.entry(len).or_insert(BufferPool { idle: Vec::new(), in_use: 0 });
    pool.in_use += 1;
    let idle = pool.idle.pop();
    drop(pools);
    idle.unwrap_or_else(|| vec![0.0; len])
}

/// Returns the memory of `tensor` to its pool, unless the tensor is shared or no buffer of its length is in use.
pub(super) fn release(tensor: FlexTensor) {
    let len = tensor.layout().num_elements();
    if len < MIN_POOLED || !tensor.is_unique() {
        return;
    }
    let Ok(buffer) = tensor.into_data().try_into_vec() else { return };
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = pools.get_mut(&len).filter(|pool| pool.in_use > 0) {
        pool.in_use -= 1;
        pool.idle.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn idle(len: usize) -> usize {
        POOLS.lock().unwrap().get(&len).map_or(0, |pool| pool.idle.len())
    }

    #[test]
    fn a_pool_keeps_no_more_buffers_than_were_acquired() {
        // A length that no other test uses.
        let len = MIN_POOLED + 12_345;
        let foreign = || FlexTensor::from_data(TensorData::new(vec![0.0f32; len], [len]));
        release(foreign());
        assert_eq!(idle(len), 0);
        let buffer = acquire(len);
        release(FlexTensor::from_data(TensorData::new(buffer, [len])));
        (0..5).for_each(|_| release(foreign()));
        assert_eq!(idle(len), 1);
        drop(acquire(len));
        assert_eq!(idle(len), 0);
    }
}

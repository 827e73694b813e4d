//! The memory of tensors that nobody reads any more, used again.
//!
//! A training step allocates the same tensors as the step before. Fresh memory of the system comes zeroed, page by page,
//! which costs about a tenth of a step; kernels overwrite every element, so that they need no zeros.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::backend::flex::FlexTensor;

/// Idle buffers by their length.
static IDLE: Mutex<BTreeMap<usize, Vec<Vec<f32>>>> = Mutex::new(BTreeMap::new());

/// Below this many elements the system's allocator is as quick.
const WORTHWHILE: usize = 1 << 13;

/// A buffer of `len` elements, whose values are arbitrary.
pub(super) fn take(len: usize) -> Vec<f32> {
    let idle = match len < WORTHWHILE {
        true => None,
        false => IDLE.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&len).and_then(Vec::pop),
    };
    idle.unwrap_or_else(|| vec![0.0; len])
}

/// Takes the memory of `tensor` back unless someone else holds it.
pub(super) fn give(tensor: FlexTensor) {
    let len = tensor.layout().num_elements();
    if len < WORTHWHILE || !tensor.is_unique() {
        return;
    }
    if let Ok(buffer) = tensor.into_data().try_into_vec() {
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).entry(len).or_default().push(buffer);
    }
}

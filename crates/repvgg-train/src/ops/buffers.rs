//! The memory of tensors that nobody reads any more, used again.
//!
//! A training step allocates the same tensors as the step before. Fresh memory of the system comes zeroed, page by page,
//! which costs about a tenth of a step; kernels overwrite every element, so that they need no zeros.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::backend::flex::FlexTensor;

/// The buffers of one length.
struct Shelf {
    idle: Vec<Vec<f32>>,
    /// How many were taken and not given back. The framework allocates tensors of its own that end here too; keeping those as
    /// well would grow the shelf with every step.
    lent: usize,
}

/// All buffers by their length.
static SHELVES: Mutex<BTreeMap<usize, Shelf>> = Mutex::new(BTreeMap::new());

/// Below this many elements the system's allocator is as quick.
const WORTHWHILE: usize = 1 << 13;

/// A buffer of `len` elements, whose values are arbitrary.
pub(super) fn take(len: usize) -> Vec<f32> {
    if len < WORTHWHILE {
        return vec![0.0; len];
    }
    let mut shelves = SHELVES.lock().unwrap_or_else(PoisonError::into_inner);
    let shelf = shelves.entry(len).or_insert(Shelf { idle: Vec::new(), lent: 0 });
    shelf.lent += 1;
    let idle = shelf.idle.pop();
    drop(shelves);
    idle.unwrap_or_else(|| vec![0.0; len])
}

/// Takes the memory of `tensor` back unless someone else holds it, or no buffer of its length is missing.
pub(super) fn give(tensor: FlexTensor) {
    let len = tensor.layout().num_elements();
    if len < WORTHWHILE || !tensor.is_unique() {
        return;
    }
    let Ok(buffer) = tensor.into_data().try_into_vec() else { return };
    let mut shelves = SHELVES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shelf) = shelves.get_mut(&len).filter(|shelf| shelf.lent > 0) {
        shelf.lent -= 1;
        shelf.idle.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn idle(len: usize) -> usize {
        SHELVES.lock().unwrap().get(&len).map_or(0, |shelf| shelf.idle.len())
    }

    #[test]
    fn only_as_many_buffers_are_kept_as_were_taken() {
        // A length that no other test uses.
        let len = WORTHWHILE + 12_345;
        let foreign = || FlexTensor::from_data(TensorData::new(vec![0.0f32; len], [len]));
        give(foreign());
        assert_eq!(idle(len), 0);
        let buffer = take(len);
        give(FlexTensor::from_data(TensorData::new(buffer, [len])));
        (0..5).for_each(|_| give(foreign()));
        assert_eq!(idle(len), 1);
        drop(take(len));
        assert_eq!(idle(len), 0);
    }
}

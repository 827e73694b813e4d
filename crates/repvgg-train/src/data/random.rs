//! Reproducible random streams. Each use has an independent stream of its own, so no result depends on the order of draws.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// The purpose of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The order of images in an epoch.
    Order,
    /// The augmentation of one image in one epoch.
    Augment,
    /// The choice of a class's validation images.
    Split,
    /// The content of a drawn training image.
    DrawTrain,
    /// The content of a drawn validation image.
    DrawValidation,
}

/// The stream of a seed, a purpose and two counters: ChaCha keyed by these four words.
pub(crate) fn stream(seed: u64, purpose: Purpose, major: u64, minor: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, major, minor]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// The generator that augments image `index` in `epoch`.
pub(crate) fn sample_rng(seed: u64, epoch: u64, index: usize) -> ChaCha8Rng {
    stream(seed, Purpose::Augment, epoch, index as u64)
}

/// The order in which `epoch` visits `len` images: a permutation of `0..len`.
pub(crate) fn epoch_order(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(&mut stream(seed, Purpose::Order, epoch, 0));
    order
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn streams_differ_in_every_word() {
        let first = |mut rng: ChaCha8Rng| rng.next_u64();
        let mut values = vec![
            first(stream(1, Purpose::Order, 2, 3)),
            first(stream(2, Purpose::Order, 2, 3)),
            first(stream(1, Purpose::Split, 2, 3)),
            first(stream(1, Purpose::Order, 3, 3)),
            first(stream(1, Purpose::Order, 2, 4)),
        ];
        assert_eq!(values[0], first(stream(1, Purpose::Order, 2, 3)));
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 5);
    }

    #[test]
    fn an_order_is_a_permutation() {
        let mut order = epoch_order(7, 0, 100);
        assert_eq!(order, epoch_order(7, 0, 100));
        assert_ne!(order, epoch_order(7, 1, 100));
        assert_ne!(order, epoch_order(8, 0, 100));
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..100));
        assert!(epoch_order(7, 0, 0).is_empty());
    }
}

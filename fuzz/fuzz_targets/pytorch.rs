//! Reads arbitrary bytes as a PyTorch checkpoint: returns, and produces no more elements than documented.
//!
//! `cargo +nightly fuzz run pytorch fuzz/corpus/pytorch fuzz/seeds/pytorch -- -rss_limit_mb=2048 -timeout=10`
//!
//! Streams from before PyTorch 1.6 have no checksums, so their mutations reach the pickle, the state dict and the tensors.
//! Archives exercise the container.

#![no_main]

use libfuzzer_sys::fuzz_target;
use repvgg::formats::{Stored, pytorch};

fuzz_target!(|bytes: &[u8]| {
    let Ok(state) = pytorch::read(bytes, None) else { return };
    assert!(pytorch::is_pytorch(bytes));
    let elements = |(_, stored): &(String, Stored)| match stored {
        Stored::Float(tensor) => tensor.data().len(),
        Stored::Other { .. } => 0,
    };
    assert!(state.tensors.iter().map(elements).sum::<usize>() <= 2 * bytes.len());
});

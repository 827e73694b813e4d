//! Reads arbitrary bytes as a model file: safetensors with this crate's metadata or any dialect's names, and the other kinds.
//!
//! A model that was read can be written, and reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repvgg::formats::{self, OpenOptions};

fuzz_target!(|bytes: &[u8]| {
    let Ok(opened) = formats::from_bytes(bytes.to_vec(), &OpenOptions::default()) else { return };
    let model = opened.model;
    let written = model.to_bytes().expect("a model that was read can be written");
    let again = formats::from_bytes(written, &OpenOptions::default()).expect("a model that was written can be read").model;
    assert_eq!(again.weights, model.weights);
    assert_eq!(again.to_architecture(), model.to_architecture());
});

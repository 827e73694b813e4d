//! Reads arbitrary bytes as a model file: safetensors with this crate's metadata or any dialect's names, and the other kinds.
//!
//! A model that was read can be written, and reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repvgg::formats;

fuzz_target!(|bytes: &[u8]| {
    let Ok((model, _)) = formats::from_bytes(bytes.to_vec(), None) else { return };
    let written = model.to_bytes().expect("a model that was read can be written");
    let (again, _) = formats::from_bytes(written, None).expect("a model that was written can be read");
    assert_eq!(again.weights, model.weights);
    assert_eq!(again.architecture(), model.architecture());
});

//! Any bytes as an ONNX file: an error or a network, no panic, in memory in proportion to the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = repvgg::formats::onnx::read(bytes.to_vec(), None);
});

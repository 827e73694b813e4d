//! Reads and fuses arbitrary bytes as an ONNX file: gives an error or a network without a panic, in memory proportional to the
//! file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = repvgg::formats::onnx::read(bytes.to_vec(), None);
    let _ = repvgg::formats::onnx::fuse(bytes.to_vec(), None, repvgg::formats::onnx::ExternalData::Keep, |_| {});
});

//! Decodes arbitrary bytes as an image file: gives an error or an image without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repvgg::image::{Orientation, read_bytes};

fuzz_target!(|bytes: &[u8]| {
    let _ = read_bytes(bytes, "image", Orientation::Upright);
});

//! ONNX files, in both directions.
//!
//! Writing gives the main output of a graph as standard operators with parameters under their own names. Reading takes
//! convolutional networks from anywhere: what an operator means is expressed in our own [`Op`](crate::Op)s, exactly or not
//! at all, so that a network that is read runs in the engine and can be fused.

mod proto;
mod read;
mod wire;
mod write;

pub use read::{Onnx, read};
pub use write::{Options, PREPROCESSING_OPSET, write};

/// Whether a file that begins with `bytes` is an ONNX model. The first few hundred bytes suffice.
pub fn is_onnx(bytes: &[u8]) -> bool {
    wire::is_onnx(bytes)
}

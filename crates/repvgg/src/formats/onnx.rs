//! ONNX files, read and written.
//!
//! Writing expresses a graph's main output in standard operators and keeps the names of its parameters. Reading accepts
//! convolutional networks from any exporter: each operator becomes an exact equivalent in [`Op`](crate::Op)s or is refused,
//! so the result runs in the engine and can be fused.
//!
//! [`fuse`] is for files that need not be readable as a whole: it fuses the linear parts between operators that it does not
//! know, and keeps those as they are, byte for byte.
//!
//! ```
//! use repvgg::formats::onnx;
//! use repvgg::zoo::RepVgg;
//! use repvgg::Model;
//!
//! # fn main() -> repvgg::Result<()> {
//! let small = RepVgg { depths: [1, 1, 1, 1], width: [0.1; 4], classes: 3, ..RepVgg::default() };
//! let model = Model::initialise(small.into(), 0)?.fuse()?;
//! let path = std::env::temp_dir().join(format!("repvgg-doctest-{}.onnx", std::process::id()));
//! onnx::write(&path, model.graph(), &model.weights, &onnx::WriteOptions::default())?;
//! let read = onnx::read(std::fs::read(&path).unwrap(), None)?;
//! assert_eq!(read.graph.parameters().count(), model.weights.len());
//! # std::fs::remove_file(&path).unwrap();
//! # Ok(())
//! # }
//! ```

mod fuse;
mod proto;
mod read;
mod wire;
mod write;

pub use fuse::{ExternalData, FileFusion, FileReport, fuse};
pub use read::{Onnx, Pixels, read};
pub use write::{PREPROCESSING_OPSET, WriteOptions, write};

/// Whether a file that begins with `bytes` is an ONNX model. The first few hundred bytes suffice.
pub fn is_onnx(bytes: &[u8]) -> bool {
    wire::is_onnx(bytes)
}

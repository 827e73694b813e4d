//! RepVGG: networks as data, exact fusion, inference.
//!
//! ```text
//! zoo::Architecture ──► Graph ──► fuse ──► Graph ──► engine ──► logits
//!                         │        │
//!                       cost     verify        Model = architecture + form + Weights + labels + preprocessing
//! ```
#![forbid(unsafe_code)]

pub mod check;
pub mod classify;
pub mod cost;
pub mod engine;
pub mod error;
pub mod file;
pub mod formats;
pub mod fuse;
pub mod graph;
pub mod image;
pub mod interpret;
mod model;
pub mod npy;
pub mod random;
mod tensor;
pub mod weights;
pub mod zoo;

pub use error::{Error, ErrorKind, Result};
#[doc(hidden)]
pub use formats as checkpoint;
#[doc(hidden)]
pub use formats::onnx;
pub use graph::{Graph, NodeId, Op};
pub use model::{Form, Model};
pub use tensor::{Precision, Tensor, element_count};
pub use weights::Weights;
pub use zoo::Specification;
#[doc(hidden)]
pub use zoo::Specification as Architecture;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

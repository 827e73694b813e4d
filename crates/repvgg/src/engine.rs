//! The CPU engine: runs a [`Program`](crate::program::Program) in f32 on a pool of threads.
//!
//! [`Prepared`] is a network with its packed weights, immutable and shared by [`Arc`](std::sync::Arc). A [`Session`] runs it on
//! batches of one image size. It holds memory for activations and no weights, and a run allocates nothing. Any number of
//! sessions share one [`ThreadPool`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use repvgg::engine::{BatchShape, Options, Prepared, Session, thread_pool};
//! use repvgg::{Model, Specification};
//!
//! # fn main() -> repvgg::Result<()> {
//! // A real program calls `Model::load("plain.safetensors".as_ref())?`.
//! let spec = "depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]\nclasses = 10";
//! let model = Model::initialise(Specification::from_toml(spec, "tiny")?, 0)?.fuse()?;
//!
//! let pool = thread_pool(2)?;
//! let prepared = Arc::new(Prepared::new(model.graph(), &model.weights, Options::default())?);
//! let mut session = Session::new(&prepared, &pool, BatchShape { batch: 8, size: [64, 64] })?;
//!
//! // Any number of images up to the batch: `[N, C, H, W]` to `[N, K]`.
//! let images = vec![0.5; 2 * 3 * 64 * 64];
//! let mut logits = vec![0.0; 2 * 10];
//! session.run(&images, &mut logits)?;
//!
//! // A session of the same shape packs nothing.
//! let packed = prepared.packed_bytes();
//! let second = Session::new(&prepared, &pool, BatchShape { batch: 8, size: [64, 64] })?;
//! assert_eq!(prepared.packed_bytes(), packed);
//! # Ok(())
//! # }
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `options` | the caller's choices: instruction set, accuracy, memory, sharing; the shape of a batch |
//! | `prepared`, `parameters` | the program and its weights, folded in f64 and packed once |
//! | `session`, `step` | steps bound to memory for one shape; the run |
//! | `placement`, `memory` | the arena: where values are stored, in blocks of channels |
//! | `choice`, `tune` | the algorithm of each convolution, estimated or measured |
//!
//! Results are bit-equal for any number of threads and do not depend on the other images of a batch.

mod choice;
mod memory;
mod options;
mod parameters;
mod placement;
mod prepared;
mod session;
mod step;
mod tune;

pub use choice::{Choice, Reason};
pub use options::{BatchShape, Engine, Options, Sharing, thread_pool};
pub use prepared::Prepared;
pub use repvgg_kernels::{Accuracy, Algorithm, Estimate, Level, ThreadPool, fma_peak};
pub use session::{Layer, Session};
pub use tune::Tuning;

//! RepVGG networks in Rust: built from data, fused exactly, checked, and run by a fast CPU engine.
//!
//! A [RepVGG](https://arxiv.org/abs/2101.03697) block is trained as `y = ReLU(BN(conv3×3(x)) + BN(conv1×1(x)) + BN(x))`. Everything
//! before the ReLU is linear, so exact algebra turns it into one convolution, `y = ReLU(conv3×3(x) + b)`: the same function,
//! to rounding. On a plain chain of 3×3 convolutions, Winograd's minimal filtering beats the processor's own multiply limit.
//!
//! # From an image file to a label
//!
//! ```no_run
//! use repvgg::Model;
//! use repvgg::classify::Classifier;
//!
//! fn main() -> repvgg::Result<()> {
//!     let model = Model::load("plain.safetensors".as_ref())?;
//!     let mut classifier = Classifier::new(&model)?;
//!     for prediction in classifier.classify_file("photo.jpg", 5)? {
//!         println!("{:6.2} %  {}", 100.0 * prediction.probability, prediction.label);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`Model::load`] reads safetensors, PyTorch checkpoints and ONNX, in training or plain form; it recognises a file by its
//! content. A [`Classifier`](classify::Classifier) fuses a training form first, prepares images as the network saw them in
//! training, and ranks the classes.
//!
//! # From branches to a plain network
//!
//! This program needs no files. It builds a network, fuses it, checks that the function did not change, and classifies an
//! image that it draws.
//!
//! ```
//! use repvgg::classify::Classifier;
//! use repvgg::image::RgbImage;
//! use repvgg::{Model, Specification, check};
//!
//! fn main() -> repvgg::Result<()> {
//!     let spec = "depths = [1, 2, 2, 1]\nwidth = [0.25, 0.25, 0.25, 0.25]\nclasses = 2";
//!     let mut training = Model::initialise(Specification::from_toml(spec, "small")?, 0)?;
//!     training.labels = vec!["cat".to_owned(), "dog".to_owned()];
//!
//!     // Every block and the whole network are compared with the branches in double precision.
//!     let checked = check::fuse(&training, check::image_size(&training), |_| ())?;
//!     println!("{} blocks fused, the worst error is {:.2} of its bound", checked.report.regions.len(), checked.report.worst_error());
//!     let plain = checked.accept()?;
//!
//!     let image = RgbImage::from_fn(320, 240, |x, y| [(x / 2) as u8, 100, y as u8].into());
//!     let predictions = Classifier::new(&plain)?.classify(&image, 2)?;
//!     println!("{}: {:.0} %", predictions[0].label, 100.0 * predictions[0].probability);
//!     assert!(predictions[0].probability >= 0.5);
//!     Ok(())
//! }
//! ```
//!
//! # Map
//!
//! A network is data: a [`Graph`] of nodes in topological order, and [`Weights`] under PyTorch's own parameter names. Everything
//! else folds or rewrites these two.
//!
//! ```text
//! zoo::Specification ─► Graph ──► fuse ──► Graph ──► engine ──► logits
//!                         │        │
//!                       cost     check       Model = Weights + graph + labels + preprocessing
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`zoo`] | the networks: every RepVGG, the paper's baselines, and your own from a short file |
//! | [`graph`] | nodes and operations: build any network |
//! | [`algebra`] | the algebra of linear layers behind fusion |
//! | [`fuse`] | turns every linear region into one convolution, in double precision, and names what cannot be fused |
//! | [`check`] | proves a fusion; compares two models |
//! | [`classify`] | images to ranked class names |
//! | [`program`] | what a machine must do to compute a graph: steps, values, places |
//! | [`engine`] | the CPU engine: Winograd and direct convolution, chosen per layer, explained, tuned |
//! | [`measure`] | speed and memory, measured so that figures are comparable |
//! | [`cost`](mod@cost) | parameters, multiply-adds, memory access, activation memory |
//! | [`formats`], [`npy`] | model files of every kind, read and written; NumPy arrays |
//! | [`image`] | decoding, resizing, cropping, normalising, as torchvision and timm do |
//! | [`interpret`] | the oracle: every node's value in double precision |
//! | [`mod@file`], [`random`] | files written atomically; reproducible random numbers |
//!
//! Errors are data: an [`Error`] states its kind, its place, what was expected and what was found. Results of the engine are
//! bit-equal for any number of threads.
//!
//! # Beyond this crate
//!
//! * `repvgg-hub` opens a model by any name, including a repository `hf:OWNER/NAME`, and downloads missing files.
//! * `repvgg-train` trains, fine-tunes and evaluates, on the CPU or on a GPU through a framework.
//! * `repvgg-kernels` contains the convolutions and knows nothing of networks.
//! * `repvgg-cli` is the command line: `repvgg demo` runs every step on images that it draws.
//!
//! The folder `examples` of each crate contains a program for each task: `cargo run --release --example classify`.
#![forbid(unsafe_code)]

pub mod algebra;
pub mod check;
pub mod classify;
pub mod cost;
pub mod engine;
pub mod error;
pub(crate) mod fence;
pub mod file;
pub mod formats;
pub mod fuse;
pub mod graph;
pub mod image;
pub mod interpret;
pub mod measure;
mod model;
pub mod npy;
pub mod program;
pub mod random;
mod tensor;
pub mod weights;
pub mod zoo;

pub use error::{Error, ErrorKind, Result};
pub use graph::{Graph, NodeId, Op};
pub use model::{Form, Model};
pub use tensor::{Precision, Tensor, element_count};
pub use weights::Weights;
pub use zoo::Specification;

//! Training RepVGG networks: data, augmentation, recipes, the loop, and the graph on the training framework.
//!
//! ```text
//! data::open ─► Loader ─► Network::step (forward, loss, backward, SGD) ─► Run: state, metrics, best and last model
//! ```
#![forbid(unsafe_code)]

pub mod ablation;
pub mod augment;
pub mod curves;
pub mod data;
mod device;
pub mod evaluate;
pub mod measure;
mod network;
mod ops;
mod optimizer;
pub mod recipe;
pub mod run;
mod transfer;

pub use curves::EpochMetrics;
pub use device::Device;
pub use network::{Batch, LossSettings, Network, StepReport};
pub use optimizer::{Decayed, Sgd, SgdSettings};
pub use transfer::transfer;

//! Training RepVGG networks: data, augmentation, recipes, the training loop, and graphs run on the training framework.
//!
//! ```text
//! data::open ─► Loader ─► Network::step (forward, loss, backward, SGD) ─► Run: state, metrics, best and last model
//! ```
//!
//! A [`Setup`](run::Setup) describes a run, and the run stores everything in its folder:
//!
//! ```no_run
//! use repvgg_train::recipe::Preset;
//! use repvgg_train::run::{Control, Event, Setup};
//!
//! # fn main() -> repvgg::Result<()> {
//! let mut run = Setup::new("photos/", Preset::named("quick")?).start("run".as_ref())?;
//! run.train(|event| {
//!     if let Event::Epoch(metrics) = event {
//!         println!("epoch {}: loss {:.3}", metrics.epoch, metrics.train_loss);
//!     }
//!     Control::Continue
//! })?;
//! run.model()?.fuse()?.save("plain.safetensors".as_ref())?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Setup::fine_tune`](run::Setup::fine_tune) starts from another model's weights. [`evaluate`](mod@evaluate) measures a model's
//! accuracy on labelled images, [`ablation`] trains one network with several kinds of block, and [`measure`] times inference on any
//! device.
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
pub mod record;
pub mod run;
mod tensors;
mod transfer;

pub use curves::EpochMetrics;
pub use device::Device;
pub use network::{Batch, LossSettings, Network, StepReport};
pub use optimizer::{Decayed, Sgd, SgdSettings};
pub use transfer::transfer;

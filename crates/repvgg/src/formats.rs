//! Model files of every kind, read and written. The content identifies the format, never the extension.
//!
//! ```text
//! bytes ──► tensors, document ──────────────► described by the document ────────────────────────► Model
//!           safetensors, pytorch, onnx   └──► official names ──► inferred from names and shapes ──┘
//!                                             dialect            zoo
//! ```
//!
//! Reading is strict: every tensor of a file is used exactly once, or the file is refused with the names that do not fit.
//! Nothing in a file is ever executed.
//!
//! ```
//! use repvgg::zoo::RepVgg;
//! use repvgg::{Model, formats};
//!
//! # fn main() -> repvgg::Result<()> {
//! let small = RepVgg { depths: [1, 1, 1, 1], width: [0.1; 4], classes: 3, ..RepVgg::default() };
//! let bytes = Model::initialise(small.clone().into(), 0)?.to_bytes()?;
//! let opened = formats::from_bytes(bytes, &formats::OpenOptions::default())?;
//! assert_eq!(opened.origin.container, formats::Container::Safetensors);
//! assert_eq!(opened.model.specification(), Some(&small.into()));
//! # Ok(())
//! # }
//! ```

pub mod blocks;
mod claim;
pub mod dialect;
mod document;
mod foreign;
pub mod hub_config;
mod names;
pub mod onnx;
mod open;
mod prefix;
pub mod pytorch;
pub mod safetensors;
mod stored;

pub use dialect::Dialect;
pub use document::save;
pub use hub_config::HubConfig;
pub use open::{Container, OpenOptions, Opened, Origin, from_bytes, open};
pub use stored::Stored;

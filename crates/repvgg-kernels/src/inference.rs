//! Inference: weights are packed once; each run only reads them and allocates nothing.

mod algorithm;
mod conv;
mod depthwise;
mod direct;
mod epilogue;
mod estimate;
pub mod maps;
mod packing;
mod spec;
mod winograd;

pub use algorithm::{Algorithm, TileSize, UnknownAlgorithm};
pub use conv::{Activation, ConvPlan, PackedConv2d, Parameters, Pass};
pub use estimate::{Accuracy, Estimate, Machine};
pub use packing::Packing;
pub use spec::{ConvSpec, Layout, Site};

pub(crate) use epilogue::{Addend, Arguments, Epilogue};

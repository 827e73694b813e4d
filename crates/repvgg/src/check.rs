//! Proof that two networks compute the same function.
//!
//! * [`fuse`] fuses a model and compares the result with the training form, region by region and as a whole.
//! * [`compare`] compares two models of any kind and form: logits, first choices and, if the graphs correspond, each part.
//! * [`verify`] is the check behind [`fuse`], for a graph and its weights without a model.
//!
//! ```
//! use repvgg::{Model, Specification, check};
//!
//! # fn main() -> repvgg::Result<()> {
//! let architecture = Specification::from_toml("depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]", "tiny")?;
//! let training = Model::initialise(architecture, 0)?;
//! let plain = check::fuse(&training, check::image_size(&training), |_| ())?.accept()?;
//!
//! let inputs = check::Inputs::Random { images: 2, size: [32, 32] };
//! let comparison = check::compare([&training, &plain], &inputs, 1, |_| ())?;
//! assert!(comparison.logits.relative_difference() < 1e-5);
//! assert!(matches!(comparison.parts, check::Parts::Regions(_)));
//! # Ok(())
//! # }
//! ```

mod comparison;
mod fusion;

pub use comparison::{Comparison, Inputs, LayerDifference, LogitComparison, Parts, Progress, compare, compare_parts};
pub use fusion::{CheckedFusion, FusionReport, NETWORK_TOLERANCE, RegionProgress, RegionReport, fuse, verify};

use crate::Model;

/// The size `[H, W]` of the random images on which [`fuse`] and [`compare`] run a whole network in double precision: 64
/// where the network accepts it, otherwise the network's own size.
pub fn image_size(model: &Model) -> [usize; 2] {
    const SMALL: [usize; 2] = [64; 2];
    if model.graph().shapes(SMALL).is_ok() { SMALL } else { model.preprocessing.size }
}

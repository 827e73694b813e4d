//! What tests of several crates share.
//!
//! A check that cannot run here (an instruction set that the processor lacks, golden files that are absent) is skipped in
//! one place, [`skip`], which fails where the check is required:
//!
//! | variable | effect |
//! |---|---|
//! | `REQUIRE_LEVELS=avx2,avx512` | a listed instruction set that the processor lacks fails the test |
//! | `REQUIRE_GOLDENS=1` | absent golden checkpoints fail the test |
//! | `SKIPPED_CHECKS=FILE` | every skipped check is appended to this file, one line each |
//! | `REPVGG_GOLDENS=FOLDER` | where the golden checkpoints are; the default is `../shared/goldens` beside the repository |
#![forbid(unsafe_code)]

mod binary;
mod goldens;
mod levels;
pub mod loopback;
mod random;
mod skip;

pub use binary::Binary;
pub use goldens::goldens;
pub use levels::available_levels;
pub use random::{noise, positive_weights, random_weights};
pub use skip::skip;

/// The programs in the README and in docs/ compile.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../docs/programs.md")]
    mod programs {}
}

//! Helpers that the tests of several crates share.
//!
//! A check that cannot run on this machine, because the processor lacks an instruction set or golden files are absent, calls
//! [`skip`], or fails if it is required:
//!
//! | variable | effect |
//! |---|---|
//! | `REQUIRE_LEVELS=avx2,avx512` | the test fails if the processor lacks a listed instruction set |
//! | `REQUIRE_GOLDENS=1` | the test fails if golden checkpoints are absent |
//! | `SKIPPED_CHECKS=FILE` | each skipped check appends a line to this file |
//! | `REPVGG_GOLDENS=FOLDER` | the folder of golden checkpoints; the default is `../shared/goldens`, next to the repository |
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

/// Compiles the programs in the README and in docs/.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../docs/programs.md")]
    mod programs {}
}

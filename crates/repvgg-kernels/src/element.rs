//! The numbers that maps and weights are made of.

use std::fmt::Debug;

/// A number of a map or of packed weights.
///
/// Sealed, since buffers are made of zeroed pages: its zero is all bits zero, and any bits are a value of it.
pub trait Element: sealed::Sealed + Copy + Default + Debug + PartialEq + Send + Sync + 'static {}

impl Element for f32 {}

mod sealed {
    pub trait Sealed {}

    impl Sealed for f32 {}
}

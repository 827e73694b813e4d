//! The element types of maps and weights.

use std::fmt::Debug;

/// An element of a map or of packed weights.
///
/// Sealed, because buffers are zeroed pages: every bit pattern must be a valid value, and all bits zero must be zero.
pub trait Element: sealed::Sealed + Copy + Default + Debug + PartialEq + Send + Sync + 'static {}

impl Element for f32 {}

mod sealed {
    pub trait Sealed {}

    impl Sealed for f32 {}
}

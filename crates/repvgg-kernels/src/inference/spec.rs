//! What a convolution is applied to: its geometry, the layout of its input, and its images.

use crate::Geometry;

/// The kind of a convolution: its geometry and the layout of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSpec {
    /// Channels, kernel, stride, padding, dilation and groups.
    pub geometry: Geometry,
    /// The layout of the input. The output is always blocked.
    pub layout: Layout,
}

/// The memory layout of a convolution's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[N, C, H, W]`, the usual layout of images.
    Planar,
    /// `[N, ⌈C/L⌉, H, W, L]` ([`crate::Blocked`]).
    Blocked,
}

/// The images that a convolution is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site {
    /// The largest number of images in one run.
    pub batch: usize,
    /// `[H, W]` of the input.
    pub size: [usize; 2],
}

//! Values of the file, and what their axes are.

use std::rc::Rc;

use super::{Constant, proto};
use crate::Error;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Value<'m> {
    /// Computed from the input.
    Data(Data),
    Constant(Rc<Constant>),
    /// A constant that nothing has read yet.
    Initializer(&'m proto::Tensor),
    /// The output of a node that could not be read.
    Failed(Error),
}

/// The value of a draft as the file sees it.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) draft: usize,
    /// What each axis of the file's array is.
    pub(super) axes: Vec<Axis>,
    /// Zeros that the reader is to add around the maps: above and below, left and right.
    pub(super) padding: [[usize; 2]; 2],
    /// Whether nothing else reads the draft's value, so that a reader may change the draft.
    pub(super) is_exclusive: bool,
}

/// An axis of an array of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Batch,
    Channel,
    Height,
    Width,
    /// The groups of channels, of this number.
    Group(usize),
    /// The channels of each of so many groups.
    OfGroup(usize),
    /// Height and width in one.
    Pixels,
    /// The features of a map `[C, H, W]` that was flattened in the order of `[H, W, C]`.
    Interleaved([usize; 3]),
    /// An axis of extent 1 that was added.
    One,
}

/// The axes of images and maps.
pub(super) const NCHW: [Axis; 4] = [Axis::Batch, Axis::Channel, Axis::Height, Axis::Width];

impl Data {
    pub(super) fn new(draft: usize, axes: impl Into<Vec<Axis>>) -> Self {
        Self { draft, axes: axes.into(), padding: [[0; 2]; 2], is_exclusive: true }
    }

    /// The same value with other axes.
    pub(super) fn seen_as(self, axes: impl Into<Vec<Axis>>) -> Self {
        Self { axes: axes.into(), ..self }
    }

    /// Whether the axes are those of `[N, C, H, W]`; an added axis stands for any that is not there.
    pub(super) fn is_nchw(&self) -> bool {
        let fits = |(axis, expected): (&Axis, &Axis)| axis == expected || *axis == Axis::One;
        self.axes.len() == 4 && self.axes[0] == Axis::Batch && self.axes.iter().zip(&NCHW).all(fits)
    }

    /// Whether the axes line up with those of `other`, so that elements meet as they do in our values.
    pub(super) fn aligns_with(&self, other: &Self) -> bool {
        let meet = |(a, b): (&Axis, &Axis)| a == b || *a == Axis::One || *b == Axis::One;
        self.axes.len() == other.axes.len() && self.axes.iter().zip(&other.axes).all(meet)
    }
}

//! Values of the file, and what their axes are.

use std::rc::Rc;

use super::{Constant, proto};
use crate::Error;

/// The meaning of a value's name.
#[derive(Debug, Clone)]
pub(super) enum Value<'m> {
    /// Computed from the input.
    Data(Data),
    Constant(Rc<Constant>),
    /// A constant that has not been decoded yet.
    Initializer(&'m proto::Tensor),
    /// The output of a node that could not be read.
    Failed(Error),
}

/// The value of a draft with the file's axes.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) draft: usize,
    /// What each axis of the file's array is.
    pub(super) axes: Vec<Axis>,
    /// Pending padding, which the reader applies: above and below, left and right.
    pub(super) padding: [[usize; 2]; 2],
    /// Whether the draft's value has no other reader, so that a reader may modify the draft.
    pub(super) is_exclusive: bool,
}

/// An axis of an array of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Batch,
    Channel,
    Height,
    Width,
    /// This number of channel groups.
    Group(usize),
    /// The channels within each of this number of groups.
    OfGroup(usize),
    /// Height and width flattened.
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

    /// Whether the axes are those of `[N, C, H, W]`; an added axis of extent 1 matches any of them.
    pub(super) fn is_nchw(&self) -> bool {
        let fits = |(axis, expected): (&Axis, &Axis)| axis == expected || *axis == Axis::One;
        self.axes.len() == 4 && self.axes[0] == Axis::Batch && self.axes.iter().zip(&NCHW).all(fits)
    }

    /// Whether the axes line up with those of `other`, so that broadcasting agrees with ours.
    pub(super) fn aligns_with(&self, other: &Self) -> bool {
        let meet = |(a, b): (&Axis, &Axis)| a == b || *a == Axis::One || *b == Axis::One;
        self.axes.len() == other.axes.len() && self.axes.iter().zip(&other.axes).all(meet)
    }
}

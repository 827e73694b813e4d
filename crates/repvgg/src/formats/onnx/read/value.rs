//! Values of the file, and the meaning of their axes.

use std::rc::Rc;

use super::{Constant, proto};
use crate::Error;

/// The meaning of a value's name: what the file binds it to.
#[derive(Debug, Clone)]
pub(super) enum Binding<'m> {
    /// Computed from the input.
    Data(Data),
    Constant(Rc<Constant>),
    /// A list of values, from `SplitToSequence`.
    Sequence(Rc<Vec<Data>>),
    /// A constant that has not been decoded yet.
    Initializer(&'m proto::Tensor),
    /// The output of a node that could not be read.
    Failed(Error),
}

/// The value of a draft, with the axes of the file.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) draft: usize,
    /// The meaning of each axis of the file's array.
    pub(super) axes: Vec<Axis>,
    /// Pending padding, for the next node to apply: above and below, then left and right.
    pub(super) padding: [[usize; 2]; 2],
    /// Whether the draft has a single reader, which may then modify it.
    pub(super) is_exclusive: bool,
}

/// An axis of an array of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Batch,
    Channel,
    Height,
    Width,
    /// The groups of channels, and their number.
    Group(usize),
    /// The channels within a group, and the number of groups.
    WithinGroup(usize),
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
    pub(super) fn with_axes(self, axes: impl Into<Vec<Axis>>) -> Self {
        Self { axes: axes.into(), ..self }
    }

    /// Whether the axes are those of `[N, C, H, W]`; an added axis of extent 1 matches any of them.
    pub(super) fn is_nchw(&self) -> bool {
        let fits = |(axis, expected): (&Axis, &Axis)| axis == expected || *axis == Axis::One;
        self.axes.len() == 4 && self.axes[0] == Axis::Batch && self.axes.iter().zip(&NCHW).all(fits)
    }

    /// Whether the axes line up with those of `other`, so that ONNX broadcasts as the graph does.
    pub(super) fn aligns_with(&self, other: &Self) -> bool {
        let meet = |(a, b): (&Axis, &Axis)| a == b || *a == Axis::One || *b == Axis::One;
        self.axes.len() == other.axes.len() && self.axes.iter().zip(&other.axes).all(meet)
    }
}

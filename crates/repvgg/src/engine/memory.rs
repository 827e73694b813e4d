//! The memory that a step reads and writes.
//!
//! Values are stored in the arena in blocks of channels, `[N, ⌈C/L⌉, H, W, L]` ([`Blocked`]). The caller's images
//! `[N, C, H, W]` may be read in place.

use repvgg_kernels::Blocked;
use repvgg_kernels::maps::Map;

use crate::graph::Shape;

/// The location of a value, and its shape for one image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) source: Source,
    pub(super) shape: Shape,
    /// Channels of a block.
    pub(super) lanes: usize,
}

/// The location of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The caller's images, `[N, C, H, W]`.
    Caller,
    /// The arena, starting at this element, in blocks of channels.
    Arena(usize),
}

impl Slot {
    /// The layout in blocks of a batch of `images`.
    pub(super) fn layout(self, images: usize) -> Blocked {
        let [channels, height, width] = self.shape;
        Blocked { shape: [images, channels, height, width], lanes: self.lanes }
    }

    /// Elements of memory for `images`.
    fn len(self, images: usize) -> usize {
        match self.source {
            Source::Caller => images * self.shape.iter().product::<usize>(),
            Source::Arena(_) => self.layout(images).len(),
        }
    }
}

/// Everything that a step may read: the caller's images, and the arena before and after the step's output.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    input: &'a [f32],
    before: &'a [f32],
    after: &'a [f32],
    /// The arena index at which `after` starts.
    gap_end: usize,
    images: usize,
}

impl<'a> Values<'a> {
    /// Splits the arena into a step's output and everything else.
    pub(super) fn split(input: &'a [f32], arena: &'a mut [f32], images: usize, output: Slot) -> (Self, &'a mut [f32]) {
        let Source::Arena(offset) = output.source else { unreachable!("no step writes the caller's images") };
        let len = output.len(images);
        let (before, rest) = arena.split_at_mut(offset);
        let (output, after) = rest.split_at_mut(len);
        (Self { input, before, gap_end: offset + len, after, images }, output)
    }

    /// The whole arena, for reading.
    pub(super) fn all(input: &'a [f32], arena: &'a [f32], images: usize) -> Self {
        Self { input, before: arena, after: &[], gap_end: arena.len(), images }
    }

    /// The value in `slot`, in blocks.
    pub(super) fn map(&self, slot: Slot) -> Map<'a> {
        Map::new(self.data(slot), slot.layout(self.images))
    }

    /// The elements of the value in `slot`.
    pub(super) fn data(&self, slot: Slot) -> &'a [f32] {
        let memory = match slot.source {
            Source::Caller => self.input,
            Source::Arena(offset) if offset < self.before.len() => &self.before[offset..],
            Source::Arena(offset) => &self.after[offset - self.gap_end..],
        };
        &memory[..slot.len(self.images)]
    }
}

//! The memory of values, as steps see it.
//!
//! Values lie in blocks of channels, `[N, ⌈C/L⌉, H, W, L]` ([`Blocked`]), in the arena; the caller's images may stay where they
//! are, `[N, C, H, W]`.

use repvgg_kernels::Blocked;
use repvgg_kernels::maps::Map;

use crate::graph::Shape;

/// Where a value lies, and its shape for one image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) source: Source,
    pub(super) shape: Shape,
    /// Channels of a block.
    pub(super) lanes: usize,
}

/// The memory that a value lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The caller's images, `[N, C, H, W]`.
    Caller,
    /// The arena, from this element on, in blocks of channels.
    Arena(usize),
}

impl Slot {
    /// The layout in blocks for some images.
    pub(super) fn layout(self, images: usize) -> Blocked {
        let [channels, height, width] = self.shape;
        Blocked { shape: [images, channels, height, width], lanes: self.lanes }
    }

    /// Elements of memory for some images.
    fn len(self, images: usize) -> usize {
        match self.source {
            Source::Caller => images * self.shape.iter().product::<usize>(),
            Source::Arena(_) => self.layout(images).len(),
        }
    }
}

/// All that a step may read: the caller's images, and the arena around what the step writes.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    input: &'a [f32],
    before: &'a [f32],
    after: &'a [f32],
    /// Where `after` begins in the arena.
    gap_end: usize,
    images: usize,
}

impl<'a> Values<'a> {
    /// Separates what a step writes from all else.
    pub(super) fn split(input: &'a [f32], arena: &'a mut [f32], images: usize, output: Slot) -> (Self, &'a mut [f32]) {
        let Source::Arena(offset) = output.source else { unreachable!("no step writes the caller's images") };
        let len = output.len(images);
        let (before, rest) = arena.split_at_mut(offset);
        let (output, after) = rest.split_at_mut(len);
        (Self { input, before, gap_end: offset + len, after, images }, output)
    }

    /// Everything, when no step writes.
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

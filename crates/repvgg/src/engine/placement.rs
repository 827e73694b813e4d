//! A program for images of one size: which steps run, and where the engine puts each value.

use repvgg_kernels::Blocked;

use super::kernel::{Slot, Source};
use crate::Result;
use crate::graph::Shape;
use crate::program::{Operation, Place, Program, Room, Step, ValueId};

/// The most channels of images that a convolution reads as the caller holds them; more are packed in blocks first.
const PLANAR_CHANNELS: usize = 4;

/// Shapes and places of the values of a program.
pub(super) struct Placement {
    /// For each value, where it lies.
    pub(super) slots: Vec<Slot>,
    /// The indices of the steps that run: all but those whose output is their input.
    pub(super) steps: Vec<usize>,
    /// Elements of the arena.
    pub(super) arena: u64,
}

impl Placement {
    /// Places the values of `program` for up to `batch` images of `size`, in blocks of `lanes` channels.
    ///
    /// # Errors
    /// When the graph cannot take images of this size.
    pub(super) fn new(program: &Program, batch: usize, size: [usize; 2], lanes: usize) -> Result<Self> {
        let shapes = program.graph().shapes(size)?;
        let shape = |value: ValueId| shapes[program.node_of(value).index()];
        let is_alias = |step: &Step| is_alias(step, shape(step.inputs[0]));
        let aliases: Vec<ValueId> =
            program.steps().iter().filter(|step| is_alias(step)).map(|step| step.output).collect();
        let blocks_images = reads_blocks(program, &aliases, shape(program.input())[0]);
        let len = |value| {
            let [channels, height, width] = shape(value).map(|extent| extent as u64);
            let extents = [batch as u64, channels.next_multiple_of(lanes as u64), height, width];
            extents.into_iter().fold(size_of::<f32>() as u64, u64::saturating_mul)
        };
        let places = program.places(|value| match value {
            value if aliases.contains(&value) => Room::SameAsInput,
            value if value == program.input() && !blocks_images => Room::Caller,
            value => Room::Arena(len(value)),
        });
        let slot = |(place, value): (&Place, &crate::program::Value)| {
            let source = match *place {
                Place::Caller => Source::Caller,
                Place::Arena(offset) => Source::Arena(offset as usize / size_of::<f32>()),
            };
            Slot { source, shape: shapes[value.node().index()], lanes }
        };
        let runs = |(_, step): &(usize, &Step)| !is_alias(step);
        Ok(Self {
            slots: places.of.iter().zip(program.values()).map(slot).collect(),
            steps: program.steps().iter().enumerate().filter(runs).map(|(index, _)| index).collect(),
            arena: places.len.div_ceil(size_of::<f32>() as u64),
        })
    }
}

/// Whether a step's value is that of its input in blocks too: flattening a map of one pixel changes nothing.
fn is_alias(step: &Step, [_, height, width]: Shape) -> bool {
    step.operation == Operation::Flatten && [height, width] == [1, 1]
}

/// Whether some step has to read the images in blocks.
fn reads_blocks(program: &Program, aliases: &[ValueId], channels: usize) -> bool {
    let mut images = vec![program.input()];
    for step in program.steps() {
        if aliases.contains(&step.output) && images.contains(&step.inputs[0]) {
            images.push(step.output);
        }
    }
    let is_image = |value: &ValueId| images.contains(value);
    let reads_blocks = |step: &Step| {
        let is_planar = matches!(step.operation, Operation::Convolution(_)) && channels <= PLANAR_CHANNELS;
        !is_image(&step.output)
            && step.inputs.iter().any(is_image)
            && (!is_planar || step.inputs[1..].iter().any(is_image))
    };
    program.steps().iter().any(reads_blocks)
}

impl Slot {
    /// The layout in blocks for some images.
    pub(super) fn layout(self, images: usize) -> Blocked {
        let [channels, height, width] = self.shape;
        Blocked { shape: [images, channels, height, width], lanes: self.lanes }
    }
}

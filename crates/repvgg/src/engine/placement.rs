//! A program for one image size: the steps that run, and the location of each value.

use repvgg_kernels::{ConvSpec, Layout, Site};

use super::BatchShape;
use super::choice::ConvSite;
use super::memory::{Slot, Source};
use crate::Result;
use crate::graph::Shape;
use crate::program::{Operation, Place, Program, Room, Step, ValueId};

/// Images of up to this many channels are read by convolutions in place; others are packed in blocks first.
const PLANAR_CHANNELS: usize = 4;

/// Shapes and locations of the values of a program.
pub(super) struct Placement {
    /// The location of each value.
    pub(super) slots: Vec<Slot>,
    /// The indices of the steps that run: all except those whose output is identical to their input.
    pub(super) steps: Vec<usize>,
    /// Elements of the arena.
    pub(super) arena: u64,
}

impl Placement {
    /// Places the values of `program` for images of this shape, in blocks of `lanes` channels.
    ///
    /// # Errors
    /// When the graph cannot take images of this size.
    pub(super) fn new(program: &Program, shape: BatchShape, lanes: usize) -> Result<Self> {
        let BatchShape { batch, size } = shape;
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

    /// The location of the packed images, if some step reads images in blocks.
    pub(super) fn blocks(&self, program: &Program) -> Option<Slot> {
        Some(self.slots[program.input().index()]).filter(|slot| slot.source != Source::Caller)
    }

    /// The convolutions of the steps, in order, for `batch` images.
    pub(super) fn convolutions(&self, program: &Program, batch: usize) -> impl Iterator<Item = ConvSite> {
        self.steps.iter().filter_map(move |&index| {
            let Step { operation: Operation::Convolution(convolution), inputs, .. } = &program.steps()[index] else {
                return None;
            };
            let Slot { source, shape: [_, height, width], .. } = self.slots[inputs[0].index()];
            let layout = if source == Source::Caller { Layout::Planar } else { Layout::Blocked };
            let spec = ConvSpec { geometry: convolution.geometry, layout };
            Some(ConvSite { spec, site: Site { batch, size: [height, width] } })
        })
    }
}

/// Whether a step's output is identical to its input in memory: flattening a one-pixel map changes nothing.
fn is_alias(step: &Step, [_, height, width]: Shape) -> bool {
    step.operation == Operation::Flatten && [height, width] == [1, 1]
}

/// Whether some step must read the images in blocks.
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

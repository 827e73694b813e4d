//! What a step computes, and the memory it sees.
//!
//! Values lie in blocks of channels, `[N, ⌈C/L⌉, H, W, L]` ([`repvgg_kernels::Blocked`]); only the caller's images do not. What is computed
//! with them is `repvgg-kernels`'s.

use repvgg_kernels::maps::{self, Cpu, Divisor, Map, MapMut, Pointwise, PoolWindow, SoftmaxForm, Term};
use repvgg_kernels::{ConvPlan, Level, PackedConv2d, Pass, ThreadPool};

use super::parameters::Affine;
use crate::graph::{ActivationKind, Pool, Shape, Softmax};
use crate::program::Operation;

/// What the engine adds to a step.
pub(super) enum Constants {
    /// Nothing.
    None,
    /// A convolution with packed weights.
    Convolution { packed: Box<PackedConv2d>, plan: Box<ConvPlan> },
    /// The terms' factors and shifts, padded to whole blocks.
    Affines(Vec<Option<Affine>>),
    /// For each channel, which of the input's it is.
    Channels(Vec<usize>),
}

impl Constants {
    /// Bytes of its weights.
    pub(super) fn packed_bytes(&self) -> usize {
        match self {
            Self::Convolution { packed, .. } => packed.bytes(),
            Self::Affines(affines) => {
                affines.iter().flatten().map(|affine| size_of_val(&*affine.scale) + size_of_val(&*affine.shift)).sum()
            }
            Self::None | Self::Channels(_) => 0,
        }
    }

    /// Elements of workspace that a run needs.
    pub(super) fn workspace_len(&self) -> usize {
        if let Self::Convolution { plan, .. } = self { plan.workspace_len() } else { 0 }
    }
}

/// Where a value lies, and its shape for one image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) source: Source,
    pub(super) shape: Shape,
    /// Channels of a block.
    pub(super) lanes: usize,
}

/// The memory a value lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The caller's images, `[N, C, H, W]`.
    Caller,
    /// The arena, from this element on, in blocks of channels.
    Arena(usize),
}

impl Slot {
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
    /// Parts `output` from all else.
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

/// One run of one step.
pub(super) struct Call<'a> {
    pub(super) pool: &'a ThreadPool,
    pub(super) level: Level,
    pub(super) images: usize,
    pub(super) inputs: &'a [Slot],
    pub(super) values: Values<'a>,
    pub(super) output: &'a mut [f32],
    pub(super) slot: Slot,
    pub(super) workspace: &'a mut [f32],
}

/// Computes an operation.
///
/// # Panics
/// When `constants` are not those of the operation.
pub(super) fn run(operation: &Operation, constants: &Constants, call: Call<'_>) {
    let Call { pool, level, images, inputs, values, output, slot, workspace } = call;
    if let (Operation::Convolution(_), Constants::Convolution { packed, plan }) = (operation, constants) {
        let input = values.data(inputs[0]);
        let addend = inputs.get(1).map(|&addend| values.data(addend));
        return packed.run(plan, pool, Pass { images, input, addend, output, workspace });
    }
    let cpu = Cpu { pool, level };
    let output = MapMut::new(output, slot.layout(images));
    let input = values.map(inputs[0]);
    match (operation, constants) {
        (Operation::Sum(sum), Constants::Affines(affines)) => {
            let terms = affines.iter().zip(inputs).map(|(affine, &input)| {
                let affine = affine.as_ref().map(|Affine { scale, shift }| maps::Affine { scale, shift });
                Term { map: values.map(input), affine }
            });
            maps::sum(cpu, terms, sum.activation.map(pointwise), output);
        }
        (Operation::Product(activation), _) => {
            maps::product(cpu, input, values.map(inputs[1]), activation.map(pointwise), output);
        }
        (Operation::Concat, _) => maps::concat(cpu, inputs.iter().map(|&input| values.map(input)), output),
        (Operation::Shuffle { .. } | Operation::Slice { .. }, Constants::Channels(sources)) => {
            maps::gather(cpu, input, sources, output);
        }
        (Operation::Pad { padding }, _) => maps::pad(cpu, input, padding.map(|[begin, _]| begin), output),
        (Operation::MaxPool(pool), _) => maps::max_pool(cpu, window(pool), input, output),
        (Operation::AvgPool(pool), _) => maps::mean_pool(cpu, window(pool), Divisor::Window, input, output),
        (Operation::AvgPoolInside(pool), _) => maps::mean_pool(cpu, window(pool), Divisor::Inside, input, output),
        (Operation::GlobalAvgPool, _) => maps::global_mean(cpu, input, output),
        (Operation::Flatten, _) => maps::flatten(cpu, input, output),
        (Operation::Softmax(Softmax::Probabilities), _) => {
            maps::softmax(cpu, SoftmaxForm::Probabilities, input, output);
        }
        (Operation::Softmax(Softmax::Logarithms), _) => maps::softmax(cpu, SoftmaxForm::Logarithms, input, output),
        (Operation::Convolution(_) | Operation::Sum(_) | Operation::Shuffle { .. } | Operation::Slice { .. }, _) => {
            unreachable!("{operation:?} has constants of its own")
        }
    }
}

fn window(pool: &Pool) -> PoolWindow {
    PoolWindow { kernel: pool.kernel, stride: pool.stride, padding: pool.padding.map(|[begin, _]| begin) }
}

fn pointwise(activation: ActivationKind) -> Pointwise {
    match activation {
        ActivationKind::Relu => Pointwise::Relu,
        ActivationKind::Sigmoid => Pointwise::Sigmoid,
        ActivationKind::Silu => Pointwise::Silu,
        ActivationKind::Clip { low, high } => Pointwise::Clip { low, high },
        ActivationKind::LeakyRelu { slope } => Pointwise::LeakyRelu { slope },
        ActivationKind::HardSigmoid { slope, offset } => Pointwise::HardSigmoid { slope, offset },
    }
}

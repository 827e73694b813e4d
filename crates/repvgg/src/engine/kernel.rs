//! What a step computes, and the memory it sees.
//!
//! Values lie in blocks of channels, `[N, ⌈C/L⌉, H, W, L]` ([`Blocked`]); only the caller's images do not. What is computed
//! with them is `repvgg-kernels`'s.

use repvgg_kernels::maps::{self, Cpu, Divisor, Map, MapMut, Pointwise, PoolWindow, SoftmaxForm, Term};
use repvgg_kernels::{Blocked, ConvPlan, Level, PackedConv2d, Pass, ThreadPool};

use super::lower::Affine;
use crate::graph::{ActivationKind, Pool, Shape, Softmax};

/// The work of one step, its weights packed.
pub(super) enum Kernel {
    /// A convolution of the first input, plus the second one if there is one.
    Conv { packed: Box<PackedConv2d>, plan: Box<ConvPlan> },
    /// `activation(Σ affine(x))`, the affines padded to whole blocks.
    Sum { affines: Vec<Option<Affine>>, activation: Option<ActivationKind> },
    /// The product of two maps, or of a map and one factor per channel.
    Mul(Option<ActivationKind>),
    /// Channels one after another.
    Concat,
    /// For each channel, which of the input's it is.
    Gather(Vec<usize>),
    /// The map moved by some rows and columns, zeros around it.
    Pad([isize; 2]),
    /// The largest value of each window.
    MaxPool(Pool),
    /// The mean of each window.
    AvgPool(Pool),
    /// The mean of the part of each window that lies on the map.
    AvgPoolInside(Pool),
    /// The mean of each plane.
    GlobalAvgPool,
    /// Maps as rows.
    Flatten,
    /// The softmax over the channels.
    Softmax(Softmax),
    /// The caller's images in blocks.
    Block,
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
    Input,
    /// The arena, from this element on.
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
            Source::Input => images * self.shape.iter().product::<usize>(),
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
            Source::Input => self.input,
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

impl Kernel {
    /// Bytes of its weights.
    pub(super) fn packed_bytes(&self) -> usize {
        match self {
            Self::Conv { packed, .. } => packed.bytes(),
            Self::Sum { affines, .. } => {
                affines.iter().flatten().map(|affine| size_of_val(&*affine.scale) + size_of_val(&*affine.shift)).sum()
            }
            _ => 0,
        }
    }

    /// Writes the output.
    pub(super) fn run(&self, call: Call<'_>) {
        let Call { pool, level, images, inputs, values, output, slot, workspace } = call;
        if let Self::Conv { packed, plan } = self {
            let input = values.data(inputs[0]);
            let addend = inputs.get(1).map(|&addend| values.data(addend));
            return packed.run(plan, pool, Pass { images, input, addend, output, workspace });
        }
        let cpu = Cpu { pool, level };
        let output = MapMut::new(output, slot.layout(images));
        if let Self::Block = self {
            return maps::pack(cpu, values.data(inputs[0]), output);
        }
        let input = values.map(inputs[0]);
        match self {
            Self::Conv { .. } | Self::Block => unreachable!("handled above"),
            Self::Sum { affines, activation } => {
                let terms = affines.iter().zip(inputs).map(|(affine, &input)| {
                    let affine = affine.as_ref().map(|Affine { scale, shift }| maps::Affine { scale, shift });
                    Term { map: values.map(input), affine }
                });
                maps::sum(cpu, terms, activation.map(pointwise), output);
            }
            Self::Mul(activation) => {
                maps::product(cpu, input, values.map(inputs[1]), activation.map(pointwise), output);
            }
            Self::Concat => maps::concat(cpu, inputs.iter().map(|&input| values.map(input)), output),
            Self::Gather(sources) => maps::gather(cpu, input, sources, output),
            Self::Pad(begin) => maps::pad(cpu, input, *begin, output),
            Self::MaxPool(pool) => maps::max_pool(cpu, window(pool), input, output),
            Self::AvgPool(pool) => maps::mean_pool(cpu, window(pool), Divisor::Window, input, output),
            Self::AvgPoolInside(pool) => maps::mean_pool(cpu, window(pool), Divisor::Inside, input, output),
            Self::GlobalAvgPool => maps::global_mean(cpu, input, output),
            Self::Flatten => maps::flatten(cpu, input, output),
            Self::Softmax(Softmax::Probabilities) => maps::softmax(cpu, SoftmaxForm::Probabilities, input, output),
            Self::Softmax(Softmax::Logarithms) => maps::softmax(cpu, SoftmaxForm::Logarithms, input, output),
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

//! What a step computes, and the memory it sees.
//!
//! Values lie in blocks of channels, `[N, ⌈C/L⌉, H, W, L]` ([`Blocked`]); only the caller's images do not. Convolutions
//! are `repvgg-kernels`'s; all else is a plain loop over blocks `[H, W, L]`, which threads take in turn. Which thread
//! computes a block never changes what is computed.

use std::sync::Mutex;

use repvgg_kernels::{ConvPlan, Level, PackedConv2d, Pass, ThreadPool, sigmoid, silu};

use super::parameters::Affine;
use super::window;
use crate::graph::{ActivationKind, Shape, Softmax};
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

/// A value.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    pub(super) data: &'a [f32],
    pub(super) shape: Shape,
    lanes: usize,
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

    /// The value in `slot`.
    pub(super) fn map(&self, slot: Slot) -> Map<'a> {
        let memory = match slot.source {
            Source::Caller => self.input,
            Source::Arena(offset) if offset < self.before.len() => &self.before[offset..],
            Source::Arena(offset) => &self.after[offset - self.gap_end..],
        };
        Map { data: &memory[..slot.len(self.images)], shape: slot.shape, lanes: slot.lanes }
    }
}

impl<'a> Map<'a> {
    /// Elements of one block.
    fn block_len(self) -> usize {
        self.shape[1] * self.shape[2] * self.lanes
    }

    /// One block of one image, counted through the batch.
    fn block(self, index: usize) -> &'a [f32] {
        &self.data[index * self.block_len()..][..self.block_len()]
    }

    /// Blocks of an image.
    fn blocks(self) -> usize {
        self.shape[0].div_ceil(self.lanes)
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
    match (operation, constants) {
        (Operation::Convolution(_), Constants::Convolution { packed, plan }) => {
            let Call { pool, images, inputs, values, output, workspace, .. } = call;
            let input = values.map(inputs[0]).data;
            let addend = inputs.get(1).map(|&addend| values.map(addend).data);
            packed.run(plan, pool, Pass { images, input, addend, output, workspace });
        }
        (Operation::Sum(sum), Constants::Affines(affines)) => call.sum(affines, sum.activation),
        (Operation::Product(activation), _) => call.mul(*activation),
        (Operation::Concat, _) => call.concat(),
        (Operation::Shuffle { .. } | Operation::Slice { .. }, Constants::Channels(sources)) => call.gather(sources),
        (Operation::Pad { padding }, _) => call.pad(padding.map(|[begin, _]| begin)),
        (Operation::MaxPool(pool), _) => call.pooled(|input, output| window::max(*pool, input, output)),
        (Operation::AvgPool(pool), _) => call.pooled(|input, output| window::mean(*pool, input, output)),
        (Operation::AvgPoolInside(pool), _) => call.pooled(|input, output| window::mean_inside(*pool, input, output)),
        (Operation::GlobalAvgPool, _) => call.pooled(|input, output| window::global_mean(input.data, output)),
        (Operation::Flatten, _) => call.flatten(),
        (Operation::Softmax(kind), _) => call.softmax(*kind),
        (Operation::Convolution(_) | Operation::Sum(_) | Operation::Shuffle { .. } | Operation::Slice { .. }, _) => {
            unreachable!("{operation:?} has constants of its own")
        }
    }
}

/// The elements that a thread takes at once: enough to make the taking cheap.
const TASK_ELEMENTS: usize = 8192;

impl Call<'_> {
    fn sum(self, affines: &[Option<Affine>], activation: Option<ActivationKind>) {
        let (inputs, values, lanes, level) = (self.inputs, self.values, self.slot.lanes, self.level);
        let blocks = self.slot.shape[0].div_ceil(lanes);
        self.each_block(inputs.len(), |index, block| {
            let channels = index % blocks * lanes..(index % blocks + 1) * lanes;
            for (term, (affine, &input)) in affines.iter().zip(inputs).enumerate() {
                let input = values.map(input).block(index);
                let pixels = block.chunks_exact_mut(lanes).zip(input.chunks_exact(lanes));
                // The first term overwrites what an earlier value left here.
                match (affine, term) {
                    (None, 0) => pixels.for_each(|(y, x)| y.copy_from_slice(x)),
                    (None, _) => pixels.for_each(|(y, x)| y.iter_mut().zip(x).for_each(|(y, x)| *y += x)),
                    (Some(Affine { scale, shift }), _) => {
                        let (scale, shift) = (&scale[channels.clone()], &shift[channels.clone()]);
                        for (y, x) in pixels {
                            for lane in 0..lanes {
                                let before = if term == 0 { 0.0 } else { y[lane] };
                                y[lane] = scale[lane] * x[lane] + shift[lane] + before;
                            }
                        }
                    }
                }
            }
            activate(level, block, activation);
        });
    }

    fn mul(self, activation: Option<ActivationKind>) {
        let [x, factor] = [self.values.map(self.inputs[0]), self.values.map(self.inputs[1])];
        let (lanes, level) = (self.slot.lanes, self.level);
        self.each_block(1, |index, block| {
            let factors = factor.block(index);
            // One factor for each channel, or for each element.
            for (i, (y, x)) in block.chunks_exact_mut(lanes).zip(x.block(index).chunks_exact(lanes)).enumerate() {
                let factors = if factors.len() == lanes { factors } else { &factors[i * lanes..][..lanes] };
                y.iter_mut().zip(x).zip(factors).for_each(|((y, x), factor)| *y = x * factor);
            }
            activate(level, block, activation);
        });
    }

    fn concat(self) {
        let (inputs, values, lanes) = (self.inputs, self.values, self.slot.lanes);
        let blocks = self.slot.shape[0].div_ceil(lanes);
        self.each_block(1, |index, block| {
            let (image, first) = (index / blocks, index % blocks * lanes);
            block.fill(0.0);
            let mut before = 0;
            for map in inputs.iter().map(|&input| values.map(input)) {
                let channels = first.max(before)..(first + lanes).min(before + map.shape[0]);
                for channel in channels {
                    let (from, to) = (channel - before, channel - first);
                    let source = map.block(image * map.blocks() + from / lanes);
                    let pixels =
                        block[to..].iter_mut().step_by(lanes).zip(source[from % lanes..].iter().step_by(lanes));
                    pixels.for_each(|(y, x)| *y = *x);
                }
                before += map.shape[0];
            }
        });
    }

    fn gather(self, sources: &[usize]) {
        let (map, lanes) = (self.values.map(self.inputs[0]), self.slot.lanes);
        let blocks = self.slot.shape[0].div_ceil(lanes);
        self.each_block(1, |index, block| {
            let (image, first) = (index / blocks, index % blocks * lanes);
            block.fill(0.0);
            for (lane, &from) in sources[first..].iter().take(lanes).enumerate() {
                let source = map.block(image * map.blocks() + from / lanes);
                let pixels = block[lane..].iter_mut().step_by(lanes).zip(source[from % lanes..].iter().step_by(lanes));
                pixels.for_each(|(y, x)| *y = *x);
            }
        });
    }

    fn pad(self, begin: [isize; 2]) {
        let (map, slot) = (self.values.map(self.inputs[0]), self.slot);
        let [_, height, width] = map.shape;
        // Of the output's columns, those that are the map's, and the first of the map's among them.
        let columns = begin[1].max(0) as usize..slot.shape[2].min((width as isize + begin[1]).max(0) as usize);
        let first = (-begin[1]).max(0) as usize;
        self.each_block(1, |index, block| {
            let source = map.block(index);
            block.fill(0.0);
            for (p, row) in block.chunks_exact_mut(slot.shape[2] * slot.lanes).enumerate() {
                let from = p.checked_add_signed(-begin[0]).filter(|&row| row < height && !columns.is_empty());
                if let Some(from) = from {
                    let target = &mut row[columns.start * slot.lanes..columns.end * slot.lanes];
                    target.copy_from_slice(&source[(from * width + first) * slot.lanes..][..target.len()]);
                }
            }
        });
    }

    /// Each block of the output from the same block of the input.
    fn pooled(self, body: impl Fn(window::Block<'_>, &mut [f32]) + Sync) {
        let (input, slot) = (self.values.map(self.inputs[0]), self.slot);
        let work = input.block_len() / (slot.shape[1] * slot.shape[2] * slot.lanes);
        self.each_block(work.max(1), |index, output| {
            let data = input.block(index);
            body(window::Block { data, width: input.shape[2], output_width: slot.shape[2], lanes: slot.lanes }, output);
        });
    }

    /// `[C, H, W]` in the order of PyTorch, image after image.
    fn flatten(self) {
        let slot = self.inputs[0];
        let (input, row) = (self.values.map(slot), self.slot.layout(1).len());
        let features = slot.shape.iter().product::<usize>();
        let image = slot.layout(1).len();
        for (row, image) in self.output.chunks_exact_mut(row).zip(input.data.chunks_exact(image)) {
            slot.layout(1).unpack(image, &mut row[..features]);
            row[features..].fill(0.0);
        }
    }

    /// Each pixel of each image for itself: its channels lie in the lanes of several blocks.
    fn softmax(self, kind: Softmax) {
        let (input, channels, lanes) = (self.values.map(self.inputs[0]), self.slot.shape[0], self.slot.lanes);
        let (block_len, image_len) = (input.block_len(), input.blocks() * input.block_len());
        each_chunk(self.pool, self.output, image_len, |index, output| {
            let input = &input.data[index * image_len..][..image_len];
            output.fill(0.0);
            for pixel in (0..block_len).step_by(lanes) {
                let place = |channel: usize| channel / lanes * block_len + pixel + channel % lanes;
                let values = (0..channels).map(|channel| input[place(channel)]);
                let largest = values.clone().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = values.clone().map(|x| (x - largest).exp()).sum();
                for (channel, x) in values.enumerate() {
                    output[place(channel)] = match kind {
                        Softmax::Probabilities => (x - largest).exp() / sum,
                        Softmax::Logarithms => x - largest - sum.ln(),
                    };
                }
            }
        });
    }

    /// Calls `body` with each block of the output and its index through the batch; `work` is what an element costs, in
    /// elements.
    fn each_block(self, work: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
        let block_len = self.slot.shape[1] * self.slot.shape[2] * self.slot.lanes;
        let blocks_each = (TASK_ELEMENTS / (work * block_len)).max(1);
        each_chunk(self.pool, self.output, blocks_each * block_len, |task, chunk| {
            for (offset, block) in chunk.chunks_exact_mut(block_len).enumerate() {
                body(task * blocks_each + offset, block);
            }
        });
    }
}

/// Calls `body` with each chunk of `len` elements and its index, on whichever thread is free.
fn each_chunk(pool: &ThreadPool, data: &mut [f32], len: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
    let tasks = data.len().div_ceil(len);
    let chunks = Mutex::new(data.chunks_mut(len).enumerate());
    pool.run(tasks, &|_, _| {
        let next = chunks.lock().expect("taking a chunk does not panic").next();
        let (index, chunk) = next.expect("there is a chunk for each task");
        body(index, chunk);
    });
}

fn activate(level: Level, block: &mut [f32], activation: Option<ActivationKind>) {
    match activation {
        None => (),
        Some(ActivationKind::Relu) => block.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
        Some(ActivationKind::Sigmoid) => sigmoid(level, block),
        Some(ActivationKind::Silu) => silu(level, block),
        Some(ActivationKind::Clip { low, high }) => block.iter_mut().for_each(|x| *x = clip(*x, low, high)),
        Some(ActivationKind::LeakyRelu { slope }) => {
            block.iter_mut().for_each(|x| *x = if *x < 0.0 { *x * slope } else { *x });
        }
        Some(ActivationKind::HardSigmoid { slope, offset }) => {
            block.iter_mut().for_each(|x| *x = clip(*x * slope + offset, 0.0, 1.0));
        }
    }
}

/// `x` within the bounds; NaN stays NaN, and no order of the bounds panics.
fn clip(x: f32, low: f32, high: f32) -> f32 {
    let raised = if x < low { low } else { x };
    if raised > high { high } else { raised }
}

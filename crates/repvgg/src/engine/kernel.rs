//! What a step computes, and the memory it sees.
//!
//! Convolutions are `repvgg-conv`'s; all else is a plain loop over planes `[H, W]`, which threads take in turn. Which
//! thread computes a plane never changes what is computed.

use std::sync::Mutex;

use repvgg_conv::{Conv2d, Pass, ThreadPool};

use super::linear::Linear;
use super::window;
use crate::graph::{ActivationKind, Pool, Shape};

/// The work of one step.
pub(super) enum Kernel {
    /// A convolution.
    Conv(Box<Conv2d>),
    /// A fully connected layer.
    Linear(Linear),
    /// `activation(Σ affine(x))`: sums, batch norms, factors and lone activations.
    Sum { affines: Vec<Option<Affine>>, activation: Option<ActivationKind> },
    /// The product of two maps, or of a map and one factor per channel.
    Mul(Option<ActivationKind>),
    /// Channels one after another.
    Concat,
    /// The largest value of each window.
    MaxPool(Pool),
    /// The mean of each window.
    AvgPool(Pool),
    /// The mean of each plane.
    GlobalAvgPool,
}

/// `scale · x + shift` per channel.
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// Where a value lies, and its shape for one image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) source: Source,
    pub(super) shape: Shape,
}

/// The memory a value lies in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// The caller's images.
    Input,
    /// The arena, from this element on.
    Arena(usize),
}

impl Slot {
    /// Elements for one image.
    pub(super) fn len(self) -> usize {
        self.shape.iter().product()
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

/// A value: `[N, C, H, W]`.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    pub(super) data: &'a [f32],
    pub(super) shape: Shape,
}

impl<'a> Values<'a> {
    /// Parts `output` from all else.
    pub(super) fn split(input: &'a [f32], arena: &'a mut [f32], images: usize, output: Slot) -> (Self, &'a mut [f32]) {
        let Source::Arena(offset) = output.source else { unreachable!("no step writes the caller's images") };
        let (before, rest) = arena.split_at_mut(offset);
        let (output, after) = rest.split_at_mut(images * output.len());
        (Self { input, before, gap_end: offset + output.len(), after, images }, output)
    }

    /// Everything, when no step writes.
    pub(super) fn all(input: &'a [f32], arena: &'a [f32], images: usize) -> Self {
        Self { input, before: arena, after: &[], gap_end: arena.len(), images }
    }

    /// The value in `slot`.
    pub(super) fn map(&self, slot: Slot) -> Map<'a> {
        let memory = match slot.source {
            Source::Input => self.input,
            Source::Arena(offset) if offset < self.before.len() => &self.before[offset..],
            Source::Arena(offset) => &self.after[offset - self.gap_end..],
        };
        Map { data: &memory[..self.images * slot.len()], shape: slot.shape }
    }
}

impl<'a> Map<'a> {
    /// Elements of one plane.
    fn plane_len(self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// The plane of one channel of one image, counted through the batch.
    fn plane(self, index: usize) -> &'a [f32] {
        &self.data[index * self.plane_len()..][..self.plane_len()]
    }
}

/// One run of one step.
pub(super) struct Call<'a> {
    pub(super) pool: &'a ThreadPool,
    pub(super) images: usize,
    pub(super) inputs: &'a [Slot],
    pub(super) values: Values<'a>,
    pub(super) output: &'a mut [f32],
    pub(super) shape: Shape,
    pub(super) workspace: &'a mut [f32],
}

impl Kernel {
    /// Bytes of its weights.
    pub(super) fn packed_bytes(&self) -> usize {
        match self {
            Self::Conv(conv) => conv.packed_bytes(),
            Self::Linear(linear) => linear.bytes(),
            Self::Sum { affines, .. } => {
                affines.iter().flatten().map(|affine| size_of_val(&*affine.scale) + size_of_val(&*affine.shift)).sum()
            }
            _ => 0,
        }
    }

    /// Writes the output.
    pub(super) fn run(&self, call: Call<'_>) {
        match self {
            Self::Conv(conv) => {
                let Map { data: input, shape: [_, height, width] } = call.values.map(call.inputs[0]);
                let Call { pool, images: batch, output, workspace, .. } = call;
                conv.run(pool, Pass { batch, size: [height, width], input, output, workspace });
            }
            Self::Linear(linear) => {
                linear.run(call.pool, call.values.map(call.inputs[0]).data, call.output, call.workspace);
            }
            Self::Sum { affines, activation } => call.sum(affines, *activation),
            Self::Mul(activation) => call.mul(*activation),
            Self::Concat => call.concat(),
            Self::MaxPool(pool) => call.pooled(|input, output| window::max(*pool, input, output)),
            Self::AvgPool(pool) => call.pooled(|input, output| window::mean(*pool, input, output)),
            Self::GlobalAvgPool => call.pooled(|input, output| {
                output[0] = window::sum(input.data) / input.data.len() as f32;
            }),
        }
    }
}

/// The elements that a thread takes at once: enough to make the taking cheap.
const TASK_ELEMENTS: usize = 8192;

impl Call<'_> {
    fn sum(self, affines: &[Option<Affine>], activation: Option<ActivationKind>) {
        let (inputs, values, [channels, height, width]) = (self.inputs, self.values, self.shape);
        self.each_plane(height * width * inputs.len(), |index, plane| {
            let terms = affines.iter().zip(inputs).map(|(affine, &input)| {
                let (scale, shift) = affine.as_ref().map_or((1.0, 0.0), |affine| affine.at(index % channels));
                (values.map(input).plane(index), scale, shift)
            });
            for (term, (x, scale, shift)) in terms.enumerate() {
                let pairs = plane.iter_mut().zip(x);
                // The first term overwrites what an earlier value left here.
                match term {
                    0 => pairs.for_each(|(y, x)| *y = scale * x + shift),
                    _ => pairs.for_each(|(y, x)| *y += scale * x + shift),
                }
            }
            activate(plane, activation);
        });
    }

    fn mul(self, activation: Option<ActivationKind>) {
        let [x, factor] = [self.values.map(self.inputs[0]), self.values.map(self.inputs[1])];
        self.each_plane(x.plane_len(), |index, plane| {
            match *factor.plane(index) {
                [factor] => plane.iter_mut().zip(x.plane(index)).for_each(|(y, x)| *y = x * factor),
                ref factors => {
                    plane.iter_mut().zip(x.plane(index)).zip(factors).for_each(|((y, x), factor)| *y = x * factor);
                }
            }
            activate(plane, activation);
        });
    }

    fn concat(self) {
        let (inputs, values, [channels, height, width]) = (self.inputs, self.values, self.shape);
        self.each_plane(height * width, |index, plane| {
            let (image, mut channel) = (index / channels, index % channels);
            for &input in inputs {
                if channel < input.shape[0] {
                    plane.copy_from_slice(values.map(input).plane(image * input.shape[0] + channel));
                    return;
                }
                channel -= input.shape[0];
            }
        });
    }

    /// Each plane of the output from the same plane of the input.
    fn pooled(self, body: impl Fn(window::Plane<'_>, &mut [f32]) + Sync) {
        let (input, width) = (self.values.map(self.inputs[0]), self.shape[2]);
        self.each_plane(input.plane_len(), |index, output| {
            let plane = window::Plane { data: input.plane(index), width: input.shape[2], output_width: width };
            body(plane, output);
        });
    }

    /// Calls `body` with each plane of the output and its index through the batch; `work` is what one plane costs, in
    /// elements.
    fn each_plane(self, work: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
        let plane_len = self.shape[1] * self.shape[2];
        let planes_each = (TASK_ELEMENTS / work).max(1);
        each_chunk(self.pool, self.output, planes_each * plane_len, |task, chunk| {
            for (offset, plane) in chunk.chunks_exact_mut(plane_len).enumerate() {
                body(task * planes_each + offset, plane);
            }
        });
    }
}

/// Calls `body` with each chunk of `len` elements and its index, on whichever thread is free.
pub(super) fn each_chunk(pool: &ThreadPool, data: &mut [f32], len: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
    let tasks = data.len().div_ceil(len);
    let chunks = Mutex::new(data.chunks_mut(len).enumerate());
    pool.run(tasks, &|_, _| {
        let next = chunks.lock().expect("taking a chunk does not panic").next();
        let (index, chunk) = next.expect("there is a chunk for each task");
        body(index, chunk);
    });
}

impl Affine {
    fn at(&self, channel: usize) -> (f32, f32) {
        (self.scale[channel], self.shift[channel])
    }
}

fn activate(plane: &mut [f32], activation: Option<ActivationKind>) {
    match activation {
        None => (),
        Some(ActivationKind::Relu) => plane.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
        Some(ActivationKind::Sigmoid) => plane.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
    }
}

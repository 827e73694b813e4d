//! Moves of channels and pixels, and conversions to and from blocks. They change no value.

use super::{BlockKernel, Cpu, Map, MapMut};
use crate::isa::Simd;

/// Concatenates the channels of several maps.
///
/// # Panics
///
/// If an input differs from the output in batch, size or lanes, or their channels do not add up to the output's.
pub fn concat<'a>(cpu: Cpu<'_>, inputs: impl Iterator<Item = Map<'a>> + Clone + Sync, output: MapMut<'_>) {
    let layout = output.layout();
    let [batch, channels, height, width] = layout.shape;
    for input in inputs.clone() {
        let [n, _, h, w] = input.layout().shape;
        assert_eq!([n, h, w], [batch, height, width], "inputs have the output's batch and size");
        assert_eq!(input.layout().lanes, layout.lanes, "inputs have the output's lanes");
    }
    let total: usize = inputs.clone().map(|input| input.layout().shape[1]).sum();
    assert_eq!(total, channels, "the channels of the inputs add up to the output's");
    output.compute(cpu, 1, &Concat { inputs, blocks: layout.blocks() });
}

/// Gathers channels: channel `i` of the output is channel `sources[i]` of the input.
///
/// # Panics
///
/// If input and output differ in batch, size or lanes, the number of sources is not that of output channels, or a source is
/// not a channel of the input.
pub fn gather(cpu: Cpu<'_>, input: Map<'_>, sources: &[usize], output: MapMut<'_>) {
    let layout = output.layout();
    let [batch, channels, height, width] = layout.shape;
    let [n, from, h, w] = input.layout().shape;
    assert_eq!([n, h, w], [batch, height, width], "the input has the output's batch and size");
    assert_eq!(input.layout().lanes, layout.lanes, "the input has the output's lanes");
    assert_eq!(sources.len(), channels, "each channel has a source");
    assert!(sources.iter().all(|&source| source < from), "sources are channels of the input");
    output.compute(cpu, 1, &Gather { input, sources, blocks: layout.blocks() });
}

/// Pads or crops a map: moves it by `begin` `[rows, columns]` on an output of any size. Pixels that leave the output are
/// dropped, and uncovered pixels are zero.
///
/// # Panics
///
/// If input and output differ in batch, channels or lanes.
pub fn pad(cpu: Cpu<'_>, input: Map<'_>, begin: [isize; 2], output: MapMut<'_>) {
    output.expect_channels(&input);
    let width = output.layout().shape[3];
    output.compute(cpu, 1, &Pad { input, begin, width });
}

/// Flattens maps `[N, C, H, W]` to rows `[N, C·H·W, 1, 1]`, in PyTorch's order of elements. Lanes beyond the last element
/// become zero.
///
/// # Panics
///
/// If the output is not `[N, C·H·W, 1, 1]`.
pub fn flatten(cpu: Cpu<'_>, input: Map<'_>, output: MapMut<'_>) {
    let [batch, channels, height, width] = input.layout().shape;
    let features = channels * height * width;
    assert_eq!(output.layout().shape, [batch, features, 1, 1], "the output is [N, C·H·W, 1, 1]");
    output.compute_images(cpu, &Flatten { input, features });
}

/// Packs images `[N, C, H, W]` into blocks of channels. Lanes beyond the last channel become zero.
///
/// # Panics
///
/// If the length of `planar` is not that of the output's shape.
pub fn pack(cpu: Cpu<'_>, planar: &[f32], output: MapMut<'_>) {
    let layout = output.layout();
    assert_eq!(planar.len(), layout.shape.iter().product::<usize>(), "planar is [N, C, H, W]");
    let [_, channels, height, width] = layout.shape;
    output.compute(cpu, 1, &Pack { planar, channels, plane: height * width });
}

/// Unpacks maps into `[N, C, H, W]`.
///
/// # Panics
///
/// If the length of `planar` is not that of the map's shape, or the blocks do not have the level's lanes.
pub fn unpack(cpu: Cpu<'_>, input: Map<'_>, planar: &mut [f32]) {
    let [_, channels, height, width] = input.layout().shape;
    assert_eq!(planar.len(), input.layout().shape.iter().product::<usize>(), "planar is [N, C, H, W]");
    assert_eq!(input.layout().lanes, cpu.level.lanes(), "blocks have the level's lanes");
    let plane = height * width;
    cpu.pool.for_each_chunk(planar, channels * plane, |index, image| {
        cpu.level.run(Unpack { blocks: input.image(index), plane, image });
    });
}

/// Copies one lane of a block: `to[i · lanes] = from[i · lanes]`.
#[inline(always)]
fn copy_lane<S: Simd>(from: &[f32], to: &mut [f32]) {
    to.iter_mut().step_by(S::LANES).zip(from.iter().step_by(S::LANES)).for_each(|(to, from)| *to = *from);
}

struct Concat<I> {
    inputs: I,
    /// Blocks of an image of the output.
    blocks: usize,
}

impl<'a, I: Iterator<Item = Map<'a>> + Clone + Sync> BlockKernel for Concat<I> {
    #[inline(always)]
    fn run<S: Simd>(&self, _: S, index: usize, block: &mut [f32]) {
        let (image, first) = (index / self.blocks, index % self.blocks * S::LANES);
        block.fill(0.0);
        let mut before = 0;
        for map in self.inputs.clone() {
            let count = map.layout().shape[1];
            let channels = first.max(before)..(first + S::LANES).min(before + count);
            let source = |channel: usize| map.block(image * map.layout().blocks() + (channel - before) / S::LANES);
            if channels.len() == S::LANES && (first - before).is_multiple_of(S::LANES) {
                block.copy_from_slice(source(first));
            } else {
                for channel in channels {
                    copy_lane::<S>(&source(channel)[(channel - before) % S::LANES..], &mut block[channel - first..]);
                }
            }
            before += count;
        }
    }
}

struct Gather<'a> {
    input: Map<'a>,
    sources: &'a [usize],
    /// Blocks of an image of the output.
    blocks: usize,
}

impl BlockKernel for Gather<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, _: S, index: usize, block: &mut [f32]) {
        let Self { input, sources, blocks } = self;
        let (image, first) = (index / blocks, index % blocks * S::LANES);
        block.fill(0.0);
        for (lane, &from) in sources[first..].iter().take(S::LANES).enumerate() {
            let source = input.block(image * input.layout().blocks() + from / S::LANES);
            copy_lane::<S>(&source[from % S::LANES..], &mut block[lane..]);
        }
    }
}

struct Pad<'a> {
    input: Map<'a>,
    begin: [isize; 2],
    /// Columns of the output.
    width: usize,
}

impl BlockKernel for Pad<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, _: S, index: usize, block: &mut [f32]) {
        let Self { input, begin, .. } = self;
        let [height, width] = input.size();
        let source = input.block(index);
        // The columns of the output that the map covers, and the first column of the map that is not dropped.
        let columns = begin[1].max(0) as usize..self.width.min((width as isize + begin[1]).max(0) as usize);
        let first = (-begin[1]).max(0) as usize;
        block.fill(0.0);
        for (p, row) in block.chunks_exact_mut(self.width * S::LANES).enumerate() {
            let from = p.checked_add_signed(-begin[0]).filter(|&row| row < height && !columns.is_empty());
            if let Some(from) = from {
                let target = &mut row[columns.start * S::LANES..columns.end * S::LANES];
                target.copy_from_slice(&source[(from * width + first) * S::LANES..][..target.len()]);
            }
        }
    }
}

struct Flatten<'a> {
    input: Map<'a>,
    features: usize,
}

impl BlockKernel for Flatten<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let [height, width] = self.input.size();
        let (image, rest) = row.split_at_mut(self.features);
        unpack_image(simd, self.input.image(index), height * width, image);
        rest.fill(0.0);
    }
}

struct Pack<'a> {
    planar: &'a [f32],
    channels: usize,
    plane: usize,
}

impl BlockKernel for Pack<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, _: S, index: usize, block: &mut [f32]) {
        let Self { planar, channels, plane } = self;
        let blocks = channels.div_ceil(S::LANES);
        let (image, first) = (index / blocks, index % blocks * S::LANES);
        let count = S::LANES.min(channels - first);
        let planes = &planar[(image * channels + first) * plane..][..count * plane];
        block.fill(0.0);
        for (lane, plane) in planes.chunks_exact(*plane).enumerate() {
            block[lane..].iter_mut().step_by(S::LANES).zip(plane).for_each(|(to, from)| *to = *from);
        }
    }
}

struct Unpack<'a> {
    blocks: &'a [f32],
    plane: usize,
    image: &'a mut [f32],
}

impl crate::isa::Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        unpack_image(simd, self.blocks, self.plane, self.image);
    }
}

/// Unpacks the blocks of one image into `[C, H, W]`, where `plane` is `H·W`.
#[inline(always)]
fn unpack_image<S: Simd>(_: S, blocks: &[f32], plane: usize, image: &mut [f32]) {
    for (channel, target) in image.chunks_exact_mut(plane).enumerate() {
        let block = &blocks[channel / S::LANES * plane * S::LANES..][..plane * S::LANES];
        let lane = block[channel % S::LANES..].iter().step_by(S::LANES);
        target.iter_mut().zip(lane).for_each(|(to, from)| *to = *from);
    }
}

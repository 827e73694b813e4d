//! Planning: chunks of tiles, groups of panels, and what threads share out among themselves.

use std::ops::Range;

use super::{FilterForm, Storage, WinogradWeights};
use crate::inference::Site;
use crate::panels::Panel;
use crate::winograd::cover::{Cover, Kind, Run};
use crate::winograd::transform::MAX_SLOTS;
use crate::{Geometry, Level};

/// Tiles of a chunk, at most: enough that reading the weights once per chunk is not the limit.
const CHUNK_TILES: usize = 64;
/// Floats of V, at most: chunks that need more are smaller, although their weights are read more often.
const CHUNK_FLOATS: usize = 1 << 20;
/// Floats of V that stay in a second-level cache of 512 KiB; more costs a few percent.
const NEAR_FLOATS: usize = 1 << 17;
/// Floats of M for a group of panels: with V it should stay in a second-level cache of 512 KiB.
const GROUP: usize = 32 << 10;
/// The part of a layer's time that the input transform takes, about: the cost of threads that share the filters of a
/// chunk and each transform all of its input.
const INPUT_SHARE: f64 = 0.12;
/// Floats of the scratch between the two passes of a transform: half of a first-level cache of 32 KiB.
const SCRATCH: usize = 4 << 10;
/// Floats of weights that are transformed at a time: half of a second-level cache of 512 KiB.
const TRANSFORMED: usize = 1 << 16;
/// Floats between the blocks of V and the registers of M, beyond their length, against addresses that collide in the
/// caches: both are read at this distance.
pub(super) const SKEW: usize = 16;

/// How a convolution with transformed weights is applied to images of one size.
#[derive(Debug)]
pub(crate) struct WinogradPlan {
    pub(super) level: Level,
    pub(super) lanes: usize,
    pub(super) form: FilterForm,
    /// `[vertical, horizontal]`.
    pub(super) covers: [Cover; 2],
    pub(super) padding: [usize; 2],
    pub(super) size: [usize; 2],
    pub(super) chunking: Chunking,
    pub(super) segments: Vec<Segment>,
    /// Channel blocks of the input, registers of the output.
    pub(super) blocks: usize,
    pub(super) registers: usize,
    /// Consecutive panels that are multiplied at all points before they are transformed back.
    pub(super) groups: Vec<Range<usize>>,
    pub(super) parts: Parts,
    threads: usize,
}

/// Tiles of a row that go through the scratch together.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) outputs: Range<usize>,
    /// Columns of input that they read.
    pub(super) inputs: usize,
    pub(super) runs: Vec<Run>,
}

/// Floats of the parts of a workspace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub(super) v: usize,
    pub(super) m: usize,
    pub(super) scratch: usize,
}

impl WinogradPlan {
    /// Plans up to `site.batch` images on `threads` threads.
    pub(crate) fn new(
        weights: &WinogradWeights,
        level: Level,
        geometry: &Geometry,
        covers: [Cover; 2],
        site: Site,
        threads: usize,
    ) -> Self {
        let WinogradWeights { form, packed } = weights;
        let lanes = level.lanes();
        let panels = &packed.panels;
        let blocks = geometry.in_channels.div_ceil(lanes);
        let work = Work { batch: site.batch, threads, channels: blocks * lanes, panels: panels.len() };
        let chunking = Chunking::new(&covers, work);
        let columns = chunking.products(&covers).iter().flatten().sum();
        let most = match form.storage {
            Storage::Transformed => chunking.panels_of_a_group(work),
            Storage::Raw => 1,
        };
        let groups = group(panels, most, lanes * columns);
        let segments = segments(&covers, lanes);
        let registers = |group: &Range<usize>| panels[group.end - 1].vectors.end - panels[group.start].vectors.start;
        let m_registers = groups.iter().map(registers).max().unwrap_or(0);
        let [v, m] = [blocks, m_registers].map(|maps| maps * stride(columns, lanes));
        let widest = segments.iter().map(|segment| segment.inputs).max().unwrap_or(0);
        let images = rows_of_scratch(covers[0].kind) * widest * lanes;
        // Transforms of images and of weights take turns with the scratch.
        let filters = panels.iter().map(|panel| room_for_filters(*form, panel, lanes)).max().unwrap_or(0);
        let parts = Parts { v, m, scratch: images.max(filters).next_multiple_of(SKEW) };
        Self {
            level,
            lanes,
            form: *form,
            covers,
            padding: geometry.padding,
            size: site.size,
            chunking,
            segments,
            blocks,
            registers: geometry.out_channels.div_ceil(lanes),
            groups,
            parts,
            threads,
        }
    }

    /// Floats of workspace that a run needs.
    pub(crate) fn workspace_len(&self) -> usize {
        let Parts { v, m, scratch } = self.parts;
        match self.chunking.sharing {
            Sharing::Chunks | Sharing::Filters => self.threads * (v + m + scratch),
            Sharing::Phases => v + self.threads * (m + scratch),
        }
    }
}

/// What there is to share out.
#[derive(Clone, Copy)]
struct Work {
    batch: usize,
    threads: usize,
    channels: usize,
    panels: usize,
}

/// How the work is divided: into chunks of some whole images, or of some rows of tiles of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunking {
    /// Images of a chunk, at most.
    images: usize,
    /// Chunks that an image is divided into, as equal as they can be.
    parts: usize,
    pub(super) sharing: Sharing,
}

/// What threads share out among themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// The chunks.
    Chunks,
    /// The filters of each chunk; each thread transforms the input for itself, which is cheaper than passing it from core
    /// to core.
    Filters,
    /// The input transform of each chunk, then its filters.
    Phases,
}

#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) images: Range<usize>,
    /// Rows of tiles.
    pub(super) rows: Range<usize>,
}

impl Chunking {
    fn new(covers: &[Cover; 2], work: Work) -> Self {
        let Work { batch, threads, channels, panels } = work;
        let [vertical, horizontal] = covers;
        let (rows, columns) = (vertical.tiles.len(), horizontal.tiles.len());
        let slots = vertical.tiles.first().map_or(0, |tile| vertical.kind.slots(tile.outputs));
        let floats = slots * horizontal.uses.iter().sum::<usize>() * channels;
        let by_rows = (1..=rows).map(|parts| (1, parts));
        let by_images = (2..=batch).map(|images| (images, 1));
        let options = by_rows.chain(by_images).flat_map(|(images, parts)| {
            let rows_each = images * rows.div_ceil(parts);
            let chunks = batch.div_ceil(images) * parts;
            // Columns amortise the weights; what does not stay near the core costs a little.
            let value = 1.0 / (1.0 + 8.0 / (rows_each * columns) as f64);
            let value = if rows_each * floats > NEAR_FLOATS { 0.95 * value } else { value };
            let fits = rows_each * columns <= CHUNK_TILES && rows_each * floats <= CHUNK_FLOATS || rows_each == 1;
            let rounds = |tasks: usize| (tasks.div_ceil(threads) * threads) as f64;
            let by_chunks = (batch * rows) as f64 / (rounds(chunks) * rows_each as f64);
            let by_filters = panels as f64 / rounds(panels);
            let redundancy = 1.0 + (threads - 1) as f64 * INPUT_SHARE;
            let shared = [
                (Sharing::Chunks, by_chunks),
                (Sharing::Filters, by_filters / redundancy),
                (Sharing::Phases, 0.6 * by_filters),
            ];
            shared.map(|(sharing, share)| (fits, share * value, Self { images, parts, sharing }))
        });
        let best = options.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        best.map_or(Self { images: 1, parts: 1, sharing: Sharing::Chunks }, |(_, _, chunking)| chunking)
    }

    /// The most panels of a group: where threads share them out, each is to get some groups.
    fn panels_of_a_group(&self, work: Work) -> usize {
        let Work { panels, threads, .. } = work;
        if self.sharing == Sharing::Chunks { panels } else { (panels / (2 * threads)).max(1) }
    }

    /// Chunks of a run of some images.
    pub(super) fn count(&self, images: usize) -> usize {
        images.div_ceil(self.images) * self.parts
    }

    /// A chunk of a run of some images of `rows` rows of tiles.
    pub(super) fn get(&self, index: usize, images: usize, rows: usize) -> Chunk {
        let (group, part) = (index / self.parts, index % self.parts);
        let groups = images.div_ceil(self.images);
        let cut = |index: usize, parts: usize, len: usize| index * len / parts..(index + 1) * len / parts;
        Chunk { images: cut(group, groups, images), rows: cut(part, self.parts, rows) }
    }

    /// Columns at each pair of points, at most.
    fn products(&self, covers: &[Cover; 2]) -> [[usize; MAX_SLOTS]; MAX_SLOTS] {
        // The first tiles are the largest, and a part has at most as many rows as this.
        let rows = covers[0].tiles.len().div_ceil(self.parts);
        columns(covers, &Chunk { images: 0..self.images, rows: 0..rows })
    }
}

/// How often the tiles of some rows use each row of weights.
pub(super) fn uses(cover: &Cover, rows: Range<usize>) -> [usize; MAX_SLOTS] {
    let mut uses = [0; MAX_SLOTS];
    for tile in &cover.tiles[rows] {
        (0..cover.kind.slots(tile.outputs)).for_each(|slot| uses[cover.kind.weight(tile.outputs, slot)] += 1);
    }
    uses
}

/// Columns at each pair of points.
pub(super) fn columns(covers: &[Cover; 2], chunk: &Chunk) -> [[usize; MAX_SLOTS]; MAX_SLOTS] {
    let vertical = uses(&covers[0], chunk.rows.clone());
    vertical.map(|rows| covers[1].uses.map(|columns| chunk.images.len() * rows * columns))
}

/// Floats between the blocks of V or the registers of M.
pub(super) fn stride(columns: usize, lanes: usize) -> usize {
    (columns * lanes).next_multiple_of(1 << 10) + SKEW
}

/// Consecutive panels in groups of no more than `most`, whose part of M, `floats` for each filter, stays in the cache.
fn group(panels: &[Panel], most: usize, floats: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut room = 0;
    for (index, panel) in panels.iter().enumerate() {
        let need = panel.vectors.len() * floats;
        match groups.last_mut() {
            Some(group) if need <= room && group.len() < most => {
                group.end += 1;
                room -= need;
            }
            _ => {
                groups.push(index..index + 1);
                room = GROUP.saturating_sub(need);
            }
        }
    }
    groups
}

/// The slots of the tallest tile, and a row of zeros.
fn rows_of_scratch(kind: Kind) -> usize {
    kind.slots(kind.largest) + 1
}

/// Divides the tiles of a row so that the scratch stays in the first-level cache.
fn segments(covers: &[Cover; 2], lanes: usize) -> Vec<Segment> {
    let [vertical, horizontal] = covers;
    let columns = SCRATCH / (rows_of_scratch(vertical.kind) * lanes);
    let each = (columns.saturating_sub(2) / (horizontal.kind.stride * horizontal.kind.largest)).max(1);
    let count = horizontal.tiles.len();
    let each = count.div_ceil(count.div_ceil(each));
    let segment = |first: usize| {
        let tiles = first..(first + each).min(count);
        let outputs = horizontal.outputs(tiles.clone());
        Segment { inputs: horizontal.kind.inputs(outputs.len()), outputs, runs: horizontal.runs(tiles) }
    };
    (0..count).step_by(each).map(segment).collect()
}

/// Blocks of channels whose filters are transformed at a time.
pub(super) fn blocks_at_a_time(form: FilterForm, panel: &Panel, lanes: usize) -> usize {
    let block = form.points() * lanes * panel.vectors.len() * lanes;
    (TRANSFORMED / block).clamp(1, panel.blocks.len().max(1))
}

/// Floats of transformed filters of some blocks, and of half-transformed ones of one channel.
fn room_for_filters(form: FilterForm, panel: &Panel, lanes: usize) -> usize {
    if form.storage == Storage::Transformed {
        return 0;
    }
    let width = panel.vectors.len() * lanes;
    let at_a_time = blocks_at_a_time(form, panel, lanes) * lanes * width + SKEW;
    form.points() * at_a_time + 3 * MAX_SLOTS * width
}

//! Planning: chunks of tiles, groups of panels, and the division of work among threads.

use std::ops::Range;

use super::{FilterForm, Storage, WinogradWeights};
use crate::inference::Site;
use crate::tile::FilterPanel;
use crate::winograd::cover::{AxisTiles, Cover, TileRun};
use crate::winograd::transform::MAX_SLOTS;
use crate::{Geometry, Level};

/// The most tiles of a chunk: enough that reading the weights once per chunk is not the bottleneck.
const CHUNK_TILES: usize = 64;
/// The most floats of V. Chunks are made smaller to stay below it, although weights are then read more often.
const CHUNK_FLOATS: usize = 1 << 20;
/// The most floats of V that stay in a second-level cache of 512 KiB; exceeding it costs a few percent.
const NEAR_CACHE_FLOATS: usize = 1 << 17;
/// Floats of M for a group of panels, which should stay in a second-level cache of 512 KiB together with V.
const GROUP_FLOATS: usize = 32 << 10;
/// The approximate fraction of a layer's time spent in the input transform. Where threads share the filters of a chunk, each
/// of them spends it on transforming the entire input.
const INPUT_SHARE: f64 = 0.12;
/// Floats of the scratch between the two passes of a transform: half of a first-level cache of 32 KiB.
const SCRATCH_FLOATS: usize = 4 << 10;
/// Floats of weights that are transformed in one pass: half of a second-level cache of 512 KiB.
const TRANSFORMED_FLOATS: usize = 1 << 16;
/// Extra floats between the blocks of V and the registers of M. Both are read at that distance, and without the extra floats
/// their addresses would collide in the caches.
pub(super) const SKEW: usize = 16;

/// A plan for applying Winograd's algorithm to images of one size.
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
    pub(super) row_segments: Vec<RowSegment>,
    /// Channel blocks of the input.
    pub(super) blocks: usize,
    /// Registers of output channels.
    pub(super) registers: usize,
    /// Groups of consecutive panels that are multiplied at all points before they are transformed back.
    pub(super) groups: Vec<Range<usize>>,
    pub(super) parts: WorkspaceParts,
    threads: usize,
}

/// Tiles of a row that go through the scratch together.
#[derive(Debug, Clone)]
pub(super) struct RowSegment {
    pub(super) outputs: Range<usize>,
    /// Columns of input that they read.
    pub(super) inputs: usize,
    pub(super) runs: Vec<TileRun>,
}

/// The sizes of the parts of a workspace, in floats.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkspaceParts {
    pub(super) v: usize,
    pub(super) m: usize,
    pub(super) scratch: usize,
}

impl WinogradPlan {
    /// Plans for up to `site.batch` images on `threads` threads.
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
        let workload = Workload { batch: site.batch, threads, channels: blocks * lanes, panels: panels.len() };
        let chunking = Chunking::new(&covers, workload);
        let columns = chunking.products(&covers).iter().flatten().sum();
        let max_panels = match form.storage {
            Storage::Transformed => chunking.max_group_panels(workload),
            Storage::Raw => 1,
        };
        let groups = group_panels(panels, max_panels, lanes * columns);
        let row_segments = row_segments(&covers, lanes);
        let registers = |group: &Range<usize>| panels[group.end - 1].vectors.end - panels[group.start].vectors.start;
        let m_registers = groups.iter().map(registers).max().unwrap_or(0);
        let [v, m] = [blocks, m_registers].map(|maps| maps * stride(columns, lanes));
        let widest = row_segments.iter().map(|segment| segment.inputs).max().unwrap_or(0);
        let images = scratch_rows(covers[0].axis) * widest * lanes;
        // The transforms of images and of weights use the same scratch, one after the other.
        let filters = panels.iter().map(|panel| filter_scratch_len(*form, panel, lanes)).max().unwrap_or(0);
        let parts = WorkspaceParts { v, m, scratch: images.max(filters).next_multiple_of(SKEW) };
        Self {
            level,
            lanes,
            form: *form,
            covers,
            padding: geometry.padding,
            size: site.size,
            chunking,
            row_segments,
            blocks,
            registers: geometry.out_channels.div_ceil(lanes),
            groups,
            parts,
            threads,
        }
    }

    /// The number of workspace floats that a run needs.
    pub(crate) fn workspace_len(&self) -> usize {
        let WorkspaceParts { v, m, scratch } = self.parts;
        match self.chunking.sharing {
            Sharing::Chunks | Sharing::Filters => self.threads * (v + m + scratch),
            Sharing::Phases => v + self.threads * (m + scratch),
        }
    }
}

/// The work that a plan divides.
#[derive(Clone, Copy)]
struct Workload {
    batch: usize,
    threads: usize,
    channels: usize,
    panels: usize,
}

/// The division of the work into chunks: either several images each, or rows of tiles of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunking {
    /// The most images of a chunk.
    images: usize,
    /// Chunks per image, as equal as possible.
    parts: usize,
    pub(super) sharing: Sharing,
}

/// The work that threads divide among themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// The chunks.
    Chunks,
    /// The filters of each chunk. Each thread transforms the entire input, which is cheaper than passing it from core to core.
    Filters,
    /// The input transform of each chunk, and then its filters.
    Phases,
}

/// Some rows of tiles of some images.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) images: Range<usize>,
    /// Rows of tiles.
    pub(super) rows: Range<usize>,
}

impl Chunking {
    fn new(covers: &[Cover; 2], workload: Workload) -> Self {
        let Workload { batch, threads, channels, panels } = workload;
        let [vertical, horizontal] = covers;
        let (rows, columns) = (vertical.tiles.len(), horizontal.tiles.len());
        let slots = vertical.tiles.first().map_or(0, |tile| vertical.axis.slots(tile.outputs));
        let floats = slots * horizontal.uses.iter().sum::<usize>() * channels;
        let by_rows = (1..=rows).map(|parts| (1, parts));
        let by_images = (2..=batch).map(|images| (images, 1));
        let options = by_rows.chain(by_images).flat_map(|(images, parts)| {
            let rows_each = images * rows.div_ceil(parts);
            let chunks = batch.div_ceil(images) * parts;
            // More columns amortise reading the weights; leaving the near cache costs a little.
            let efficiency = 1.0 / (1.0 + 8.0 / (rows_each * columns) as f64);
            let efficiency = if rows_each * floats > NEAR_CACHE_FLOATS { 0.95 * efficiency } else { efficiency };
            let fits = rows_each * columns <= CHUNK_TILES && rows_each * floats <= CHUNK_FLOATS || rows_each == 1;
            let rounds = |tasks: usize| (tasks.div_ceil(threads) * threads) as f64;
            let by_chunks = (batch * rows) as f64 / (rounds(chunks) * rows_each as f64);
            let by_filters = panels as f64 / rounds(panels);
            let redundancy = 1.0 + (threads - 1) as f64 * INPUT_SHARE;
            let utilisation = [
                (Sharing::Chunks, by_chunks),
                (Sharing::Filters, by_filters / redundancy),
                (Sharing::Phases, 0.6 * by_filters),
            ];
            utilisation.map(|(sharing, used)| (fits, used * efficiency, Self { images, parts, sharing }))
        });
        let best = options.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        best.map_or(Self { images: 1, parts: 1, sharing: Sharing::Chunks }, |(_, _, chunking)| chunking)
    }

    /// The most panels of a group. Where threads share the filters, each thread needs several groups.
    fn max_group_panels(&self, workload: Workload) -> usize {
        let Workload { panels, threads, .. } = workload;
        if self.sharing == Sharing::Chunks { panels } else { (panels / (2 * threads)).max(1) }
    }

    /// The number of chunks of a run with `images` images.
    pub(super) fn count(&self, images: usize) -> usize {
        images.div_ceil(self.images) * self.parts
    }

    /// A chunk of a run with `images` images of `rows` rows of tiles.
    pub(super) fn get(&self, index: usize, images: usize, rows: usize) -> Chunk {
        let (group, part) = (index / self.parts, index % self.parts);
        let groups = images.div_ceil(self.images);
        let slice = |index: usize, parts: usize, len: usize| index * len / parts..(index + 1) * len / parts;
        Chunk { images: slice(group, groups, images), rows: slice(part, self.parts, rows) }
    }

    /// The most columns at each pair of points.
    fn products(&self, covers: &[Cover; 2]) -> [[usize; MAX_SLOTS]; MAX_SLOTS] {
        // The first rows have the largest tiles, and no part has more rows than this.
        let rows = covers[0].tiles.len().div_ceil(self.parts);
        columns(covers, &Chunk { images: 0..self.images, rows: 0..rows })
    }
}

/// For each row of weights, how often some rows of tiles use it.
pub(super) fn uses(cover: &Cover, rows: Range<usize>) -> [usize; MAX_SLOTS] {
    let mut uses = [0; MAX_SLOTS];
    for tile in &cover.tiles[rows] {
        (0..cover.axis.slots(tile.outputs)).for_each(|slot| uses[cover.axis.weight(tile.outputs, slot)] += 1);
    }
    uses
}

/// The number of columns at each pair of points.
pub(super) fn columns(covers: &[Cover; 2], chunk: &Chunk) -> [[usize; MAX_SLOTS]; MAX_SLOTS] {
    let vertical = uses(&covers[0], chunk.rows.clone());
    vertical.map(|rows| covers[1].uses.map(|columns| chunk.images.len() * rows * columns))
}

/// Floats between the blocks of V or the registers of M.
pub(super) fn stride(columns: usize, lanes: usize) -> usize {
    (columns * lanes).next_multiple_of(1 << 10) + SKEW
}

/// Groups consecutive panels, at most `max_panels` to a group. The part of M of a group, `floats` per register, stays in the
/// cache.
fn group_panels(panels: &[FilterPanel], max_panels: usize, floats: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut room = 0;
    for (index, panel) in panels.iter().enumerate() {
        let need = panel.vectors.len() * floats;
        match groups.last_mut() {
            Some(group) if need <= room && group.len() < max_panels => {
                group.end += 1;
                room -= need;
            }
            _ => {
                groups.push(index..index + 1);
                room = GROUP_FLOATS.saturating_sub(need);
            }
        }
    }
    groups
}

/// Rows of the scratch: the slots of the tallest tile, and a row of zeros.
fn scratch_rows(axis: AxisTiles) -> usize {
    axis.slots(axis.largest) + 1
}

/// Divides a row of tiles into segments whose scratch stays in the first-level cache.
fn row_segments(covers: &[Cover; 2], lanes: usize) -> Vec<RowSegment> {
    let [vertical, horizontal] = covers;
    let columns = SCRATCH_FLOATS / (scratch_rows(vertical.axis) * lanes);
    let each = (columns.saturating_sub(2) / (horizontal.axis.stride * horizontal.axis.largest)).max(1);
    let count = horizontal.tiles.len();
    let each = count.div_ceil(count.div_ceil(each));
    let segment = |first: usize| {
        let tiles = first..(first + each).min(count);
        let outputs = horizontal.outputs(tiles.clone());
        RowSegment { inputs: horizontal.axis.inputs(outputs.len()), outputs, runs: horizontal.runs(tiles) }
    };
    (0..count).step_by(each).map(segment).collect()
}

/// The number of channel blocks whose filters are transformed in one pass.
pub(super) fn blocks_per_pass(form: FilterForm, panel: &FilterPanel, lanes: usize) -> usize {
    let block = form.points() * lanes * panel.vectors.len() * lanes;
    (TRANSFORMED_FLOATS / block).clamp(1, panel.blocks.len().max(1))
}

/// Floats of scratch for filters: the transformed filters of one pass, and the half-transformed filters of one channel.
fn filter_scratch_len(form: FilterForm, panel: &FilterPanel, lanes: usize) -> usize {
    if form.storage == Storage::Transformed {
        return 0;
    }
    let width = panel.vectors.len() * lanes;
    let per_point = blocks_per_pass(form, panel, lanes) * lanes * width + SKEW;
    form.points() * per_point + 3 * MAX_SLOTS * width
}

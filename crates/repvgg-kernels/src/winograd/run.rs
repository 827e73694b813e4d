//! Running: chunks of tiles, the products at all points, and who does what on several threads.

#![expect(unsafe_code, reason = "tasks write disjoint parts of V and of the output, which are not contiguous")]

use std::ops::Range;

use super::cover::{Cover, Kind, MAX_RUNS};
use super::passes::{self, Ending, Line, Lines, Streams};
use super::transform::MAX_SLOTS;
use super::{Form, Group, Segment, Winograd};
use crate::ThreadPool;
use crate::epilogue::{Epilogue, Run};
use crate::pool::{Disjoint, Tasks};
use crate::product::{self, Columns, Depth, Panel, Product, Sum};
use crate::simd::{Kernel, Simd};

/// Tiles of a chunk, at most: enough that reading the weights once per chunk does not bind.
const CHUNK_TILES: usize = 64;
/// Floats of V, at most: chunks that need more are smaller, although their weights are read more often.
const CHUNK_FLOATS: usize = 1 << 20;
/// Floats of V that stay in a second-level cache of 512 KiB; more costs a few percent.
const NEAR_FLOATS: usize = 1 << 17;
/// The part of a layer's time that the input transform takes, about: what threads spend that share the filters of a chunk
/// and each transform all of its input.
const INPUT_SHARE: f64 = 0.12;
/// Floats of the scratch between the two passes of a transform: half of a first-level cache of 32 KiB.
const SCRATCH: usize = 4 << 10;
/// Floats of weights that are transformed at a time: half of a second-level cache of 512 KiB.
const TRANSFORMED: usize = 1 << 16;
/// Floats between the blocks of V and the registers of M, beyond their length, against addresses that collide in the
/// caches: both are read at this distance.
const SKEW: usize = 16;
/// Tasks per thread where a phase is shared out.
const TASKS_PER_THREAD: usize = 4;

/// How the work is divided: into chunks of some whole images, or of some rows of tiles of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunking {
    /// Images of a chunk, at most.
    images: usize,
    /// Chunks that an image is divided into, as equal as they can be.
    parts: usize,
    sharing: Sharing,
}

/// What threads share out among themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// The chunks.
    Chunks,
    /// The filters of each chunk; each thread transforms the input for itself, which is cheaper than to pass it from core
    /// to core.
    Filters,
    /// The input transform of each chunk, then its filters.
    Phases,
}

#[derive(Debug, Clone)]
struct Chunk {
    images: Range<usize>,
    /// Rows of tiles.
    rows: Range<usize>,
}

impl Chunking {
    /// For up to `batch` images of so many channels on `threads` threads, with filters in so many panels.
    pub(super) fn new(
        covers: &[Cover; 2],
        (batch, threads): (usize, usize),
        (channels, panels): (usize, usize),
    ) -> Self {
        let [vertical, horizontal] = covers;
        let (rows, columns) = (vertical.tiles.len(), horizontal.tiles.len());
        let floats = vertical.kind.slots(vertical.kind.largest) * horizontal.uses.iter().sum::<usize>() * channels;
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

    /// The most panels of a group of so many in all: where threads share them out, each is to get some groups.
    pub(super) fn panels_of_a_group(&self, panels: usize, threads: usize) -> usize {
        if self.sharing == Sharing::Chunks { panels } else { (panels / (2 * threads)).max(1) }
    }

    fn count(&self, images: usize) -> usize {
        images.div_ceil(self.images) * self.parts
    }

    fn get(&self, index: usize, images: usize, rows: usize) -> Chunk {
        let (group, part) = (index / self.parts, index % self.parts);
        let groups = images.div_ceil(self.images);
        let cut = |index: usize, parts: usize, len: usize| index * len / parts..(index + 1) * len / parts;
        Chunk { images: cut(group, groups, images), rows: cut(part, self.parts, rows) }
    }

    /// Columns at each pair of points, at most.
    pub(super) fn products(&self, covers: &[Cover; 2]) -> [[usize; MAX_SLOTS]; MAX_SLOTS] {
        // The first tiles are the largest, and a part has at most as many rows as this.
        let rows = covers[0].tiles.len().div_ceil(self.parts);
        columns(covers, &Chunk { images: 0..self.images, rows: 0..rows })
    }
}

/// How often the tiles of some rows use each row of weights.
fn uses(cover: &Cover, rows: Range<usize>) -> [usize; MAX_SLOTS] {
    let mut uses = [0; MAX_SLOTS];
    for tile in &cover.tiles[rows] {
        (0..cover.kind.slots(tile.outputs)).for_each(|slot| uses[cover.kind.weight(tile.outputs, slot)] += 1);
    }
    uses
}

/// Columns at each pair of points.
fn columns(covers: &[Cover; 2], chunk: &Chunk) -> [[usize; MAX_SLOTS]; MAX_SLOTS] {
    let vertical = uses(&covers[0], chunk.rows.clone());
    vertical.map(|rows| covers[1].uses.map(|columns| chunk.images.len() * rows * columns))
}

/// Floats of the parts of a workspace.
struct Parts {
    v: usize,
    m: usize,
    scratch: usize,
}

/// Floats between the blocks of V or the registers of M.
fn stride(columns: usize, lanes: usize) -> usize {
    (columns * lanes).next_multiple_of(1 << 10) + SKEW
}

/// The slots of the tallest tile, and a row of zeros.
fn rows_of_scratch(kind: Kind) -> usize {
    kind.slots(kind.largest) + 1
}

/// Divides the tiles of a row so that the scratch stays in the first-level cache.
pub(super) fn segments(covers: &[Cover; 2], lanes: usize) -> Vec<Segment> {
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

impl Winograd {
    /// Floats of workspace that a run needs.
    pub(crate) fn workspace_len(&self, threads: usize) -> usize {
        let Parts { v, m, scratch } = self.parts();
        match self.chunking.sharing {
            Sharing::Chunks | Sharing::Filters => threads * (v + m + scratch),
            Sharing::Phases => v + threads * (m + scratch),
        }
    }

    fn parts(&self) -> Parts {
        let columns: usize = self.chunking.products(&self.covers).iter().flatten().sum();
        let registers = |group: &Group| {
            self.panels[group.panels.end - 1].vectors.end - self.panels[group.panels.start].vectors.start
        };
        let registers = self.groups.iter().map(registers).max().unwrap_or(0);
        let widest = self.segments.iter().map(|segment| segment.inputs).max().unwrap_or(0);
        let scratch = rows_of_scratch(self.covers[0].kind) * widest * self.lanes;
        let [v, m] = [self.blocks, registers].map(|maps| maps * stride(columns, self.lanes));
        // Transforms of images and of weights take turns with the scratch.
        let weights = self.panels.iter().map(|panel| self.room_for_weights(panel)).max().unwrap_or(0);
        Parts { v, m, scratch: scratch.max(weights).next_multiple_of(SKEW) }
    }

    /// Points, in pairs.
    fn points(&self) -> usize {
        self.covers.iter().map(|cover| cover.kind.weights()).product()
    }

    /// Blocks of channels whose weights are transformed at a time.
    fn blocks_at_a_time(&self, panel: &Panel) -> usize {
        let block = self.points() * self.lanes * panel.vectors.len() * self.lanes;
        (TRANSFORMED / block).clamp(1, panel.blocks.len().max(1))
    }

    /// Floats of transformed weights of some blocks, and of half-transformed ones of one channel.
    fn room_for_weights(&self, panel: &Panel) -> usize {
        if self.form == Form::Transformed {
            return 0;
        }
        let width = panel.vectors.len() * self.lanes;
        let at_a_time = self.blocks_at_a_time(panel) * self.lanes * width + SKEW;
        self.points() * at_a_time + 3 * MAX_SLOTS * width
    }

    /// `output = epilogue(conv(input))`.
    pub(crate) fn run(&self, pool: &ThreadPool, pass: Run<'_>) {
        let Run { images, input, epilogue, output, workspace } = pass;
        let rows = self.covers[0].tiles.len();
        let chunks = self.chunking.count(images);
        let output = Disjoint::new(output);
        let Parts { v, m, scratch } = self.parts();
        let job = |chunk: usize| Job::new(self, self.chunking.get(chunk, images, rows), (input, epilogue, output));
        match self.chunking.sharing {
            Sharing::Chunks => {
                let workspace = &mut workspace[..pool.threads() * (v + m + scratch)];
                pool.run_with_scratch(chunks, workspace, &|chunk, workspace| {
                    self.work(&job(chunk), (v, m), workspace, 0..self.groups.len());
                });
            }
            Sharing::Filters => {
                let workspace = &mut workspace[..pool.threads() * (v + m + scratch)];
                for chunk in 0..chunks {
                    let job = job(chunk);
                    let groups = Tasks::new(self.groups.len());
                    pool.run_with_scratch(pool.threads(), workspace, &|task, workspace| {
                        // Half of the tasks take groups from the front, half from the back; what comes late finds none left.
                        if !groups.is_empty() {
                            self.work(&job, (v, m), workspace, std::iter::from_fn(|| groups.claim(task)));
                        }
                    });
                }
            }
            Sharing::Phases => {
                let (v, workspace) = workspace.split_at_mut(v);
                let workspace = &mut workspace[..pool.threads() * (m + scratch)];
                let tasks = (pool.threads() * TASKS_PER_THREAD).min(self.blocks);
                for chunk in 0..chunks {
                    let job = job(chunk);
                    let shared = Disjoint::new(v);
                    pool.run_with_scratch(tasks, workspace, &|task, workspace| {
                        let blocks = task * self.blocks / tasks..(task + 1) * self.blocks / tasks;
                        self.level.run(Gather { job: &job, blocks, v: shared, scratch: &mut workspace[m..] });
                    });
                    pool.run_with_scratch(self.groups.len(), workspace, &|group, workspace| {
                        let (m, scratch) = workspace.split_at_mut(m);
                        self.level.run(Multiply { job: &job, group: &self.groups[group], v, m, scratch });
                    });
                }
            }
        }
    }

    /// The input transform of a chunk, and its products with some groups of filters.
    fn work(&self, job: &Job<'_>, (v, m): (usize, usize), workspace: &mut [f32], groups: impl Iterator<Item = usize>) {
        let (v, rest) = workspace.split_at_mut(v);
        let (m, scratch) = rest.split_at_mut(m);
        self.level.run(Gather { job, blocks: 0..self.blocks, v: Disjoint::new(v), scratch });
        for group in groups {
            self.level.run(Multiply { job, group: &self.groups[group], v, m, scratch });
        }
    }
}

/// The work on one chunk.
struct Job<'a> {
    layer: &'a Winograd,
    chunk: Chunk,
    /// For each row of weights, how often an image's rows of tiles use it.
    uses: [usize; MAX_SLOTS],
    /// Columns at each pair of points, and where they start in a block of V or a register of M.
    columns: [[usize; MAX_SLOTS]; MAX_SLOTS],
    starts: [[usize; MAX_SLOTS]; MAX_SLOTS],
    /// Floats between the blocks of V and between the registers of M.
    stride: usize,
    input: &'a [f32],
    epilogue: Epilogue<'a>,
    output: Disjoint<'a>,
}

/// A row of tiles of one image.
struct TileRow {
    image: usize,
    outputs: usize,
    start: usize,
    /// For each vertical slot its row of weights, and its place among the rows that use it.
    slots: [(usize, usize); MAX_SLOTS],
}

impl<'a> Job<'a> {
    fn new(
        layer: &'a Winograd,
        chunk: Chunk,
        (input, epilogue, output): (&'a [f32], Epilogue<'a>, Disjoint<'a>),
    ) -> Self {
        let columns = columns(&layer.covers, &chunk);
        let mut starts = columns;
        let mut total = 0;
        for start in starts.iter_mut().flatten() {
            total += std::mem::replace(start, total);
        }
        starts.iter_mut().flatten().for_each(|start| *start *= layer.lanes);
        let uses = uses(&layer.covers[0], chunk.rows.clone());
        let stride = stride(total, layer.lanes);
        Self { layer, chunk, uses, columns, starts, stride, input, epilogue, output }
    }

    fn kinds(&self) -> [Kind; 2] {
        [0, 1].map(|axis| self.layer.covers[axis].kind)
    }

    fn rows(&self) -> impl Iterator<Item = TileRow> {
        let (kind, tiles) = (self.kinds()[0], &self.layer.covers[0].tiles);
        let first = tiles[self.chunk.rows.start].start;
        self.chunk.images.clone().enumerate().flat_map(move |(index, image)| {
            self.chunk.rows.clone().enumerate().map(move |(row, tile)| {
                let tile = tiles[tile];
                let transformed = kind.transformed(tile.outputs);
                let slots = std::array::from_fn(|slot| {
                    if slot >= kind.slots(tile.outputs) {
                        return (0, 0);
                    }
                    let weight = kind.weight(tile.outputs, slot);
                    let within = if slot < transformed { row } else { tile.start - first + slot - transformed };
                    (weight, index * self.uses[weight] + within)
                });
                TileRow { image, outputs: tile.outputs, start: tile.start, slots }
            })
        })
    }

    /// The lines of a segment for each of its runs, in a block of V or a register of M. The scratch has lines of `width`
    /// columns, where the run starts at a column that `first` tells.
    fn lines(&self, row: &TileRow, segment: &Segment, width: usize, first: impl Fn(usize) -> usize) -> Table {
        let [vertical, horizontal] = self.kinds();
        let uses = &self.layer.covers[1].uses;
        let mut table = [[Line::default(); MAX_SLOTS]; MAX_RUNS];
        for (run, lines) in segment.runs.iter().zip(&mut table) {
            let count = horizontal.slots(run.outputs);
            for (slot, line) in lines.iter_mut().enumerate().take(vertical.slots(row.outputs)) {
                line.scratch = (slot * width + first(run.start)) * self.layer.lanes;
                let (weight, place) = row.slots[slot];
                for (to, &(column, within)) in line.slots.iter_mut().zip(&run.slots).take(count) {
                    *to = self.starts[weight][column] + (place * uses[column] + within) * self.layer.lanes;
                }
            }
        }
        table
    }
}

/// Lines for each run and vertical slot.
type Table = [[Line; MAX_SLOTS]; MAX_RUNS];

/// The input transform of some channel blocks.
struct Gather<'a> {
    job: &'a Job<'a>,
    blocks: Range<usize>,
    v: Disjoint<'a>,
    scratch: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { job, blocks, v, scratch } = self;
        let layer = job.layer;
        let [height, width] = layer.size;
        let [vertical, horizontal] = job.kinds();
        let plane = height * width * S::LANES;
        for row in job.rows() {
            let slots = vertical.slots(row.outputs);
            let inputs = vertical.inputs(row.outputs);
            let top = (vertical.stride * row.start) as isize - layer.padding[0] as isize;
            let image = &job.input[row.image * layer.blocks * plane..][..layer.blocks * plane];
            for segment in &layer.segments {
                let columns = segment.inputs;
                let left = (horizontal.stride * segment.outputs.start) as isize - layer.padding[1] as isize;
                // Columns of the scratch that lie within the image.
                let clamp = |column: isize| column.clamp(0, columns as isize) as usize;
                let inside = clamp(-left).min(clamp(width as isize - left))..clamp(width as isize - left);
                let (zeros, scratch) = scratch[..(slots + 1) * columns * S::LANES].split_at_mut(columns * S::LANES);
                zeros.fill(0.0);
                for slot in scratch.chunks_exact_mut(columns * S::LANES) {
                    slot[..inside.start * S::LANES].fill(0.0);
                    slot[inside.end * S::LANES..].fill(0.0);
                }
                let lines =
                    job.lines(&row, segment, columns, |output| horizontal.stride * (output - segment.outputs.start));
                let len = inside.len() * S::LANES;
                for block in blocks.clone() {
                    let plane = &image[block * plane..][..plane];
                    let mut rows = [zeros.as_ptr(); MAX_SLOTS];
                    for (i, row) in rows.iter_mut().enumerate().take(inputs) {
                        let y = top + i as isize;
                        if len > 0 && (0..height as isize).contains(&y) {
                            let x = (left + inside.start as isize) as usize;
                            *row = plane[(y as usize * width + x) * S::LANES..][..len].as_ptr();
                        }
                    }
                    let base = scratch.as_mut_ptr();
                    let mut targets = [base; MAX_SLOTS];
                    for (slot, target) in targets.iter_mut().enumerate() {
                        *target = base.wrapping_add((slot * columns + inside.start) * S::LANES);
                    }
                    let size = [vertical.stride, vertical.family, row.outputs];
                    let from = Streams { at: rows, step: S::LANES };
                    let to = Streams { at: targets, step: S::LANES };
                    // SAFETY: each input row was sliced to the columns inside the image, and zeros are as long as a
                    // row of the scratch; each of the tile's slots has a row of the scratch of its own.
                    unsafe { passes::input(simd, size, inside.len(), from, to) };
                    for (run, lines) in segment.runs.iter().zip(&lines) {
                        let size = [horizontal.stride, horizontal.family, run.outputs];
                        let lines = Lines { lines: &lines[..slots], count: run.count };
                        // SAFETY: a run reads the columns of the scratch that its tiles read, which are the segment's.
                        // What it writes belongs to this task's block; its columns are those that its tiles count, all
                        // inside the block, which has room for every column of every pair of points.
                        unsafe { passes::input_lines(simd, size, lines, base, v.at(block * job.stride)) };
                    }
                }
            }
        }
    }
}

/// The products of a group of panels at all points, and their output transform.
struct Multiply<'a> {
    job: &'a Job<'a>,
    group: &'a Group,
    v: &'a [f32],
    m: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { job, group, v, m, scratch } = self;
        let layer = job.layer;
        let panels = &layer.panels[group.panels.clone()];
        let registers = panels[0].vectors.start..panels[panels.len() - 1].vectors.end;
        match layer.form {
            Form::Transformed => {
                for point in 0..layer.points() {
                    let mut weights = &layer.weights[group.start + point * group.len..];
                    for panel in panels {
                        let m = &mut m[(panel.vectors.start - registers.start) * job.stride..];
                        multiply(simd, job, point, (panel, panel.blocks.clone()), (weights, v, m));
                        weights = &weights[panel.area(S::LANES)..];
                    }
                }
            }
            Form::Raw => {
                let [panel] = panels else { unreachable!("a group of raw weights is one panel") };
                let width = panel.vectors.len() * S::LANES;
                let each = layer.blocks_at_a_time(panel);
                let (rows, transformed) = scratch.split_at_mut(3 * MAX_SLOTS * width);
                for first in panel.blocks.clone().step_by(each) {
                    let blocks = first..(first + each).min(panel.blocks.end);
                    let len = blocks.len() * S::LANES * width;
                    let stride = len + SKEW;
                    let raw = &layer.weights[group.start + 9 * (first - panel.blocks.start) * S::LANES * width..];
                    transform(simd, job, (width, stride), &raw[..9 * len], rows, transformed);
                    for (point, weights) in transformed.chunks_exact(stride).enumerate().take(layer.points()) {
                        multiply(simd, job, point, (panel, blocks.clone()), (weights, v, m));
                    }
                }
            }
        }
        for row in job.rows() {
            scatter(simd, job, &row, registers.clone(), m, scratch);
        }
    }
}

/// Transforms the weights of some channels: `raw` `[c][r][s][width]` to `[point][c][width]`, points `stride` floats apart.
#[inline(always)]
fn transform<S: Simd>(
    simd: S,
    job: &Job<'_>,
    (width, stride): (usize, usize),
    raw: &[f32],
    rows: &mut [f32],
    transformed: &mut [f32],
) {
    let [vertical, horizontal] = job.kinds();
    let [tall, wide] = [vertical, horizontal].map(|kind| [kind.stride, kind.family, kind.largest]);
    let rows = &mut rows[..vertical.weights() * 3 * width];
    for (channel, taps) in raw.chunks_exact(9 * width).enumerate() {
        passes::filter_columns(simd, tall, width, taps, rows);
        passes::filter_rows(simd, wide, (width, stride), rows, &mut transformed[channel * width..]);
    }
}

/// The products of a panel at one pair of points, over some of its blocks, into the panel's registers of M.
#[inline(always)]
fn multiply<S: Simd>(
    simd: S,
    job: &Job<'_>,
    point: usize,
    (panel, blocks): (&Panel, Range<usize>),
    (weights, v, m): (&[f32], &[f32], &mut [f32]),
) {
    let wide = job.kinds()[1].weights();
    let (row, column) = (point / wide, point % wide);
    let (count, start) = (job.columns[row][column], job.starts[row][column]);
    if count == 0 {
        return;
    }
    let is_raw = job.layer.form == Form::Raw;
    let product = Product {
        weights,
        vectors: panel.vectors.len(),
        columns: &v[blocks.start * job.stride + start..],
        layout: Columns::Blocks(S::LANES),
        depth: Depth::blocks(blocks.len(), job.stride),
        reads_ahead: !is_raw && product::reads_ahead(job.layer.packed_bytes(), count),
        sum: if blocks.start == panel.blocks.start { Sum::Start } else { Sum::Continue },
    };
    for span in product.tiles(simd, count) {
        product.tile(simd, span, &mut m[start + span.first * S::LANES..], job.stride);
    }
}

/// The output transform of a row of tiles, for some registers of channels, with the first of which M starts.
#[inline(always)]
fn scatter<S: Simd>(simd: S, job: &Job<'_>, row: &TileRow, registers: Range<usize>, m: &[f32], scratch: &mut [f32]) {
    let layer = job.layer;
    let [vertical, horizontal] = job.kinds();
    let [height, width] = [0, 1].map(|axis| layer.covers[axis].extent());
    let slots = vertical.slots(row.outputs);
    for segment in &layer.segments {
        let columns = segment.outputs.len();
        let len = columns * S::LANES;
        let scratch = &mut scratch[..slots * len];
        let lines = job.lines(row, segment, columns, |output| output - segment.outputs.start);
        for register in registers.clone() {
            let m = m[(register - registers.start) * job.stride..][..job.stride].as_ptr();
            let base = scratch.as_mut_ptr();
            for (run, lines) in segment.runs.iter().zip(&lines) {
                let size = [horizontal.stride, horizontal.family, run.outputs];
                let lines = Lines { lines: &lines[..slots], count: run.count };
                // SAFETY: the columns that the run's tiles count lie inside the register of M, which has room for every
                // column of every pair of points; its outputs are the segment's, which the scratch has room for.
                unsafe { passes::output_lines(simd, size, lines, m, base) };
            }
            let plane = (row.image * layer.registers + register) * height * width;
            let start = |i: usize| (plane + (row.start + i) * width + segment.outputs.start) * S::LANES;
            let mut from = [base.cast_const(); MAX_SLOTS];
            for (slot, from) in from.iter_mut().enumerate() {
                *from = base.cast_const().wrapping_add(slot * len);
            }
            let mut targets = [std::ptr::null_mut(); MAX_SLOTS];
            for (i, target) in targets.iter_mut().enumerate().take(row.outputs) {
                // SAFETY: rows of an image that belong to a row of tiles and a register are one task's.
                *target = unsafe { job.output.slice(start(i), len) }.as_mut_ptr();
            }
            let channels = register * S::LANES..(register + 1) * S::LANES;
            let addend = job.epilogue.addend.map(|(values, scale)| {
                let mut rows = [std::ptr::null(); MAX_SLOTS];
                for (i, row) in rows.iter_mut().enumerate().take(row.outputs) {
                    *row = values[start(i)..][..len].as_ptr();
                }
                (Streams { at: rows, step: S::LANES }, &scale[channels.clone()])
            });
            let ending = Ending { bias: &job.epilogue.bias[channels], floor: job.epilogue.floor, addend };
            let size = [vertical.stride, vertical.family, row.outputs];
            let from = Streams { at: from, step: S::LANES };
            let to = Streams { at: targets, step: S::LANES };
            // SAFETY: each slot of the tile has a row of the scratch; targets and addends were sliced to what is written.
            unsafe { passes::finish(simd, size, columns, from, to, ending) };
        }
    }
}

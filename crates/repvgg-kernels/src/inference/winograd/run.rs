//! Running: the transforms of a chunk of tiles, and its products at all points.

#![expect(unsafe_code, reason = "tasks write disjoint parts of V and of the output, which are not contiguous")]

use std::ops::Range;

use super::passes::{self, AddendStreams, Ending, HalfTransformed, Line, Lines, Streams};
use super::plan::{self, Chunk, Parts, RowSegment, SKEW, Sharing};
use super::{Storage, WinogradPlan, WinogradWeights};
use crate::ThreadPool;
use crate::inference::{Addend, Arguments, Epilogue};
use crate::isa::{Kernel, Simd};
use crate::threads::{Disjoint, Tasks};
use crate::tile::{self, Columns, Depth, F32, Panel, Product, Sum, Target};
use crate::winograd::cover::{AxisTiles, MAX_RUNS};
use crate::winograd::transform::MAX_SLOTS;

/// Tasks per thread where a phase is shared out.
const TASKS_PER_THREAD: usize = 4;

/// One run.
struct Call<'a> {
    plan: &'a WinogradPlan,
    weights: &'a WinogradWeights,
    input: &'a [f32],
    epilogue: Epilogue<'a>,
    output: Disjoint<'a, f32>,
}

impl WinogradPlan {
    /// `output = epilogue(conv(input))`.
    pub(crate) fn run(&self, weights: &WinogradWeights, pool: &ThreadPool, arguments: Arguments<'_>) {
        let Arguments { images, input, epilogue, output, workspace } = arguments;
        let rows = self.covers[0].tiles.len();
        let chunks = self.chunking.count(images);
        let call = Call { plan: self, weights, input, epilogue, output: Disjoint::new(output) };
        let job = |chunk: usize| Job::new(&call, self.chunking.get(chunk, images, rows));
        match self.chunking.sharing {
            Sharing::Chunks => pool.run_with_scratch(chunks, workspace, |chunk, workspace| {
                self.work(&job(chunk), workspace, 0..self.groups.len());
            }),
            Sharing::Filters => (0..chunks).for_each(|chunk| self.share_filters(&job(chunk), pool, workspace)),
            Sharing::Phases => (0..chunks).for_each(|chunk| self.share_phases(&job(chunk), pool, workspace)),
        }
    }

    /// Threads share the filters of a chunk, and each transforms all of its input.
    fn share_filters(&self, job: &Job<'_>, pool: &ThreadPool, workspace: &mut [f32]) {
        let groups = Tasks::new(self.groups.len());
        pool.run_with_scratch(pool.threads(), workspace, |task, workspace| {
            // Half of the tasks claim groups from the front, half from the back; a late one finds none left.
            if !groups.is_empty() {
                self.work(job, workspace, std::iter::from_fn(|| groups.claim(task)));
            }
        });
    }

    /// Threads share the input transform of a chunk, then its filters.
    fn share_phases(&self, job: &Job<'_>, pool: &ThreadPool, workspace: &mut [f32]) {
        let Parts { v, m, .. } = self.parts;
        let (v, workspace) = workspace.split_at_mut(v);
        let tasks = (pool.threads() * TASKS_PER_THREAD).min(self.blocks);
        let shared = Disjoint::new(v);
        pool.run_with_scratch(tasks, workspace, |task, workspace| {
            let blocks = task * self.blocks / tasks..(task + 1) * self.blocks / tasks;
            self.level.run(Gather { job, blocks, v: shared, scratch: &mut workspace[m..] });
        });
        pool.run_with_scratch(self.groups.len(), workspace, |group, workspace| {
            let (m, scratch) = workspace.split_at_mut(m);
            self.level.run(Multiply { job, group: self.groups[group].clone(), v, m, scratch });
        });
    }

    /// The input transform of a chunk, and its products with some groups of filters.
    fn work(&self, job: &Job<'_>, workspace: &mut [f32], groups: impl Iterator<Item = usize>) {
        let (v, rest) = workspace.split_at_mut(self.parts.v);
        let (m, scratch) = rest.split_at_mut(self.parts.m);
        self.level.run(Gather { job, blocks: 0..self.blocks, v: Disjoint::new(v), scratch });
        for group in groups {
            self.level.run(Multiply { job, group: self.groups[group].clone(), v, m, scratch });
        }
    }
}

/// The work on one chunk.
struct Job<'a> {
    call: &'a Call<'a>,
    chunk: Chunk,
    /// For each row of weights, how often an image's rows of tiles use it.
    uses: [usize; MAX_SLOTS],
    /// Columns at each pair of points, and where they start in a block of V or a register of M.
    columns: [[usize; MAX_SLOTS]; MAX_SLOTS],
    starts: [[usize; MAX_SLOTS]; MAX_SLOTS],
    /// Floats between the blocks of V and between the registers of M.
    stride: usize,
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
    fn new(call: &'a Call<'a>, chunk: Chunk) -> Self {
        let plan = call.plan;
        let columns = plan::columns(&plan.covers, &chunk);
        let mut starts = columns;
        let mut total = 0;
        for start in starts.iter_mut().flatten() {
            total += std::mem::replace(start, total);
        }
        starts.iter_mut().flatten().for_each(|start| *start *= plan.lanes);
        let uses = plan::uses(&plan.covers[0], chunk.rows.clone());
        let stride = plan::stride(total, plan.lanes);
        Self { call, chunk, uses, columns, starts, stride }
    }

    fn axes(&self) -> [AxisTiles; 2] {
        [0, 1].map(|axis| self.call.plan.covers[axis].axis)
    }

    fn rows(&self) -> impl Iterator<Item = TileRow> {
        let (axis, tiles) = (self.axes()[0], &self.call.plan.covers[0].tiles);
        let first = tiles[self.chunk.rows.start].start;
        self.chunk.images.clone().enumerate().flat_map(move |(index, image)| {
            self.chunk.rows.clone().enumerate().map(move |(row, tile)| {
                let tile = tiles[tile];
                let transformed = axis.transformed(tile.outputs);
                let slots = std::array::from_fn(|slot| {
                    if slot >= axis.slots(tile.outputs) {
                        return (0, 0);
                    }
                    let weight = axis.weight(tile.outputs, slot);
                    let within = if slot < transformed { row } else { tile.start - first + slot - transformed };
                    (weight, index * self.uses[weight] + within)
                });
                TileRow { image, outputs: tile.outputs, start: tile.start, slots }
            })
        })
    }

    /// The lines of a segment for each of its runs, in a block of V or a register of M. The scratch has lines of `width`
    /// columns, where a run that starts at output `o` starts at column `first(o)`.
    fn lines(&self, row: &TileRow, segment: &RowSegment, width: usize, first: impl Fn(usize) -> usize) -> Table {
        let [vertical, horizontal] = self.axes();
        let uses = &self.call.plan.covers[1].uses;
        let mut table = [[Line::default(); MAX_SLOTS]; MAX_RUNS];
        for (run, lines) in segment.runs.iter().zip(&mut table) {
            let count = horizontal.slots(run.outputs);
            for (slot, line) in lines.iter_mut().enumerate().take(vertical.slots(row.outputs)) {
                line.scratch = (slot * width + first(run.start)) * self.call.plan.lanes;
                let (weight, place) = row.slots[slot];
                for (to, &(column, within)) in line.slots.iter_mut().zip(&run.slots).take(count) {
                    *to = self.starts[weight][column] + (place * uses[column] + within) * self.call.plan.lanes;
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
    v: Disjoint<'a, f32>,
    scratch: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { job, blocks, v, scratch } = self;
        let plan = job.call.plan;
        let [height, width] = plan.size;
        let [vertical, horizontal] = job.axes();
        let plane = height * width * S::LANES;
        for row in job.rows() {
            let slots = vertical.slots(row.outputs);
            let inputs = vertical.inputs(row.outputs);
            let top = (vertical.stride * row.start) as isize - plan.padding[0] as isize;
            let image = &job.call.input[row.image * plan.blocks * plane..][..plan.blocks * plane];
            for segment in &plan.segments {
                let columns = segment.inputs;
                let left = (horizontal.stride * segment.outputs.start) as isize - plan.padding[1] as isize;
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
                    let shape = vertical.shape(row.outputs);
                    let from = Streams { at: rows, step: S::LANES };
                    let to = Streams { at: targets, step: S::LANES };
                    // SAFETY: each input row was sliced to the columns inside the image, and zeros are as long as a
                    // row of the scratch; each of the tile's slots has a row of the scratch of its own.
                    unsafe { passes::input(simd, shape, inside.len(), from, to) };
                    for (run, lines) in segment.runs.iter().zip(&lines) {
                        let shape = horizontal.shape(run.outputs);
                        let lines = Lines { lines: &lines[..slots], count: run.count };
                        // SAFETY: a run reads the columns of the scratch that its tiles read, which are the segment's.
                        // What it writes belongs to this task's block; its columns are those that its tiles count, all
                        // inside the block, which has room for every column of every pair of points.
                        unsafe { passes::input_lines(simd, shape, lines, base, v.at(block * job.stride)) };
                    }
                }
            }
        }
    }
}

/// The products of a group of panels at all points, and their output transform.
struct Multiply<'a> {
    job: &'a Job<'a>,
    group: Range<usize>,
    v: &'a [f32],
    m: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { job, group, v, m, scratch } = self;
        let weights = job.call.weights;
        let panels = &weights.packed.panels[group.clone()];
        let registers = panels[0].vectors.start..panels[panels.len() - 1].vectors.end;
        match job.call.plan.form.storage {
            Storage::Transformed => multiply_transformed(simd, job, group, v, m),
            Storage::Raw => multiply_raw(simd, job, group.start, Buffers { v, m, scratch }),
        }
        for row in job.rows() {
            scatter(simd, job, &row, registers.clone(), m, scratch);
        }
    }
}

/// The products of a group with transformed filters.
#[inline(always)]
fn multiply_transformed<S: Simd>(simd: S, job: &Job<'_>, group: Range<usize>, v: &[f32], m: &mut [f32]) {
    let weights = job.call.weights;
    let first = weights.packed.panels[group.start].vectors.start;
    let points = weights.form.points();
    for point in 0..points {
        for index in group.clone() {
            let panel = &weights.packed.panels[index];
            // What is read next: the group's next panel at this point, its first one at the next, or the next group's.
            let next = if index + 1 < group.end {
                weights.at(index + 1, point)
            } else if point + 1 < points {
                weights.at(group.start, point + 1)
            } else {
                weights.at(group.end, 0)
            };
            let filters = Filters { weights: weights.at(index, point), next, panel, blocks: panel.blocks.clone() };
            let m = &mut m[(panel.vectors.start - first) * job.stride..];
            multiply(simd, job, point, filters, v, m);
        }
    }
}

/// What the products of a panel of raw filters work on.
struct Buffers<'a> {
    v: &'a [f32],
    m: &'a mut [f32],
    scratch: &'a mut [f32],
}

/// The products of a panel whose filters are transformed on the way, some blocks of channels at a time.
#[inline(always)]
fn multiply_raw<S: Simd>(simd: S, job: &Job<'_>, index: usize, buffers: Buffers<'_>) {
    let Buffers { v, m, scratch } = buffers;
    let WinogradWeights { form, packed } = job.call.weights;
    let panel = &packed.panels[index];
    let width = panel.vectors.len() * S::LANES;
    let each = plan::blocks_at_a_time(*form, panel, S::LANES);
    let (rows, transformed) = scratch.split_at_mut(3 * MAX_SLOTS * width);
    for first in panel.blocks.clone().step_by(each) {
        let blocks = first..(first + each).min(panel.blocks.end);
        let len = blocks.len() * S::LANES * width;
        let stride = len + SKEW;
        let raw = &packed.weights(index)[9 * (first - panel.blocks.start) * S::LANES * width..][..9 * len];
        transform(simd, job, Raw { width, taps: raw, rows }, transformed, stride);
        for (point, weights) in transformed.chunks_exact(stride).enumerate().take(form.points()) {
            let filters = Filters { weights, next: &[], panel, blocks: blocks.clone() };
            multiply(simd, job, point, filters, v, m);
        }
    }
}

/// Filters of some channels as they are, `[c][r][s][width]`, and room for those of a channel that are half transformed.
struct Raw<'a> {
    width: usize,
    taps: &'a [f32],
    rows: &'a mut [f32],
}

/// Transforms filters to `[point][c][width]`, points `stride` floats apart.
#[inline(always)]
fn transform<S: Simd>(simd: S, job: &Job<'_>, raw: Raw<'_>, transformed: &mut [f32], stride: usize) {
    let Raw { width, taps, rows } = raw;
    let [vertical, horizontal] = job.axes();
    let [tall, wide] = [vertical, horizontal].map(|axis| axis.shape(axis.largest));
    let rows = &mut rows[..vertical.weights() * 3 * width];
    for (channel, taps) in taps.chunks_exact(9 * width).enumerate() {
        passes::filter_columns(simd, tall, width, taps, rows);
        let filters = HalfTransformed { width, rows };
        passes::filter_rows(simd, wide, filters, &mut transformed[channel * width..], stride);
    }
}

/// The filters of a panel at one pair of points.
struct Filters<'a> {
    /// `[c][V · lanes]`.
    weights: &'a [f32],
    /// What is read after them; may be empty.
    next: &'a [f32],
    panel: &'a Panel,
    /// The channel blocks that they belong to: some or all of the panel's.
    blocks: Range<usize>,
}

/// The products at one pair of points, added to the panel's registers of M.
#[inline(always)]
fn multiply<S: Simd>(simd: S, job: &Job<'_>, point: usize, filters: Filters<'_>, v: &[f32], m: &mut [f32]) {
    let Filters { weights, next, panel, blocks } = filters;
    let wide = job.axes()[1].weights();
    let (row, column) = (point / wide, point % wide);
    let (count, start) = (job.columns[row][column], job.starts[row][column]);
    if count == 0 {
        return;
    }
    let reads_ahead = tile::reads_ahead(job.call.weights.bytes(), count);
    let product = Product::<F32> {
        panel: weights,
        vectors: panel.vectors.len(),
        columns: &v[blocks.start * job.stride + start..],
        layout: Columns::Blocks(S::LANES),
        depth: Depth::packed([1, 1, blocks.len()], [0, 0, job.stride], S::LANES * panel.vectors.len() * S::LANES),
        next: if reads_ahead { next } else { &[] },
        sum: if blocks.start == panel.blocks.start { Sum::Start } else { Sum::Continue },
    };
    for span in product.tiles(simd, count) {
        let floats = &mut m[start + span.first * S::LANES..];
        product.tile(simd, span, Target { sums: floats, register: job.stride, column: S::LANES });
    }
}

/// The output transform of a row of tiles, for some registers of channels, with the first of which M starts.
#[inline(always)]
fn scatter<S: Simd>(simd: S, job: &Job<'_>, row: &TileRow, registers: Range<usize>, m: &[f32], scratch: &mut [f32]) {
    let plan = job.call.plan;
    let [vertical, horizontal] = job.axes();
    let [height, width] = [0, 1].map(|axis| plan.covers[axis].extent());
    let slots = vertical.slots(row.outputs);
    for segment in &plan.segments {
        let columns = segment.outputs.len();
        let len = columns * S::LANES;
        let scratch = &mut scratch[..slots * len];
        let lines = job.lines(row, segment, columns, |output| output - segment.outputs.start);
        for register in registers.clone() {
            let m = m[(register - registers.start) * job.stride..][..job.stride].as_ptr();
            let base = scratch.as_mut_ptr();
            for (run, lines) in segment.runs.iter().zip(&lines) {
                let shape = horizontal.shape(run.outputs);
                let lines = Lines { lines: &lines[..slots], count: run.count };
                // SAFETY: the columns that the run's tiles count lie inside the register of M, which has room for every
                // column of every pair of points; its outputs are the segment's, which the scratch has room for.
                unsafe { passes::output_lines(simd, shape, lines, m, base) };
            }
            let plane = (row.image * plan.registers + register) * height * width;
            let start = |i: usize| (plane + (row.start + i) * width + segment.outputs.start) * S::LANES;
            let mut from = [base.cast_const(); MAX_SLOTS];
            for (slot, from) in from.iter_mut().enumerate() {
                *from = base.cast_const().wrapping_add(slot * len);
            }
            let mut targets = [std::ptr::null_mut(); MAX_SLOTS];
            for (i, target) in targets.iter_mut().enumerate().take(row.outputs) {
                // SAFETY: rows of an image that belong to a row of tiles and a register are one task's.
                *target = unsafe { job.call.output.slice(start(i), len) }.as_mut_ptr();
            }
            let channels = register * S::LANES..(register + 1) * S::LANES;
            let addend = job.call.epilogue.addend.map(|Addend { values, scale }| {
                let mut rows = [std::ptr::null(); MAX_SLOTS];
                for (i, row) in rows.iter_mut().enumerate().take(row.outputs) {
                    *row = values[start(i)..][..len].as_ptr();
                }
                AddendStreams { values: Streams { at: rows, step: S::LANES }, scale: &scale[channels.clone()] }
            });
            let ending = Ending { bias: &job.call.epilogue.bias[channels], floor: job.call.epilogue.floor, addend };
            let shape = vertical.shape(row.outputs);
            let from = Streams { at: from, step: S::LANES };
            let to = Streams { at: targets, step: S::LANES };
            // SAFETY: each slot of the tile has a row of the scratch; targets and addends were sliced to what is written.
            unsafe { passes::finish(simd, shape, columns, from, to, ending) };
        }
    }
}

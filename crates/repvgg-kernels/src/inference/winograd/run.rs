//! Running: the input transform of a chunk of tiles, its products at all points, and its output transform.

#![expect(unsafe_code, reason = "tasks write disjoint parts of V and of the output, which are not contiguous")]

use std::ops::Range;

use super::passes::{self, AddendStreams, HalfTransformed, Line, Lines, RegisterEpilogue, Streams};
use super::plan::{self, Chunk, RowSegment, SKEW, Sharing, WorkspaceParts};
use super::{Storage, WinogradPlan, WinogradWeights};
use crate::ThreadPool;
use crate::inference::{Addend, Arguments, Epilogue};
use crate::isa::{Kernel, Simd};
use crate::threads::{Disjoint, TaskQueue};
use crate::tile::{self, Accumulate, ColumnLayout, F32, FilterPanel, Product, Reduction, TileOutput};
use crate::winograd::cover::{AxisTiles, MAX_RUNS, SlotPlace};
use crate::winograd::transform::MAX_SLOTS;

/// Tasks per thread of a phase that threads share.
const TASKS_PER_THREAD: usize = 4;

/// The operands of one run.
struct Run<'a> {
    plan: &'a WinogradPlan,
    weights: &'a WinogradWeights,
    input: &'a [f32],
    epilogue: Epilogue<'a>,
    output: Disjoint<'a, f32>,
}

impl WinogradPlan {
    /// Computes `output = epilogue(conv(input))`.
    pub(crate) fn run(&self, weights: &WinogradWeights, pool: &ThreadPool, arguments: Arguments<'_>) {
        let Arguments { images, input, epilogue, output, workspace } = arguments;
        let rows = self.covers[0].tiles.len();
        let chunks = self.chunking.count(images);
        let run = Run { plan: self, weights, input, epilogue, output: Disjoint::new(output) };
        let job = |chunk: usize| ChunkJob::new(&run, self.chunking.get(chunk, images, rows));
        match self.chunking.sharing {
            Sharing::Chunks => pool.run_with_scratch(chunks, workspace, |chunk, workspace| {
                self.compute(&job(chunk), workspace, 0..self.groups.len());
            }),
            Sharing::Filters => (0..chunks).for_each(|chunk| self.share_filters(&job(chunk), pool, workspace)),
            Sharing::Phases => (0..chunks).for_each(|chunk| self.share_phases(&job(chunk), pool, workspace)),
        }
    }

    /// Computes a chunk with threads that share its filters; each transforms the entire input.
    fn share_filters(&self, job: &ChunkJob<'_>, pool: &ThreadPool, workspace: &mut [f32]) {
        let groups = TaskQueue::new(self.groups.len());
        pool.run_with_scratch(pool.threads(), workspace, |task, workspace| {
            // A late task may find all groups claimed, and then needs no input.
            if !groups.is_empty() {
                self.compute(job, workspace, std::iter::from_fn(|| groups.claim(task)));
            }
        });
    }

    /// Computes a chunk with threads that share its input transform, and then its filters.
    fn share_phases(&self, job: &ChunkJob<'_>, pool: &ThreadPool, workspace: &mut [f32]) {
        let WorkspaceParts { v, m, .. } = self.parts;
        let (v, workspace) = workspace.split_at_mut(v);
        let tasks = (pool.threads() * TASKS_PER_THREAD).min(self.blocks);
        let shared = Disjoint::new(v);
        pool.run_with_scratch(tasks, workspace, |task, workspace| {
            let blocks = task * self.blocks / tasks..(task + 1) * self.blocks / tasks;
            self.level.run(InputTransform { job, blocks, v: shared, scratch: &mut workspace[m..] });
        });
        pool.run_with_scratch(self.groups.len(), workspace, |group, workspace| {
            let (m, scratch) = workspace.split_at_mut(m);
            self.level.run(GroupProducts { job, group: self.groups[group].clone(), v, m, scratch });
        });
    }

    /// Transforms the input of a chunk, and computes its outputs for some groups of filters.
    fn compute(&self, job: &ChunkJob<'_>, workspace: &mut [f32], groups: impl Iterator<Item = usize>) {
        let (v, rest) = workspace.split_at_mut(self.parts.v);
        let (m, scratch) = rest.split_at_mut(self.parts.m);
        self.level.run(InputTransform { job, blocks: 0..self.blocks, v: Disjoint::new(v), scratch });
        for group in groups {
            self.level.run(GroupProducts { job, group: self.groups[group].clone(), v, m, scratch });
        }
    }
}

/// The layout of one chunk in V and M.
struct ChunkJob<'a> {
    run: &'a Run<'a>,
    chunk: Chunk,
    /// For each row of weights, how often the rows of tiles of an image use it.
    uses: [usize; MAX_SLOTS],
    /// The number of columns at each pair of points.
    columns: [[usize; MAX_SLOTS]; MAX_SLOTS],
    /// The start of these columns in a block of V or a register of M.
    starts: [[usize; MAX_SLOTS]; MAX_SLOTS],
    /// Floats between the blocks of V and between the registers of M.
    stride: usize,
}

/// A row of tiles of one image.
struct TileRow {
    image: usize,
    outputs: usize,
    start: usize,
    /// The place of each vertical slot.
    slots: [SlotPlace; MAX_SLOTS],
}

impl<'a> ChunkJob<'a> {
    fn new(run: &'a Run<'a>, chunk: Chunk) -> Self {
        let plan = run.plan;
        let columns = plan::columns(&plan.covers, &chunk);
        let mut starts = columns;
        let mut total = 0;
        for start in starts.iter_mut().flatten() {
            total += std::mem::replace(start, total);
        }
        starts.iter_mut().flatten().for_each(|start| *start *= plan.lanes);
        let uses = plan::uses(&plan.covers[0], chunk.rows.clone());
        let stride = plan::stride(total, plan.lanes);
        Self { run, chunk, uses, columns, starts, stride }
    }

    fn axes(&self) -> [AxisTiles; 2] {
        [0, 1].map(|axis| self.run.plan.covers[axis].axis)
    }

    fn rows(&self) -> impl Iterator<Item = TileRow> {
        let (axis, tiles) = (self.axes()[0], &self.run.plan.covers[0].tiles);
        let first = tiles[self.chunk.rows.start].start;
        self.chunk.images.clone().enumerate().flat_map(move |(index, image)| {
            self.chunk.rows.clone().enumerate().map(move |(row, tile)| {
                let tile = tiles[tile];
                let transformed = axis.transformed(tile.outputs);
                let slots = std::array::from_fn(|slot| {
                    if slot >= axis.slots(tile.outputs) {
                        return SlotPlace::default();
                    }
                    let weight = axis.weight(tile.outputs, slot);
                    let within = if slot < transformed { row } else { tile.start - first + slot - transformed };
                    SlotPlace { weight, index: index * self.uses[weight] + within }
                });
                TileRow { image, outputs: tile.outputs, start: tile.start, slots }
            })
        })
    }

    /// The lines of each run of a segment, in a block of V or a register of M. The scratch has lines of `width` columns, in
    /// which a run that starts at output `o` starts at column `first(o)`.
    fn lines(&self, row: &TileRow, segment: &RowSegment, width: usize, first: impl Fn(usize) -> usize) -> LineTable {
        let [vertical, horizontal] = self.axes();
        let uses = &self.run.plan.covers[1].uses;
        let mut table = [[Line::default(); MAX_SLOTS]; MAX_RUNS];
        for (run, lines) in segment.runs.iter().zip(&mut table) {
            let count = horizontal.slots(run.outputs);
            for (slot, line) in lines.iter_mut().enumerate().take(vertical.slots(row.outputs)) {
                line.scratch = (slot * width + first(run.start)) * self.run.plan.lanes;
                let vertical = row.slots[slot];
                for (to, horizontal) in line.slots.iter_mut().zip(&run.slots).take(count) {
                    let start = self.starts[vertical.weight][horizontal.weight];
                    let column = vertical.index * uses[horizontal.weight] + horizontal.index;
                    *to = start + column * self.run.plan.lanes;
                }
            }
        }
        table
    }
}

/// A line for each run and vertical slot.
type LineTable = [[Line; MAX_SLOTS]; MAX_RUNS];

/// A task: the input transform of some channel blocks.
struct InputTransform<'a> {
    job: &'a ChunkJob<'a>,
    blocks: Range<usize>,
    v: Disjoint<'a, f32>,
    scratch: &'a mut [f32],
}

impl Kernel for InputTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { job, blocks, v, scratch } = self;
        let plan = job.run.plan;
        let [height, width] = plan.size;
        let [vertical, horizontal] = job.axes();
        let plane = height * width * S::LANES;
        for row in job.rows() {
            let slots = vertical.slots(row.outputs);
            let inputs = vertical.inputs(row.outputs);
            let top = (vertical.stride * row.start) as isize - plan.padding[0] as isize;
            let image = &job.run.input[row.image * plan.blocks * plane..][..plan.blocks * plane];
            for segment in &plan.row_segments {
                let columns = segment.inputs;
                let left = (horizontal.stride * segment.outputs.start) as isize - plan.padding[1] as isize;
                // Columns of the scratch that are inside the image.
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
                    let kind = vertical.kind(row.outputs);
                    let from = Streams { at: rows, step: S::LANES };
                    let to = Streams { at: targets, step: S::LANES };
                    // SAFETY: each input row is a slice of the columns inside the image, and the row of zeros is as long as a
                    // row of the scratch. Each slot of the tile has its own row of the scratch.
                    unsafe { passes::input_rows(simd, kind, inside.len(), from, to) };
                    for (run, lines) in segment.runs.iter().zip(&lines) {
                        let kind = horizontal.kind(run.outputs);
                        let lines = Lines { lines: &lines[..slots], count: run.count };
                        // SAFETY: a run reads columns of its segment, all of which are in the scratch. It writes only to this
                        // task's block of V, which has room for every column of every pair of points.
                        unsafe { passes::input_lines(simd, kind, lines, base, v.pointer(block * job.stride)) };
                    }
                }
            }
        }
    }
}

/// A task: the products of a group of panels at all points, and their output transform.
struct GroupProducts<'a> {
    job: &'a ChunkJob<'a>,
    group: Range<usize>,
    v: &'a [f32],
    m: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for GroupProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { job, group, v, m, scratch } = self;
        let weights = job.run.weights;
        let panels = &weights.packed.panels[group.clone()];
        let registers = panels[0].vectors.start..panels[panels.len() - 1].vectors.end;
        match job.run.plan.form.storage {
            Storage::Transformed => multiply_transformed(simd, job, group, v, m),
            Storage::Raw => multiply_raw(simd, job, group.start, Buffers { v, m, scratch }),
        }
        for row in job.rows() {
            transform_outputs(simd, job, &row, registers.clone(), m, scratch);
        }
    }
}

/// Computes the products of a group with transformed filters.
#[inline(always)]
fn multiply_transformed<S: Simd>(simd: S, job: &ChunkJob<'_>, group: Range<usize>, v: &[f32], m: &mut [f32]) {
    let weights = job.run.weights;
    let first = weights.packed.panels[group.start].vectors.start;
    let points = weights.form.points();
    for point in 0..points {
        for index in group.clone() {
            let panel = &weights.packed.panels[index];
            // The next panel to read: the group's next at this point, its first at the next point, or the next group's first.
            let next = if index + 1 < group.end {
                weights.at(index + 1, point)
            } else if point + 1 < points {
                weights.at(group.start, point + 1)
            } else {
                weights.at(group.end, 0)
            };
            let filters = PointFilters { weights: weights.at(index, point), next, panel, blocks: panel.blocks.clone() };
            let m = &mut m[(panel.vectors.start - first) * job.stride..];
            multiply(simd, job, point, filters, v, m);
        }
    }
}

/// The buffers for the products of a panel of raw filters.
struct Buffers<'a> {
    v: &'a [f32],
    m: &'a mut [f32],
    scratch: &'a mut [f32],
}

/// Computes the products of a panel of raw filters, which are transformed some blocks of channels at a time.
#[inline(always)]
fn multiply_raw<S: Simd>(simd: S, job: &ChunkJob<'_>, index: usize, buffers: Buffers<'_>) {
    let Buffers { v, m, scratch } = buffers;
    let WinogradWeights { form, packed } = job.run.weights;
    let panel = &packed.panels[index];
    let width = panel.vectors.len() * S::LANES;
    let blocks_per_pass = plan::blocks_per_pass(*form, panel, S::LANES);
    let (rows, transformed) = scratch.split_at_mut(3 * MAX_SLOTS * width);
    for first in panel.blocks.clone().step_by(blocks_per_pass) {
        let blocks = first..(first + blocks_per_pass).min(panel.blocks.end);
        let len = blocks.len() * S::LANES * width;
        let stride = len + SKEW;
        let raw = &packed.weights(index)[9 * (first - panel.blocks.start) * S::LANES * width..][..9 * len];
        transform_filters(simd, job, RawFilters { width, taps: raw, rows }, transformed, stride);
        for (point, weights) in transformed.chunks_exact(stride).enumerate().take(form.points()) {
            let filters = PointFilters { weights, next: &[], panel, blocks: blocks.clone() };
            multiply(simd, job, point, filters, v, m);
        }
    }
}

/// Raw filters of some channels.
struct RawFilters<'a> {
    /// Filters in a row.
    width: usize,
    /// `[c][r][s][width]`.
    taps: &'a [f32],
    /// Scratch for the half-transformed filters of one channel.
    rows: &'a mut [f32],
}

/// Transforms filters to `[point][c][width]`, with `stride` floats between points.
#[inline(always)]
fn transform_filters<S: Simd>(
    simd: S,
    job: &ChunkJob<'_>,
    raw: RawFilters<'_>,
    transformed: &mut [f32],
    stride: usize,
) {
    let RawFilters { width, taps, rows } = raw;
    let [vertical, horizontal] = job.axes();
    let [tall, wide] = [vertical, horizontal].map(|axis| axis.kind(axis.largest));
    let rows = &mut rows[..vertical.weights() * 3 * width];
    for (channel, taps) in taps.chunks_exact(9 * width).enumerate() {
        passes::filter_columns(simd, tall, width, taps, rows);
        let filters = HalfTransformed { width, rows };
        passes::filter_rows(simd, wide, filters, &mut transformed[channel * width..], stride);
    }
}

/// The filters of a panel at one pair of points.
struct PointFilters<'a> {
    /// `[c][V · lanes]`.
    weights: &'a [f32],
    /// The filters that are read next; may be empty.
    next: &'a [f32],
    panel: &'a FilterPanel,
    /// The channel blocks of these filters: some or all of the panel's.
    blocks: Range<usize>,
}

/// Adds the products at one pair of points to the panel's registers of M.
#[inline(always)]
fn multiply<S: Simd>(simd: S, job: &ChunkJob<'_>, point: usize, filters: PointFilters<'_>, v: &[f32], m: &mut [f32]) {
    let PointFilters { weights, next, panel, blocks } = filters;
    let horizontal = job.axes()[1].weights();
    let (row, column) = (point / horizontal, point % horizontal);
    let (count, start) = (job.columns[row][column], job.starts[row][column]);
    if count == 0 {
        return;
    }
    let should_prefetch = tile::should_prefetch(job.run.weights.bytes(), count);
    let product = Product::<F32> {
        panel: weights,
        vectors: panel.vectors.len(),
        columns: &v[blocks.start * job.stride + start..],
        layout: ColumnLayout::Blocks(S::LANES),
        reduction: Reduction::packed(
            [1, 1, blocks.len()],
            [0, 0, job.stride],
            S::LANES * panel.vectors.len() * S::LANES,
        ),
        next: if should_prefetch { next } else { &[] },
        accumulate: if blocks.start == panel.blocks.start { Accumulate::Overwrite } else { Accumulate::Add },
    };
    for span in product.tiles(simd, count) {
        let sums = &mut m[start + span.first * S::LANES..];
        product.tile(simd, span, TileOutput { sums, register_stride: job.stride, column_stride: S::LANES });
    }
}

/// The output transform of a row of tiles for some registers of channels, whose products `m` holds.
#[inline(always)]
fn transform_outputs<S: Simd>(
    simd: S,
    job: &ChunkJob<'_>,
    row: &TileRow,
    registers: Range<usize>,
    m: &[f32],
    scratch: &mut [f32],
) {
    let plan = job.run.plan;
    let [vertical, horizontal] = job.axes();
    let [height, width] = [0, 1].map(|axis| plan.covers[axis].extent());
    let slots = vertical.slots(row.outputs);
    for segment in &plan.row_segments {
        let columns = segment.outputs.len();
        let len = columns * S::LANES;
        let scratch = &mut scratch[..slots * len];
        let lines = job.lines(row, segment, columns, |output| output - segment.outputs.start);
        for register in registers.clone() {
            let m = m[(register - registers.start) * job.stride..][..job.stride].as_ptr();
            let base = scratch.as_mut_ptr();
            for (run, lines) in segment.runs.iter().zip(&lines) {
                let kind = horizontal.kind(run.outputs);
                let lines = Lines { lines: &lines[..slots], count: run.count };
                // SAFETY: the columns of the run are inside the register of M, which has room for every column of every pair
                // of points. The scratch has room for the outputs of the segment, which include those of the run.
                unsafe { passes::output_lines(simd, kind, lines, m, base) };
            }
            let plane = (row.image * plan.registers + register) * height * width;
            let start = |i: usize| (plane + (row.start + i) * width + segment.outputs.start) * S::LANES;
            let mut from = [base.cast_const(); MAX_SLOTS];
            for (slot, from) in from.iter_mut().enumerate() {
                *from = base.cast_const().wrapping_add(slot * len);
            }
            let mut targets = [std::ptr::null_mut(); MAX_SLOTS];
            for (i, target) in targets.iter_mut().enumerate().take(row.outputs) {
                // SAFETY: only this task writes the rows of this row of tiles and register.
                *target = unsafe { job.run.output.slice(start(i), len) }.as_mut_ptr();
            }
            let channels = register * S::LANES..(register + 1) * S::LANES;
            let addend = job.run.epilogue.addend.map(|Addend { values, scale }| {
                let mut rows = [std::ptr::null(); MAX_SLOTS];
                for (i, row) in rows.iter_mut().enumerate().take(row.outputs) {
                    *row = values[start(i)..][..len].as_ptr();
                }
                AddendStreams { values: Streams { at: rows, step: S::LANES }, scale: &scale[channels.clone()] }
            });
            let epilogue =
                RegisterEpilogue { bias: &job.run.epilogue.bias[channels], floor: job.run.epilogue.floor, addend };
            let kind = vertical.kind(row.outputs);
            let from = Streams { at: from, step: S::LANES };
            let to = Streams { at: targets, step: S::LANES };
            // SAFETY: each slot of the tile has a row of the scratch; targets and addends are slices of `columns` registers.
            unsafe { passes::output_rows(simd, kind, columns, from, to, epilogue) };
        }
    }
}

//! Direct convolution of any geometry: every kernel position is a step of the reduction ([`crate::tile`]).
//!
//! A task computes a window of outputs for some panels of filters. If the convolution pads, the task stages the input of its
//! window with the border of zeros; otherwise it reads the input in place. A 1×1 convolution is a plain matrix product. On maps
//! of one pixel, the columns are the images: a fully connected layer.

#![expect(unsafe_code, reason = "tasks write disjoint runs of the output, which are not contiguous")]

use std::ops::Range;

use super::spec::{ConvSpec, Layout, Site};
use super::{Arguments, Epilogue};
use crate::isa::{Kernel, Level, MAX_TILE, Simd};
use crate::threads::Disjoint;
use crate::tile::{
    self, Accumulate, ColumnLayout, DivideFilters, F32, FilterPanel, PackedPanels, Product, Reduction, TileOutput,
};
use crate::{Geometry, ThreadPool};

/// Floats of input that a window reads: with a panel of weights, they fill a second-level cache of 512 KiB.
const WINDOW_FLOATS: usize = 64 << 10;
/// The fewest outputs of a window, so that reading all weights once per window is not the bottleneck.
const MIN_WINDOW_OUTPUTS: usize = 32;
/// The fewest tasks per thread; below, the panels of a window are divided among tasks as well.
const MIN_TASKS_PER_THREAD: usize = 3;

/// The weights of a convolution, packed panel by panel: `[panel][c block][r][s][lane][V · lanes]`, or
/// `[panel][c][r][s][V · lanes]` for planar input.
#[derive(Debug)]
pub(super) struct DirectWeights(PackedPanels);

/// A plan for applying a direct convolution to images of one size.
#[derive(Debug)]
pub(super) struct DirectPlan {
    level: Level,
    lanes: usize,
    spec: ConvSpec,
    batch: usize,
    size: [usize; 2],
    output: [usize; 2],
    threads: usize,
}

/// The outputs, arranged in rows of equally spaced columns.
#[derive(Clone, Copy)]
struct Grid {
    planes: usize,
    rows: usize,
    columns: usize,
    /// Floats of the input between neighbouring columns.
    input_step: usize,
    /// Floats of the output between neighbouring columns.
    output_step: usize,
}

/// Outputs that are computed together.
struct OutputWindow {
    plane: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl DirectWeights {
    /// Packs `weights` `[K, C/G, R, S]`.
    ///
    /// # Errors
    ///
    /// If the system cannot allocate the memory.
    pub(super) fn pack(pool: &ThreadPool, level: Level, spec: &ConvSpec, weights: &[f32]) -> std::io::Result<Self> {
        let lanes = level.lanes();
        let taps = spec.geometry.kernel[0] * spec.geometry.kernel[1];
        let len = |panel: &FilterPanel| channels(spec, lanes, panel).len() * taps * panel.vectors.len() * lanes;
        let pack = |panel: &FilterPanel, target: &mut [f32]| pack_panel(spec, lanes, panel, weights, target);
        PackedPanels::pack(pool, level.run(DivideFilters(&spec.geometry)), len, pack).map(Self)
    }

    /// The size of the packed weights in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl DirectPlan {
    pub(super) fn new(level: Level, spec: &ConvSpec, site: Site, threads: usize) -> Self {
        let Site { batch, size } = site;
        let output = spec.geometry.output_size(size).expect("the geometry fits the size");
        Self { level, lanes: level.lanes(), spec: *spec, batch, size, output, threads }
    }

    /// The number of workspace elements that a run needs.
    pub(super) fn workspace_len(&self) -> usize {
        self.threads * self.staged_len(self.window(self.grid(self.batch)))
    }

    fn is_staged(&self) -> bool {
        self.spec.geometry.padding != [0, 0]
    }

    fn grid(&self, images: usize) -> Grid {
        let Geometry { kernel, stride, .. } = self.spec.geometry;
        let [rows, columns] = self.output;
        let registers = self.spec.geometry.out_channels.div_ceil(self.lanes);
        let blocks = self.spec.geometry.in_channels.div_ceil(self.lanes);
        let step = if self.spec.layout == Layout::Planar { 1 } else { self.lanes };
        if kernel != [1, 1] || stride != [1, 1] || self.is_staged() {
            return Grid { planes: images, rows, columns, input_step: stride[1] * step, output_step: self.lanes };
        }
        if rows * columns == 1 && self.spec.layout == Layout::Blocked {
            let [input_step, output_step] = [blocks, registers].map(|count| count * self.lanes);
            return Grid { planes: 1, rows: 1, columns: images, input_step, output_step };
        }
        Grid { planes: images, rows: 1, columns: rows * columns, input_step: step, output_step: self.lanes }
    }

    /// Rows and columns of a full window.
    fn window(&self, grid: Grid) -> [usize; 2] {
        let channels = self.spec.geometry.in_channels.next_multiple_of(self.lanes);
        let per_output = self.spec.geometry.stride[0] * self.spec.geometry.stride[1] * channels;
        let outputs = (WINDOW_FLOATS / per_output).max(MIN_WINDOW_OUTPUTS);
        // Staging copies entire rows.
        if grid.rows == 1 && !self.is_staged() {
            return [1, grid.columns.div_ceil(grid.columns.div_ceil(outputs).max(1))];
        }
        let rows = outputs.div_ceil(grid.columns).min(grid.rows);
        [grid.rows.div_ceil(grid.rows.div_ceil(rows)), grid.columns]
    }

    /// Rows and columns of the staged input of a window.
    fn staged_size(&self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        let Geometry { kernel, stride, dilation, .. } = self.spec.geometry;
        let outputs = [rows, columns];
        [0, 1].map(|axis| (outputs[axis] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1)
    }

    fn staged_len(&self, window: [usize; 2]) -> usize {
        if !self.is_staged() {
            return 0;
        }
        let [rows, columns] = self.staged_size(window);
        self.map_count() * rows * columns * self.step()
    }

    /// Maps of an input image: channels, or blocks of channels.
    fn map_count(&self) -> usize {
        self.spec.geometry.in_channels.div_ceil(self.step())
    }

    /// Floats of a pixel in a map of the input.
    fn step(&self) -> usize {
        if self.spec.layout == Layout::Planar { 1 } else { self.lanes }
    }

    /// Computes `output = epilogue(conv(input))`.
    pub(super) fn run(&self, weights: &DirectWeights, pool: &ThreadPool, arguments: Arguments<'_>) {
        let Arguments { images, input, epilogue, output, workspace } = arguments;
        let DirectWeights(weights) = weights;
        let count = weights.panels.len();
        let grid = self.grid(images);
        let [rows, columns] = self.window(grid);
        let per_plane = grid.rows.div_ceil(rows) * grid.columns.div_ceil(columns.max(1));
        let windows = grid.planes * per_plane;
        let splits = (MIN_TASKS_PER_THREAD * pool.threads()).div_ceil(windows.max(1)).min(count);
        let splits = if pool.threads() == 1 { 1 } else { splits };
        let output = Disjoint::new(output);
        pool.run_with_scratch(windows * splits, workspace, |task, staged| {
            let (window, part) = (task / splits, task % splits);
            let (plane, index) = (window / per_plane, window % per_plane);
            // Windows divide a grid along one axis only.
            let slice = |each: usize, len: usize| index * each..((index + 1) * each).min(len);
            let window = if grid.rows > 1 {
                OutputWindow { plane, rows: slice(rows, grid.rows), columns: 0..grid.columns }
            } else {
                OutputWindow { plane, rows: 0..1, columns: slice(columns, grid.columns) }
            };
            let panels = part * count / splits..(part + 1) * count / splits;
            self.level.run(WindowTask { plan: self, weights, grid, window, panels, input, epilogue, output, staged });
        });
    }
}

/// The channels that a panel reads: all lanes of its blocks if the input is blocked.
fn channels(spec: &ConvSpec, lanes: usize, panel: &FilterPanel) -> Range<usize> {
    let padded = panel.blocks.start * lanes..panel.blocks.end * lanes;
    match spec.layout {
        Layout::Planar => padded.start..padded.end.min(spec.geometry.in_channels),
        Layout::Blocked => padded,
    }
}

/// Packs the weights of one panel.
fn pack_panel(spec: &ConvSpec, lanes: usize, panel: &FilterPanel, weights: &[f32], target: &mut [f32]) {
    let ConvSpec { geometry, layout } = spec;
    let taps = geometry.kernel[0] * geometry.kernel[1];
    let [filters, per_group] = [geometry.out_channels, geometry.in_channels].map(|count| count / geometry.groups);
    let width = panel.vectors.len() * lanes;
    let channels = channels(spec, lanes, panel);
    let inner = if *layout == Layout::Planar { 1 } else { lanes };
    let first = panel.vectors.start * lanes;
    for filter in first..(first + width).min(geometry.out_channels) {
        let group = filter / filters * per_group;
        for channel in group.max(channels.start)..(group + per_group).min(channels.end) {
            let kernel = &weights[(filter * per_group + channel - group) * taps..][..taps];
            let (block, lane) = ((channel - channels.start) / inner, (channel - channels.start) % inner);
            for (tap, &weight) in kernel.iter().enumerate() {
                target[((block * taps + tap) * inner + lane) * width + filter - first] = weight;
            }
        }
    }
}

/// A task: the outputs of one window for some panels.
struct WindowTask<'a> {
    plan: &'a DirectPlan,
    weights: &'a PackedPanels,
    grid: Grid,
    window: OutputWindow,
    panels: Range<usize>,
    input: &'a [f32],
    epilogue: Epilogue<'a>,
    output: Disjoint<'a, f32>,
    staged: &'a mut [f32],
}

impl Kernel for WindowTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan, weights, grid, window, panels, input, epilogue, output, staged } = self;
        let Geometry { kernel, stride, dilation, .. } = plan.spec.geometry;
        let step = plan.step();
        let plane = plan.size[0] * plan.size[1] * step;
        let image = &input[window.plane * plan.map_count() * plane..];
        // The input from the window's first element on, and the floats of a row and of a map.
        let (data, row, map) = if plan.is_staged() {
            let [rows, columns] = plan.staged_size([window.rows.len(), window.columns.len()]);
            stage(plan, image, window.rows.start * stride[0], [rows, columns], staged);
            (&*staged, columns * step, rows * columns * step)
        } else {
            let first = window.rows.start * stride[0] * plan.size[1] * step + window.columns.start * grid.input_step;
            (&image[first..], plan.size[1] * step, plane)
        };
        let outputs = plan.output[0] * plan.output[1];
        let registers = plan.spec.geometry.out_channels.div_ceil(S::LANES);
        let count = window.columns.len();
        let should_prefetch = tile::should_prefetch(weights.bytes(), window.rows.len() * count);
        let mut tile_sums = [0.0; MAX_TILE];
        for index in panels {
            let panel = &weights.panels[index];
            let next = if should_prefetch { weights.weights_or_empty(index + 1) } else { &[] };
            let channels = channels(&plan.spec, S::LANES, panel);
            let steps = [channels.len() / step, kernel[0], kernel[1]];
            let strides = [map, dilation[0] * row, dilation[1] * step];
            let reduction = Reduction::packed(steps, strides, step * panel.vectors.len() * S::LANES);
            for y in window.rows.clone() {
                let product = Product::<F32> {
                    panel: weights.weights(index),
                    vectors: panel.vectors.len(),
                    columns: &data[channels.start / step * map + (y - window.rows.start) * stride[0] * row..],
                    layout: match plan.spec.layout {
                        Layout::Planar => ColumnLayout::Planar(grid.input_step),
                        Layout::Blocked => ColumnLayout::Blocks(grid.input_step),
                    },
                    reduction,
                    next,
                    accumulate: Accumulate::Overwrite,
                };
                for span in product.tiles(simd, count) {
                    let stride = span.count * S::LANES;
                    let output_of_tile =
                        TileOutput { sums: &mut tile_sums, register_stride: stride, column_stride: S::LANES };
                    product.tile(simd, span, output_of_tile);
                    for (sums, register) in tile_sums.chunks_exact(stride).zip(panel.vectors.clone()) {
                        let first = window.columns.start + span.first;
                        if grid.output_step == S::LANES {
                            let map = window.plane * registers + register;
                            let pixel = y * grid.columns + first;
                            let at = (map * outputs + pixel) * S::LANES;
                            // SAFETY: only this task writes this run of outputs of the register.
                            let target = unsafe { output.slice(at, stride) };
                            epilogue.finish(simd, register, at, sums, target);
                        } else {
                            for (column, sums) in sums.chunks_exact(S::LANES).enumerate() {
                                let at = (first + column) * grid.output_step + register * S::LANES;
                                // SAFETY: as above.
                                let target = unsafe { output.slice(at, S::LANES) };
                                epilogue.finish(simd, register, at, sums, target);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Stages `rows` rows starting at row `top` of the padded image, border of zeros included.
#[inline(always)]
fn stage(plan: &DirectPlan, image: &[f32], top: usize, [rows, columns]: [usize; 2], staged: &mut [f32]) {
    let [height, width] = plan.size;
    let step = plan.step();
    let [above, left] = plan.spec.geometry.padding;
    let inside = left.min(columns)..(left + width).min(columns).max(left.min(columns));
    for (index, line) in staged[..plan.map_count() * rows * columns * step].chunks_exact_mut(columns * step).enumerate()
    {
        let (map, y) = (index / rows, top + index % rows);
        if y < above || y >= above + height || inside.is_empty() {
            line.fill(0.0);
            continue;
        }
        line[..inside.start * step].fill(0.0);
        line[inside.end * step..].fill(0.0);
        let source = ((map * height + y - above) * width) * step;
        let len = inside.len() * step;
        line[inside.start * step..][..len].copy_from_slice(&image[source..][..len]);
    }
}

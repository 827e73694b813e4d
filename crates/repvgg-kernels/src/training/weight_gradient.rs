//! The gradient of the weights, as a matrix product over pixels.
//!
//! ```text
//! dw[k, (c, r, s)] = Σ_(n, p, q) dy[k, (n, p, q)] · x[c, (n, p·stride + …, q·stride + …)]
//! ```
//!
//! The reduction runs over pixels, so the tile needs both factors in pixel-major order. `dy` is transposed to
//! `[pixel][filter]`, and staged planes of `x` ([`super::stencil`]) to `[position][channel]`. Every tap is then an offset, and
//! the columns of the taps need no packing. If a group has fewer channels than a register has lanes, lanes hold pairs of a
//! channel and a tap instead.
//!
//! The division of the windows into chunks depends only on the geometry. Each chunk sums its windows in order, and the sums of
//! the chunks are added in order. Results are therefore bit-equal for any number of threads.

mod division;
mod transposition;

use std::ops::Range;

use super::TrainingConv2d;
use super::stencil::{ChannelWindow, Images, Window};
use crate::ThreadPool;
use crate::isa::{Kernel, MAX_LANES, Simd};
use crate::tile::{Accumulate, ColumnLayout, F32, Product, Span, TileOutput};
use division::{Division, Extent, LaneContents, Part, RowPanel};
use transposition::{FilterPlanes, LaneStarts, PlaneLines, pack_positions};

/// Computes `∂L/∂w` `[K, C/G, R, S]` from `x` `[N, C, H, W]` and `∂L/∂y` `[N, K, P, Q]`.
pub(super) fn weight_gradient(conv: &TrainingConv2d, pool: &ThreadPool, x: Images<'_>, dy: Images<'_>, dw: &mut [f32]) {
    if conv.batch == 0 {
        return dw.fill(0.0);
    }
    let division = Division::new(conv);
    let mut sums = vec![0.0; division.tasks() * division.sums_len()];
    let mut scratch = vec![0.0; pool.threads() * division.scratch().iter().sum::<usize>()];
    pool.for_each_chunk_with_scratch(&mut sums, division.sums_len(), &mut scratch, |task, sums, scratch| {
        division.level.run(GradientTask { division: &division, part: division.part(task), x, dy, sums, scratch });
    });
    pool.for_each_chunk(dw, division.lanes * division.products, |filter, dw| division.reduce_chunks(&sums, filter, dw));
}

/// One task of a [`Division`].
struct GradientTask<'a> {
    division: &'a Division,
    part: Part,
    x: Images<'a>,
    dy: Images<'a>,
    sums: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for GradientTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { division, part, x, dy, sums, scratch } = self;
        let [staged, positions, _] = division.scratch();
        let (staged, rest) = scratch.split_at_mut(staged);
        let (positions, filters) = rest.split_at_mut(positions);
        let group = part.group * division.filters..(part.group + 1) * division.filters;
        for index in part.chunk.clone() {
            let window = division.windows.get(index);
            let extent = division.extent(&window);
            division.transpose_planes(simd, x, &window, &part, staged, positions);
            for RowPanel { first, rows } in division.row_panels() {
                let panel = group.start + first..(group.start + first + rows).min(group.end);
                let pixels: usize = extent.count.iter().product();
                let planes = FilterPlanes { images: dy, window: &window, filters: panel };
                planes.pack(simd, &mut filters[first * pixels..]);
            }
            let accumulate = if index == part.chunk.start { Accumulate::Overwrite } else { Accumulate::Add };
            division.multiply(simd, &extent, part.block, &PackedWindow { filters, positions }, sums, accumulate);
        }
    }
}

impl Division {
    /// Transposes the planes that a part reads in a window to `[panel][position][lane]`. Planes that cannot be read in place
    /// are staged first.
    #[inline(always)]
    fn transpose_planes<S: Simd>(
        &self,
        simd: S,
        images: Images<'_>,
        window: &Window,
        part: &Part,
        staged: &mut [f32],
        positions: &mut [f32],
    ) {
        let Extent { strides, positions: count, .. } = self.extent(window);
        let group = part.group * self.channels;
        for panel in self.panels(part.block) {
            let target = &mut positions[panel.before * count..];
            for (i, register) in panel.registers.enumerate() {
                let lanes = register * S::LANES..((register + 1) * S::LANES).min(self.lanes);
                let target = &mut target[i * S::LANES..];
                if self.stencil.reads_in_place() {
                    let [height, width] = images.size;
                    let per_image = window.rows.len() * width;
                    for (n, image) in window.images.clone().enumerate() {
                        let first = (image * images.channels + group) * height + window.rows.start;
                        let lane_starts = lane_starts(lanes.clone(), |lane| (first + lane * height) * width);
                        let target = &mut target[n * per_image * panel.width..];
                        let lines = PlaneLines { planes: images.data, starts: &lane_starts };
                        pack_positions(simd, lines, per_image, target, panel.width);
                    }
                    continue;
                }
                let channels = match self.lane_contents {
                    LaneContents::Channels => group + lanes.start..group + lanes.end,
                    LaneContents::ChannelTaps => group..group + self.channels,
                };
                self.stencil.stage(simd, ChannelWindow { images, window, channels }, staged, strides);
                let taps = self.stencil.taps();
                let offset = |tap| self.stencil.offsets(strides).nth(tap).expect("a tap of the stencil");
                let lane_starts = match self.lane_contents {
                    LaneContents::Channels => lane_starts(lanes.clone(), |lane| (lane - lanes.start) * strides.channel),
                    LaneContents::ChannelTaps => {
                        lane_starts(lanes.clone(), |lane| lane / taps * strides.channel + offset(lane % taps))
                    }
                };
                pack_positions(simd, PlaneLines { planes: staged, starts: &lane_starts }, count, target, panel.width);
            }
        }
    }

    /// Adds the products of a window to the sums of a block.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        extent: &Extent,
        block: usize,
        packed: &PackedWindow<'_>,
        sums: &mut [f32],
        accumulate: Accumulate,
    ) {
        let pixels: usize = extent.count.iter().product();
        for panel in self.panels(block) {
            let positions = &packed.positions[panel.before * extent.positions..];
            let sums = &mut sums[panel.before * self.products * self.rows()..];
            for (index, offset) in self.stencil.offsets(extent.strides).take(self.products).enumerate() {
                let offset = if self.lane_contents == LaneContents::Channels { offset } else { 0 };
                for RowPanel { first, rows } in self.row_panels() {
                    let product = Product::<F32> {
                        panel: &positions[offset * panel.width..],
                        vectors: panel.width / S::LANES,
                        columns: &packed.filters[first * pixels..][..rows * pixels],
                        layout: ColumnLayout::Planar(1),
                        reduction: extent.reduction(rows, panel.width),
                        next: &[],
                        accumulate,
                    };
                    let sums = &mut sums[(index * self.rows() + first) * panel.width..][..rows * panel.width];
                    let output = TileOutput { sums, register_stride: S::LANES, column_stride: panel.width };
                    product.tile(simd, Span::single(rows), output);
                }
            }
        }
    }
}

/// The packed operands of a window.
struct PackedWindow<'a> {
    /// `dy`: `[row panel][pixel][filter]`.
    filters: &'a [f32],
    /// `x`: `[panel][position][lane]`.
    positions: &'a [f32],
}

/// The starts of some lanes in a slice of planes.
#[inline(always)]
fn lane_starts(lanes: Range<usize>, start: impl Fn(usize) -> usize) -> LaneStarts {
    let mut lane_starts = [None; MAX_LANES];
    lane_starts.iter_mut().zip(lanes).for_each(|(slot, lane)| *slot = Some(start(lane)));
    lane_starts
}

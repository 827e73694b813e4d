//! The gradient of the weights, as a matrix product over pixels.
//!
//! ```text
//! dw[k, (c, r, s)] = Σ_(n, p, q) dy[k, (n, p, q)] · x[c, (n, p·stride + …, q·stride + …)]
//! ```
//!
//! Pixels are the reduction, so the tile wants both factors pixel by pixel: `dy` is transposed to `[pixel][filter]`, and
//! staged planes of `x` ([`crate::stencil`]) to `[position][channel]`, after which every tap is an offset again and the
//! columns of all taps need no packing. Where a group has fewer channels than a register has lanes, the lanes are filled
//! with pairs of a channel and a tap instead.
//!
//! The windows of the batch are divided into chunks by the geometry alone; each chunk sums its windows in order, and the
//! sums of the chunks are added in order. Results are therefore bit-equal for any number of threads.

use super::Problem;
use crate::ThreadPool;
use crate::implicit_gemm::tile::{Sum, Tile};
use std::ops::Range;

use crate::simd::{Kernel, MAX_LANES, Simd};
use crate::stencil::{Images, Source, Window};
use plan::{Extent, Lanes, Part, Plan};
use transposition::{FilterPlanes, Starts, pack_positions};

mod plan;
mod transposition;

/// `∂L/∂w` `[K, C/G, R, S]` from `x` `[N, C, H, W]` and `∂L/∂y` `[N, K, P, Q]`.
pub(super) fn gradient(problem: &Problem, pool: &ThreadPool, (x, dy): (&[f32], &[f32]), dw: &mut [f32]) {
    if problem.batch == 0 {
        return dw.fill(0.0);
    }
    let plan = Plan::new(problem);
    let x = problem.input_images(x);
    let dy = Images { data: dy, channels: problem.geometry.out_channels, size: problem.output_size };
    let mut sums = vec![0.0; plan.tasks() * plan.sums_len()];
    let mut scratch = vec![0.0; pool.threads() * plan.scratch().iter().sum::<usize>()];
    pool.for_each_chunk_with_scratch(&mut sums, plan.sums_len(), &mut scratch, |task, sums, scratch| {
        plan.level.run(Task { plan: &plan, part: plan.part(task), x, dy, sums, scratch });
    });
    pool.for_each_chunk(dw, plan.lanes * plan.products, |filter, dw| plan.collect(&sums, filter, dw));
}

/// One task of a [`Plan`].
struct Task<'a> {
    plan: &'a Plan,
    part: Part,
    x: Images<'a>,
    dy: Images<'a>,
    sums: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan, part, x, dy, sums, scratch } = self;
        let [staged, positions, _] = plan.scratch();
        let (staged, rest) = scratch.split_at_mut(staged);
        let (positions, filters) = rest.split_at_mut(positions);
        let group = part.group * plan.filters..(part.group + 1) * plan.filters;
        for index in part.chunk.clone() {
            let window = plan.windows.get(index);
            let extent = plan.extent(&window);
            plan.transpose_planes(simd, (x, &window, &part), staged, positions);
            for (first, rows) in plan.row_panels() {
                let panel = group.start + first..(group.start + first + rows).min(group.end);
                let pixels: usize = extent.steps.count.iter().product();
                let planes = FilterPlanes { images: dy, window: &window, filters: panel };
                planes.pack(simd, &mut filters[first * pixels..]);
            }
            let sum = if index == part.chunk.start { Sum::Start } else { Sum::Continue };
            plan.multiply(simd, (&extent, part.block), (filters, positions), (sums, sum));
        }
    }
}

impl Plan {
    /// Transposes the planes that a part reads in a window, staged unless they can be read in place:
    /// `[panel][position][lane]`.
    #[inline(always)]
    fn transpose_planes<S: Simd>(
        &self,
        simd: S,
        (images, window, part): (Images<'_>, &Window, &Part),
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
                        let starts = starts(lanes.clone(), |lane| (first + lane * height) * width);
                        let target = &mut target[n * per_image * panel.width..];
                        pack_positions(simd, (images.data, &starts), per_image, (target, panel.width));
                    }
                    continue;
                }
                let channels = match self.lanes_hold {
                    Lanes::Channels => group + lanes.start..group + lanes.end,
                    Lanes::ChannelTaps => group..group + self.channels,
                };
                self.stencil.stage(simd, Source { images, window, channels }, staged, strides);
                let taps = self.stencil.taps();
                let offset = |tap| self.stencil.offsets(strides).nth(tap).expect("a tap of the stencil");
                let starts = match self.lanes_hold {
                    Lanes::Channels => starts(lanes.clone(), |lane| (lane - lanes.start) * strides.channel),
                    Lanes::ChannelTaps => {
                        starts(lanes.clone(), |lane| lane / taps * strides.channel + offset(lane % taps))
                    }
                };
                pack_positions(simd, (staged, &starts), count, (target, panel.width));
            }
        }
    }

    /// Adds the products of a window to the sums of a block.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        (extent, block): (&Extent, usize),
        (filters, positions): (&[f32], &[f32]),
        (sums, sum): (&mut [f32], Sum),
    ) {
        let pixels: usize = extent.steps.count.iter().product();
        for panel in self.panels(block) {
            let positions = &positions[panel.before * extent.positions..];
            let sums = &mut sums[panel.before * self.products * self.rows()..];
            for (product, offset) in self.stencil.offsets(extent.strides).take(self.products).enumerate() {
                let offset = if self.lanes_hold == Lanes::Channels { offset } else { 0 };
                for (first, rows) in self.row_panels() {
                    let tile = Tile {
                        rows,
                        registers: panel.width / S::LANES,
                        a: &filters[first * pixels..][..rows * pixels],
                        b: &positions[offset * panel.width..],
                        steps: extent.steps,
                        c: &mut sums[(product * self.rows() + first) * panel.width..][..rows * panel.width],
                        sum,
                    };
                    tile.multiply(simd);
                }
            }
        }
    }
}

/// The starts of some lanes.
#[inline(always)]
fn starts(lanes: Range<usize>, start: impl Fn(usize) -> usize) -> Starts {
    let mut starts = [None; MAX_LANES];
    starts.iter_mut().zip(lanes).for_each(|(slot, lane)| *slot = Some(start(lane)));
    starts
}

//! `U = G g Gᵀ`, in `f64`, rounded once, and packed in the order in which products read it; or the weights as they are,
//! for [`Form::Raw`].

use super::cover::{Cover, Kind};
use super::run::{self, Chunking};
use super::{Form, Group, Winograd};
use crate::memory::Buffer;
use crate::pool::Disjoint;
use crate::product::{MAX_VECTORS, Panel, Panels};
use crate::simd::{Kernel, MAX_LANES, Simd};
use crate::winograd::transform::MAX_SLOTS;
use crate::{Geometry, Level, ThreadPool};

/// Floats of M for a group of panels: with V it should stay in a second-level cache of 512 KiB.
const GROUP: usize = 32 << 10;

impl Winograd {
    /// Transforms `weights` `[K, C/G, 3, 3]` for up to `batch` images of `size`, to run on `pool`.
    ///
    /// # Errors
    ///
    /// When the system refuses the memory.
    pub(crate) fn new(
        pool: &ThreadPool,
        level: Level,
        geometry: &Geometry,
        (kinds, form): ([Kind; 2], Form),
        (batch, size): (usize, [usize; 2]),
        weights: &[f32],
    ) -> std::io::Result<Self> {
        let output = geometry.output_size(size).expect("the geometry fits the size");
        let covers = [0, 1].map(|axis| Cover::new(kinds[axis], output[axis]));
        let lanes = level.lanes();
        let panels = level.run(Panels(geometry));
        let points = if form == Form::Raw { 9 } else { kinds[0].weights() * kinds[1].weights() };
        let blocks = geometry.in_channels.div_ceil(lanes);
        let chunking = Chunking::new(&covers, (batch, pool.threads()), (blocks * lanes, panels.len()));
        let columns = chunking.products(&covers).iter().flatten().sum();
        let most = chunking.panels_of_a_group(panels.len(), pool.threads());
        let groups = group((&panels, if form == Form::Raw { 1 } else { most }), lanes, points, columns);
        let len = groups.last().map_or(0, |group| group.start + points * group.len);
        let mut buffer = Buffer::zeroed(len)?;
        let target = Disjoint::new(&mut buffer);
        let tasks: Vec<(usize, usize)> = groups
            .iter()
            .enumerate()
            .flat_map(|(i, group)| group.panels.clone().map(move |panel| (i, panel)))
            .collect();
        pool.run(tasks.len(), &|task, _| {
            let (group, panel) = tasks[task];
            let group = &groups[group];
            let before: usize = panels[group.panels.start..panel].iter().map(|panel| panel.area(lanes)).sum();
            let panel = &panels[panel];
            match form {
                Form::Transformed => level.run(Transform { geometry, kinds, weights, panel, group, before, target }),
                Form::Raw => {
                    #[expect(unsafe_code, reason = "panels are written by different tasks")]
                    // SAFETY: a panel is one task's.
                    let target = unsafe { target.slice(group.start + 9 * before, 9 * panel.area(lanes)) };
                    keep(geometry, lanes, panel, weights, target);
                }
            }
        });
        Ok(Self {
            level,
            lanes,
            padding: geometry.padding,
            size,
            chunking,
            segments: run::segments(&covers, lanes),
            covers,
            blocks,
            registers: geometry.out_channels.div_ceil(lanes),
            panels,
            groups,
            form,
            weights: buffer,
        })
    }

    /// Bytes of transformed weights.
    pub(crate) fn packed_bytes(&self) -> usize {
        self.weights.bytes()
    }
}

/// Groups of consecutive panels, no more than `most` in each. `columns` are those of all points for one chunk.
fn group((panels, most): (&[Panel], usize), lanes: usize, points: usize, columns: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut room = 0;
    for (index, panel) in panels.iter().enumerate() {
        let area = panel.area(lanes);
        let need = panel.vectors.len() * lanes * columns;
        match groups.last_mut() {
            Some(group) if need <= room && group.panels.len() < most => {
                group.panels.end += 1;
                group.len += area;
                room -= need;
            }
            last => {
                let start = last.map_or(0, |group| group.start + points * group.len);
                groups.push(Group { panels: index..index + 1, start, len: area });
                room = GROUP.saturating_sub(need);
            }
        }
    }
    groups
}

/// The weights of one panel as they are, `[c][r][s][V · lanes]`.
fn keep(geometry: &Geometry, lanes: usize, panel: &Panel, weights: &[f32], target: &mut [f32]) {
    let [filters, channels] = [geometry.out_channels, geometry.in_channels].map(|count| count / geometry.groups);
    let (width, first) = (panel.vectors.len() * lanes, panel.vectors.start * lanes);
    for filter in first..(first + width).min(geometry.out_channels) {
        for within in 0..channels {
            let channel = filter / filters * channels + within - panel.blocks.start * lanes;
            let kernel = &weights[(filter * channels + within) * 9..][..9];
            for (tap, &weight) in kernel.iter().enumerate() {
                target[(channel * 9 + tap) * width + filter - first] = weight;
            }
        }
    }
}

/// Transforms the filters of one panel.
struct Transform<'a> {
    geometry: &'a Geometry,
    kinds: [Kind; 2],
    weights: &'a [f32],
    panel: &'a Panel,
    group: &'a Group,
    /// Floats of the panels before this one, at each point.
    before: usize,
    target: Disjoint<'a>,
}

impl Kernel for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        const WIDTH: usize = MAX_VECTORS * MAX_LANES;
        let Self { geometry, kinds, weights, panel, group, before, target } = self;
        let [vertical, horizontal] = kinds.map(Kind::filter);
        let [rows, columns] = kinds.map(Kind::weights);
        let [filters, channels] = [geometry.out_channels, geometry.in_channels].map(|count| count / geometry.groups);
        let width = panel.vectors.len() * S::LANES;
        let first = panel.vectors.start * S::LANES;
        for channel in panel.blocks.start * S::LANES..panel.blocks.end * S::LANES {
            let mut taps = [[0.0; WIDTH]; 9];
            for lane in 0..width {
                let filter = first + lane;
                let within = channel.checked_sub(filter / filters * channels);
                if let (true, Some(within)) = (filter < geometry.out_channels, within.filter(|&c| c < channels)) {
                    let kernel = &weights[(filter * channels + within) * 9..][..9];
                    taps.iter_mut().zip(kernel).for_each(|(tap, &weight)| tap[lane] = f64::from(weight));
                }
            }
            let mut half = [[[0.0; WIDTH]; 3]; MAX_SLOTS];
            for (half, g) in half.iter_mut().zip(&vertical).take(rows) {
                for (column, half) in half.iter_mut().enumerate() {
                    for lane in 0..width {
                        let tap = |row: usize| g[row] * taps[row * 3 + column][lane];
                        half[lane] = tap(0) + tap(1) + tap(2);
                    }
                }
            }
            let at = (channel - panel.blocks.start * S::LANES) * width;
            for (row, half) in half.iter().enumerate().take(rows) {
                for (column, g) in horizontal.iter().enumerate().take(columns) {
                    let start = group.start + (row * columns + column) * group.len + before + at;
                    #[expect(unsafe_code, reason = "panels are written by different tasks")]
                    // SAFETY: a panel is one task's, and its rows at different points and channels do not overlap.
                    let target = unsafe { target.slice(start, width) };
                    for (lane, target) in target.iter_mut().enumerate() {
                        *target = (half[0][lane] * g[0] + half[1][lane] * g[1] + half[2][lane] * g[2]) as f32;
                    }
                }
            }
        }
    }
}

//! Stencils, the input positions that an output reads, and staging, which turns every tap of a stencil into a plain offset.
//!
//! A convolution, its input gradient and its weight gradient all read an image through the same kind of stencil: along each
//! axis, output `o` reads input `o · stride + offset(t)` through tap `t`, and positions outside the image are zero. *Staging*
//! copies the planes of some channels into a buffer, writes out the border of zeros, and separates the `stride` phases of each
//! axis, so that neighbouring outputs read neighbouring elements for any stride:
//!
//! ```text
//! [channel][vertical phase][horizontal phase][image][row][column]
//! ```

use std::ops::Range;

use crate::Geometry;
use crate::isa::Simd;

/// One kernel position along an axis.
#[derive(Debug, Clone, Copy)]
struct Tap {
    /// `r` or `s`.
    index: usize,
    /// The index of the phase that the tap reads.
    phase: usize,
    /// The first staged position that the tap reads.
    shift: usize,
}

/// One axis of a stencil.
#[derive(Debug, Clone)]
struct Axis {
    stride: usize,
    taps: Vec<Tap>,
    /// Residues modulo `stride` that some tap reads.
    phases: Vec<usize>,
    /// Staged position `i` of phase `f`, counted from output `o`, is input `(o + first + i) · stride + f`.
    first: isize,
    /// The number of staged positions in excess of the outputs.
    span: usize,
}

impl Axis {
    /// `taps` are pairs of a kernel index and an offset.
    fn new(stride: usize, taps: impl Iterator<Item = (usize, isize)> + Clone) -> Self {
        let step = stride as isize;
        let shifts = taps.clone().map(|(_, offset)| offset.div_euclid(step));
        let (first, last) = (shifts.clone().min().unwrap_or(0), shifts.max().unwrap_or(0));
        let mut phases: Vec<usize> = taps.clone().map(|(_, offset)| offset.rem_euclid(step) as usize).collect();
        phases.sort_unstable();
        phases.dedup();
        let tap = |(index, offset): (usize, isize)| {
            let residue = offset.rem_euclid(step) as usize;
            let phase = phases.iter().position(|&phase| phase == residue).expect("phases hold every residue");
            Tap { index, phase, shift: (offset.div_euclid(step) - first) as usize }
        };
        let taps = taps.map(tap).collect();
        Self { stride, taps, phases, first, span: (last - first) as usize }
    }

    /// The stencil by which the outputs of a convolution read its input.
    fn forward(geometry: &Geometry, axis: usize) -> Self {
        let (dilation, padding) = (geometry.dilation[axis], geometry.padding[axis] as isize);
        let taps = (0..geometry.kernel[axis]).map(|r| (r, (r * dilation) as isize - padding));
        Self::new(geometry.stride[axis], taps)
    }

    /// The stencil by which the gradients of the inputs `residue, residue + stride, …` read the gradients of the outputs. Input
    /// `y` reads output `(y + padding − r · dilation) / stride` through tap `r`, if that is an integer.
    fn backward(geometry: &Geometry, axis: usize, residue: usize) -> Self {
        let (dilation, stride) = (geometry.dilation[axis] as isize, geometry.stride[axis] as isize);
        let start = (residue + geometry.padding[axis]) as isize;
        let distances = (0..geometry.kernel[axis]).map(move |r| (r, start - r as isize * dilation));
        let multiples = distances.filter(move |(_, distance)| distance.rem_euclid(stride) == 0);
        Self::new(1, multiples.map(move |(r, distance)| (r, distance.div_euclid(stride))))
    }

    /// Whether output `o` reads only input `o`.
    fn is_identity(&self) -> bool {
        self.stride == 1 && self.taps.len() == 1 && self.first == 0
    }

    /// The input position that staged position `i` of `phase` holds; it must be inside the image.
    fn position(&self, i: usize, phase: usize) -> usize {
        (i as isize + self.first) as usize * self.stride + phase
    }

    /// The staged positions of `phase` whose inputs are inside `0..input`, among `len` positions counted from output `start`.
    fn inside(&self, phase: usize, input: usize, start: usize, len: usize) -> Range<usize> {
        let shift = start as isize + self.first;
        let end = input.saturating_sub(phase).div_ceil(self.stride) as isize;
        let clamp = |position: isize| position.clamp(0, len as isize) as usize;
        let low = clamp(-shift);
        low..clamp(end - shift).max(low)
    }
}

/// Rows of outputs that are computed together: entire images, or some rows of one image.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) images: Range<usize>,
    pub(super) rows: Range<usize>,
}

/// The division of `batch` images of `grid` outputs into windows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    batch: usize,
    grid: [usize; 2],
    /// Images of a full window.
    pub(super) images: usize,
    /// Rows of a full window.
    pub(super) rows: usize,
}

impl Windows {
    /// Divides into windows of about `target` outputs.
    pub(super) fn new(batch: usize, grid: [usize; 2], target: usize) -> Self {
        let per_image = grid[0] * grid[1];
        if per_image <= target {
            return Self { batch, grid, images: (target / per_image).min(batch).max(1), rows: grid[0] };
        }
        // Windows are equal, so that the last one of an image is not tiny.
        let parts = per_image.div_ceil(target).min(grid[0]);
        Self { batch, grid, images: 1, rows: grid[0].div_ceil(parts) }
    }

    pub(super) fn count(&self) -> usize {
        self.batch.div_ceil(self.images) * self.grid[0].div_ceil(self.rows)
    }

    pub(super) fn get(&self, index: usize) -> Window {
        let per_image = self.grid[0].div_ceil(self.rows);
        let (image, row) = (index / per_image * self.images, index % per_image * self.rows);
        Window { images: image..(image + self.images).min(self.batch), rows: row..(row + self.rows).min(self.grid[0]) }
    }

    pub(super) fn columns(&self) -> usize {
        self.grid[1]
    }

    /// The number of outputs of a full window.
    pub(super) fn outputs(&self) -> usize {
        self.images * self.rows * self.grid[1]
    }
}

/// A batch of images, `[N, C, H, W]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Images<'a> {
    pub(super) data: &'a [f32],
    pub(super) channels: usize,
    pub(super) size: [usize; 2],
}

/// Some channels of a window of images, which are staged together.
pub(super) struct ChannelWindow<'a> {
    pub(super) images: Images<'a>,
    pub(super) window: &'a Window,
    pub(super) channels: Range<usize>,
}

/// The strides of staged planes, in elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strides {
    pub(super) channel: usize,
    pub(super) phase: usize,
    pub(super) image: usize,
    pub(super) row: usize,
}

impl Strides {
    /// The strides of images that are read in place.
    pub(super) fn in_place(images: Images<'_>) -> Self {
        let plane = images.size[0] * images.size[1];
        Self { channel: plane, phase: 0, image: images.channels * plane, row: images.size[1] }
    }
}

/// The stencil of an image: one stencil for each axis.
#[derive(Debug, Clone)]
pub(super) struct Stencil {
    axes: [Axis; 2],
}

impl Stencil {
    pub(super) fn forward(geometry: &Geometry) -> Self {
        Self { axes: [0, 1].map(|axis| Axis::forward(geometry, axis)) }
    }

    pub(super) fn backward(geometry: &Geometry, residues: [usize; 2]) -> Self {
        Self { axes: [0, 1].map(|axis| Axis::backward(geometry, axis, residues[axis])) }
    }

    /// The number of taps that the stencil uses: `R · S` for a convolution, fewer for its gradient if the stride skips some.
    pub(super) fn taps(&self) -> usize {
        self.axes[0].taps.len() * self.axes[1].taps.len()
    }

    /// The taps as indices into a kernel `[R, S]`, kernel rows outermost.
    pub(super) fn kernel_indices(&self, columns: usize) -> impl Iterator<Item = usize> {
        let [vertical, horizontal] = &self.axes;
        vertical.taps.iter().flat_map(move |y| horizontal.taps.iter().map(move |x| y.index * columns + x.index))
    }

    /// Whether images can be read in place, without staging: a 1×1 kernel with stride 1 and no padding.
    pub(super) fn reads_in_place(&self) -> bool {
        self.axes.iter().all(Axis::is_identity)
    }

    /// The strides of staged planes for a window of `images` × `rows` × `columns` outputs.
    pub(super) fn strides(&self, images: usize, rows: usize, columns: usize) -> Strides {
        let [vertical, horizontal] = &self.axes;
        let row = columns + horizontal.span;
        let image = (rows + vertical.span) * row;
        let phase = images * image;
        Strides { channel: vertical.phases.len() * horizontal.phases.len() * phase, phase, image, row }
    }

    /// For each tap, the offset from the staged position of an output to the element it reads; kernel rows outermost.
    pub(super) fn offsets(&self, strides: Strides) -> impl Iterator<Item = usize> {
        let [vertical, horizontal] = &self.axes;
        vertical.taps.iter().flat_map(move |y| {
            horizontal.taps.iter().map(move |x| {
                (y.phase * horizontal.phases.len() + x.phase) * strides.phase + y.shift * strides.row + x.shift
            })
        })
    }

    /// Stages the part of the planes of some channels that a window reads.
    #[inline(always)]
    pub(super) fn stage<S: Simd>(&self, simd: S, source: ChannelWindow<'_>, staged: &mut [f32], strides: Strides) {
        let [vertical, horizontal] = &self.axes;
        let ChannelWindow { images, window, .. } = source;
        let [height, width] = images.size;
        let rows_per_image = strides.image / strides.row;
        let mut rows = staged.chunks_exact_mut(strides.row);
        for channel in source.channels {
            for &y_phase in &vertical.phases {
                let inside = vertical.inside(y_phase, height, window.rows.start, rows_per_image);
                for &x_phase in &horizontal.phases {
                    let columns = horizontal.inside(x_phase, width, 0, strides.row);
                    for image in window.images.clone() {
                        let plane = (image * images.channels + channel) * height * width;
                        for (i, row) in rows.by_ref().take(rows_per_image).enumerate() {
                            if columns.is_empty() || !inside.contains(&i) {
                                row.fill(0.0);
                                continue;
                            }
                            let y = vertical.position(window.rows.start + i, y_phase);
                            let x = horizontal.position(columns.start, x_phase);
                            row[..columns.start].fill(0.0);
                            row[columns.end..].fill(0.0);
                            let source = &images.data[plane + y * width + x..];
                            copy_strided(simd, horizontal.stride, source, &mut row[columns.clone()]);
                        }
                    }
                }
            }
        }
    }
}

/// `target[i] = source[i · step]`.
#[inline(always)]
fn copy_strided<S: Simd>(simd: S, step: usize, source: &[f32], target: &mut [f32]) {
    if step == 1 {
        return copy(simd, &source[..target.len()], target);
    }
    let mut done = 0;
    if step == 2 {
        // The most common stride has a loop that compiles to register shuffles.
        let (pairs, octets) = (source.as_chunks::<16>().0, target.as_chunks_mut::<8>().0);
        for (pairs, octet) in pairs.iter().zip(octets) {
            for i in 0..8 {
                octet[i] = pairs[2 * i];
            }
            done += 8;
        }
    }
    for (target, source) in target[done..].iter_mut().zip(source[done * step..].iter().step_by(step)) {
        *target = *source;
    }
}

/// Copies lengths so short that a call to `memcpy` would cost more than the copy.
#[inline(always)]
pub(super) fn copy<S: Simd>(simd: S, source: &[f32], target: &mut [f32]) {
    for (source, target) in S::blocks(source).iter().zip(S::blocks_mut(target)) {
        simd.store(simd.load(source), target);
    }
    let done = target.len() / S::LANES * S::LANES;
    let (quads, rest) = source[done..].as_chunks::<4>();
    let (target_quads, target_rest) = target[done..].as_chunks_mut::<4>();
    for (source, target) in quads.iter().zip(target_quads) {
        *target = *source;
    }
    for (source, target) in rest.iter().zip(target_rest) {
        *target = *source;
    }
}

//! Training: a convolution and its two gradients, from weights that change with every call.

use crate::geometry::checked_product;
use crate::implicit_gemm::{Filters, Shape};
use crate::inference::Activation;
use crate::output::{Application, Placement};
use crate::stencil::{Images, Stencil};
use crate::{Geometry, GeometryError, Level, ThreadPool};

mod weights;

/// A convolution applied to a batch of images, as training needs it. All three products pack what they need per call.
#[derive(Debug, Clone, Copy)]
pub struct Problem {
    geometry: Geometry,
    batch: usize,
    size: [usize; 2],
    output_size: [usize; 2],
    level: Level,
}

impl Problem {
    /// `batch` images of `size` `[H, W]`, on the best [`Level`] of this CPU.
    ///
    /// # Errors
    ///
    /// Those of [`Geometry::output_size`], and tensors beyond the address space.
    pub fn new(geometry: Geometry, batch: usize, size: [usize; 2]) -> Result<Self, GeometryError> {
        let output_size = geometry.output_size(size)?;
        checked_product(&[batch, geometry.in_channels, size[0], size[1]])?;
        checked_product(&[batch, geometry.out_channels, output_size[0], output_size[1]])?;
        Ok(Self { geometry, batch, size, output_size, level: Level::detect() })
    }

    /// The same problem on another [`Level`].
    pub fn with_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// `[P, Q]`.
    pub fn output_size(&self) -> [usize; 2] {
        self.output_size
    }

    /// `y = conv(x, w)`: `input` `[N, C, H, W]`, `weights` `[K, C/G, R, S]`, `output` `[N, K, P, Q]`, overwritten.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn forward(&self, pool: &ThreadPool, input: &[f32], weights: &[f32], output: &mut [f32]) {
        self.check(input, output, weights);
        let filters = Filters::forward(pool, self.level, &self.geometry, weights);
        self.apply(pool, &filters, (self.input_images(input), Placement::whole(self.output_size)), output);
    }

    /// `∂L/∂x` from `∂L/∂y`: `output_gradient` `[N, K, P, Q]`, `weights` `[K, C/G, R, S]`, `input_gradient`
    /// `[N, C, H, W]`, overwritten.
    ///
    /// The inputs of one residue modulo the stride are a convolution of `output_gradient`, without stride, with those
    /// taps of the turned kernel that reach them.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn gradient_input(
        &self,
        pool: &ThreadPool,
        output_gradient: &[f32],
        weights: &[f32],
        input_gradient: &mut [f32],
    ) {
        self.check(input_gradient, output_gradient, weights);
        let Geometry { stride, out_channels, .. } = self.geometry;
        let images = Images { data: output_gradient, channels: out_channels, size: self.output_size };
        let residues =
            (0..stride[0].min(self.size[0])).flat_map(|y| (0..stride[1].min(self.size[1])).map(move |x| [y, x]));
        let parts = residues.map(|origin| {
            let stencil = Stencil::backward(&self.geometry, origin);
            let grid = [0, 1].map(|axis| (self.size[axis] - origin[axis]).div_ceil(stride[axis]));
            // Read where they are, output gradients have no border of zeros: inputs beyond the last output get none.
            let reached = [0, 1].map(|axis| grid[axis].min(self.output_size[axis]));
            let reached = if stencil.reads_in_place() { reached } else { grid };
            let is_whole = reached == grid && stencil.taps() > 0;
            (origin, stencil, reached, is_whole)
        });
        let parts: Vec<_> = parts.collect();
        if parts.iter().any(|(.., is_whole)| !is_whole) {
            input_gradient.fill(0.0);
        }
        for (origin, stencil, grid, _) in parts.into_iter().filter(|(_, stencil, ..)| stencil.taps() > 0) {
            let filters = Filters::backward(pool, self.level, &self.geometry, (stencil, weights));
            let placement = Placement { grid, plane: self.size, origin, step: stride };
            self.apply(pool, &filters, (images, placement), input_gradient);
        }
    }

    /// `∂L/∂w` from `∂L/∂y`: `input` `[N, C, H, W]`, `output_gradient` `[N, K, P, Q]`, `weights_gradient`
    /// `[K, C/G, R, S]`, overwritten.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn gradient_weights(
        &self,
        pool: &ThreadPool,
        input: &[f32],
        output_gradient: &[f32],
        weights_gradient: &mut [f32],
    ) {
        self.check(input, output_gradient, weights_gradient);
        weights::gradient(self, pool, (input, output_gradient), weights_gradient);
    }

    fn apply(
        &self,
        pool: &ThreadPool,
        filters: &Filters,
        (images, placement): (Images<'_>, Placement),
        output: &mut [f32],
    ) {
        let mut workspace = vec![0.0; filters.workspace_len(self.batch, placement.grid, pool.threads())];
        let activation = Activation::Identity;
        let application = Application { batch: self.batch, images, placement, bias: None, activation };
        filters.apply(pool, &application, output, &mut workspace);
    }

    fn input_images<'a>(&self, data: &'a [f32]) -> Images<'a> {
        Images { data, channels: self.geometry.in_channels, size: self.size }
    }

    /// Checks slices of the lengths of the input, the output and the weights.
    fn check(&self, input: &[f32], output: &[f32], weights: &[f32]) {
        let Geometry { in_channels, out_channels, .. } = self.geometry;
        let len = |channels, size: [usize; 2]| self.batch * channels * size[0] * size[1];
        assert_eq!(input.len(), len(in_channels, self.size), "inputs are [N, C, H, W]");
        assert_eq!(output.len(), len(out_channels, self.output_size), "outputs are [N, K, P, Q]");
        assert_eq!(weights.len(), self.geometry.weight_len(), "weights are [K, C/G, R, S]");
    }
}

impl Filters {
    /// The weights `[K, C/G, R, S]` of a convolution.
    pub(crate) fn forward(pool: &ThreadPool, level: Level, geometry: &Geometry, weights: &[f32]) -> Self {
        let groups = geometry.groups;
        let shape = Shape { groups, rows: geometry.out_channels / groups, channels: geometry.in_channels / groups };
        let stencil = Stencil::forward(geometry);
        let taps: Vec<usize> = stencil.kernel_indices(geometry.kernel[1]).collect();
        let start = |filter, channel| (filter * shape.channels + channel) * taps.len();
        Self::pack(pool, level, (shape, stencil), weights, (&taps, &start))
    }

    /// The weights `[K, C/G, R, S]` of a convolution, transposed and turned, for a backward stencil.
    fn backward(pool: &ThreadPool, level: Level, geometry: &Geometry, (stencil, weights): (Stencil, &[f32])) -> Self {
        let groups = geometry.groups;
        let shape = Shape { groups, rows: geometry.in_channels / groups, channels: geometry.out_channels / groups };
        let [r, s] = geometry.kernel;
        let taps: Vec<usize> = stencil.kernel_indices(s).collect();
        let start = |row: usize, channel| {
            let (group, row) = (row / shape.rows, row % shape.rows);
            ((group * shape.channels + channel) * shape.rows + row) * r * s
        };
        Self::pack(pool, level, (shape, stencil), weights, (&taps, &start))
    }
}

#[cfg(test)]
mod tests;

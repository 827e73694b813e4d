//! Training: a convolution and its two gradients, with weights that change with every call, and sums of batch norms.
//!
//! Activations are `[N, C, H, W]`, as in training frameworks. Convolutions use the register tile of inference
//! ([`crate::tile`]), except depthwise ones, none of whose operands is used twice.

mod depthwise;
mod filters;
mod norm_sum;
mod planes;
mod product;
mod stencil;
mod weight_gradient;

use crate::geometry::checked_product;
use crate::{Geometry, GeometryError, Level, ThreadPool};
use filters::Filters;
use planes::{Application, Placement};
use stencil::{Images, Stencil};

pub use norm_sum::{BatchStatistics, NormBranch, NormGradients, NormSum, OutputGradient};

/// A convolution of a batch of images for training: forward, and the gradients of its input and weights.
///
/// Each call packs its operands. Results are bit-equal for any number of threads.
///
/// ```
/// use repvgg_kernels::{Geometry, ThreadPool, TrainingConv2d};
///
/// let geometry = Geometry {
///     in_channels: 1,
///     out_channels: 1,
///     kernel: [1, 1],
///     stride: [1, 1],
///     padding: [0, 0],
///     dilation: [1, 1],
///     groups: 1,
/// };
/// let (pool, conv) = (ThreadPool::new(2), TrainingConv2d::new(geometry, 1, [1, 2])?);
/// let (x, w, dy) = ([1.0, 2.0], [3.0], [1.0, -1.0]);
/// let (mut y, mut dx, mut dw) = ([0.0; 2], [0.0; 2], [0.0; 1]);
/// conv.forward(&pool, &x, &w, &mut y);
/// conv.input_gradient(&pool, &dy, &w, &mut dx);
/// conv.weight_gradient(&pool, &x, &dy, &mut dw);
/// assert_eq!((y, dx, dw), ([3.0, 6.0], [3.0, -3.0], [-1.0]));
/// # Ok::<(), repvgg_kernels::GeometryError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TrainingConv2d {
    geometry: Geometry,
    batch: usize,
    size: [usize; 2],
    output_size: [usize; 2],
    level: Level,
}

/// A convolution of the output gradient that computes the gradient of the inputs `origin + stride · [u, v]`.
struct InputGradientPart {
    origin: [usize; 2],
    stencil: Stencil,
    /// `[U, V]`, the size of the grid of these inputs.
    grid: [usize; 2],
    /// Whether the grid covers every input of its residue; the gradient of the others is zero.
    is_complete: bool,
}

impl TrainingConv2d {
    /// Creates a convolution of `batch` images of `size` `[H, W]`, on the best [`Level`] of this CPU.
    ///
    /// # Errors
    ///
    /// Those of [`Geometry::output_size`], and if tensors exceed the address space.
    pub fn new(geometry: Geometry, batch: usize, size: [usize; 2]) -> Result<Self, GeometryError> {
        let output_size = geometry.output_size(size)?;
        checked_product(&[batch, geometry.in_channels, size[0], size[1]])?;
        checked_product(&[batch, geometry.out_channels, output_size[0], output_size[1]])?;
        Ok(Self { geometry, batch, size, output_size, level: Level::detect() })
    }

    /// The same convolution on another [`Level`].
    #[must_use]
    pub fn with_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// `[P, Q]`.
    pub fn output_size(&self) -> [usize; 2] {
        self.output_size
    }

    /// Computes `y = conv(x, w)` from `input` `[N, C, H, W]` and `weights` `[K, C/G, R, S]`, and overwrites `output`
    /// `[N, K, P, Q]`.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn forward(&self, pool: &ThreadPool, input: &[f32], weights: &[f32], output: &mut [f32]) {
        self.check(input, output, weights);
        let filters = Filters::forward(pool, self.level, &self.geometry, weights);
        let placement = Placement::identity(self.output_size);
        self.apply(
            pool,
            &filters,
            Application { batch: self.batch, images: self.input_images(input), placement },
            output,
        );
    }

    /// Computes `∂L/∂x` from `∂L/∂y`, `output_gradient` `[N, K, P, Q]`, and `weights` `[K, C/G, R, S]`, and overwrites
    /// `input_gradient` `[N, C, H, W]`.
    ///
    /// For each residue of the input position modulo the stride, the gradient is a convolution of `output_gradient` with stride
    /// 1, with the taps of the rotated kernel that reach these inputs.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn input_gradient(
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
        let parts: Vec<InputGradientPart> = residues.map(|origin| self.input_gradient_part(origin)).collect();
        if parts.iter().any(|part| !part.is_complete) {
            input_gradient.fill(0.0);
        }
        for InputGradientPart { origin, stencil, grid, .. } in parts.into_iter().filter(|part| part.stencil.taps() > 0)
        {
            let filters = Filters::backward(pool, self.level, &self.geometry, stencil, weights);
            let placement = Placement { grid, plane: self.size, origin, step: stride };
            self.apply(pool, &filters, Application { batch: self.batch, images, placement }, input_gradient);
        }
    }

    fn input_gradient_part(&self, origin: [usize; 2]) -> InputGradientPart {
        let stencil = Stencil::backward(&self.geometry, origin);
        let all = [0, 1].map(|axis| (self.size[axis] - origin[axis]).div_ceil(self.geometry.stride[axis]));
        // Output gradients that are read in place have no border of zeros, so the grid excludes inputs beyond the last output.
        let reached = [0, 1].map(|axis| all[axis].min(self.output_size[axis]));
        let grid = if stencil.reads_in_place() { reached } else { all };
        InputGradientPart { origin, is_complete: grid == all && stencil.taps() > 0, stencil, grid }
    }

    /// Computes `∂L/∂w` from `input` `[N, C, H, W]` and `∂L/∂y`, `output_gradient` `[N, K, P, Q]`, and overwrites
    /// `weight_gradient` `[K, C/G, R, S]`.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn weight_gradient(
        &self,
        pool: &ThreadPool,
        input: &[f32],
        output_gradient: &[f32],
        weight_gradient: &mut [f32],
    ) {
        self.check(input, output_gradient, weight_gradient);
        let channels = self.geometry.out_channels;
        let gradients = Images { data: output_gradient, channels, size: self.output_size };
        weight_gradient::weight_gradient(self, pool, self.input_images(input), gradients, weight_gradient);
    }

    fn apply(&self, pool: &ThreadPool, filters: &Filters, application: Application<'_>, output: &mut [f32]) {
        if filters.is_depthwise() {
            depthwise::apply(filters, pool, &application, output);
        } else {
            product::apply(filters, pool, &application, output);
        }
    }

    fn input_images<'a>(&self, data: &'a [f32]) -> Images<'a> {
        Images { data, channels: self.geometry.in_channels, size: self.size }
    }

    /// Asserts that the slices have the lengths of the input, the output and the weights.
    fn check(&self, input: &[f32], output: &[f32], weights: &[f32]) {
        let Geometry { in_channels, out_channels, .. } = self.geometry;
        let len = |channels, size: [usize; 2]| self.batch * channels * size[0] * size[1];
        assert_eq!(input.len(), len(in_channels, self.size), "inputs are [N, C, H, W]");
        assert_eq!(output.len(), len(out_channels, self.output_size), "outputs are [N, K, P, Q]");
        assert_eq!(weights.len(), self.geometry.weight_len(), "weights are [K, C/G, R, S]");
    }
}

#[cfg(test)]
mod tests;

//! Inference: a convolution whose weights are packed once and which then runs without allocating.

use crate::implicit_gemm::{Filters, Shape};
use crate::output::{Application, Placement};
use crate::stencil::{Images, Stencil};
use crate::{Geometry, GeometryError, Level, ThreadPool};

/// What follows the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, 0)`.
    Relu,
}

/// A convolution with packed weights, a bias and an activation.
#[derive(Debug, Clone)]
pub struct Conv2d {
    geometry: Geometry,
    filters: Filters,
    bias: Option<Vec<f32>>,
    activation: Activation,
}

/// One application of a [`Conv2d`].
pub struct Pass<'a> {
    /// `N`.
    pub batch: usize,
    /// `[H, W]`.
    pub size: [usize; 2],
    /// `[N, C, H, W]`.
    pub input: &'a [f32],
    /// `[N, K, P, Q]`; overwritten.
    pub output: &'a mut [f32],
    /// At least [`Conv2d::workspace_len`] elements, whose values are neither read nor kept.
    pub workspace: &'a mut [f32],
}

impl Conv2d {
    /// Packs `weights` `[K, C/G, R, S]` and `bias` `[K]` for the best [`Level`] of this CPU.
    ///
    /// # Errors
    ///
    /// Those of [`Geometry::validate`], and slices of the wrong length.
    pub fn new(
        geometry: Geometry,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Self, GeometryError> {
        Self::with_level(Level::detect(), geometry, (weights, bias), activation)
    }

    /// [`Conv2d::new`] for another [`Level`].
    ///
    /// # Errors
    ///
    /// As [`Conv2d::new`].
    pub fn with_level(
        level: Level,
        geometry: Geometry,
        (weights, bias): (&[f32], Option<&[f32]>),
        activation: Activation,
    ) -> Result<Self, GeometryError> {
        geometry.validate()?;
        expect_len("weights", geometry.weight_len(), weights.len())?;
        if let Some(bias) = bias {
            expect_len("bias", geometry.out_channels, bias.len())?;
        }
        let filters = Filters::forward(&ThreadPool::new(1), level, &geometry, weights);
        Ok(Self { geometry, filters, bias: bias.map(<[f32]>::to_vec), activation })
    }

    /// The shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Elements of workspace that [`Conv2d::run`] needs for `batch` images of `size` on a pool of `threads`.
    ///
    /// # Panics
    ///
    /// If the image is smaller than the kernel.
    pub fn workspace_len(&self, batch: usize, size: [usize; 2], threads: usize) -> usize {
        self.filters.workspace_len(batch, self.output_size(size), threads)
    }

    /// `output = activation(conv(input) + bias)`. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length or the image is smaller than the kernel.
    pub fn run(&self, pool: &ThreadPool, pass: Pass<'_>) {
        let Pass { batch, size, input, output, workspace } = pass;
        let output_size = self.output_size(size);
        let Geometry { in_channels, out_channels, .. } = self.geometry;
        assert_eq!(input.len(), batch * in_channels * size[0] * size[1], "input is [N, C, H, W]");
        assert_eq!(output.len(), batch * out_channels * output_size[0] * output_size[1], "output is [N, K, P, Q]");
        let needed = self.workspace_len(batch, size, pool.threads());
        assert!(workspace.len() >= needed, "workspace is {needed} elements, not {}", workspace.len());
        let application = Application {
            batch,
            images: Images { data: input, channels: in_channels, size },
            placement: Placement::whole(output_size),
            bias: self.bias.as_deref(),
            activation: self.activation,
        };
        self.filters.apply(pool, &application, output, workspace);
    }

    /// Bytes that the packed weights occupy.
    pub fn packed_bytes(&self) -> usize {
        self.filters.packed_bytes()
    }

    fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        self.geometry.output_size(size).unwrap_or_else(|error| panic!("{error}"))
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
}

fn expect_len(name: &'static str, expected: usize, found: usize) -> Result<(), GeometryError> {
    if expected == found { Ok(()) } else { Err(GeometryError::Length { name, expected, found }) }
}

#[cfg(test)]
mod tests;

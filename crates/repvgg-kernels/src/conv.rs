//! Inference: a convolution whose weights are packed once and which then runs without allocating.

mod choice;

use crate::direct::{Direct, Layout};
use crate::epilogue::{Addend, Epilogue, Run};
use crate::geometry::checked_product;
use crate::lanewise::Lanewise;
use crate::winograd::{self, Winograd};
use crate::{Blocked, Geometry, GeometryError, Level, ThreadPool};

pub use choice::{Accuracy, Algorithm, Estimate, Machine, tiles};

/// What follows the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// Below what the result is cut off.
    fn floor(self) -> f32 {
        match self {
            Self::Identity => f32::NEG_INFINITY,
            Self::Relu => 0.0,
        }
    }
}

/// The images that a convolution is planned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site {
    /// The most images in one run.
    pub batch: usize,
    /// `[H, W]`.
    pub size: [usize; 2],
    /// How they lie in memory.
    pub layout: Layout,
}

/// What a convolution computes, beside its geometry.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    /// `[K, C/G, R, S]`.
    pub weights: &'a [f32],
    /// `[K]`.
    pub bias: Option<&'a [f32]>,
    /// `[K]`: factors of the [`Addend`]; none are ones.
    pub addend_scale: Option<&'a [f32]>,
    /// What comes last.
    pub activation: Activation,
}

/// A convolution with packed weights for images of one size: `activation(conv(x) + bias + scale · addend)`.
#[derive(Debug)]
pub struct Conv2d {
    level: Level,
    geometry: Geometry,
    site: Site,
    output_size: [usize; 2],
    algorithm: Algorithm,
    kernel: Kernel,
    bias: Vec<f32>,
    addend_scale: Vec<f32>,
    activation: Activation,
}

#[derive(Debug)]
enum Kernel {
    Direct(Direct),
    Depthwise(Lanewise),
    Winograd(Box<Winograd>),
}

/// One application of a [`Conv2d`].
pub struct Pass<'a> {
    /// `N`, at most the batch of the [`Site`].
    pub images: usize,
    /// In the layout of the [`Site`].
    pub input: &'a [f32],
    /// A map of the output's shape and layout, or nothing.
    pub addend: Option<Addend<'a>>,
    /// `[N, ⌈K/L⌉, P, Q, L]`; overwritten.
    pub output: &'a mut [f32],
    /// At least [`Conv2d::workspace_len`] elements, whose values are neither read nor kept.
    pub workspace: &'a mut [f32],
}

impl Conv2d {
    /// Packs the weights for one algorithm, on the threads of `pool`, with which it is to run.
    ///
    /// # Errors
    ///
    /// Those of [`Geometry::output_size`], slices of the wrong length, an algorithm that the geometry does not have, or
    /// memory that the system refuses.
    pub fn new(
        pool: &ThreadPool,
        level: Level,
        (geometry, site): (Geometry, Site),
        algorithm: Algorithm,
        parameters: Parameters<'_>,
    ) -> Result<Self, GeometryError> {
        let output_size = geometry.output_size(site.size)?;
        check_sizes(&geometry, site, output_size)?;
        let Parameters { weights, bias, addend_scale, activation } = parameters;
        expect_len("weights", geometry.weight_len(), weights.len())?;
        for (name, values) in [("bias", bias), ("addend_scale", addend_scale)] {
            expect_len(name, geometry.out_channels, values.map_or(geometry.out_channels, <[f32]>::len))?;
        }
        if !algorithm.fits(&geometry, site) {
            return Err(GeometryError::Algorithm { algorithm });
        }
        let kernel = match algorithm {
            Algorithm::Direct => {
                Direct::new(pool, level, (&geometry, site.layout), site.size, weights).map(Kernel::Direct)
            }
            Algorithm::Depthwise => Lanewise::new(level, &geometry, site.size, weights).map(Kernel::Depthwise),
            Algorithm::Winograd(tile) | Algorithm::WinogradRaw(tile) => {
                let is_raw = matches!(algorithm, Algorithm::WinogradRaw(_));
                let form = if is_raw { winograd::Form::Raw } else { winograd::Form::Transformed };
                let kinds = (choice::kinds(&geometry, output_size, tile), form);
                let site = (site.batch, site.size);
                Winograd::new(pool, level, &geometry, kinds, site, weights)
                    .map(|kernel| Kernel::Winograd(Box::new(kernel)))
            }
        };
        let padded = geometry.out_channels.next_multiple_of(level.lanes());
        let pad = |values: Option<&[f32]>, default: f32| {
            let mut values = values.map_or_else(|| vec![default; geometry.out_channels], <[f32]>::to_vec);
            values.resize(padded, 0.0);
            values
        };
        Ok(Self {
            level,
            geometry,
            site,
            output_size,
            algorithm,
            kernel: kernel.map_err(|_| GeometryError::Memory)?,
            bias: pad(bias, 0.0),
            addend_scale: pad(addend_scale, 1.0),
            activation,
        })
    }

    /// The shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// How it is computed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The layout of the output for some images.
    pub fn output(&self, images: usize) -> Blocked {
        let [height, width] = self.output_size;
        Blocked { shape: [images, self.geometry.out_channels, height, width], lanes: self.level.lanes() }
    }

    /// Floats of input for some images.
    pub fn input_len(&self, images: usize) -> usize {
        let [height, width] = self.site.size;
        let shape = [images, self.geometry.in_channels, height, width];
        match self.site.layout {
            Layout::Planar => shape.iter().product(),
            Layout::Blocked => Blocked { shape, lanes: self.level.lanes() }.len(),
        }
    }

    /// Elements of workspace that [`Conv2d::run`] needs on a pool of `threads`.
    pub fn workspace_len(&self, threads: usize) -> usize {
        match &self.kernel {
            Kernel::Direct(kernel) => kernel.workspace_len(self.site.batch, threads),
            Kernel::Depthwise(_) => 0,
            Kernel::Winograd(kernel) => kernel.workspace_len(threads),
        }
    }

    /// `output = activation(conv(input) + bias + scale · addend)`. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length, there are more images than planned for, or the workspace is too short for the pool's
    /// threads.
    pub fn run(&self, pool: &ThreadPool, pass: Pass<'_>) {
        let Pass { images, input, addend, output, workspace } = pass;
        assert!(images <= self.site.batch, "{images} images, planned for {}", self.site.batch);
        assert_eq!(input.len(), self.input_len(images), "input");
        assert_eq!(output.len(), self.output(images).len(), "output is [N, ⌈K/L⌉, P, Q, L]");
        if let Some(Addend { values }) = addend {
            assert_eq!(values.len(), output.len(), "addend is as the output");
        }
        let needed = self.workspace_len(pool.threads());
        assert!(workspace.len() >= needed, "workspace is {needed} elements, not {}", workspace.len());
        if images == 0 {
            return;
        }
        let epilogue = Epilogue {
            bias: &self.bias,
            floor: self.activation.floor(),
            addend: addend.map(|addend| (addend.values, &*self.addend_scale)),
        };
        match &self.kernel {
            Kernel::Direct(kernel) => kernel.run(pool, Run { images, input, epilogue, output, workspace }),
            Kernel::Depthwise(kernel) => kernel.run(pool, images, input, epilogue, output),
            Kernel::Winograd(kernel) => kernel.run(pool, Run { images, input, epilogue, output, workspace }),
        }
    }

    /// Bytes that the packed weights occupy.
    pub fn packed_bytes(&self) -> usize {
        match &self.kernel {
            Kernel::Direct(kernel) => kernel.packed_bytes(),
            Kernel::Depthwise(kernel) => kernel.packed_bytes(),
            Kernel::Winograd(kernel) => kernel.packed_bytes(),
        }
    }
}

/// Bound on the channels that padding to whole registers adds, and on the copies that threads make of a window.
const SLACK: usize = 1 << 12;

/// Checks that maps, their padded copies and the transformed weights are within the address space, so that no size that
/// is computed from them wraps around.
fn check_sizes(geometry: &Geometry, site: Site, output: [usize; 2]) -> Result<(), GeometryError> {
    let [padded_height, padded_width] = [0, 1].map(|axis| site.size[axis] + 2 * geometry.padding[axis]);
    let [channels, filters] = [geometry.in_channels, geometry.out_channels].map(|count| count.saturating_add(SLACK));
    let batch = site.batch.max(1);
    checked_product(&[batch, channels, padded_height, padded_width, SLACK])?;
    checked_product(&[batch, filters, output[0], output[1], SLACK])?;
    checked_product(&[channels, filters, geometry.kernel[0], geometry.kernel[1], SLACK])?;
    let reach = [0, 1].map(|axis| geometry.kernel[axis].saturating_mul(geometry.dilation[axis]));
    checked_product(&[channels, reach[0], reach[1], SLACK]).map(|_| ())
}

fn expect_len(name: &'static str, expected: usize, found: usize) -> Result<(), GeometryError> {
    if expected == found { Ok(()) } else { Err(GeometryError::Length { name, expected, found }) }
}

#[cfg(test)]
mod tests;

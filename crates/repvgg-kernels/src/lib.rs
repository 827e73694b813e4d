//! CPU kernels for inference and training of convolutional networks.
//!
//! The crate knows nothing about networks: it works on shapes, slices and threads. It is the only crate of its workspace with
//! `unsafe` code, behind a safe API. Slices of the wrong length or shape panic; failures that data can cause are errors.
//!
//! # Notation
//!
//! `N` images, `C` input channels, `K` filters (output channels), `G` groups, `H W` input height and width, `P Q` output
//! height and width, `R S` kernel height and width, `L` lanes of a register. Activations are `[N, C, H, W]`, weights
//! `[K, C/G, R, S]`, row-major: PyTorch's `NCHW` and `OIHW`. All sizes are in elements. A convolution is a
//! cross-correlation, as in every framework:
//!
//! `y[n,k,p,q] = b[k] + Σ_{c,r,s} x[n, c, p·stride + r·dilation − padding, q·stride + s·dilation − padding] · w[k,c,r,s]`
//!
//! # Inference
//!
//! An engine packs weights once ([`PackedConv2d`]) for the algorithm it chooses ([`Algorithm`], [`Estimate`]). Packed weights
//! are immutable and shared by every batch size, image size and thread; each batch and image size has its own [`ConvPlan`]. A
//! run allocates nothing. Maps between convolutions are stored in blocks of channels ([`Blocked`]), and [`maps`] holds the
//! operations on them: sums, pooling, softmax and elementwise functions.
//!
//! ```
//! use repvgg_kernels::{
//!     Activation, Algorithm, ConvPlan, ConvSpec, Geometry, Layout, Level, PackedConv2d, Packing, Parameters, Pass, Site,
//!     ThreadPool,
//! };
//!
//! let geometry = Geometry {
//!     in_channels: 1,
//!     out_channels: 1,
//!     kernel: [3, 3],
//!     stride: [1, 1],
//!     padding: [1, 1],
//!     dilation: [1, 1],
//!     groups: 1,
//! };
//! let (pool, level) = (ThreadPool::new(2), Level::detect());
//! let spec = ConvSpec { geometry, layout: Layout::Planar };
//! let site = Site { batch: 1, size: [2, 3] };
//!
//! // Once: pack the weights for an algorithm.
//! let parameters =
//!     Parameters { weights: &[1.0; 9], bias: Some(&[-5.0]), addend_scale: None, activation: Activation::Relu };
//! let packing = Packing::of(Algorithm::Direct, &spec, site.size)?;
//! let conv = PackedConv2d::new(&pool, level, &spec, packing, parameters)?;
//!
//! // For each batch and image size: make a plan.
//! let plan = ConvPlan::new(&conv, site, pool.threads())?;
//! let blocks = plan.output(1);
//! let (mut output, mut workspace) = (vec![0.0; blocks.len()], vec![0.0; plan.workspace_len()]);
//!
//! // For each batch of images: run it.
//! let (output, workspace) = (&mut *output, &mut *workspace);
//! conv.run(&plan, &pool, Pass { images: 1, input: &[1.0; 6], addend: None, output, workspace });
//! let mut planar = [0.0; 6];
//! blocks.unpack(output, &mut planar);
//! assert_eq!(planar, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
//! # Ok::<(), repvgg_kernels::GeometryError>(())
//! ```
//!
//! # Training
//!
//! [`TrainingConv2d`] computes a convolution and the gradients of its input and weights on `[N, C, H, W]`. It packs weights in
//! every call, because they change between calls. [`NormSum`] is a sum of batch norms with its gradients: the end of a RepVGG
//! block.
//!
//! # Guarantees
//!
//! * Results are bit-equal for any number of threads.
//! * The instruction set is chosen at run time ([`Level::detect`]); all levels compute the same values up to rounding.
//! * [`mod@reference`] defines a convolution in seven plain loops; every kernel is tested against it.
//! * Minimal filtering is proved as well as tested: [`winograd`] derives its matrices in exact rationals.
//!
//! # Map
//!
//! | file or folder | contents |
//! |---|---|
//! | `isa` | the list of instruction sets, their tokens, dispatch |
//! | `tile` | the register tile that computes every matrix product; filters divided into panels of its width |
//! | `winograd` | minimal filtering: the list of families, derivation and proof, points, transforms, covers |
//! | `inference` | convolutions on packed weights: direct, depthwise, Winograd; estimates; `inference/maps`: other operations |
//! | `training` | convolution, its gradients, sums of batch norms |
//! | `threads`, `memory` | worker threads and disjoint chunks; buffers in huge pages |
//! | `geometry`, `layout`, `element` | checked sizes; blocks of channels; element types |
//! | `reference` | the definition of a convolution |
//!
//! Depthwise convolutions and pooling do not use the register tile, because none of their operands is used twice.

#[cfg(test)]
mod cases;
mod element;
mod geometry;
mod inference;
mod isa;
mod layout;
mod memory;
pub mod reference;
mod threads;
mod tile;
mod training;
pub mod winograd;

pub use element::Element;
pub use geometry::{Geometry, GeometryError};
pub use inference::{
    Accuracy, Activation, Algorithm, ConvPlan, ConvSpec, Estimate, Layout, Machine, PackedConv2d, Packing, Parameters,
    Pass, Site, TileSize, UnknownAlgorithm, maps,
};
pub use isa::{Level, fma_peak};
pub use layout::Blocked;
pub use memory::Buffer;
pub use threads::ThreadPool;
pub use training::{BatchStatistics, NormBranch, NormGradients, NormSum, OutputGradient, TrainingConv2d};

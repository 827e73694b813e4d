//! Convolution kernels on the CPU: forward, the gradients of its input and weights, and batch normalisation.
//!
//! It knows nothing of networks. An inference engine packs weights once ([`PackedConv2d`]) and runs them many times without
//! allocating; training ([`Problem`]) packs per call, because its weights change with every call.
//!
//! # Notation
//!
//! `N` images, `C` input channels, `K` filters (output channels), `G` groups, `H W` input height and width, `P Q` output
//! height and width, `R S` kernel height and width. Activations are `[N, C, H, W]`, weights `[K, C/G, R, S]`, row-major:
//! PyTorch's `NCHW` and `OIHW`. All sizes are in elements; the convolution is a cross-correlation, as in every framework:
//!
//! `y[n,k,p,q] = b[k] + Σ_{c,r,s} x[n, c, p·stride + r·dilation − padding, q·stride + s·dilation − padding] · w[k,c,r,s]`
//!
//! # Example
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
//! // Once: the weights, packed for an algorithm. They can be shared between threads, batches and sizes.
//! let parameters =
//!     Parameters { weights: &[1.0; 9], bias: Some(&[-5.0]), addend_scale: None, activation: Activation::Relu };
//! let packing = Packing::of(Algorithm::Direct, &spec, site.size)?;
//! let conv = PackedConv2d::new(&pool, level, &spec, packing, parameters)?;
//!
//! // For each batch and size: a plan.
//! let plan = ConvPlan::new(&conv, site, pool.threads())?;
//! let blocks = plan.output(1);
//! let (mut output, mut workspace) = (vec![0.0; blocks.len()], vec![0.0; plan.workspace_len()]);
//!
//! // For each batch of images: a pass.
//! let (output, workspace) = (&mut *output, &mut *workspace);
//! conv.run(&plan, &pool, Pass { images: 1, input: &[1.0; 6], addend: None, output, workspace });
//! let mut planar = [0.0; 6];
//! blocks.unpack(output, &mut planar);
//! assert_eq!(planar, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
//! # Ok::<(), repvgg_kernels::GeometryError>(())
//! ```
//!
//! # Map
//!
//! | file | holds |
//! |---|---|
//! | `geometry` | sizes, checked |
//! | `inference/conv` | convolutions on packed weights: weights, plans, passes |
//! | `inference/algorithm`, `estimate`, `packing` | the algorithms, the time that each takes, the weights that each reads |
//! | `inference/direct`, `depthwise` | direct convolution of any kind, depthwise convolution |
//! | `inference/epilogue` | bias, sum and activation in the same pass |
//! | `inference/winograd` | Winograd convolution: packed filters, plans, the passes over memory |
//! | [`maps`] | everything between convolutions: sums, pooling, softmax, functions of each element, moves |
//! | `winograd` | minimal filtering: the algebra, tiles, transforms |
//! | `winograd/derivation`, `winograd/points` | its matrices: derived and proved for any size; the engine's points and constants |
//! | `product`, `panels` | the register tile that inference comes down to, and how filters are divided among tiles |
//! | `layout`, `memory` | blocks of channels; huge pages |
//! | `gradients`, `batch_norm` | the entries of training |
//! | `stencil`, `implicit_gemm`, `depthwise`, `output`, `gradients/weights` | training's products, on `[N, C, H, W]` |
//! | `simd`, `pool` | instruction sets, threads |
//!
//! # Promises
//!
//! * Results are bit-equal for any number of threads.
//! * The instruction set is chosen at run time ([`Level::detect`]); every level gives the same values up to rounding.
//! * What a convolution *should* compute is [`mod@reference`], in seven plain loops.

mod batch_norm;
#[cfg(test)]
mod cases;
mod depthwise;
mod geometry;
mod gradients;
mod implicit_gemm;
mod inference;
mod layout;
mod memory;
mod output;
mod panels;
mod peak;
mod pool;
mod product;
pub mod reference;
mod simd;
mod stencil;
pub mod winograd;

pub use batch_norm::{BatchNormBackward, BatchNormForward, batch_norm_backward, batch_norm_forward};
pub use geometry::{Geometry, GeometryError};
pub use gradients::Problem;
pub use inference::{
    Accuracy, Activation, Algorithm, ConvPlan, ConvSpec, Estimate, Layout, Machine, PackedConv2d, Packing, Parameters,
    Pass, Site, TileSize, maps,
};
pub use layout::Blocked;
pub use memory::Buffer;
pub use peak::fma_peak;
pub use pool::ThreadPool;
pub use simd::Level;

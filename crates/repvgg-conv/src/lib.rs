//! Convolution kernels on the CPU: forward, the gradients of its input and weights, and batch normalisation.
//!
//! Knows nothing of networks. Two masters use it: an inference engine packs weights once ([`Conv2d`]) and runs many
//! times without allocating; training ([`Problem`]) packs per call, because its weights change per call.
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
//! use repvgg_conv::{Activation, Conv2d, Geometry, Pass, ThreadPool};
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
//! let conv = Conv2d::new(geometry, &[1.0; 9], Some(&[-5.0]), Activation::Relu)?;
//! let pool = ThreadPool::new(2);
//! let (batch, size) = (1, [2, 3]);
//! let mut output = [0.0; 6];
//! let mut workspace = vec![0.0; conv.workspace_len(batch, size, pool.threads())];
//! let input = &[1.0; 6];
//! conv.run(&pool, Pass { batch, size, input, output: &mut output, workspace: &mut workspace });
//! assert_eq!(output, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
//! # Ok::<(), repvgg_conv::GeometryError>(())
//! ```
//!
//! # Map
//!
//! | file | holds |
//! |---|---|
//! | `geometry` | sizes, checked |
//! | `conv`, `gradients`, `batch_norm` | the entries: inference, training |
//! | `stencil` | which inputs an output reads, for all three products; staging with zero borders |
//! | `implicit_gemm` | the general algorithm: packing, blocking, the register tile |
//! | `depthwise` | one filter on one channel |
//! | `gradients/weights` | the product over pixels |
//! | `output` | what algorithms are applied to, and bias, activation and placement of their results |
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
mod conv;
mod depthwise;
mod geometry;
mod gradients;
mod implicit_gemm;
mod output;
mod peak;
mod pool;
pub mod reference;
mod simd;
mod stencil;

pub use batch_norm::{BatchNormBackward, BatchNormForward, batch_norm_backward, batch_norm_forward};
pub use conv::{Activation, Conv2d, Pass};
pub use geometry::{Geometry, GeometryError};
pub use gradients::Problem;
pub use peak::fma_peak;
pub use pool::ThreadPool;
pub use simd::Level;

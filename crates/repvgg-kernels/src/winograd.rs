//! Winograd's minimal filtering for 3×3 convolutions of stride 1 and 2.
//!
//! A convolution along one axis is a polynomial product, and interpolation computes it with the fewest multiplications:
//! transform the inputs of a tile to values at a few points, multiply them by the values of the filter, and transform back
//! ([`Derivation`]). In two dimensions the transforms nest, `Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`. The sum over channels turns the
//! product at each pair of points into a matrix product:
//!
//! ```text
//! M[p][k][t] = Σ_c U[p][k][c] · V[p][c][t]        p pairs of points, t tiles
//! ```
//!
//! F(4×4, 3×3) spends 36 products on 16 outputs where direct convolution spends 144.
//!
//! Two departures from the textbook make it faster:
//!
//! * **Mixed tiles.** Tiles of different sizes share one set of transformed weights and cover any extent exactly: 14 outputs
//!   are 4 + 4 + 4 + 2. Each pair of points therefore has its own number of columns.
//! * **Stride 2.** Along an axis, every second input is multiplied by the outer taps `w₀, w₂`, a two-tap filter with its own
//!   minimal filtering. The other inputs are multiplied by `w₁` only. An axis is a list of *slots*, each holding a transformed
//!   or an untransformed value, so the same code serves both strides.
//!
//! The matrices of any size are derived in exact rationals, and their correctness is proved:
//!
//! ```
//! use repvgg_kernels::winograd::{Derivation, parse_points};
//!
//! let derivation = Derivation::new(4, 3, parse_points("0, 1, -1, 1/2, -1/2")?)?;
//! assert_eq!((derivation.multiplications(), derivation.direct_multiplications()), (36, 144));
//! assert_eq!(derivation.prove()?, 72, "coefficients equal those of the convolution");
//! # Ok::<(), repvgg_kernels::winograd::DerivationError>(())
//! ```

pub(crate) mod cover;
mod derivation;
pub(crate) mod families;
pub(crate) mod points;
pub(crate) mod transform;

pub use derivation::{
    Derivation, DerivationError, Deviation, MAX_PRODUCTS, Matrix, Operations, Rounding, parse_points, to_f64,
};

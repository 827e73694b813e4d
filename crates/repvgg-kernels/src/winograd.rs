//! Winograd's minimal filtering for 3×3 convolutions of stride 1 and 2.
//!
//! A convolution along one axis is a polynomial product, and a polynomial product is cheapest by interpolation: transform
//! the inputs of a tile to values at a few points, multiply by the values of the filter, transform back
//! ([`Derivation`]). In two dimensions the transforms nest, `Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`, and summing over channels turns the
//! product at each pair of points into a matrix product:
//!
//! ```text
//! M[p][k][t] = Σ_c U[p][k][c] · V[p][c][t]        p pairs of points, t tiles
//! ```
//!
//! F(4×4, 3×3) spends 36 products on 16 outputs where direct convolution spends 144.
//!
//! Departures from the textbook, made for speed:
//!
//! * **Mixed tiles.** Any extent is covered exactly, by tiles of different sizes that share one set of transformed
//!   weights: 14 outputs are 4 + 4 + 4 + 2. Each pair of points therefore has its own number of columns.
//! * **Stride 2.** Along an axis, every second input meets the outer taps `w₀, w₂`, a two-tap filter with its own minimal
//!   filtering; the inputs between meet `w₁` alone. An axis is a list of *slots*, each a transformed or an untransformed
//!   value, so the same code serves both strides.
//! * **Blocking.** Tiles are processed in chunks so small that V stays in the cache, and all points of a group of filters
//!   are multiplied before they are transformed back, so that M does.

pub(crate) mod cover;
mod derivation;
pub(crate) mod points;
pub(crate) mod transform;

pub use derivation::{
    Derivation, DerivationError, Deviation, MAX_PRODUCTS, Matrix, Operations, Rounding, parse_points, to_f64,
};

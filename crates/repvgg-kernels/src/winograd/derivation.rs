//! The matrices of minimal filtering, derived from interpolation points in exact rationals, and the proof that they compute a
//! convolution.
//!
//! F(m, r) computes `m` outputs of an `r`-tap filter, `y[j] = Σ_k g[k] · d[j + k]`, from `α = m + r − 1` products (Winograd
//! 1980; Lavin & Gray, arXiv 1509.09308). With `α − 1` finite points and the point at infinity, `y = Aᵀ[(G g) ⊙ (Bᵀ d)]`. For
//! finite `p`, with `N(p) = Π_{q≠p}(p − q)` over the other finite points,
//!
//! ```text
//! row p of Bᵀ   coefficients of Π_{q≠p}(x − q)      row p of G   [1, p, …, p^{r−1}] / N(p)      column p of Aᵀ   [1, p, …, p^{m−1}]
//! row ∞ of Bᵀ   coefficients of Π_q (x − q)         row ∞ of G   [0, …, 0, 1]                  column ∞ of Aᵀ   [0, …, 0, 1]
//! ```
//!
//! A row of `Bᵀ` may be multiplied by any factor if the corresponding row of `G` or column of `Aᵀ` is divided by it.

mod error;
mod point;
mod rounding;

use num_rational::BigRational;
use num_traits::{One, Signed, Zero, pow};

use super::families::Family;
use super::points::Points;
pub use error::DerivationError;
pub use point::parse_points;
pub use rounding::{Deviation, Rounding};

/// The most products in one dimension, `m + r − 1`: single precision loses every digit at much smaller sizes.
pub const MAX_PRODUCTS: usize = 32;

/// A matrix of exact rationals, by rows.
pub type Matrix = Vec<Vec<BigRational>>;

/// The matrices `Aᵀ`, `G` and `Bᵀ` of F(m, r).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    points: Vec<BigRational>,
    output: Matrix,
    filter: Matrix,
    input: Matrix,
}

/// The number of operations of a transform, entry by entry: terms that rows share count once for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations {
    /// Additions and subtractions.
    pub additions: usize,
    /// Multiplications by constants other than 1 and −1.
    pub multiplications: usize,
}

impl Derivation {
    /// Derives F(`outputs`, `taps`) from its finite points, with the signs of Lavin & Gray: the rows of `Bᵀ` for zero and
    /// infinity begin with a positive number. Some authors give infinity the opposite sign.
    ///
    /// # Errors
    ///
    /// If there are no outputs or no taps, more than [`MAX_PRODUCTS`] products, not exactly `outputs + taps − 2` points, or a
    /// repeated point.
    pub fn new(outputs: usize, taps: usize, points: Vec<BigRational>) -> Result<Self, DerivationError> {
        let expected = products(outputs, taps)? - 1;
        if points.len() != expected {
            return Err(DerivationError::Count { outputs, taps, expected, found: points.len() });
        }
        if let Some(i) = (1..points.len()).find(|&i| points[..i].contains(&points[i])) {
            return Err(DerivationError::Repeated { point: points[i].clone() });
        }
        let mut derivation = Self::interpolate(outputs, taps, points);
        let begins_negative = |row: &[BigRational]| row.iter().find(|x| !x.is_zero()).is_some_and(Signed::is_negative);
        if let Some(zero) = derivation.points.iter().position(Zero::is_zero)
            && begins_negative(&derivation.input[zero])
        {
            derivation.scale(zero, &-BigRational::one());
        }
        let infinity = expected;
        if begins_negative(&derivation.input[infinity]) {
            derivation.input[infinity].iter_mut().for_each(|x| *x = -&*x);
            derivation.output.iter_mut().for_each(|row| row[infinity] = -&row[infinity]);
        }
        Ok(derivation)
    }

    /// Derives F(`outputs`, `taps`) from the first of the usual points 0, ±1, ±2, ±1/2, ±3, ±1/3, ±3/2, ±2/3, …
    ///
    /// # Errors
    ///
    /// If [`Derivation::new`] rejects the size.
    pub fn standard(outputs: usize, taps: usize) -> Result<Self, DerivationError> {
        Self::new(outputs, taps, point::standard(products(outputs, taps)? - 1))
    }

    /// Derives F(`outputs`, `taps`) as the kernels compute it, with their points and signs, and the `G` that all tiles of a
    /// family share.
    ///
    /// # Errors
    ///
    /// If no family has the size.
    pub fn engine(outputs: usize, taps: usize) -> Result<Self, DerivationError> {
        let fits = |family: &&Family| family.taps == taps && (1..=family.largest).contains(&outputs);
        let family = Family::ALL.iter().find(fits).ok_or(DerivationError::Engine { outputs, taps })?;
        Ok(Self::of(&Points::of(family), outputs))
    }

    /// Derives a tile of a family. The rows of its `Bᵀ` compensate for a `G` that is the largest tile's.
    pub(super) fn of(family: &Points, outputs: usize) -> Self {
        let finite = |outputs: usize| -> Vec<BigRational> {
            let slots = (0..family.count(outputs)).filter(|&slot| slot != Points::INFINITY);
            slots.map(|slot| BigRational::from_float(family.at(slot)).expect("points are finite")).collect()
        };
        let (points, all) = (finite(outputs), finite(family.largest));
        let mut tile = Self::interpolate(outputs, family.taps, points.clone());
        for (slot, p) in points.iter().enumerate() {
            tile.scale(slot, &(denominator(p, &all) / denominator(p, &points)));
        }
        tile
    }

    /// Evaluates the formula in the module documentation.
    fn interpolate(outputs: usize, taps: usize, points: Vec<BigRational>) -> Self {
        let products = points.len() + 1;
        let powers = |p: &BigRational, count: usize| (0..count).map(|power| pow(p.clone(), power)).collect::<Vec<_>>();
        let last = |count: usize| (0..count).map(move |i| indicator(i + 1 == count));
        let row = |p: &BigRational| powers(p, taps).into_iter().map(|power| power / denominator(p, &points)).collect();
        let filter = points.iter().map(row).chain([last(taps).collect()]).collect();
        let columns: Matrix = points.iter().map(|p| powers(p, outputs)).chain([last(outputs).collect()]).collect();
        let output = (0..outputs).map(|j| columns.iter().map(|column| column[j].clone()).collect()).collect();
        let row = |p: &BigRational| polynomial(points.iter().filter(|&q| q != p), products);
        let input = points.iter().map(row).chain([polynomial(points.iter(), products)]).collect();
        Self { points, output, filter, input }
    }

    /// Multiplies a row of `Bᵀ` by a factor, and divides the row of `G` by it.
    fn scale(&mut self, slot: usize, factor: &BigRational) {
        self.input[slot].iter_mut().for_each(|x| *x *= factor);
        self.filter[slot].iter_mut().for_each(|x| *x /= factor);
    }

    /// Proves `Aᵀ[(G g) ⊙ (Bᵀ d)] = g ∗ d` for all `g` and `d`. Both sides are bilinear, so it suffices that every product
    /// `g[k] · d[i]` has the same coefficient in every output. Returns the number of coefficients.
    ///
    /// Nested in two dimensions, `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` applies this identity along rows and then along columns.
    ///
    /// # Errors
    ///
    /// If a coefficient differs; the error describes the first one.
    pub fn prove(&self) -> Result<usize, DerivationError> {
        let slots = 0..self.products();
        for (output, tap) in (0..self.outputs()).flat_map(|output| (0..self.taps()).map(move |tap| (output, tap))) {
            let products = slots.clone().map(|slot| &self.output[output][slot] * &self.filter[slot][tap]);
            let products: Vec<BigRational> = products.collect();
            for input in slots.clone() {
                let terms = slots.clone().map(|slot| &products[slot] * &self.input[slot][input]);
                let found: BigRational = terms.sum();
                if found != indicator(input == output + tap) {
                    return Err(DerivationError::Refuted { output, tap, input, found });
                }
            }
        }
        Ok(self.outputs() * self.taps() * self.products())
    }

    /// The finite points, in the order of the rows of `G` and `Bᵀ`; the last row is infinity's.
    pub fn points(&self) -> &[BigRational] {
        &self.points
    }

    /// `Aᵀ`, `[output][point]`.
    pub fn output(&self) -> &Matrix {
        &self.output
    }

    /// `G`, `[point][tap]`.
    pub fn filter(&self) -> &Matrix {
        &self.filter
    }

    /// `Bᵀ`, `[point][input]`.
    pub fn input(&self) -> &Matrix {
        &self.input
    }

    /// `m`.
    pub fn outputs(&self) -> usize {
        self.output.len()
    }

    /// `r`.
    pub fn taps(&self) -> usize {
        self.filter[0].len()
    }

    /// `α = m + r − 1`: the number of points, and of inputs of a tile.
    pub fn products(&self) -> usize {
        self.input.len()
    }

    /// The number of multiplications of a two-dimensional tile, `α²`.
    pub fn multiplications(&self) -> usize {
        self.products().pow(2)
    }

    /// The number of multiplications of direct convolution for the outputs of a two-dimensional tile, `m² · r²`.
    pub fn direct_multiplications(&self) -> usize {
        (self.outputs() * self.taps()).pow(2)
    }

    /// The operations of `Bᵀ d B`, `G g Gᵀ` and `Aᵀ[…]A`, in this order. Each transforms columns first, then rows.
    pub fn transforms(&self) -> [Operations; 3] {
        let alpha = self.products();
        let cost = |matrix: &Matrix, times: usize| {
            let entries = |row: &Vec<BigRational>| row.iter().filter(|x| !x.is_zero()).count();
            let constants = |row: &Vec<BigRational>| row.iter().filter(|x| !x.is_zero() && !x.abs().is_one()).count();
            Operations {
                additions: times * matrix.iter().map(|row| entries(row).saturating_sub(1)).sum::<usize>(),
                multiplications: times * matrix.iter().map(constants).sum::<usize>(),
            }
        };
        [
            cost(&self.input, 2 * alpha),
            cost(&self.filter, self.taps() + alpha),
            cost(&self.output, alpha + self.outputs()),
        ]
    }
}

/// Rounds the entries to double precision.
pub fn to_f64(matrix: &Matrix) -> Vec<Vec<f64>> {
    use num_traits::ToPrimitive;

    let round = |x: &BigRational| x.to_f64().expect("every rational has a nearest float");
    matrix.iter().map(|row| row.iter().map(round).collect()).collect()
}

/// `m + r − 1`, if the size is within bounds.
fn products(outputs: usize, taps: usize) -> Result<usize, DerivationError> {
    match outputs.saturating_add(taps).saturating_sub(1) {
        products if outputs >= 1 && taps >= 1 && products <= MAX_PRODUCTS => Ok(products),
        _ => Err(DerivationError::Size { outputs, taps }),
    }
}

/// `N(p) = Π (p − q)` over the points `q ≠ p`.
fn denominator(p: &BigRational, points: &[BigRational]) -> BigRational {
    points.iter().filter(|&q| q != p).map(|q| p - q).product()
}

/// The first `count` coefficients of `Π (x − q)`, the constant one first.
fn polynomial<'a>(roots: impl Iterator<Item = &'a BigRational>, count: usize) -> Vec<BigRational> {
    let mut coefficients = vec![BigRational::zero(); count];
    coefficients[0] = BigRational::one();
    for root in roots {
        for power in (0..count).rev() {
            let below = if power == 0 { BigRational::zero() } else { coefficients[power - 1].clone() };
            coefficients[power] = below - root * &coefficients[power];
        }
    }
    coefficients
}

/// 1 if the condition holds, otherwise 0.
fn indicator(holds: bool) -> BigRational {
    if holds { BigRational::one() } else { BigRational::zero() }
}

#[cfg(test)]
mod tests;

//! The rounding error of a derivation in single precision, measured beside that of direct convolution.

use num_traits::Float;

use super::{Derivation, to_f64};

/// The distance of results from exact ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// The largest error over the largest result; infinite where a number overflows single precision.
    pub max: f64,
    /// The root mean square of the errors over that of the results; infinite likewise.
    pub rms: f64,
}

/// The deviations of the same convolutions in single precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounding {
    /// Of the derivation.
    pub winograd: Deviation,
    /// Of a sum of products, term after term.
    pub direct: Deviation,
}

/// A square of numbers.
type Square<T> = Vec<Vec<T>>;

impl Derivation {
    /// Computes `tiles` two-dimensional tiles of a convolution over `channels` in single precision, and compares them with
    /// double precision. Numbers come from `sample` and have variance 1; weights are scaled so that results have it too.
    ///
    /// As in the engine, weights are transformed in double precision and rounded once; all else is rounded step by step.
    pub fn rounding(&self, channels: usize, tiles: usize, mut sample: impl FnMut() -> f64) -> Rounding {
        let (m, r) = (self.outputs(), self.taps());
        let [output, input] = [&self.output, &self.input].map(|matrix| rounded(&to_f64(matrix)));
        let filter = to_f64(&self.filter);
        let scale = 1.0 / (channels as f64 * (r * r) as f64).sqrt();
        let mut square = |side: usize, scale: f64| -> Square<f32> {
            (0..side).map(|_| (0..side).map(|_| (scale * sample()) as f32).collect()).collect()
        };
        let (mut winograd, mut direct) = (Tally::default(), Tally::default());
        for _ in 0..tiles {
            let mut sums = vec![vec![0.0_f32; self.products()]; self.products()];
            let mut plain = vec![vec![0.0_f32; m]; m];
            let mut exact = vec![vec![0.0_f64; m]; m];
            for _ in 0..channels {
                let (d, g) = (square(self.products(), 1.0), square(r, scale));
                let wide =
                    [&d, &g].map(|tile| tile.iter().map(|row| row.iter().map(|&x| x.into()).collect()).collect());
                add_products(&mut sums, &nest(&input, &d), &rounded(&nest(&filter, &wide[1])));
                add_convolution(&mut plain, &d, &g);
                add_convolution(&mut exact, &wide[0], &wide[1]);
            }
            winograd.add(&nest(&output, &sums), &exact);
            direct.add(&plain, &exact);
        }
        Rounding { winograd: winograd.deviation(), direct: direct.deviation() }
    }
}

fn rounded(tile: &Square<f64>) -> Square<f32> {
    tile.iter().map(|row| row.iter().map(|&x| x as f32).collect()).collect()
}

/// `M X Mᵀ`.
fn nest<T: Float>(matrix: &Square<T>, x: &Square<T>) -> Square<T> {
    // The product with the matrix, transposed; twice transposed is as it was.
    let apply = |x: &Square<T>| -> Square<T> {
        let product = |row: &Vec<T>, j: usize| row.iter().zip(x).fold(T::zero(), |sum, (&a, x)| sum + a * x[j]);
        (0..x[0].len()).map(|j| matrix.iter().map(|row| product(row, j)).collect()).collect()
    };
    apply(&apply(x))
}

/// Adds `u ⊙ v`.
fn add_products(sums: &mut Square<f32>, u: &Square<f32>, v: &Square<f32>) {
    let rows = sums.iter_mut().zip(u.iter().zip(v));
    rows.for_each(|(sums, (u, v))| sums.iter_mut().zip(u.iter().zip(v)).for_each(|(sum, (u, v))| *sum += u * v));
}

/// Adds `g ∗ d`.
fn add_convolution<T: Float>(y: &mut Square<T>, d: &Square<T>, g: &Square<T>) {
    for (p, y) in y.iter_mut().enumerate() {
        for (q, y) in y.iter_mut().enumerate() {
            for (r, g) in g.iter().enumerate() {
                *y = g.iter().enumerate().fold(*y, |sum, (s, &g)| sum + g * d[p + r][q + s]);
            }
        }
    }
}

/// Errors and results so far.
#[derive(Default)]
struct Tally {
    error: f64,
    squared_error: f64,
    result: f64,
    squared_result: f64,
}

impl Tally {
    fn add(&mut self, got: &Square<f32>, exact: &Square<f64>) {
        for (&got, &exact) in got.iter().flatten().zip(exact.iter().flatten()) {
            let error = if got.is_finite() { (f64::from(got) - exact).abs() } else { f64::INFINITY };
            self.error = self.error.max(error);
            self.squared_error += error * error;
            self.result = self.result.max(exact.abs());
            self.squared_result += exact * exact;
        }
    }

    fn deviation(&self) -> Deviation {
        Deviation { max: self.error / self.result, rms: (self.squared_error / self.squared_result).sqrt() }
    }
}

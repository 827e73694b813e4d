//! The rounding error of a derivation in single precision, measured and compared with that of direct convolution.

use num_traits::Float;

use super::{Derivation, to_f64};

/// The deviation of results from the exact ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// The largest error, relative to the largest result; infinite if a number overflows single precision.
    pub max: f64,
    /// The root mean square of the errors, relative to that of the results; infinite if a number overflows single precision.
    pub rms: f64,
}

/// The deviations of two methods on the same convolutions, in single precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounding {
    /// The deviation of the derivation.
    pub winograd: Deviation,
    /// The deviation of direct convolution, which adds one product after another.
    pub direct: Deviation,
}

/// A square matrix, by rows.
type Square<T> = Vec<Vec<T>>;

impl Derivation {
    /// Computes `tiles` two-dimensional tiles of a convolution over `channels` channels in single precision, and compares them
    /// with double precision. `sample` returns numbers of variance 1; weights are scaled so that results have variance 1 too.
    ///
    /// As in the engine, weights are transformed in double precision and rounded once; every other operation is rounded.
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
    // Returns `(M X)ᵀ`; two applications cancel the transposition.
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

/// Running maxima and sums of squares, of errors and results.
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

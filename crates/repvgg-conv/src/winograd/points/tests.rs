//! The identity `Aᵀ[(G g) ⊙ (Bᵀ d)] = g ∗ d`, proved for every tile in exact rationals.

#![expect(clippy::needless_range_loop, reason = "indices are those of the matrices")]

use super::{MAX_POINTS, Points};

/// A fraction in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ratio(i128, i128);

impl Ratio {
    const ZERO: Self = Self(0, 1);

    fn new(numerator: i128, denominator: i128) -> Self {
        let (mut a, mut b) = (numerator.abs(), denominator.abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let sign = if denominator < 0 { -1 } else { 1 };
        Self(sign * numerator / a.max(1), sign * denominator / a.max(1))
    }

    /// The value of a float, which must be a small dyadic rational.
    fn of(x: f64) -> Self {
        let scaled = x * f64::from(1_u32 << 30);
        assert!(scaled.fract() == 0.0 && scaled.abs() < 2_f64.powi(60), "{x} is no small dyadic rational");
        Self::new(scaled as i128, 1 << 30)
    }

    fn plus(self, other: Self) -> Self {
        Self::new(self.0 * other.1 + other.0 * self.1, self.1 * other.1)
    }

    fn times(self, other: Self) -> Self {
        Self::new(self.0 * other.0, self.1 * other.1)
    }

    fn to_f64(self) -> f64 {
        self.0 as f64 / self.1 as f64
    }
}

/// `G` in exact rationals, from its definition.
fn filter(points: Points) -> [[Ratio; 3]; MAX_POINTS] {
    let slots = points.count(points.largest);
    let mut matrix = [[Ratio::ZERO; 3]; MAX_POINTS];
    for (slot, row) in matrix.iter_mut().enumerate().take(slots) {
        if slot == 1 {
            row[points.taps - 1] = Ratio::new(1, 1);
            continue;
        }
        let others = (0..slots).filter(|&other| other != slot && other != 1);
        let spread = others.fold(Ratio::new(1, 1), |product, other| {
            product.times(Ratio::of(points.at(slot)).plus(Ratio::of(-points.at(other))))
        });
        let mut power = Ratio::new(spread.1, spread.0);
        for entry in row.iter_mut().take(points.taps) {
            *entry = power;
            power = power.times(Ratio::of(points.at(slot)));
        }
    }
    matrix
}

#[test]
fn every_tile_computes_the_convolution() {
    for (taps, largest) in [(3, 2), (3, 4), (3, 6), (3, 8), (2, 2), (2, 4)] {
        let points = Points::of(taps, largest);
        let exact = filter(points);
        for (row, exact) in points.filter().iter().zip(&exact) {
            for (entry, exact) in row.iter().zip(exact) {
                assert!(
                    (entry - exact.to_f64()).abs() <= 4.0 * f64::EPSILON * exact.to_f64().abs(),
                    "{entry}, {exact:?}"
                );
            }
        }
        for outputs in 1..=largest {
            let (input, output) = (points.input(outputs), points.output(outputs));
            let exactly = |x: f64| {
                assert_eq!(f64::from(x as f32), x, "an entry that f32 cannot hold");
                Ratio::of(x)
            };
            let slots = points.count(outputs);
            // Both sides are bilinear, so it is enough to try every tap with every input.
            for tap in 0..taps {
                for (position, j) in (0..slots).flat_map(|position| (0..outputs).map(move |j| (position, j))) {
                    let term = |slot: usize| {
                        exactly(output[j][slot]).times(exact[slot][tap]).times(exactly(input[slot][position]))
                    };
                    let sum = (0..slots).map(term).fold(Ratio::ZERO, Ratio::plus);
                    let expected = if position == j + tap { Ratio::new(1, 1) } else { Ratio::ZERO };
                    assert_eq!(
                        sum, expected,
                        "F({outputs}, {taps}) of {largest}: tap {tap}, input {position}, output {j}"
                    );
                }
            }
        }
    }
}

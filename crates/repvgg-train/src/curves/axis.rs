//! Plot axes with round ticks.

/// Values beyond this are treated as infinite: on their scale nothing else would be visible.
const LARGEST: f64 = 1e30;
/// Relative values and differences below this are treated as zero.
const SMALLEST: f64 = 1e-9;

/// Whether `value` can be drawn. NaN and infinities cannot.
pub(super) fn drawable(value: f64) -> bool {
    value.abs() < LARGEST
}

/// `value` to `digits` significant digits, without trailing zeros: `0.05`, `12`, `3e-6`.
pub(super) fn number(value: f64, digits: usize) -> String {
    let rounded: f64 = format!("{value:.0$e}", digits - 1).parse().unwrap_or(value);
    if rounded == 0.0 || (1e-4..1e6).contains(&rounded.abs()) { format!("{rounded}") } else { format!("{rounded:e}") }
}

/// A map from values to pixels.
#[derive(Debug, Clone)]
pub struct Axis {
    scale: fn(f64) -> f64,
    values: [f64; 2],
    pixels: [f64; 2],
    ticks: Vec<f64>,
}

/// The scale on which equal differences have equal lengths.
const LINEAR: fn(f64) -> f64 = |value| value;

impl Axis {
    /// A linear axis for `values` that starts and ends at a tick. It includes zero unless all values are far from zero.
    pub fn of_values(values: impl Iterator<Item = f64>, pixels: [f64; 2], intervals: f64) -> Self {
        let [low, high] = range(values.filter(|&value| drawable(value)));
        let step = round_step((high - low) / intervals);
        let first = (low / step + SMALLEST).floor();
        let last = (high / step - SMALLEST).ceil();
        let ticks = (first as i64..=last as i64).map(|index| index as f64 * step).collect();
        Self { scale: LINEAR, values: [first * step, last * step], pixels, ticks }
    }

    /// A logarithmic axis for positive `values`. Its ticks are 1, 2 and 5 times powers of ten. A range too short for those
    /// gets all digits times powers of ten, or round steps.
    ///
    /// # Panics
    /// When there are no values, or one is not positive and finite.
    pub fn of_ratios(values: impl Iterator<Item = f64>, pixels: [f64; 2]) -> Self {
        /// Margin around the outermost values, as a factor.
        const ROOM: f64 = 1.1;
        const INTERVALS: f64 = 6.0;
        let [low, high] = values.fold([f64::INFINITY, 0.0], |[low, high]: [f64; 2], x| [low.min(x), high.max(x)]);
        assert!(low > 0.0 && low <= high && high.is_finite(), "expected positive values, found {low} to {high}");
        let [low, high] = [low / ROOM, high * ROOM];
        let powers = (low.log10().floor() as i32..=high.log10().floor() as i32).map(|power| 10f64.powi(power));
        let ticks: Vec<f64> = match high / low {
            ..4.0 => {
                let step = round_step((high - low) / INTERVALS);
                ((low / step).ceil() as i64..=(high / step) as i64).map(|index| index as f64 * step).collect()
            }
            ..25.0 => powers.flat_map(|power| (1..10).map(move |digit| f64::from(digit) * power)).collect(),
            _ => powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * power)).collect(),
        };
        let ticks = ticks.into_iter().filter(|tick| (low..=high).contains(tick)).collect();
        Self { scale: f64::ln, values: [low, high], pixels, ticks }
    }

    /// An axis for counts, from the smallest to the largest, with ticks at whole numbers.
    pub fn of_counts(counts: impl Iterator<Item = usize> + Clone, pixels: [f64; 2]) -> Self {
        const INTERVALS: f64 = 12.0;
        let (Some(low), Some(high)) = (counts.clone().min(), counts.max()) else {
            return Self { scale: LINEAR, values: [0.0, 1.0], pixels, ticks: Vec::new() };
        };
        if low == high {
            let only = low as f64;
            return Self { scale: LINEAR, values: [only - 1.0, only + 1.0], pixels, ticks: vec![only] };
        }
        let step = round_step((high - low) as f64 / INTERVALS).max(1.0) as usize;
        let ticks = (low.div_ceil(step)..=high / step).map(|index| (index * step) as f64).collect();
        Self { scale: LINEAR, values: [low as f64, high as f64], pixels, ticks }
    }

    /// Grid lines at the ticks of a vertical axis, as SVG. They span `edges`, left and right, with each tick's number to the left.
    pub fn rows(&self, edges: [f64; 2]) -> String {
        let [left, right] = edges;
        let row = |(y, text): (f64, String)| {
            let (end, middle) = (left - 8.0, y + 4.0);
            format!(
                r##"<path d="M{left} {y:.1}H{right}" stroke="#ddd"/><text x="{end}" y="{middle:.1}" text-anchor="end">{text}</text>
"##
            )
        };
        self.ticks().map(row).collect()
    }

    /// The position of `value` in pixels.
    pub fn at(&self, value: f64) -> f64 {
        let [value, low, high] = [value, self.values[0], self.values[1]].map(self.scale);
        let share = (value - low) / (high - low);
        self.pixels[0] + share * (self.pixels[1] - self.pixels[0])
    }

    /// The position in pixels and the label of each tick.
    pub fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        self.ticks.iter().map(|&tick| (self.at(tick), number(tick, 6)))
    }
}

/// A non-empty range that contains `values`.
fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let [low, high] = values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)]);
    let low = if low > 0.0 && low < high / 2.0 { 0.0 } else { low };
    if low > high || low.abs().max(high.abs()) < 1.0 / LARGEST {
        [0.0, 1.0]
    } else if high - low > SMALLEST * high.abs().max(low.abs()) {
        [low, high]
    } else {
        [low.min(0.0), high.max(0.0)]
    }
}

/// The smallest 1, 2 or 5 times a power of ten that is at least `minimum`.
fn round_step(minimum: f64) -> f64 {
    let power = 10f64.powi(minimum.log10().floor() as i32);
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|&step| step >= minimum).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_one_two_or_five() {
        let cases = [(1.0, 1.0), (1.1, 2.0), (0.02, 0.02), (0.021, 0.05), (7.0, 10.0), (600.0, 1000.0), (3e-7, 5e-7)];
        for (minimum, step) in cases {
            assert!((round_step(minimum) / step - 1.0).abs() < 1e-12, "{minimum}: {}", round_step(minimum));
        }
    }

    #[test]
    fn axes_contain_their_values_between_ticks() {
        let cases: [&[f64]; 10] = [
            &[],
            &[0.0],
            &[100.0],
            &[-3.0],
            &[2.3, 0.04],
            &[99.1, 99.9],
            &[1.0, 1.0 + f64::EPSILON],
            &[1e-320, 0.0],
            &[-1e29, 1e29],
            &[f64::NAN, f64::INFINITY, 0.3],
        ];
        for values in cases {
            let axis = Axis::of_values(values.iter().copied(), [200.0, 10.0], 5.0);
            assert!((2..=12).contains(&axis.ticks.len()), "{values:?}: {:?}", axis.ticks);
            assert!(axis.ticks.windows(2).all(|pair| pair[0] < pair[1]), "{values:?}: {:?}", axis.ticks);
            for &value in values.iter().filter(|value| drawable(**value)) {
                let pixel = axis.at(value);
                assert!((10.0 - 1e-6..=200.0 + 1e-6).contains(&pixel), "{value} of {values:?} at {pixel}");
            }
        }
        let accuracy = Axis::of_values([12.0, 98.7].into_iter(), [200.0, 10.0], 5.0);
        assert_eq!(accuracy.ticks, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
    }

    #[test]
    fn counts_have_whole_ticks() {
        let ticks = |counts: std::ops::RangeInclusive<usize>| Axis::of_counts(counts, [0.0, 1.0]).ticks;
        assert_eq!(ticks(7..=7), [7.0]);
        assert_eq!(ticks(1..=2), [1.0, 2.0]);
        assert_eq!(ticks(1..=500), (1..=10).map(|index| 50.0 * f64::from(index)).collect::<Vec<f64>>());
        assert!(Axis::of_counts(std::iter::empty(), [0.0, 1.0]).ticks.is_empty());
    }

    #[test]
    fn equal_ratios_have_equal_lengths() {
        let axis = Axis::of_ratios([20.0, 2000.0, 200.0].into_iter(), [0.0, 300.0]);
        let [a, b, c] = [20.0, 200.0, 2000.0].map(|value| axis.at(value));
        assert!(0.0 < a && c < 300.0 && ((b - a) - (c - b)).abs() < 1e-9, "{a} {b} {c}");
        let ticks: Vec<String> = axis.ticks().map(|(_, text)| text).collect();
        assert_eq!(ticks, ["20", "50", "100", "200", "500", "1000", "2000"]);
        let ticks = |values: [f64; 2]| {
            let axis = Axis::of_ratios(values.into_iter(), [0.0, 300.0]);
            axis.ticks().map(|(_, text)| text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks([30.0, 300.0]), "30 40 50 60 70 80 90 100 200 300");
        assert_eq!(ticks([90.0, 110.0]), "90 100 110 120");
        assert_eq!(ticks([0.03, 0.03]), "0.028 0.029 0.03 0.031 0.032 0.033");
    }

    #[test]
    fn numbers_are_short() {
        let cases = [(0.1 + 0.2, "0.3"), (20.0, "20"), (0.0, "0"), (-0.5, "-0.5"), (3e-6, "3e-6"), (2e7, "2e7")];
        for (value, text) in cases {
            assert_eq!(number(value, 6), text);
        }
        assert_eq!(number(1.23456, 3), "1.23");
    }
}

//! Number formats of the page.

use std::borrow::Borrow;

use crate::output::thousands;

/// The placeholder for a number that is not finite.
pub(super) const NONE: &str = "–";

/// A share from 0 to 1, in percent.
pub(super) fn percent(share: impl Borrow<f64>) -> String {
    let share = *share.borrow();
    if share.is_finite() { format!("{:.2} %", 100.0 * share) } else { NONE.to_owned() }
}

/// Three significant digits from a thousandth to a thousand, and scientific notation beyond, as HTML.
pub(super) fn decimal(value: impl Borrow<f64>) -> String {
    let value = *value.borrow();
    match value.abs() {
        0.0 => "0".to_owned(),
        0.001..0.995 => format!("{value:.3}"),
        0.995..9.995 => format!("{value:.2}"),
        9.995..1000.0 => format!("{value:.1}"),
        _ => scientific(value),
    }
}

/// Two significant digits and a power of ten, as HTML.
pub(super) fn scientific(value: impl Borrow<f64>) -> String {
    let value = *value.borrow();
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{value:.1e}");
    match text.split_once('e') {
        Some((digits, power)) if value != 0.0 => format!("{digits} × 10<sup>{}</sup>", power.replace('-', "−")),
        _ => "0".to_owned(),
    }
}

/// A speed in images per second.
pub(super) fn rate(images_per_second: impl Borrow<f64>) -> String {
    match *images_per_second.borrow() {
        rate @ 0.0..100.0 => format!("{rate:.1}"),
        rate @ 100.0.. if rate.is_finite() => thousands(rate.round() as u64),
        _ => NONE.to_owned(),
    }
}

/// A duration in seconds, in its two largest units.
pub(super) fn duration(seconds: impl Borrow<f64>) -> String {
    match *seconds.borrow() {
        seconds @ 0.0..10.0 => format!("{seconds:.1} s"),
        seconds @ 10.0.. if seconds.is_finite() => match seconds.round() as u64 {
            seconds @ ..60 => format!("{seconds} s"),
            seconds @ ..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
            seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        },
        _ => NONE.to_owned(),
    }
}

/// A count with thousands separators.
pub(super) fn count(count: impl Borrow<u64>) -> String {
    thousands(*count.borrow())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_readable_formats() {
        let decimals = [(0.0, "0"), (0.31, "0.310"), (2.0, "2.00"), (12.34, "12.3"), (2e-5, "2.0 × 10<sup>−5</sup>")];
        for (value, text) in decimals {
            assert_eq!(decimal(value), text);
        }
        assert_eq!(decimal(-f64::INFINITY), NONE);
        let durations =
            [(4.25, "4.2 s"), (59.6, "1 min 0 s"), (83.0, "1 min 23 s"), (7265.0, "2 h 1 min"), (-1.0, NONE)];
        for (seconds, text) in durations {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!([rate(12.34), rate(1234.5), rate(f64::NAN)], ["12.3", "1,235", NONE]);
    }
}

//! Progress bars on standard error, drawn only in a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps with the label `what`, drawn only in a terminal.
pub(crate) fn bar(length: usize, what: &str) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {msg}").expect("the template is well formed");
    ProgressBar::new(length as u64).with_style(style).with_prefix(what.to_owned())
}

/// A bar for downloaded bytes, drawn only in a terminal.
pub(crate) fn bytes_bar() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .expect("the template is well formed");
    ProgressBar::new(0).with_style(style)
}

/// Whether standard error is a terminal.
pub(crate) fn is_live() -> bool {
    stderr().is_terminal()
}

/// `1 h 05 min`, `3 min 20 s`, `12 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        let text = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!([12, 200, 3900].map(text), ["12 s", "3 min 20 s", "1 h 05 min"]);
    }
}

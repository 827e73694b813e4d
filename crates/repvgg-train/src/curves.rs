//! The metrics of a run, and a plot of them.
//!
//! The SVG is written by hand: plotters has had no release since 2024, kuva is less than a year old, and both do far more than the three
//! line plots needed here.
//!
//! ```
//! use repvgg_train::curves::{EpochMetrics, svg};
//!
//! let metrics = EpochMetrics {
//!     epoch: 1,
//!     train_loss: 1.9,
//!     train_top1: 0.31,
//!     validation_loss: Some(1.7),
//!     validation_top1: Some(0.38),
//!     learning_rate: 0.1,
//!     images_per_second: 145.0,
//!     seconds: 41.0,
//!     skipped: 0,
//! };
//! assert!(svg(&[metrics], "repvgg-quick").starts_with("<svg"));
//! ```

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

pub use axis::Axis;
use axis::{drawable, number};

mod axis;

/// The metrics of one epoch: a line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Mean training loss.
    #[serde(deserialize_with = "nan_where_null")]
    pub train_loss: f64,
    /// Training top-1, 0 to 1.
    #[serde(deserialize_with = "nan_where_null")]
    pub train_top1: f64,
    /// Mean validation loss, if the epoch was validated.
    pub validation_loss: Option<f64>,
    /// Validation top-1, 0 to 1, if the epoch was validated.
    pub validation_top1: Option<f64>,
    /// Learning rate at the epoch's start.
    pub learning_rate: f64,
    /// Training images per second.
    pub images_per_second: f64,
    /// Duration of the epoch in seconds, validation included.
    pub seconds: f64,
    /// Images skipped because they could not be read.
    pub skipped: usize,
}

/// JSON has no NaN: a diverged loss is written as `null`, which must not prevent the other epochs from being read.
fn nan_where_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Text escaped for element content and quoted attributes of XML and HTML.
///
/// Control characters, which XML forbids, become U+FFFD.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => fmt::Write::write_char(f, character)?,
                '\u{fffe}' | '\u{ffff}' => f.write_str("\u{fffd}")?,
                _ if character.is_control() => f.write_str("\u{fffd}")?,
                _ => fmt::Write::write_char(f, character)?,
            }
        }
        Ok(())
    }
}

const WIDTH: f64 = 720.0;
/// The left and right edges of the plots. The last values are written to the right of them.
const PLOT: [f64; 2] = [62.0, 652.0];
/// The top of the first plot.
const TOP: f64 = 92.0;
/// Space between two plots, for the name of the next one.
const GAP: f64 = 40.0;
/// Space below the last plot, for the epochs.
const BOTTOM: f64 = 50.0;
/// Series with at most this many points mark each of them with a dot.
const DOTTED: usize = 30;
/// Smallest distance between the baselines of two last values.
const LINE: f64 = 14.0;

// Blue and vermilion of Okabe and Ito's palette are distinguishable with every kind of colour blindness, and in grey.
// Vermilion is darkened until its text is readable on white.
const TRAINING: &str = "#0072b2";
const VALIDATION: &str = "#c24f00";
const NEUTRAL: &str = "#555555";

struct Panel {
    name: &'static str,
    height: f64,
    /// The approximate number of intervals on the axis.
    intervals: f64,
    label: fn(f64) -> String,
    series: Vec<Series>,
}

struct Series {
    colour: &'static str,
    /// `(epoch, value)`. A value that is not finite interrupts the line.
    points: Vec<(f64, f64)>,
}

/// Plots a run as one self-contained SVG: loss, top-1 accuracy and learning rate over the epochs.
///
/// Any number of epochs works, including none. Values that are not finite leave a gap.
pub fn svg(metrics: &[EpochMetrics], title: &str) -> String {
    let panels = panels(metrics);
    let epochs = Axis::of_counts(metrics.iter().map(|line| line.epoch), PLOT);
    let mut top = TOP;
    let mut plots = String::new();
    for panel in &panels {
        plots += &panel.draw(top, &epochs);
        top += panel.height + GAP;
    }
    let bottom = top - GAP;
    let height = bottom + BOTTOM;
    let names: String = epochs.ticks().map(|(x, text)| centred(x, bottom + 18.0, &text)).collect();
    let axis_name = centred((PLOT[0] + PLOT[1]) / 2.0, bottom + 38.0, "epoch");
    let legend = legend();
    let content = format!(
        r##"<text x="{left}" y="34" font-size="17" font-weight="600" fill="#111">{escaped}</text>
{legend}
{plots}{names}
{axis_name}
"##,
        left = PLOT[0],
        escaped = Escaped(title),
    );
    document(title, [WIDTH, height], &content)
}

/// A self-contained SVG document with a white background; `size` is its width and height in pixels.
pub fn document(title: &str, size: [f64; 2], content: &str) -> String {
    let [width, height] = size;
    let title = Escaped(title);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="12" fill="#333">
<title>{title}</title>
<rect width="{width}" height="{height}" fill="#fff"/>
{content}</svg>
"##
    )
}

fn panels(metrics: &[EpochMetrics]) -> [Panel; 3] {
    let series = |colour, value: &dyn Fn(&EpochMetrics) -> Option<f64>| {
        let point = |line: &EpochMetrics| value(line).map(|value| (line.epoch as f64, value));
        Series { colour, points: metrics.iter().filter_map(point).collect() }
    };
    let percent = |share: f64| 100.0 * share;
    [
        Panel {
            name: "Loss",
            height: 170.0,
            intervals: 5.0,
            label: |value| number(value, 3),
            series: vec![
                series(TRAINING, &|line| Some(line.train_loss)),
                series(VALIDATION, &|line| line.validation_loss),
            ],
        },
        Panel {
            name: "Top-1 accuracy (%)",
            height: 170.0,
            intervals: 5.0,
            label: |value| format!("{value:.1} %"),
            series: vec![
                series(TRAINING, &|line| Some(percent(line.train_top1))),
                series(VALIDATION, &|line| line.validation_top1.map(percent)),
            ],
        },
        Panel {
            name: "Learning rate",
            height: 52.0,
            intervals: 2.0,
            label: |value| number(value, 2),
            series: vec![series(NEUTRAL, &|line| Some(line.learning_rate))],
        },
    ]
}

impl Panel {
    fn draw(&self, top: f64, epochs: &Axis) -> String {
        let bottom = top + self.height;
        let values = self.series.iter().flat_map(|series| series.points.iter().map(|&(_, value)| value));
        let values = Axis::of_values(values, [bottom, top], self.intervals);
        let [left, right] = PLOT;
        let rows = values.rows(PLOT);
        let columns: String = epochs.ticks().map(|(x, _)| format!("M{x:.1} {top}V{bottom}")).collect();
        let lines: String = self.series.iter().map(|series| series.draw(epochs, &values)).collect();
        let (name, name_at) = (self.name, top - 10.0);
        let last = self.last_values(&values);
        format!(
            r##"<text x="{left}" y="{name_at}" font-weight="600">{name}</text>
<path d="{columns}" stroke="#eee"/>
{rows}<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#888"/>
{lines}{last}"##
        )
    }

    /// The last value of each series as a label at its height. Two labels that would overlap move apart.
    fn last_values(&self, values: &Axis) -> String {
        let mut labels: Vec<(f64, &Series, f64)> = self
            .series
            .iter()
            .filter_map(|series| {
                let value = series.points.iter().rev().map(|&(_, value)| value).find(|&value| drawable(value))?;
                Some((values.at(value), series, value))
            })
            .collect();
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let [upper, lower] = labels.as_mut_slice() {
            let missing = (LINE - (lower.0 - upper.0)).max(0.0);
            upper.0 -= missing / 2.0;
            lower.0 += missing / 2.0;
        }
        let text = |(y, series, value): (f64, &Series, f64)| {
            let (x, y, colour, text) = (PLOT[1] + 8.0, y + 4.0, series.colour, (self.label)(value));
            format!(
                r#"<text x="{x}" y="{y:.1}" fill="{colour}" font-weight="600">{text}</text>
"#
            )
        };
        labels.into_iter().map(text).collect()
    }
}

impl Series {
    fn draw(&self, epochs: &Axis, values: &Axis) -> String {
        let at = |&(epoch, value): &(f64, f64)| drawable(value).then(|| [epochs.at(epoch), values.at(value)]);
        let mut line = String::new();
        for run in self.points.split(|point| at(point).is_none()) {
            for (index, [x, y]) in run.iter().filter_map(at).enumerate() {
                // With round caps, the empty stroke draws a point between two gaps as a dot.
                line += &if index == 0 { format!("M{x:.1} {y:.1}h0") } else { format!("L{x:.1} {y:.1}") };
            }
        }
        let colour = self.colour;
        let dots: String = match self.points.len() {
            0..=DOTTED => self.points.iter().filter_map(at).map(dot).collect(),
            _ => String::new(),
        };
        format!(
            r#"<path d="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round" stroke-linecap="round"/>
<g fill="{colour}">{dots}</g>
"#
        )
    }
}

fn dot([x, y]: [f64; 2]) -> String {
    format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3"/>"#)
}

fn centred(x: f64, y: f64, text: &str) -> String {
    format!(r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{text}</text>"#)
}

fn legend() -> String {
    let entry = |(index, (colour, name)): (usize, (&str, &str))| {
        let x = PLOT[0] + 100.0 * index as f64;
        let text = x + 26.0;
        format!(
            r#"<path d="M{x} 54h18" stroke="{colour}" stroke-width="3" stroke-linecap="round"/><text x="{text}" y="58">{name}</text>"#
        )
    };
    [(TRAINING, "training"), (VALIDATION, "validation")].into_iter().enumerate().map(entry).collect()
}

#[cfg(test)]
mod tests;

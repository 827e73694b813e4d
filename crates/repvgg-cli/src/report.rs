//! A demonstration's results as one self-contained web page: no script, no font, no picture from elsewhere.
//!
//! `report/page.html` is the page; this file fills it.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use repvgg::check::FusionReport;

use crate::output::thousands;
use numbers::{percent, rate};

mod numbers;

/// More class names than this are not listed.
const LISTED_CLASSES: usize = 40;

/// The contents of the page.
#[derive(Debug, Clone, Copy, Template)]
#[template(path = "page.html", whitespace = "minimize")]
pub(crate) struct DemoReport<'a> {
    /// The heading.
    pub(crate) title: &'a str,
    /// Processor, threads, version and the like, a line each.
    pub(crate) environment: &'a [String],
    /// What was learnt from.
    pub(crate) data: DataSummary<'a>,
    /// The network in words, a line each.
    pub(crate) architecture: &'a [String],
    /// How the training went.
    pub(crate) training: TrainingSummary<'a>,
    /// The fusion, checked.
    pub(crate) fusion: &'a FusionReport,
    /// Top-1 on the validation images, 0 to 1.
    pub(crate) top1: Forms<f64>,
    /// Inference speed in images per second.
    pub(crate) images_per_second: Forms<f64>,
    /// Images to a batch when that speed was measured.
    pub(crate) batch: usize,
    /// Parameters.
    pub(crate) parameters: Forms<u64>,
    /// Pictures with their predictions, as a PNG file; empty when there are none.
    pub(crate) contact_sheet_png: &'a [u8],
    /// What the reader may try next.
    pub(crate) next_steps: &'a [NextStep<'a>],
}

/// A quantity of both forms of the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forms<T> {
    /// With all branches.
    pub(crate) training: T,
    /// With one convolution a block.
    pub(crate) fused: T,
}

/// The images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataSummary<'a> {
    /// Names of the classes.
    pub(crate) classes: &'a [String],
    /// How many images the network was trained on.
    pub(crate) training_images: u64,
    /// How many images it was judged by.
    pub(crate) validation_images: u64,
}

/// The training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrainingSummary<'a> {
    /// Passes over the training images.
    pub(crate) epochs: usize,
    /// Seconds from the first step to the last validation.
    pub(crate) seconds: f64,
    /// TrainingSummary images per second.
    pub(crate) images_per_second: f64,
    /// The curves as an SVG element of our own making: it enters the page as it is.
    pub(crate) curves_svg: &'a str,
}

/// A next_step line with its purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NextStep<'a> {
    /// What it is good for.
    pub(crate) purpose: &'a str,
    /// What to type.
    pub(crate) line: &'a str,
}

/// Two bars on one scale, the longer of them full.
struct Bars {
    name: String,
    /// The lengths in percent.
    shares: Forms<String>,
    texts: Forms<String>,
}

impl Bars {
    fn new(name: impl Into<String>, values: Forms<f64>, text: fn(f64) -> String) -> Self {
        let full = values.training.max(values.fused);
        let share = |value: f64| if value > 0.0 && full.is_finite() { 100.0 * value / full } else { 0.0 };
        Self { name: name.into(), shares: values.map(|value| format!("{:.1}", share(value))), texts: values.map(text) }
    }
}

impl<T: Copy> Forms<T> {
    fn map<U>(self, value: impl Fn(T) -> U) -> Forms<U> {
        Forms { training: value(self.training), fused: value(self.fused) }
    }
}

impl DemoReport<'_> {
    /// The page as an HTML document.
    pub(crate) fn html(&self) -> String {
        self.render().expect("writing to a string does not fail")
    }

    fn accuracy(&self) -> String {
        let [before, after] = [self.top1.training, self.top1.fused].map(|share: f64| percent(share));
        match before == after {
            true => "top-1 accuracy, the same before and after fusion".to_owned(),
            false => format!("top-1 accuracy after fusion, {before} before"),
        }
    }

    fn speedup(&self) -> f64 {
        self.images_per_second.fused / self.images_per_second.training
    }

    fn classes(&self) -> String {
        let classes = self.data.classes;
        let listed = classes[..classes.len().min(LISTED_CLASSES)].join(", ");
        match classes.len() - classes.len().min(LISTED_CLASSES) {
            0 => format!("{}: {listed}", classes.len()),
            unlisted => format!("{}: {listed} and {unlisted} more", classes.len()),
        }
    }

    fn contact_sheet_base64(&self) -> String {
        STANDARD.encode(self.contact_sheet_png)
    }

    fn bars(&self) -> [Bars; 3] {
        let inference = format!("Inference, {} images at a time", self.batch);
        [
            Bars::new("Top-1 accuracy", self.top1, |share: f64| percent(share)),
            Bars::new(inference, self.images_per_second, |speed| format!("{} images/s", rate(speed))),
            Bars::new("Parameters", self.parameters.map(|count| count as f64), |count| thousands(count as u64)),
        ]
    }
}

#[cfg(test)]
mod tests;

//! The report of `repvgg demo`: one self-contained web page without scripts or external resources.
//!
//! `report/page.html` is the template that this module fills.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use repvgg::check::FusionReport;

use crate::output::thousands;
use numbers::{percent, rate};

mod numbers;

/// The maximum number of class names in the list.
const LISTED_CLASSES: usize = 40;

/// The contents of the page.
#[derive(Debug, Clone, Copy, Template)]
#[template(path = "page.html", whitespace = "minimize")]
pub(crate) struct DemoReport<'a> {
    /// The heading.
    pub(crate) title: &'a str,
    /// Lines about the machine and the program: processor, threads, version.
    pub(crate) environment: &'a [String],
    /// The data set.
    pub(crate) data: DataSummary<'a>,
    /// Lines about the network.
    pub(crate) architecture: &'a [String],
    /// The training run.
    pub(crate) training: TrainingSummary<'a>,
    /// The report of the checked fusion.
    pub(crate) fusion: &'a FusionReport,
    /// Top-1 on the validation images, 0 to 1.
    pub(crate) top1: Forms<f64>,
    /// Inference speed in images per second.
    pub(crate) images_per_second: Forms<f64>,
    /// The batch size of the speed measurement.
    pub(crate) batch: usize,
    /// The number of parameters.
    pub(crate) parameters: Forms<u64>,
    /// A PNG file of pictures with their predictions; empty if there are none.
    pub(crate) contact_sheet_png: &'a [u8],
    /// Suggestions of commands to try next.
    pub(crate) next_steps: &'a [NextStep<'a>],
}

/// A value for each form of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forms<T> {
    /// With all branches.
    pub(crate) training: T,
    /// With one convolution per block.
    pub(crate) fused: T,
}

/// The data set in numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataSummary<'a> {
    /// The names of the classes.
    pub(crate) classes: &'a [String],
    /// The number of training images.
    pub(crate) training_images: u64,
    /// The number of validation images.
    pub(crate) validation_images: u64,
}

/// The training run in numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrainingSummary<'a> {
    /// Passes over the training images.
    pub(crate) epochs: usize,
    /// Seconds from the first step to the last validation.
    pub(crate) seconds: f64,
    /// TrainingSummary images per second.
    pub(crate) images_per_second: f64,
    /// The curves as a trusted SVG element, which the page includes without escaping.
    pub(crate) curves_svg: &'a str,
}

/// A suggested command with its purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NextStep<'a> {
    /// The purpose of the command.
    pub(crate) purpose: &'a str,
    /// The command line.
    pub(crate) line: &'a str,
}

/// Two bars on a common scale. The longer one has full length.
struct Bars {
    name: String,
    /// The lengths in percent.
    shares: Forms<String>,
    texts: Forms<String>,
}

impl Bars {
    fn new(name: impl Into<String>, values: Forms<f64>, text: fn(f64) -> String) -> Self {
        let longest = values.training.max(values.fused);
        let share = |value: f64| if value > 0.0 && longest.is_finite() { 100.0 * value / longest } else { 0.0 };
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
            false => format!("top-1 accuracy after fusion, {before} before it"),
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
        let inference = format!("Inference speed in batches of {} images", self.batch);
        [
            Bars::new("Top-1 accuracy", self.top1, |share: f64| percent(share)),
            Bars::new(inference, self.images_per_second, |speed| format!("{} images/s", rate(speed))),
            Bars::new("Parameters", self.parameters.map(|count| count as f64), |count| thousands(count as u64)),
        ]
    }
}

#[cfg(test)]
mod tests;

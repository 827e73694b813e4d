//! `repvgg verify`: comparison of two models.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use repvgg::check::{self, Comparison, Inputs, LogitComparison, Parts, Progress, RegionProgress, RegionReport};
use repvgg::image::{self, Listing};
use repvgg::{Error, Model, Result, npy};
use repvgg_hub::Opened;
use serde_json::{Value, json};

use super::CommandResult;
use crate::images::ImageOptions;
use crate::output::{note_passed_over, print, print_json, table};
use crate::progress::bar;
use crate::source::{Unstated, default_threads, note_preprocessing, open_with, parse_size};

/// Check whether two models compute the same function: compare logits, top-1 predictions and blocks
///
/// The models may have any format and form. Both run on the same inputs, which are random images unless --input or --data is given. If
/// one model is the training form of the other, every fused convolution is also compared with its branches in double precision. If both
/// have the same graph, the parameters of every layer are compared. The exit code is 0 if the logits are equal within the tolerance, and
/// 1 otherwise.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg verify run/best.safetensors plain.safetensors
  repvgg verify plain.safetensors plain.onnx --data photos/val")]
pub(crate) struct Arguments {
    /// First model: a file, or a repository of the Hugging Face hub, hf:OWNER/NAME
    a: String,
    /// Second model
    b: String,
    /// Image file or folder to compare on, prepared by the first model's preprocessing; may be given several times
    #[arg(long, value_name = "FOLDER", conflicts_with = "input")]
    data: Vec<PathBuf>,
    /// Tensor to compare on: a .npy file of f32 [N, C, H, W]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Size of the random images in pixels: S for a square, or HxW [default: the first model's]
    #[arg(long, value_parser = parse_size, conflicts_with_all = ["input", "data"])]
    size: Option<[usize; 2]>,
    #[command(flatten)]
    reading: ImageOptions,
    /// Number of random images
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        conflicts_with_all = ["input", "data"]
    )]
    images: u32,
    /// Largest accepted difference of a logit, relative to the largest logit, such as 1e-4
    #[arg(long, default_value_t = 1e-5)]
    tolerance: f64,
    /// Number of CPU threads [default: all cores]
    #[arg(long, value_name = "N", default_value_t = default_threads(), hide_default_value = true)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    unstated: Unstated,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    if arguments.tolerance.is_nan() || arguments.tolerance < 0.0 {
        let problem = format!("expected a number of at least 0, found {}", arguments.tolerance);
        return Err(Error::spec("tolerance", problem).into());
    }
    let [a, b] = [open_with(&arguments.a, &arguments.unstated)?, open_with(&arguments.b, &Unstated::default())?];
    let (comparison, inputs) =
        compare(arguments, [&a.model, &b.model]).with_context(|| format!("{} and {}", arguments.a, arguments.b))?;
    if !arguments.data.is_empty() {
        note_preprocessing(&a, &arguments.unstated);
    }
    let models = [(arguments.a.as_str(), &a), (arguments.b.as_str(), &b)];
    let equal = comparison.logits.relative_difference() <= arguments.tolerance;
    let report = VerifyReport { models, comparison, inputs, tolerance: arguments.tolerance, equal };
    if arguments.json {
        print_json(&report.json())?;
    } else {
        print(&report.text())?;
    }
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares the models on the requested inputs. The returned text describes these inputs.
fn compare(arguments: &Arguments, models: [&Model; 2]) -> Result<(Comparison, String)> {
    if let Some(path) = &arguments.input {
        let input = npy::read(path)?;
        let comparison = compare_on(arguments, models, &Inputs::Tensor(&input));
        let comparison = comparison.map_err(|error| error.within(path.display()))?;
        return Ok((comparison, format!("{} {:?}", path.display(), input.shape())));
    }
    if !arguments.data.is_empty() {
        let Listing { files, passed_over } = image::files(&arguments.data)?;
        note_passed_over(&passed_over);
        let inputs = Inputs::Files { files: &files, orientation: arguments.reading.orientation() };
        return Ok((compare_on(arguments, models, &inputs)?, format!("{} image files", files.len())));
    }
    let size = arguments.size.unwrap_or(models[0].preprocessing.size);
    let comparison = compare_on(arguments, models, &Inputs::Random { images: arguments.images as usize, size })?;
    Ok((comparison, format!("{} random images of {}x{} pixels", arguments.images, size[0], size[1])))
}

fn compare_on(arguments: &Arguments, models: [&Model; 2], inputs: &Inputs<'_>) -> Result<Comparison> {
    let progress = bar(0, "comparing");
    let comparison = check::compare(models, inputs, arguments.threads, |event| match event {
        Progress::Images { done, total } => {
            progress.set_length(total as u64);
            progress.set_position(done as u64);
        }
        Progress::Region(RegionProgress { region, done, total }) => {
            progress.set_length(total as u64);
            progress.set_message(region.name.clone());
            progress.set_position(done as u64);
        }
        _ => {}
    });
    progress.finish_and_clear();
    comparison
}

struct VerifyReport<'a> {
    models: [(&'a str, &'a Opened); 2],
    comparison: Comparison,
    inputs: String,
    tolerance: f64,
    /// Whether the logits are equal within the tolerance.
    equal: bool,
}

impl VerifyReport<'_> {
    fn json(&self) -> Value {
        let model = |(name, Opened { model, origin, .. }): &(&str, &Opened)| json!({"model": name, "name": model.name(), "form": model.form(), "file": origin});
        let blocks: Vec<Value> = match &self.comparison.parts {
            Parts::Regions(report) => {
                let blocks = report.regions.iter();
                let block = |region: &RegionReport| json!({"name": region.name, "error": region.error, "absolute_error": region.absolute_error});
                blocks.map(block).collect()
            }
            Parts::Layers(layers) => {
                let layers = layers.iter();
                layers.map(|layer| json!({"name": layer.name, "absolute_error": layer.largest_difference})).collect()
            }
            _ => Vec::new(),
        };
        json!({
            "a": model(&self.models[0]),
            "b": model(&self.models[1]),
            "inputs": self.inputs,
            "images": self.comparison.logits.images,
            "largest_difference": self.comparison.logits.largest_difference,
            "largest_logit": self.comparison.logits.largest_logit,
            "relative_difference": self.comparison.logits.relative_difference(),
            "top1_agreement": self.comparison.logits.same_top1 as f64 / self.comparison.logits.images as f64,
            "tolerance": self.tolerance,
            "agree": self.equal,
            "compared": self.compared(),
            "blocks": blocks,
        })
    }

    /// The finest parts that the report compares.
    fn compared(&self) -> &'static str {
        match self.comparison.parts {
            Parts::Regions(_) => "blocks",
            Parts::Layers(_) => "parameters",
            _ => "logits",
        }
    }

    fn text(&self) -> String {
        let mut text = match &self.comparison.parts {
            Parts::Regions(report) => {
                let rows = report.regions.iter().map(|region| {
                    vec![region.name.clone(), format!("{:.3}", region.error), format!("{:.2e}", region.absolute_error)]
                });
                let table = table(&["block", "error / bound", "max |Δ|"], &rows.collect::<Vec<_>>());
                format!(
                    "{table}\nerror / bound: largest |fused - branches| relative to u·Σ|x||w| with u = 2^-24; at most 1 means exact up to one rounding\n"
                )
            }
            Parts::Layers(layers) => {
                let rows = layers.iter().map(|layer| {
                    let numbers = [layer.largest_difference, layer.largest].map(|x| format!("{x:.2e}"));
                    [vec![layer.name.clone()], numbers.to_vec()].concat()
                });
                table(&["parameters of", "max |Δ|", "max |w|"], &rows.collect::<Vec<_>>()) + "\n"
            }
            _ => "the graphs differ, so only logits are compared\n".to_owned(),
        };
        for (mark, (name, Opened { model, origin, .. })) in ["a", "b"].into_iter().zip(&self.models) {
            let origin = origin.map_or_else(String::new, |origin| format!(", {origin}"));
            text.push_str(&format!("{mark}  {name}: {}, {}{origin}\n", model.name(), model.form()));
        }
        let LogitComparison { images, same_top1, largest_difference, largest_logit } = self.comparison.logits;
        text.push_str(&format!(
            "inputs: {}\ntop-1: the same for {same_top1} of {images} images\nlogits: differ by at most {largest_difference:.2e}, {:.2e} of the largest ({largest_logit:.3})\n{} (tolerance {:.0e})\n",
            self.inputs,
            self.comparison.logits.relative_difference(),
            if self.equal { "the same network" } else { "not the same network" },
            self.tolerance,
        ));
        text
    }
}

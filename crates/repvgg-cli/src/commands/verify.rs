//! `repvgg verify`: are these two models the same network?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use repvgg::check::{self, Comparison, Inputs, LogitComparison, Parts, Progress, RegionReport};
use repvgg::{Error, Model, Result, image, npy};
use repvgg_hub::Opened;
use serde_json::{Value, json};

use super::CommandResult;
use crate::output::{print, print_json, table};
use crate::progress::bar;
use crate::source::{default_threads, open, parse_size};

/// Compare two models of any kind and form on the same inputs: logits, top-1 predictions, and block by block
///
/// The inputs are random images unless --input or --data is given. If one model is the training form of the other, every fused
/// convolution is compared with its branches in double precision; if both have the same graph, the parameters of every layer are
/// compared. The exit code is 0 if the logits agree within the tolerance and 1 if they do not.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// First model: a file or a hub's repository
    a: String,
    /// Second model
    b: String,
    /// Image files or folders to compare on, prepared by the first model's preprocessing
    #[arg(long, value_name = "FOLDER", conflicts_with = "input")]
    data: Vec<PathBuf>,
    /// Tensor to compare on: .npy of f32 [N, C, H, W]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Size of the random images, S or HxW [default: the first model's]
    #[arg(long, value_parser = parse_size, conflicts_with_all = ["input", "data"])]
    size: Option<[usize; 2]>,
    /// Number of random images
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with_all = ["input", "data"])]
    images: u32,
    /// Largest difference of a logit that passes, relative to the largest logit
    #[arg(long, default_value_t = 1e-5)]
    tolerance: f64,
    /// Threads
    #[arg(long, default_value_t = default_threads())]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    if arguments.tolerance.is_nan() || arguments.tolerance < 0.0 {
        let what = format!("expected a number of at least 0, found {}", arguments.tolerance);
        return Err(Error::spec("tolerance", what).into());
    }
    let [a, b] = [open(&arguments.a)?, open(&arguments.b)?];
    let (comparison, inputs) =
        compare(arguments, [&a.model, &b.model]).with_context(|| format!("{} and {}", arguments.a, arguments.b))?;
    let models = [(arguments.a.as_str(), &a), (arguments.b.as_str(), &b)];
    let agree = comparison.logits.relative_difference() <= arguments.tolerance;
    let report = VerifyReport { models, comparison, inputs, tolerance: arguments.tolerance, agree };
    if arguments.json {
        print_json(&report.json())?;
    } else {
        print(&report.text())?;
    }
    Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares the models on the inputs that the arguments ask for; the text names these inputs.
fn compare(arguments: &Arguments, models: [&Model; 2]) -> Result<(Comparison, String)> {
    if let Some(path) = &arguments.input {
        let input = npy::read(path)?;
        let comparison = on(arguments, models, &Inputs::Tensor(&input));
        let comparison = comparison.map_err(|error| error.within(path.display()))?;
        return Ok((comparison, format!("{} {:?}", path.display(), input.shape())));
    }
    if !arguments.data.is_empty() {
        let files = image::files(&arguments.data)?;
        return Ok((on(arguments, models, &Inputs::Files(&files))?, format!("{} image files", files.len())));
    }
    let size = arguments.size.unwrap_or([models[0].preprocessing.size; 2]);
    let comparison = on(arguments, models, &Inputs::Random { images: arguments.images as usize, size })?;
    Ok((comparison, format!("{} random images of {}x{} pixels", arguments.images, size[0], size[1])))
}

fn on(arguments: &Arguments, models: [&Model; 2], inputs: &Inputs<'_>) -> Result<Comparison> {
    let progress = bar(0, "comparing");
    let comparison = check::compare(models, inputs, arguments.threads, |event| match event {
        Progress::Images { done, total } => {
            progress.set_length(total as u64);
            progress.set_position(done as u64);
        }
        Progress::Region(region) => {
            progress.inc_length(1);
            progress.set_message(region.name.clone());
            progress.inc(1);
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
    agree: bool,
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
            "agree": self.agree,
            "compared": self.compared(),
            "blocks": blocks,
        })
    }

    /// What the report compares.
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
                    "{table}\nerror / bound: largest |fused - branches| over u·Σ|x||w| with u = 2^-24; at most 1 is exact and rounded once\n"
                )
            }
            Parts::Layers(layers) => {
                let rows = layers.iter().map(|layer| {
                    let numbers = [layer.largest_difference, layer.largest].map(|x| format!("{x:.2e}"));
                    [vec![layer.name.clone()], numbers.to_vec()].concat()
                });
                table(&["parameters of", "max |Δ|", "max |w|"], &rows.collect::<Vec<_>>()) + "\n"
            }
            _ => "the graphs differ, so that only logits are compared\n".to_owned(),
        };
        for (mark, (name, Opened { model, origin, .. })) in ["a", "b"].into_iter().zip(&self.models) {
            let origin = origin.map_or_else(String::new, |origin| format!(", {origin}"));
            text.push_str(&format!("{mark}  {name}: {}, {}{origin}\n", model.name(), model.form()));
        }
        let LogitComparison { images, same_top1, largest_difference, largest_logit } = self.comparison.logits;
        text.push_str(&format!(
            "inputs: {}\ntop-1: the same for {same_top1} of {images}\nlogits: differ by at most {largest_difference:.2e}, {:.2e} of the largest ({largest_logit:.3})\n{}: tolerance {:.0e}\n",
            self.inputs,
            self.comparison.logits.relative_difference(),
            if self.agree { "the same network" } else { "not the same network" },
            self.tolerance,
        ));
        text
    }
}

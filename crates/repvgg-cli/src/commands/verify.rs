//! `repvgg verify`: are these two models the same network?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use repvgg::checkpoint::Origin;
use repvgg::compare::{Comparison, Parts, Tally, parts};
use repvgg::engine::{Accuracy, Settings};
use repvgg::image::{self, Preprocessing};
use repvgg::{Error, Model, Result, npy};
use serde_json::{Value, json};

use super::Outcome;
use super::fuse::check_size;
use crate::output::{print, print_json, table};
use crate::progress::bar;
use crate::source::{default_threads, open, parse_size};

/// Compare two models of any kind and form on the same inputs: logits, first choices, and block by block
///
/// The inputs are random images unless --input or --data gives others. Where one model is the training form of the other, every fused
/// convolution is compared with its branches in double precision; where both have the same graph, the parameters of every layer are
/// compared. Exit code 0 when the logits agree within the tolerance, 1 when they do not.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A model of any kind that `repvgg run` takes
    a: String,
    /// Another
    b: String,
    /// Images to compare on, files or folders; the first model's preprocessing is applied for both
    #[arg(long, value_name = "FOLDER", conflicts_with = "input")]
    data: Vec<PathBuf>,
    /// A tensor to compare on, .npy of f32 [N, C, H, W]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Size of the random images, S or HxW [default: the first model's]
    #[arg(long, value_parser = parse_size, conflicts_with_all = ["input", "data"])]
    size: Option<[usize; 2]>,
    /// How many random images
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with_all = ["input", "data"])]
    images: u32,
    /// The largest difference of a logit that passes, in the largest logit
    #[arg(long, default_value_t = 1e-5)]
    tolerance: f64,
    /// Threads
    #[arg(long, default_value_t = default_threads())]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Images per run of the networks.
const BATCH: usize = 8;

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if arguments.tolerance.is_nan() || arguments.tolerance < 0.0 {
        let what = format!("expected a number of at least 0, found {}", arguments.tolerance);
        return Err(Error::spec("tolerance", what).into());
    }
    let (a, a_origin) = open(&arguments.a, None)?;
    let (b, b_origin) = open(&arguments.b, None)?;
    let place = || format!("{} and {}", arguments.a, arguments.b);
    let (tally, inputs) = logits(arguments, [&a, &b]).with_context(place)?;
    let progress = bar(0, "comparing");
    let parts = parts(&a, &b, check_size(&a), |region| {
        progress.inc_length(1);
        progress.set_message(region.name.clone());
        progress.inc(1);
    });
    progress.finish_and_clear();
    let parts = parts.with_context(place)?;
    let models = [(arguments.a.as_str(), &a, a_origin), (arguments.b.as_str(), &b, b_origin)];
    let agree = tally.relative_difference() <= arguments.tolerance;
    let report = Report { models, tally, inputs, parts, tolerance: arguments.tolerance, agree };
    if arguments.json {
        print_json(&report.json())?;
    } else {
        print(&report.text())?;
    }
    Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares the logits on what the arguments ask for, and says on what.
fn logits(arguments: &Arguments, models: [&Model; 2]) -> Result<(Tally, String)> {
    let settings = |size| Settings {
        batch: BATCH,
        size,
        threads: arguments.threads,
        accuracy: Accuracy::Strict,
        ..Settings::default()
    };
    if let Some(path) = &arguments.input {
        let input = npy::read(path)?;
        let [n, c, h, w] = input.nchw().map_err(|error| error.within(path.display()))?;
        if n == 0 || c != models[0].architecture.input_channels() {
            let channels = models[0].architecture.input_channels();
            let what = format!("expected [N, {channels}, H, W] with N of at least 1, found {:?}", input.shape());
            return Err(Error::shape(path.display(), what));
        }
        let mut comparison = Comparison::new(models, settings([h, w]))?;
        input.data().chunks(BATCH * c * h * w).for_each(|images| comparison.add(images));
        return Ok((comparison.tally(), format!("{} {:?}", path.display(), input.shape())));
    }
    if !arguments.data.is_empty() {
        return on_images(&arguments.data, models, settings);
    }
    let size = arguments.size.unwrap_or([models[0].preprocessing.size; 2]);
    let mut comparison = Comparison::new(models, settings(size))?;
    let image = models[0].architecture.input_channels() * size[0] * size[1];
    let mut noise = repvgg::random::Normal::new(0);
    let progress = bar(arguments.images as usize, "comparing");
    let mut left = arguments.images as usize;
    while left > 0 {
        let count = left.min(BATCH);
        let images: Vec<f32> = (0..count * image).map(|_| noise.sample() as f32).collect();
        comparison.add(&images);
        progress.inc(count as u64);
        left -= count;
    }
    progress.finish_and_clear();
    Ok((comparison.tally(), format!("{} random images of {}x{} pixels", arguments.images, size[0], size[1])))
}

fn on_images(
    places: &[PathBuf],
    models: [&Model; 2],
    settings: impl Fn([usize; 2]) -> Settings,
) -> Result<(Tally, String)> {
    models[0].check_images()?;
    let files = image::files(places)?;
    let preprocessing: &Preprocessing = &models[0].preprocessing;
    let mut comparison = Comparison::new(models, settings([preprocessing.size; 2]))?;
    let progress = bar(files.len(), "comparing");
    let mut batch = Vec::with_capacity(BATCH * preprocessing.elements());
    for (index, file) in files.iter().enumerate() {
        batch.extend_from_slice(preprocessing.apply(&image::decode(file)?).data());
        if (index + 1) % BATCH == 0 || index + 1 == files.len() {
            comparison.add(&batch);
            batch.clear();
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok((comparison.tally(), format!("{} image files", files.len())))
}

struct Report<'a> {
    models: [(&'a str, &'a Model, Origin); 2],
    tally: Tally,
    inputs: String,
    parts: Parts,
    tolerance: f64,
    agree: bool,
}

impl Report<'_> {
    fn json(&self) -> Value {
        let model = |(name, model, origin): &(&str, &Model, Origin)| json!({"model": name, "name": model.architecture.name(), "form": model.form, "file": origin});
        let blocks: Vec<Value> = match &self.parts {
            Parts::Blocks(report) => {
                let blocks = report.regions.iter();
                let block = |region: &repvgg::fuse::verify::RegionReport| json!({"name": region.name, "error": region.error, "absolute_error": region.absolute_error});
                blocks.map(block).collect()
            }
            Parts::Layers(layers) => {
                let layers = layers.iter();
                layers.map(|layer| json!({"name": layer.name, "absolute_error": layer.largest_difference})).collect()
            }
            Parts::None => Vec::new(),
        };
        json!({
            "a": model(&self.models[0]),
            "b": model(&self.models[1]),
            "inputs": self.inputs,
            "images": self.tally.images,
            "largest_difference": self.tally.largest_difference,
            "largest_logit": self.tally.largest_logit,
            "relative_difference": self.tally.relative_difference(),
            "top1_agreement": self.tally.agreeing as f64 / self.tally.images as f64,
            "tolerance": self.tolerance,
            "agree": self.agree,
            "compared": self.compared(),
            "blocks": blocks,
        })
    }

    /// What the blocks in the report are.
    fn compared(&self) -> &'static str {
        match self.parts {
            Parts::Blocks(_) => "blocks",
            Parts::Layers(_) => "parameters",
            Parts::None => "logits",
        }
    }

    fn text(&self) -> String {
        let mut text = match &self.parts {
            Parts::Blocks(report) => {
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
            Parts::None => "the graphs differ, so that only logits are compared\n".to_owned(),
        };
        for (mark, (name, model, origin)) in ["a", "b"].into_iter().zip(&self.models) {
            text.push_str(&format!("{mark}  {name}: {}, {}, {origin}\n", model.architecture.name(), model.form));
        }
        let Tally { images, agreeing, largest_difference, largest_logit } = self.tally;
        text.push_str(&format!(
            "inputs: {}\ntop-1: the same for {agreeing} of {images}\nlogits: differ by at most {largest_difference:.2e}, {:.2e} of the largest ({largest_logit:.3})\n{}: tolerance {:.0e}\n",
            self.inputs,
            self.tally.relative_difference(),
            if self.agree { "the same network" } else { "not the same network" },
            self.tolerance,
        ));
        text
    }
}

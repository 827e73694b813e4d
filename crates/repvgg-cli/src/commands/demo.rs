//! `repvgg demo`: from drawn images to a checked, fused network and a report.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use image::ImageFormat;
use repvgg::check::{CheckedFusion, FusionReport};
use repvgg::classify::{Classifier, Prediction};
use repvgg::engine::{BatchShape, Engine};
use repvgg::file::write_atomically;
use repvgg::measure::{Protocol, Workload, engine};
use repvgg::{Model, Result, cost::cost};
use repvgg_train::curves::svg;
use repvgg_train::data::{BUILT_IN, Data, Unreadable};
use repvgg_train::evaluate::EvaluationSettings;
use repvgg_train::recipe::Preset;
use repvgg_train::run::{Outcome, Run, Setup};
use serde_json::json;

use super::CommandResult;
use super::eval::evaluate_with_progress;
use super::fuse::fuse_checked;
use super::train::{print_line, train};
use crate::contact_sheet::{Thumbnail, Verdict, contact_sheet};
use crate::output::{print, print_json, thousands};
use crate::progress::duration;
use crate::report::{self, DemoReport, Forms, NextStep, TrainingSummary};
use crate::source::default_threads;

/// Run the whole workflow in a few minutes: draw images, train, fuse, check, predict, and write a report
///
/// Needs no data. Creates a folder with `report.html` (open it in a browser), `training.safetensors` and `plain.safetensors` (the same
/// network in both forms), `run/` (the training run), `curves.svg` and `predictions.png`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder to create [default: repvgg-demo, or repvgg-demo-2, … if that exists]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Passes over the training images [default: 12]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Random seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of CPU threads [default: all cores]
    #[arg(long, value_name = "N", default_value_t = default_threads(), hide_default_value = true)]
    threads: usize,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

/// The batch size and the protocol for timing both forms.
const BATCH: usize = 64;
const PROTOCOL: Protocol = Protocol { warmup: 1, iterations: 3, rounds: 5 };
/// Validation images on the contact sheet.
const TILES: usize = 24;

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let folder = arguments.output.clone().unwrap_or_else(free_folder);
    let mut run = start(arguments, &folder.join("run"))?;
    let data = run.data().clone();
    print(&format!(
        "1/5 training {} on {} drawn images in {} classes\n",
        run.config().architecture.name(),
        thousands(data.train.len() as u64),
        data.labels.len()
    ))?;
    let start_time = Instant::now();
    if train(&mut run, print_line)? == Outcome::Stopped {
        print(&format!(
            "stopped and saved; continue the training with: repvgg train --resume {}\n",
            folder.join("run").display()
        ))?;
        return Ok(ExitCode::from(130));
    }
    let training_time = start_time.elapsed();
    let model = Model::load(&run.folder().file("best.safetensors"))?;
    let results = compare(arguments, &model, &data, &folder)?;
    let report = results.report(&run, &data, &folder, training_time)?;
    write_atomically(&folder.join("report.html"), |file| file.write_all(report.as_bytes()))?;
    print(&results.text(&folder))?;
    if arguments.json {
        print_json(&results.json())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `repvgg-demo`, or the first of `repvgg-demo-2`, … that does not exist.
fn free_folder() -> PathBuf {
    let names = std::iter::once("repvgg-demo".to_owned()).chain((2..).map(|n| format!("repvgg-demo-{n}")));
    names.map(PathBuf::from).find(|path| !path.exists()).expect("there are more names than folders")
}

fn start(arguments: &Arguments, folder: &Path) -> Result<Run> {
    let mut preset = Preset::named("demo")?;
    if let Some(epochs) = arguments.epochs {
        preset.recipe = preset.recipe.with_epochs(epochs);
    }
    let setup = Setup::new(BUILT_IN, preset);
    Setup { seed: arguments.seed, threads: arguments.threads.max(1), ..setup }.start(folder)
}

/// The results of the demo.
struct Results {
    report: FusionReport,
    top1: Forms<f64>,
    images_per_second: Forms<f64>,
    parameters: Forms<u64>,
    contact_sheet: Vec<u8>,
}

fn compare(arguments: &Arguments, model: &Model, data: &Data, folder: &Path) -> anyhow::Result<Results> {
    print("2/5 fusing, and comparing every fused block with its branches\n")?;
    let CheckedFusion { fusion, model: plain, report } = fuse_checked(model, model.preprocessing.size)?;
    report.accept()?;
    model.save(&folder.join("training.safetensors"))?;
    plain.save(&folder.join("plain.safetensors"))?;
    print("3/5 evaluating both forms on the validation images\n")?;
    let settings = EvaluationSettings {
        engine: Engine::with_threads(arguments.threads)?,
        batch: BATCH,
        unreadable: Unreadable::Refuse,
    };
    let top1 =
        |model: &Model| Ok::<f64, repvgg::Error>(evaluate_with_progress(model, &data.validation, &settings)?.top1());
    let top1 = Forms { training: top1(model)?, fused: top1(&plain)? };
    print("4/5 timing both forms\n")?;
    let images_per_second = speeds(model, &plain, &settings.engine)?;
    print("5/5 writing predictions and the report\n")?;
    let contact_sheet = predictions(&plain, data, &settings.engine)?;
    write_atomically(&folder.join("predictions.png"), |file| file.write_all(&contact_sheet))?;
    let size = model.preprocessing.size;
    let parameters =
        Forms { training: cost(fusion.original(), size)?.parameters, fused: cost(fusion.graph(), size)?.parameters };
    Ok(Results { report, top1, images_per_second, parameters, contact_sheet })
}

/// Images per second of both forms, from the medians of interleaved runs.
fn speeds(model: &Model, plain: &Model, cpu: &Engine) -> Result<Forms<f64>> {
    let models = [model, plain];
    let shape = BatchShape { batch: BATCH, size: model.preprocessing.size };
    let prepare = |index: usize| -> Result<Box<dyn Workload>> {
        Ok(Box::new(engine(cpu, models[index].graph(), &models[index].weights, shape)?))
    };
    let times = PROTOCOL.measure(models.len(), prepare, |_| ())?;
    let speed = |index: usize| times[index].speed(BATCH).images_per_second;
    Ok(Forms { training: speed(0), fused: speed(1) })
}

/// A PNG contact sheet of validation images with the plain network's predictions.
fn predictions(plain: &Model, data: &Data, engine: &Engine) -> anyhow::Result<Vec<u8>> {
    let mut classifier = Classifier::with_engine(plain, engine, 1)?;
    let images = data.validation.len();
    let mut tiles = Vec::new();
    for index in
        (0..TILES.min(images)).map(|tile| tile * images / TILES.min(images) + tile % data.labels.len().min(images))
    {
        let index = index.min(images - 1);
        let image = data.validation.image(index)?;
        let Prediction { class, label, probability } = classifier.classify(&image, 1)?.swap_remove(0);
        let verdict = if class == data.validation.label(index) { Verdict::Right } else { Verdict::Wrong };
        let caption = format!("{label} {:.0}\u{a0}%", 100.0 * probability);
        tiles.push(Thumbnail { image, caption, verdict });
    }
    let mut png = Vec::new();
    contact_sheet(&tiles, 6).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).context("predictions.png")?;
    Ok(png)
}

impl Results {
    fn json(&self) -> serde_json::Value {
        json!({
            "train_top1": self.top1.training,
            "fused_top1": self.top1.fused,
            "max_relative_error": self.report.network_error,
            "train_form_images_per_second": self.images_per_second.training,
            "fused_images_per_second": self.images_per_second.fused,
        })
    }

    fn text(&self, folder: &Path) -> String {
        let line = |what: &str, parameters: u64, top1: f64, speed: f64| {
            format!(
                "{what:<14} {:>9} parameters   top-1 {:6.2} %   {speed:8.0} images/s\n",
                thousands(parameters),
                100.0 * top1
            )
        };
        format!(
            "\n{}{}the logits of the two forms differ by at most {:.1e} of the largest; every block is within its rounding bound\n\
             \nreport (open it in a browser): {}\nnext: repvgg predict {} IMAGE\n",
            line("training form", self.parameters.training, self.top1.training, self.images_per_second.training),
            line("fused", self.parameters.fused, self.top1.fused, self.images_per_second.fused),
            self.report.network_error,
            folder.join("report.html").display(),
            folder.join("plain.safetensors").display(),
        )
    }

    fn report(&self, run: &Run, data: &Data, folder: &Path, training_time: Duration) -> anyhow::Result<String> {
        let config = run.config();
        let metrics = &run.position().metrics;
        let curves = svg(metrics, config.architecture.name());
        write_atomically(&folder.join("curves.svg"), |file| file.write_all(curves.as_bytes()))?;
        let images: f64 =
            metrics.iter().map(|epoch| epoch.images_per_second).sum::<f64>() / metrics.len().max(1) as f64;
        let environment = [
            format!("repvgg {}", env!("CARGO_PKG_VERSION")),
            format!(
                "{} threads of {}, vector instructions: {}",
                config.threads,
                std::env::consts::ARCH,
                repvgg_kernels::Level::detect().name()
            ),
        ];
        let architecture = [
            config.architecture.name().to_owned(),
            format!("trained for {} with seed {}", duration(training_time), config.seed),
        ];
        let plain = folder.join("plain.safetensors").display().to_string();
        let training = folder.join("training.safetensors").display().to_string();
        let lines = [
            ("Classify your own image", format!("repvgg predict {plain} image.png")),
            ("Fuse again and see the report of each block", format!("repvgg fuse {training} -o plain.safetensors")),
            ("Time every layer", format!("repvgg bench {plain} --batch 64")),
            ("Train on your own images", "repvgg train photos/ -o run".to_owned()),
        ];
        let next_steps: Vec<NextStep<'_>> = lines.iter().map(|(purpose, line)| NextStep { purpose, line }).collect();
        let report = DemoReport {
            title: "RepVGG, from images to a fused network",
            environment: &environment,
            data: report::DataSummary {
                classes: &data.labels,
                training_images: data.train.len() as u64,
                validation_images: data.validation.len() as u64,
            },
            architecture: &architecture,
            training: TrainingSummary {
                epochs: config.recipe.epochs,
                seconds: training_time.as_secs_f64(),
                images_per_second: images,
                curves_svg: &curves,
            },
            fusion: &self.report,
            top1: self.top1,
            images_per_second: self.images_per_second,
            batch: BATCH,
            parameters: self.parameters,
            contact_sheet_png: &self.contact_sheet,
            next_steps: &next_steps,
        };
        Ok(report.html())
    }
}

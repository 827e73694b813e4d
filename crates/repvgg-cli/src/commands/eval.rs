//! `repvgg eval`: the accuracy of a model on labelled images.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use repvgg::Model;
use repvgg_train::data::{Dataset, Oriented, TestSet, Unreadable};
use repvgg_train::evaluate::{Evaluation, EvaluationSettings, evaluate};
use serde_json::json;

use super::CommandResult;
use crate::engine::EngineOptions;
use crate::images::ImageOptions;
use crate::output::{note, print, print_json, table, warn};
use crate::progress::{bar, duration};
use crate::source::{ModelOptions, note_preprocessing};

/// Measure a model's accuracy on labelled images: top-1, top-5 and per class
///
/// Of a data set with parts, the validation part is judged, or else the test part. Of class folders that the model was trained on, the
/// images that its training held out are judged; of other class folders, all images. Classes are matched by name. For a model without
/// labels, folders called by numbers are matched by number, other folders in the order of their names.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  repvgg eval plain.safetensors photos/
  repvgg eval plain.safetensors photos/test/     # class folders of some of the model's classes")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Data set, as for `repvgg train`, or a test set: class folders of some of the model's classes
    data: PathBuf,
    /// Images per run of the network
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Of class folders, judge only the fifth that this seed holds out [default: what the model's training held out, or all]
    #[arg(long)]
    seed: Option<u64>,
    /// Skip and count images that cannot be read, instead of stopping
    #[arg(long)]
    skip_unreadable: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: ImageOptions,
    #[command(flatten)]
    engine: EngineOptions,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let mut opened = arguments.model.open_with_origin()?;
    let test = TestSet::open(&arguments.data, &opened.model, arguments.seed)?;
    arguments.model.unstated.suit(&mut opened, test.side);
    let model = &opened.model;
    model.check_images()?;
    let mut engine = arguments.engine.engine()?;
    engine.options.tuning = opened.tuning()?;
    let settings = EvaluationSettings {
        engine,
        batch: arguments.batch as usize,
        unreadable: if arguments.skip_unreadable { Unreadable::Skip } else { Unreadable::Refuse },
    };
    test.remarks.iter().for_each(|remark| note(remark));
    test.warnings.iter().for_each(|warning| warn(warning));
    let images: Arc<dyn Dataset> = Arc::new(Oriented::new(test.images, arguments.reading.orientation()));
    let evaluation = evaluate_with_progress(model, &images, &settings)?;
    images.warning().iter().for_each(|warning| warn(warning));
    note_preprocessing(&opened, &arguments.model.unstated);
    if arguments.json {
        print_json(&evaluation_json(&evaluation, &test.labels))?;
    } else {
        print(&evaluation_text(&evaluation, &test.labels))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Evaluates a model on a data set, with a progress bar.
pub(crate) fn evaluate_with_progress(
    model: &Model,
    dataset: &Arc<dyn Dataset>,
    settings: &EvaluationSettings,
) -> repvgg::Result<Evaluation> {
    let progress = bar(dataset.len(), "evaluating");
    let evaluation = evaluate(model, dataset, settings, |done| progress.set_position(done as u64));
    progress.finish_and_clear();
    evaluation
}

fn evaluation_json(evaluation: &Evaluation, labels: &[String]) -> serde_json::Value {
    let classes: Vec<serde_json::Value> = evaluation
        .classes
        .iter()
        .zip(labels)
        .map(|(class, label)| {
            let top1 = (class.images > 0).then(|| class.correct as f64 / class.images as f64);
            json!({"label": label, "images": class.images, "correct": class.correct, "top1": top1})
        })
        .collect();
    json!({
        "images": evaluation.images(),
        "top1": evaluation.top1(),
        "top5": evaluation.top5(),
        "loss": evaluation.loss,
        "skipped": evaluation.skipped,
        "images_per_second": evaluation.images() as f64 / evaluation.time.as_secs_f64(),
        "network_images_per_second": evaluation.images() as f64 / evaluation.network_time.as_secs_f64().max(1e-9),
        "per_class": classes,
    })
}

fn evaluation_text(evaluation: &Evaluation, labels: &[String]) -> String {
    let rows: Vec<Vec<String>> = evaluation
        .classes
        .iter()
        .zip(labels)
        .filter(|(class, _)| class.images > 0)
        .map(|(class, label)| {
            let top1 = 100.0 * class.correct as f64 / class.images as f64;
            vec![label.clone(), class.images.to_string(), class.correct.to_string(), format!("{top1:.2}")]
        })
        .collect();
    let skipped = match evaluation.skipped {
        0 => String::new(),
        count => format!(", {count} unreadable images skipped"),
    };
    format!(
        "{}\ntop-1 {:.2} %, top-5 {:.2} %, loss {:.4} on {} images{skipped}\n{:.1} images/s with decoding ({}), {:.1} images/s in the network alone\n",
        table(&["class", "images", "correct", "top-1 %"], &rows),
        100.0 * evaluation.top1(),
        100.0 * evaluation.top5(),
        evaluation.loss,
        evaluation.images(),
        evaluation.images() as f64 / evaluation.time.as_secs_f64(),
        duration(evaluation.time),
        evaluation.images() as f64 / evaluation.network_time.as_secs_f64().max(1e-9),
    )
}

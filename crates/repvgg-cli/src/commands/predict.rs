//! `repvgg predict`: classification of images.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use repvgg::classify::{Classifier, Prediction};
use repvgg::image::{self, Decoded, Listing};
use serde_json::json;

use super::CommandResult;
use crate::engine::EngineOptions;
use crate::images::ImageOptions;
use crate::output::{line, note_passed_over, print, print_json, warn};
use crate::source::{ModelOptions, note_preprocessing};

/// Classify images and print the most likely classes of each
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  repvgg predict plain.safetensors photo.jpg more-photos/ --top 3")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Image files and folders of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Number of classes to print for each image
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Print one JSON object per line, one for each image
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: ImageOptions,
    #[command(flatten)]
    engine: EngineOptions,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let opened = arguments.model.open_with_origin()?;
    let mut engine = arguments.engine.engine()?;
    engine.options.tuning = opened.tuning()?;
    let classifier = Classifier::with_engine(&opened.model, &engine, 1);
    let mut classifier = classifier.with_context(|| arguments.model.model.clone())?;
    let mut note = Some(|| note_preprocessing(&opened, &arguments.model.unstated));
    let mut failures = 0;
    let Listing { files, passed_over } = image::files(&arguments.images)?;
    note_passed_over(&passed_over);
    for path in files {
        let decoded = image::read(&path, arguments.reading.orientation());
        if let Ok(Decoded { warning: Some(warning), .. }) = &decoded {
            warn(&format!("{}: {warning}", path.display()));
        }
        let predictions = decoded.and_then(|decoded| classifier.classify(&decoded.image, arguments.top as usize));
        if predictions.is_ok()
            && let Some(note) = note.take()
        {
            note();
        }
        match predictions {
            Ok(predictions) if arguments.json => print_json(&predictions_json(&path, &predictions))?,
            Ok(predictions) => print(&predictions_text(&path, &predictions))?,
            Err(error) => {
                failures += 1;
                if arguments.json {
                    print_json(&json!({"image": path.display().to_string(), "error": error.to_string()}))?;
                }
                eprintln!("error: {}", line(&error.to_string()));
            }
        }
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn predictions_json(path: &Path, predictions: &[Prediction]) -> serde_json::Value {
    let top: Vec<serde_json::Value> = predictions
        .iter()
        .map(|Prediction { class, label, probability }| {
            json!({"class": class, "label": label, "probability": probability})
        })
        .collect();
    json!({"image": path.display().to_string(), "top": top})
}

fn predictions_text(path: &Path, predictions: &[Prediction]) -> String {
    let mut text = format!("{}\n", path.display());
    for Prediction { label, probability, .. } in predictions {
        text.push_str(&format!("  {:6.2} %  {label}\n", 100.0 * probability));
    }
    text
}

//! `repvgg predict`: what is in these images.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use repvgg::engine::{Plan, Settings, Tuning};
use repvgg::image::{self, Preprocessing, RgbImage};
use repvgg::zoo::Form;
use repvgg::{Model, Result};
use serde_json::json;

use super::Outcome;
use crate::engine::EngineOptions;
use crate::output::{line, print, print_json};
use crate::source::ModelOptions;

/// Classify images: the most likely classes of each file
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Image files, and folders whose images are taken
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// How many classes to print for each image
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Print one JSON object per image and line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

/// A class and its probability, 0 to 1.
pub(crate) struct Guess {
    pub(crate) class: usize,
    pub(crate) label: String,
    pub(crate) probability: f32,
}

/// A model ready to classify images, fused first where it is in training form.
pub(crate) struct Classifier {
    plan: Plan,
    preprocessing: Preprocessing,
    labels: Vec<String>,
    input: Vec<f32>,
    logits: Vec<f32>,
}

impl Classifier {
    /// The batch and size of `settings` are the model's affair.
    pub(crate) fn new(model: &Model, settings: Settings, tuning: &Tuning) -> Result<Self> {
        model.check_images()?;
        let fused;
        let model = match model.form {
            Form::Plain => model,
            Form::Training => {
                fused = model.fuse()?;
                &fused
            }
        };
        let size = [model.preprocessing.size; 2];
        let plan = Plan::tuned(&model.graph()?, &model.weights, Settings { batch: 1, size, ..settings }, tuning)?;
        Ok(Self {
            input: vec![0.0; plan.input_shape().iter().product()],
            logits: vec![0.0; plan.output_shape().iter().product()],
            preprocessing: model.preprocessing.clone(),
            labels: model.labels.clone(),
            plan,
        })
    }

    /// The `top` most likely classes, the likeliest first.
    pub(crate) fn classify(&mut self, image: &RgbImage, top: usize) -> Vec<Guess> {
        self.preprocessing.apply_into(image, &mut self.input);
        self.plan.run(&self.input, &mut self.logits);
        let largest = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = self.logits.iter().map(|x| (x - largest).exp()).sum();
        let mut order: Vec<usize> = (0..self.logits.len()).collect();
        order.sort_by(|&a, &b| self.logits[b].total_cmp(&self.logits[a]).then(a.cmp(&b)));
        order.truncate(top);
        let guess = |class: usize| Guess {
            class,
            label: self.labels.get(class).cloned().unwrap_or_else(|| format!("class {class}")),
            probability: (self.logits[class] - largest).exp() / sum,
        };
        order.into_iter().map(guess).collect()
    }
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let model = arguments.model.open()?;
    let settings = arguments.engine.settings(1, [model.preprocessing.size; 2]);
    let classifier = Classifier::new(&model, settings, &arguments.model.tuning()?);
    let mut classifier = classifier.with_context(|| arguments.model.model.clone())?;
    let mut failures = 0;
    for path in image::files(&arguments.images)? {
        match image::decode(&path) {
            Ok(image) => {
                let guesses = classifier.classify(&image, arguments.top as usize);
                if arguments.json {
                    print_json(&guesses_json(&path, &guesses))?
                } else {
                    print(&guesses_text(&path, &guesses))?
                }
            }
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

fn guesses_json(path: &Path, guesses: &[Guess]) -> serde_json::Value {
    let guesses: Vec<serde_json::Value> = guesses
        .iter()
        .map(|guess| json!({"class": guess.class, "label": guess.label, "probability": guess.probability}))
        .collect();
    json!({"image": path.display().to_string(), "top": guesses})
}

fn guesses_text(path: &Path, guesses: &[Guess]) -> String {
    let mut text = format!("{}\n", path.display());
    for guess in guesses {
        text.push_str(&format!("  {:6.2} %  {}\n", 100.0 * guess.probability, guess.label));
    }
    text
}

//! `repvgg run`: a raw tensor through a model.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use repvgg::engine::Plan;
use repvgg::{Error, Tensor, npy};

use super::Outcome;
use crate::engine::EngineOptions;
use crate::output::print;
use crate::source::ModelOptions;

/// Run a model on a tensor: f32 [N, C, H, W] in, logits [N, classes] out
///
/// Training-form and plain models both run as they are, without preprocessing, and as exactly as single precision allows.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// The input, .npy of f32 [N, C, H, W]
    #[arg(long)]
    input: PathBuf,
    /// Where the logits go, .npy of f32 [N, classes]
    #[arg(long)]
    output: PathBuf,
    #[command(flatten)]
    engine: EngineOptions,
}

/// Images per run of the network: more gain nothing and take memory.
const BATCH: usize = 16;

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    arguments.model.keep(&arguments.output)?;
    let model = arguments.model.open()?;
    let input = npy::read(&arguments.input)?;
    let place = || arguments.input.display();
    let [n, channels, height, width] = input.nchw().map_err(|error| error.within(place()))?;
    let graph = model.graph();
    if channels != graph.input_channels() || [n, height, width].contains(&0) {
        let expected = graph.input_channels();
        let what = format!("expected [N, {expected}, H, W] with no extent of 0, found {:?}", input.shape());
        return Err(Error::shape(place(), what).into());
    }
    let settings = arguments.engine.strict_settings(n.min(BATCH), [height, width]);
    let plan = Plan::tuned(graph, &model.weights, settings, &arguments.model.tuning()?);
    let mut plan = plan.with_context(|| arguments.model.model.clone())?;
    let classes = plan.output_shape().iter().product::<usize>();
    let mut logits = Tensor::full([n, classes], 0.0);
    let image = channels * height * width;
    let outputs = logits.data_mut().chunks_mut(settings.batch * classes);
    for (images, rows) in input.data().chunks(settings.batch * image).zip(outputs) {
        plan.run(images, rows);
    }
    npy::write(&arguments.output, &logits)?;
    print(&format!("{}: [{n}, {classes}]\n", arguments.output.display()))?;
    Ok(ExitCode::SUCCESS)
}

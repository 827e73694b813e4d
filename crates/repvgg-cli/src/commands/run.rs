//! `repvgg run`: a model run on a raw tensor.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use repvgg::npy;

use super::CommandResult;
use crate::engine::EngineOptions;
use crate::output::print;
use crate::source::ModelOptions;

/// Run a model on a tensor from a .npy file and write the logits
///
/// The model runs in its own form, training or plain, without preprocessing. Unless --accuracy is given, it is as accurate as single
/// precision allows.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  repvgg run plain.safetensors --input x.npy --output logits.npy")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Input tensor: a .npy file of f32 [N, C, H, W]
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Output file of the logits: a .npy file of f32 [N, classes]
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    engine: EngineOptions,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    arguments.model.refuse_overwrite(&arguments.output)?;
    let opened = arguments.model.open_with_origin()?;
    let model = &opened.model;
    let input = npy::read(&arguments.input)?;
    let mut engine = arguments.engine.strict_engine()?;
    engine.options.tuning = opened.tuning()?;
    let logits = engine.logits(model.graph(), &model.weights, &input);
    let logits = logits.with_context(|| format!("{} on {}", arguments.model.model, arguments.input.display()))?;
    npy::write(&arguments.output, &logits)?;
    print(&format!("{}: {:?}\n", arguments.output.display(), logits.shape()))?;
    Ok(ExitCode::SUCCESS)
}

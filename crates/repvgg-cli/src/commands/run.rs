//! `repvgg run`: a model run on a raw tensor.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use repvgg::engine::BatchShape;
use repvgg::{Error, Tensor, npy};

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

/// Images per run of the network. Larger batches would only need more memory.
const BATCH: usize = 16;

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    arguments.model.refuse_overwrite(&arguments.output)?;
    let opened = arguments.model.open_with_origin()?;
    let model = &opened.model;
    let input = npy::read(&arguments.input)?;
    let place = || arguments.input.display();
    let [n, channels, height, width] = input.nchw().map_err(|error| error.within(place()))?;
    let graph = model.graph();
    if channels != graph.input_channels() || [n, height, width].contains(&0) {
        let expected = graph.input_channels();
        let problem = format!("expected [N, {expected}, H, W] without an extent of 0, found {:?}", input.shape());
        return Err(Error::shape(place(), problem).into());
    }
    let mut engine = arguments.engine.strict_engine()?;
    engine.options.tuning = opened.tuning()?;
    let shape = BatchShape { batch: n.min(BATCH), size: [height, width] };
    let session = engine.session(graph, &model.weights, shape);
    let mut session = session.with_context(|| arguments.model.model.clone())?;
    let classes = session.output_shape().iter().product::<usize>();
    let mut logits = Tensor::full([n, classes], 0.0);
    let image = channels * height * width;
    let outputs = logits.data_mut().chunks_mut(shape.batch * classes);
    for (images, rows) in input.data().chunks(shape.batch * image).zip(outputs) {
        session.run(images, rows)?;
    }
    npy::write(&arguments.output, &logits)?;
    print(&format!("{}: [{n}, {classes}]\n", arguments.output.display()))?;
    Ok(ExitCode::SUCCESS)
}

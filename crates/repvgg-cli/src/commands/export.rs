//! `repvgg export`: conversion of models for other runtimes and code bases.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use repvgg::Form;
use repvgg::formats::{self, Dialect, onnx};
use repvgg::fuse::Fusion;
use repvgg::{Error, Model, Precision, Result, check};
use serde_json::json;

use super::CommandResult;
use super::fuse::fuse_checked;
use crate::output::{print, print_json, thousands};
use crate::source::ModelOptions;

/// Convert a model to ONNX, or to safetensors for another code base
///
/// The extension of the output file selects the format. ONNX files accept any batch and image size, keep the parameters' names, and store
/// labels and preprocessing as metadata. Parameters of more than 2 GB are stored next to the ONNX file, in FILE.data. Safetensors files
/// use the parameter names of the authors', timm's or mmpretrain's code.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg export plain.safetensors -o plain.onnx
  repvgg export run/best.safetensors -o plain.onnx --form plain     # fuse first
  repvgg export run/best.safetensors -o timm.safetensors --dialect timm")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Output file, ending in .onnx or .safetensors
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Form to write; `plain` fuses a model in training form, with the checks of `repvgg fuse` [default: the model's own]
    #[arg(long, value_enum)]
    form: Option<FormOption>,
    /// Storage type of the values; f16 halves the file size, and computation stays in f32
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Parameter names in a safetensors file [default: official]
    #[arg(long, value_enum)]
    dialect: Option<DialectOption>,
    /// ONNX operator set version, 7 to 21 [default: 17, or 18 with --with-preprocess]
    #[arg(long, value_name = "VERSION")]
    opset: Option<i64>,
    /// Include resizing, cropping and normalisation in the ONNX graph, whose input is then RGB images, uint8 [N, H, W, 3]
    #[arg(long)]
    with_preprocess: bool,
    /// Store the parameters next to the ONNX file in FILE.data, whatever their size
    #[arg(long)]
    external_data: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormOption {
    Training,
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DialectOption {
    Official,
    Timm,
    Mmpretrain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    F16,
}

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Onnx,
    Safetensors,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let target = arguments.target()?;
    arguments.model.refuse_overwrite(&arguments.output)?;
    let model = arguments.model.open()?;
    let model = arguments.in_form(model)?;
    let place = || arguments.model.model.clone();
    match target {
        Target::Onnx => model.save_onnx(&arguments.output, &arguments.onnx_options(&model)).with_context(place)?,
        Target::Safetensors => {
            let (dialect, precision) = (arguments.dialect(), arguments.precision());
            formats::save(&model, &arguments.output, dialect, precision).with_context(place)?;
        }
    }
    if target == Target::Onnx && model.form() == Form::Training {
        eprintln!("warning: {}", unfused_warning(&model, &arguments.output)?);
    }
    arguments.report(&model, target)?;
    Ok(ExitCode::SUCCESS)
}

/// The warning that the output is not fused, with the remedy.
fn unfused_warning(model: &Model, output: &Path) -> Result<String> {
    let regions = Fusion::new(model.graph()).regions().len();
    Ok(format!(
        "{} holds the training form, which runs slower: {regions} blocks are not fused; add --form plain to fuse them",
        output.display()
    ))
}

impl Arguments {
    /// The format selected by the extension, if the other options are valid for it.
    fn target(&self) -> Result<Target> {
        let refuse = |problem: String| Err(Error::spec(self.output.display(), problem));
        let extension = self.output.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let target = match extension.as_deref() {
            Some("onnx") => Target::Onnx,
            Some("safetensors") => Target::Safetensors,
            _ => return refuse("expected a file that ends in .onnx or .safetensors".to_owned()),
        };
        let onnx_only = [
            ("--opset", self.opset.is_some()),
            ("--with-preprocess", self.with_preprocess),
            ("--external-data", self.external_data),
        ];
        match onnx_only.into_iter().find(|(_, given)| *given && target != Target::Onnx) {
            Some((option, _)) => refuse(format!("{option} requires a file that ends in .onnx")),
            None if target == Target::Onnx && self.dialect.is_some() => {
                refuse("--dialect requires a file that ends in .safetensors".to_owned())
            }
            None => Ok(target),
        }
    }

    /// The model in the requested form.
    fn in_form(&self, model: Model) -> anyhow::Result<Model> {
        match (self.form, model.form()) {
            (None, _) | (Some(FormOption::Training), Form::Training) | (Some(FormOption::Plain), Form::Plain) => {
                Ok(model)
            }
            (Some(FormOption::Training), Form::Plain) => {
                let problem = "expected a model in training form, found plain form: fusing cannot be undone";
                Err(Error::fuse(&self.model.model, problem).into())
            }
            (Some(FormOption::Plain), Form::Training) => {
                let checked = fuse_checked(&model, check::image_size(&model));
                let checked = checked.with_context(|| self.model.model.clone())?;
                checked.accept().with_context(|| format!("{}: not written", self.output.display()))
            }
        }
    }

    fn dialect(&self) -> Dialect {
        match self.dialect {
            None | Some(DialectOption::Official) => Dialect::Official,
            Some(DialectOption::Timm) => Dialect::Timm,
            Some(DialectOption::Mmpretrain) => Dialect::Mmpretrain,
        }
    }

    fn precision(&self) -> Precision {
        match self.dtype {
            Dtype::F32 => Precision::Single,
            Dtype::F16 => Precision::Half,
        }
    }

    fn onnx_options(&self, model: &Model) -> onnx::WriteOptions {
        let default = onnx::WriteOptions::default();
        let opset = if self.with_preprocess { onnx::PREPROCESSING_OPSET } else { default.opset };
        onnx::WriteOptions {
            opset: self.opset.unwrap_or(opset),
            precision: self.precision(),
            external_over: if self.external_data { 0 } else { default.external_over },
            preprocess: self.with_preprocess.then(|| model.preprocessing.clone()),
            ..default
        }
    }

    fn report(&self, model: &Model, target: Target) -> anyhow::Result<()> {
        let parameters: u64 = model.weights.iter().map(|(_, tensor)| tensor.data().len() as u64).sum();
        let bytes = std::fs::metadata(&self.output).map(|metadata| metadata.len()).unwrap_or(0);
        if self.json {
            let opset = (target == Target::Onnx).then(|| self.onnx_options(model).opset);
            let names = (target == Target::Safetensors).then(|| self.dialect());
            return print_json(&json!({
                "output": self.output.display().to_string(),
                "name": model.name(),
                "form": model.form(),
                "opset": opset,
                "names": names,
                "dtype": if self.dtype == Dtype::F16 { "f16" } else { "f32" },
                "values": parameters,
                "bytes": bytes,
            }));
        }
        print(&format!(
            "{}: {} in {}, {} values, {} bytes\n",
            self.output.display(),
            model.name(),
            model.form(),
            thousands(parameters),
            thousands(bytes)
        ))
    }
}

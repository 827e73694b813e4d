//! Models from any file: told apart by content, never by extension; architecture and form told by names and shapes.
//!
//! ```text
//! bytes ──► tensors by the file's names ──► official names ──► architecture, form ──► Model
//!           safetensors, pytorch            dialect            zoo::infer
//! ```
//!
//! The account is strict: every tensor of the file is used once, or the file is refused with the names that do not fit.
//! Nothing in a file is ever executed.

mod config;
pub mod dialect;
mod names;
pub mod pytorch;
mod recognise;
pub mod safetensors;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

pub use config::{Config, read_config};
pub use dialect::Dialect;

use crate::error::expected;
use crate::file::{read_bounded, write_atomically};
use crate::fuse::Plan;
use crate::image::Preprocessing;
use crate::model::{self, Model};
use crate::zoo::{self, Architecture, Form};
use crate::{Error, ErrorKind, Result, Tensor, Weights, onnx};
use names::Named;

/// A tensor as a file holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// Floating-point elements of any width, as f32.
    Float(Tensor),
    /// Anything else, such as PyTorch's counters `num_batches_tracked`: no parameter of a network, but accounted for.
    Other {
        /// The elements' type as the file calls it.
        dtype: String,
        /// The extent of each axis.
        shape: Vec<usize>,
    },
}

/// How parameters are kept in a file; the arithmetic is in single precision either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits, as they are.
    #[default]
    Single,
    /// 16 bits, rounded to nearest.
    Half,
}

/// The kind of a model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// Safetensors.
    Safetensors,
    /// What `torch.save` writes.
    Pytorch,
    /// ONNX.
    Onnx,
}

/// Where a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The kind of the file.
    pub container: Container,
    /// Whose names its parameters have, where it is a RepVGG.
    pub names: Option<Dialect>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.container {
            Container::Safetensors => "safetensors",
            Container::Pytorch => "PyTorch checkpoint",
            Container::Onnx => "ONNX",
        })?;
        match self.names {
            Some(dialect) => write!(f, " with {} names", dialect.name()),
            None => Ok(()),
        }
    }
}

/// The largest model file that is read, in bytes.
const LIMIT: u64 = 16 << 30;

/// Opens a model file of any kind.
///
/// `named` is what the caller holds the network to be: layers that differ are an error that states both, and its strides,
/// which leave no trace in a file of weights, are taken over.
///
/// # Errors
/// When the file cannot be read, is of no known kind, or its tensors are not exactly a network's.
pub fn open(path: &Path, named: Option<&Architecture>) -> Result<(Model, Origin)> {
    let bytes = read_bounded(path, LIMIT)?;
    let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    decode(bytes, named, folder).map_err(|error| blame_file(error).within(path.display()))
}

/// Opens a model from the bytes of a file that needs no other file.
///
/// # Errors
/// As [`open`].
pub fn from_bytes(bytes: Vec<u8>, named: Option<&Architecture>) -> Result<(Model, Origin)> {
    decode(bytes, named, None).map_err(blame_file)
}

/// A specification that was read from a file is the file's fault, not the caller's.
fn blame_file(error: Error) -> Error {
    if error.is_spec() { error.with_kind(ErrorKind::Format) } else { error }
}

/// The model in these bytes; `folder` is where an ONNX file's further files lie.
fn decode(bytes: Vec<u8>, named: Option<&Architecture>, folder: Option<&Path>) -> Result<(Model, Origin)> {
    if safetensors::is_safetensors(&bytes) {
        let contents = safetensors::read(&bytes)?;
        drop(bytes);
        let document = contents.metadata.get(model::KEY).map(|text| model::Document::read(text)).transpose()?;
        return from_tensors(contents.tensors, document, named, Container::Safetensors);
    }
    if pytorch::is_pytorch(&bytes) {
        let tensors = pytorch::read(&bytes)?;
        drop(bytes);
        return from_tensors(tensors, None, named, Container::Pytorch);
    }
    if onnx::is_onnx(&bytes) {
        return recognise::model(onnx::read(bytes, folder)?, named);
    }
    let what = expected("safetensors, a PyTorch checkpoint or ONNX").found(describe(&bytes));
    Err(Error::format("file", what))
}

/// Writes a model as safetensors, its parameters named as a code base expects them.
///
/// # Errors
/// When the code base has no name for a parameter, a value does not fit the precision, or the file cannot be written.
pub fn save(model: &Model, path: &Path, dialect: Dialect, precision: Precision) -> Result<()> {
    let is_repvgg = matches!(model.architecture, Architecture::RepVgg(_));
    let spell = |name: &str| match dialect {
        Dialect::Official => Some(name.to_owned()),
        _ => dialect.spell(name).filter(|_| is_repvgg),
    };
    let tensors = model.weights.iter().map(|(name, tensor)| {
        let none = || Error::weights(name, format!("{} has no name for this parameter", dialect.name()));
        Ok((spell(name).ok_or_else(none)?, tensor.clone()))
    });
    let weights = tensors.collect::<Result<Weights>>()?;
    let metadata = HashMap::from([(model::KEY.to_owned(), model.document()?)]);
    let bytes = safetensors::write(&weights, precision, metadata)?;
    write_atomically(path, |file| file.write_all(&bytes))
}

/// The model of these tensors, whatever their names.
fn from_tensors(
    tensors: Vec<(String, Stored)>,
    document: Option<model::Document>,
    named: Option<&Architecture>,
    container: Container,
) -> Result<(Model, Origin)> {
    let (tensors, architecture, form) = match &document {
        Some(document) => described(tensors, document, named)?,
        None => undescribed(tensors, named)?,
    };
    let origin = Origin { container, names: tensors.dialect };
    let graph = model::graph(&architecture, form)?;
    let weights = tensors.account(&graph)?;
    let model = match document {
        Some(document) => Model { architecture, ..document.into_model(weights) },
        None => {
            let size = architecture.image_size();
            let preprocessing = Preprocessing { size, ..Preprocessing::default() };
            let preprocessing = preprocessing.for_channels(architecture.input_channels());
            Model { architecture, form, weights, labels: Vec::new(), preprocessing, training: None }
        }
    };
    model.check_document()?;
    Ok((model, origin))
}

/// The network that a file of ours says it holds.
fn described(
    tensors: Vec<(String, Stored)>,
    document: &model::Document,
    named: Option<&Architecture>,
) -> Result<(Named, Architecture, Form)> {
    let architecture = document.architecture.clone();
    let tensors = match architecture {
        Architecture::Graph(_) => Named::as_they_are(tensors)?,
        Architecture::RepVgg(_) => Named::translated(tensors)?,
    };
    let architecture = match named {
        Some(named) => agree(architecture, named, true)?,
        None => architecture,
    };
    Ok((tensors, architecture, document.form))
}

/// The network that names and shapes speak of: a RepVGG, or one of the zoo's other networks.
fn undescribed(tensors: Vec<(String, Stored)>, named: Option<&Architecture>) -> Result<(Named, Architecture, Form)> {
    let tensors = Named::translated(tensors)?;
    if let Some(named) = named.filter(|named| !named.is_inferred()) {
        let tensors = tensors.unwrapped();
        let architecture = named.clone().suited_to(&tensors.weights);
        return with_form(tensors, architecture);
    }
    match (zoo::infer(&tensors.weights), named) {
        (Ok((found, form)), Some(named)) => Ok((tensors, agree(found, named, false)?, form)),
        (Ok((found, form)), None) => Ok((tensors, found, form)),
        (Err(error), Some(_)) => Err(tensors.spelled(error)),
        (Err(error), None) => {
            let error = tensors.spelled(error);
            let tensors = tensors.unwrapped();
            let mut known = zoo::known(&tensors.weights);
            if known.len() > 1 {
                let names = known.iter().map(Architecture::name).collect::<Vec<_>>().join(", ");
                let problem = format!("ambiguous: the parameters of {names} have the same names and shapes");
                return Err(Error::new(ErrorKind::Ambiguous, problem).within("architecture"));
            }
            match known.pop() {
                Some(architecture) => with_form(tensors, architecture),
                None => Err(error),
            }
        }
    }
}

/// The architecture with the form that its own graph is: training, unless there is nothing to fuse.
fn with_form(tensors: Named, architecture: Architecture) -> Result<(Named, Architecture, Form)> {
    let is_plain = matches!(&architecture, Architecture::Graph(any) if Plan::new(&any.graph).is_plain());
    Ok((tensors, architecture, if is_plain { Form::Plain } else { Form::Training }))
}

/// The architecture that a file has, with the strides of the one it was said to have.
fn agree(found: Architecture, named: &Architecture, strides_known: bool) -> Result<Architecture> {
    let refuse = |[ours, theirs]: [String; 2]| {
        let what = expected(format_args!("{} with {theirs}", named.name()))
            .found(format_args!("{} with {ours}", found.name()));
        Err(Error::format("architecture", what))
    };
    match (&found, named) {
        (Architecture::RepVgg(spec), Architecture::RepVgg(other)) => match spec.differs_from(other) {
            Some(difference) => refuse(difference),
            None if strides_known && spec.strides != other.strides => {
                refuse([spec.strides, other.strides].map(|strides| format!("strides {strides:?}")))
            }
            None => {
                let (name, strides) = (other.name.clone(), other.strides);
                Ok(Architecture::RepVgg(zoo::RepVgg { name, strides, ..spec.clone() }))
            }
        },
        (Architecture::Graph(found_graph), Architecture::Graph(named)) if found_graph.is_form_of(named) => {
            Ok(found.clone())
        }
        _ => refuse(["another graph", "its own graph"].map(str::to_owned)),
    }
}

/// What bytes that are no model seem to be.
fn describe(bytes: &[u8]) -> &'static str {
    const KINDS: [(&[u8], &str); 9] = [
        (b"\x93NUMPY", "a NumPy array"),
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GGUF", "a GGUF file"),
        (b"\x89HDF", "an HDF5 file"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"7z\xbc\xaf", "a 7z archive"),
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
        (b"<", "a text of markup, perhaps a failed download"),
    ];
    match KINDS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        Some((_, kind)) => kind,
        None if bytes.is_empty() => "an empty file",
        None if bytes.iter().take(512).all(|byte| byte.is_ascii() && (*byte >= 0x20 || byte.is_ascii_whitespace())) => {
            "text"
        }
        None => "bytes of another kind",
    }
}

//! Opens model files of every kind.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::dialect::Dialect;
use super::document::Document;
use super::foreign::{self, infer_repvgg};
use super::onnx::{Onnx, Pixels};
use super::{onnx, pytorch, safetensors};
use crate::error::expected;
use crate::file::read_bounded;
use crate::image::Preprocessing;
use crate::model::{Architecture, Form};
use crate::zoo::RepVgg;
use crate::{Error, ErrorKind, Model, Result, Specification};

/// The kind of a model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Container {
    /// Safetensors.
    Safetensors,
    /// A PyTorch checkpoint, written by `torch.save`.
    Pytorch,
    /// ONNX.
    Onnx,
}

/// The origin of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The kind of the file.
    pub container: Container,
    /// The dialect of its parameter names, if it is a RepVGG.
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

/// The largest accepted model file, in bytes.
const LIMIT: u64 = 16 << 30;

/// Opens a model file of any kind.
///
/// `claimed` is the specification that the caller expects. If its layers differ from those of the file, the error states
/// both. Its strides are adopted if the file holds only weights, which do not reveal them.
///
/// # Errors
/// When the file cannot be read, its kind is unknown, or its tensors are not exactly the parameters of one network.
pub fn open(path: &Path, claimed: Option<&Specification>) -> Result<(Model, Origin)> {
    let bytes = read_bounded(path, LIMIT)?;
    let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    decode(bytes, claimed, folder).map_err(|error| blame_file(error).within(path.display()))
}

impl Model {
    /// Opens a model file of any kind, as [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn load(path: &Path) -> Result<Self> {
        open(path, None).map(|(model, _)| model)
    }
}

/// Opens a model from the bytes of a self-contained file.
///
/// # Errors
/// As [`open`].
pub fn from_bytes(bytes: Vec<u8>, claimed: Option<&Specification>) -> Result<(Model, Origin)> {
    decode(bytes, claimed, None).map_err(blame_file)
}

/// Turns specification errors into format errors: a specification read from a file is not the caller's fault.
fn blame_file(error: Error) -> Error {
    if error.is_spec() { error.with_kind(ErrorKind::Format) } else { error }
}

/// Decodes a model. `folder` holds the external data of an ONNX file.
fn decode(bytes: Vec<u8>, claimed: Option<&Specification>, folder: Option<&Path>) -> Result<(Model, Origin)> {
    if safetensors::is_safetensors(&bytes) {
        let contents = safetensors::read(&bytes)?;
        drop(bytes);
        let (model, names) = match Document::find(&contents.metadata)? {
            Some(document) => document.open(contents.tensors, claimed)?,
            None => foreign::open_tensors(contents.tensors, claimed)?,
        };
        return Ok((model, Origin { container: Container::Safetensors, names }));
    }
    if pytorch::is_pytorch(&bytes) {
        let tensors = pytorch::read(&bytes)?;
        drop(bytes);
        let (model, names) = foreign::open_tensors(tensors, claimed)?;
        return Ok((model, Origin { container: Container::Pytorch, names }));
    }
    if onnx::is_onnx(&bytes) {
        return open_onnx(onnx::read(bytes, folder)?, claimed);
    }
    let kinds = expected("safetensors, a PyTorch checkpoint or ONNX");
    Err(Error::format("file", kinds.found(describe(&bytes))))
}

/// Builds the model of an ONNX file: a known network if the graph is one, or else the graph itself. Labels and preprocessing
/// come from this crate's metadata, if present.
///
/// # Errors
/// When the network is not the claimed one, or the metadata does not fit it.
fn open_onnx(file: Onnx, claimed: Option<&Specification>) -> Result<(Model, Origin)> {
    let document = Document::find(&file.metadata)?;
    let inferred = infer_repvgg(&file.weights);
    let origin = Origin { container: Container::Onnx, names: inferred.as_ref().and_then(|inferred| inferred.dialect) };
    let candidates: Vec<Architecture> = match claimed {
        Some(claimed) => {
            let forms = [Form::Plain, Form::Training].into_iter();
            forms.map(|form| Architecture::new(claimed.clone(), form)).collect::<Result<_>>()?
        }
        None => {
            let described = document.as_ref().map(|document| document.network(None)).transpose()?;
            if let (Some(described), Some(inferred)) = (&described, &inferred) {
                check_layers(described, &inferred.spec)?;
            }
            let known = inferred.and_then(|inferred| Architecture::new(inferred.spec.into(), inferred.form).ok());
            described.into_iter().chain(known).collect()
        }
    };
    let renamed = |network: Architecture| Some((network.graph.renaming_from(&file.graph)?, network));
    let (network, weights) = match (candidates.into_iter().find_map(renamed), claimed) {
        (Some((names, network)), _) => {
            let missing = || Error::weights("onnx", "a parameter of the graph is missing");
            (network, file.weights.renamed(names).ok_or_else(missing)?)
        }
        (None, Some(claimed)) => {
            let problem = expected(format_args!("the graph of {}", claimed.name())).found("another graph");
            return Err(Error::format("architecture", problem));
        }
        (None, None) => (Architecture::of_graph("onnx".to_owned(), file.graph), file.weights),
    };
    let size = file.size.map_or(Preprocessing::default().size, |[height, width]| height.min(width));
    let mut model = match document {
        Some(document) => document.into_model(network, weights),
        None => network.into_model(weights, size),
    };
    if file.pixels == Pixels::Bytes {
        // The network normalises by itself: its input is 255 times the values from 0 to 1.
        let channels = model.preprocessing.channels();
        (model.preprocessing.mean, model.preprocessing.std) = (vec![0.0; channels], vec![1.0 / 255.0; channels]);
    }
    model.check_annotations()?;
    Ok((model, origin))
}

/// Checks that the RepVGG that a document describes has the layers of the weights beside it. Weights reveal neither a fused block
/// nor auxiliary heads, which ONNX files do not have.
///
/// # Errors
/// When they differ; the error states both.
fn check_layers(described: &Architecture, found: &RepVgg) -> Result<()> {
    let Some(spec) = described.specification.as_ref().and_then(Specification::repvgg) else { return Ok(()) };
    let comparable = RepVgg { block: found.block, auxiliary_heads: found.auxiliary_heads, ..spec.clone() };
    match comparable.differs_from(found) {
        Some([described, found]) => Err(Error::format("repvgg.architecture", expected(found).found(described))),
        None => Ok(()),
    }
}

/// Guesses the kind of a file that is not a model.
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
        (b"<", "markup text, perhaps a failed download"),
    ];
    match KINDS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        Some((_, kind)) => kind,
        None if bytes.is_empty() => "an empty file",
        None if bytes.iter().take(512).all(|byte| byte.is_ascii() && (*byte >= 0x20 || byte.is_ascii_whitespace())) => {
            "text"
        }
        None => "bytes of an unknown kind",
    }
}

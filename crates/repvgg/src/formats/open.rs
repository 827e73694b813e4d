//! Opens model files of every kind.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::dialect::Dialect;
use super::document::Document;
use super::foreign::{self, Recognised, infer_repvgg};
use super::onnx::Onnx;
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

/// What the caller knows about a file beyond its contents.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// The specification that the caller expects. If its layers differ from those of the file, the error states both. Its strides
    /// and ε are adopted if the file holds only weights, which do not reveal them.
    pub architecture: Option<Specification>,
    /// The weights to read from a file that holds several sets: the key of a checkpoint's state dict, such as `ema` or
    /// `ema.module`, or a prefix of the names of parameters.
    pub weights: Option<String>,
    /// ε of all batch norms, which weights do not reveal. A file that states its own refuses another.
    pub epsilon: Option<f64>,
}

impl OpenOptions {
    /// Options that expect the architecture of `specification`.
    pub fn expecting(specification: &Specification) -> Self {
        Self { architecture: Some(specification.clone()), ..Self::default() }
    }
}

/// A model from a file.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The model.
    pub model: Model,
    /// The kind of file.
    pub origin: Origin,
    /// Whether the file states how images are prepared. Otherwise the model's preprocessing is the usual one.
    pub has_preprocessing: bool,
    /// Sentences about the parts of the file that were not read.
    pub remarks: Vec<String>,
}

/// Opens a model file of any kind.
///
/// # Errors
/// When the file cannot be read, its kind is unknown, or its tensors are not exactly the parameters of one network.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Opened> {
    let bytes = read_bounded(path, LIMIT)?;
    let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    decode(bytes, options, folder).map_err(|error| blame_file(error).within(path.display()))
}

impl Model {
    /// Opens a model file of any kind, as [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn load(path: &Path) -> Result<Self> {
        open(path, &OpenOptions::default()).map(|opened| opened.model)
    }
}

/// Opens a model from the bytes of a self-contained file.
///
/// # Errors
/// As [`open`].
pub fn from_bytes(bytes: Vec<u8>, options: &OpenOptions) -> Result<Opened> {
    decode(bytes, options, None).map_err(blame_file)
}

/// Turns specification errors into format errors: a specification read from a file is not the caller's fault.
fn blame_file(error: Error) -> Error {
    if error.is_spec() { error.with_kind(ErrorKind::Format) } else { error }
}

/// Decodes a model. `folder` holds the external data of an ONNX file.
fn decode(bytes: Vec<u8>, options: &OpenOptions, folder: Option<&Path>) -> Result<Opened> {
    if safetensors::is_safetensors(&bytes) {
        let contents = safetensors::read(&bytes)?;
        drop(bytes);
        return match Document::find(&contents.metadata)? {
            Some(document) => {
                refuse_unneeded(options)?;
                let (model, names) = document.open(contents.tensors, options.architecture.as_ref())?;
                let origin = Origin { container: Container::Safetensors, names };
                Ok(Opened { model, origin, has_preprocessing: true, remarks: Vec::new() })
            }
            None => Ok(foreign::open_tensors(contents.tensors, options)?.into_opened(Container::Safetensors)),
        };
    }
    if pytorch::is_pytorch(&bytes) {
        return open_checkpoint(bytes, options);
    }
    if onnx::is_onnx(&bytes) {
        refuse_unneeded(options)?;
        return open_onnx(onnx::read(bytes, folder)?, options.architecture.as_ref());
    }
    let kinds = expected("safetensors, a PyTorch checkpoint or ONNX");
    Err(Error::format("file", kinds.found(describe(&bytes))))
}

/// Refuses options about what a file itself states.
fn refuse_unneeded(options: &OpenOptions) -> Result<()> {
    let stated = "nothing, because the file states it";
    match (&options.weights, options.epsilon) {
        (Some(weights), _) => Err(Error::spec("weights", expected(stated).found(weights))),
        (None, Some(epsilon)) => Err(Error::spec("epsilon", expected(stated).found(epsilon))),
        (None, None) => Ok(()),
    }
}

/// Opens a PyTorch checkpoint. The wanted weights are a state dict or, if no key has this name, a prefix of the names in one.
fn open_checkpoint(bytes: Vec<u8>, options: &OpenOptions) -> Result<Opened> {
    let wanted = options.weights.as_deref();
    let (state, options) = match pytorch::read(&bytes, wanted) {
        Ok(state) => (state, OpenOptions { weights: None, ..options.clone() }),
        Err(error) if wanted.is_some() && error.is_spec() => {
            let state = pytorch::read(&bytes, None)?;
            let prefixed = |wanted: &str| state.tensors.iter().any(|(name, _)| name.starts_with(wanted));
            if !wanted.is_some_and(prefixed) {
                return Err(error);
            }
            (state, options.clone())
        }
        Err(error) => return Err(error),
    };
    drop(bytes);
    let mut opened = foreign::open_tensors(state.tensors, &options)?.into_opened(Container::Pytorch);
    if !state.others.is_empty() {
        let name = |key: &String| if key.is_empty() { "the root".to_owned() } else { key.clone() };
        let others = state.others.iter().map(name).collect::<Vec<_>>().join(", ");
        opened.remarks.insert(0, format!("read the weights under {}; the file also holds {others}", name(&state.key)));
    }
    Ok(opened)
}

/// The most names of unused tensors that a remark lists.
const LISTED: usize = 3;

impl Recognised {
    fn into_opened(self, container: Container) -> Opened {
        let Self { model, dialect, prefix, unused } = self;
        let mut remarks = Vec::new();
        if !unused.is_empty() {
            let mut names = unused.iter().take(LISTED).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>();
            if unused.len() > LISTED {
                names.push(format!("{} more", unused.len() - LISTED));
            }
            let network = prefix.trim_end_matches('.');
            remarks.push(format!("read the network under {network}; not part of it: {}", names.join(", ")));
        }
        Opened { model, origin: Origin { container, names: dialect }, has_preprocessing: false, remarks }
    }
}

/// Builds the model of an ONNX file: a known network if the graph is one, or else the graph itself. Labels and preprocessing
/// come from this crate's metadata, if present.
///
/// # Errors
/// When the network is not the claimed one, or the metadata does not fit it.
fn open_onnx(file: Onnx, claimed: Option<&Specification>) -> Result<Opened> {
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
    let size = file.size.unwrap_or(Preprocessing::default().size);
    let (model, has_preprocessing) = match document {
        Some(document) => (document.into_model(network, weights), true),
        None => annotated(network.into_model(weights, size), &file.metadata)?,
    };
    model.check_annotations()?;
    Ok(Opened { model, origin, has_preprocessing, remarks: Vec::new() })
}

/// Adds the labels and the preprocessing that an ONNX file's metadata holds under keys of their own, as JSON. Returns whether there
/// is a preprocessing. Text of another kind under these keys is another program's.
fn annotated(mut model: Model, metadata: &BTreeMap<String, String>) -> Result<(Model, bool)> {
    if let Some(Ok(labels)) = metadata.get("labels").map(|text| serde_json::from_str(text)) {
        model.labels = labels;
    }
    let preprocessing = metadata.get("preprocessing").map(|text| serde_json::from_str(text));
    let Some(Ok(preprocessing)) = preprocessing else { return Ok((model, false)) };
    model.preprocessing = preprocessing;
    model.preprocessing.check_channels(model.input_channels())?;
    Ok((model, true))
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
        None if matches!(bytes, [0x80, 2..=5, ..]) => "a pickle that torch.save did not write",
        None if bytes.iter().take(512).all(|byte| byte.is_ascii() && (*byte >= 0x20 || byte.is_ascii_whitespace())) => {
            "text"
        }
        None => "bytes of an unknown kind",
    }
}

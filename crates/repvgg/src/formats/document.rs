//! The model file: one `.safetensors` with the weights under PyTorch names and everything needed to use them.
//!
//! The metadata holds one JSON document, under the key `repvgg`:
//!
//! ```json
//! {"version": 1, "form": "plain", "architecture": {"family": "repvgg", "depths": [2, 4, 14, 1], …},
//!  "labels": ["cat", "dog"], "preprocessing": {"size": 224, "crop_fraction": 0.875, …}, "training": {…}}
//! ```
//!
//! `architecture` is the specification of a RepVGG or the graph of any other network. If a specification built that graph,
//! it is stored as well, under `specification`. Python's `safetensors` opens the file directly:
//! `json.loads(safe_open(path, "np").metadata()["repvgg"])`.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::claim::{Strides, identify, reconcile};
use super::names::NamedTensors;
use super::{Dialect, Stored, onnx, safetensors};
use crate::error::expected;
use crate::file::write_atomically;
use crate::image::Preprocessing;
use crate::model::{Architecture, Form, Model};
use crate::{Error, Precision, Result, Specification, Weights};

/// The key of the document in a file's metadata.
pub(super) const KEY: &str = "repvgg";

/// The version of the document.
const VERSION: u64 = 1;

/// The document in a file's metadata: a [`Model`] without its weights.
#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    version: u64,
    form: Form,
    architecture: Specification,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    specification: Option<Specification>,
    #[serde(default)]
    labels: Vec<String>,
    preprocessing: Preprocessing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    training: Option<serde_json::Value>,
    /// The dialect of the parameter names, unless official.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    names: Option<Dialect>,
}

impl Document {
    /// The document of a model in a file with the parameter names of `dialect`.
    fn of(model: &Model, dialect: Dialect) -> Self {
        let architecture = model.to_architecture();
        let specification = model.specification().filter(|known| **known != architecture);
        Self {
            version: VERSION,
            form: model.form(),
            specification: specification.cloned(),
            architecture,
            labels: model.labels.clone(),
            preprocessing: model.preprocessing.clone(),
            training: model.training.clone(),
            names: Some(dialect).filter(|dialect| *dialect != Dialect::Official),
        }
    }

    /// Finds the document in a file's metadata.
    pub(super) fn find<'m>(metadata: impl IntoIterator<Item = (&'m String, &'m String)>) -> Result<Option<Self>> {
        metadata.into_iter().find(|(key, _)| *key == KEY).map(|(_, text)| Self::read(text)).transpose()
    }

    /// Reads a document, once its version has been checked.
    fn read(text: &str) -> Result<Self> {
        let wrong = |error| Error::format("metadata", expected("a description of the model").found(error));
        let value: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(VERSION) => serde_json::from_value(value).map_err(wrong),
            _ => {
                let found = value.get("version").map_or("none".to_owned(), ToString::to_string);
                Err(Error::format("metadata", expected(format_args!("format version {VERSION}")).found(found)))
            }
        }
    }

    fn write(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::format("metadata", format!("cannot be written as JSON: {error}")))
    }

    /// Builds the network that the document describes; `claimed` is the specification that the caller expects.
    ///
    /// # Errors
    /// When the description is invalid, or the network is not the claimed one.
    pub(super) fn network(&self, claimed: Option<&Specification>) -> Result<Architecture> {
        let architecture = self.architecture.clone();
        if architecture.repvgg().is_some() {
            let specification = match claimed {
                Some(claimed) => reconcile(&architecture, claimed, Strides::Known)?,
                None => architecture,
            };
            return Architecture::new(specification, self.form);
        }
        let graph = architecture.training_graph()?;
        let name = architecture.name().to_owned();
        let mut network = Architecture { name, specification: None, graph, form: self.form };
        network.specification = match (&self.specification, claimed) {
            (_, Some(claimed)) => Some(identify(&network, claimed)?),
            (Some(own), None) => Some(own.clone()).filter(|own| own.classes() == network.graph.classes()),
            // Older files lack the specification; that of a published network is found by name.
            (None, None) => Specification::named(&network.name).and_then(|known| identify(&network, &known).ok()),
        };
        Ok(network)
    }

    /// Builds the model from the document and the tensors of its file.
    ///
    /// # Errors
    /// As [`network`](Self::network), and when the tensors are not exactly the network's parameters.
    pub(super) fn open(
        self,
        tensors: Vec<(String, Stored)>,
        claimed: Option<&Specification>,
    ) -> Result<(Model, Option<Dialect>)> {
        let network = self.network(claimed)?;
        let dialect = self.dialect(&network, &tensors);
        let weights = NamedTensors::for_graph(tensors, &network.graph, dialect)?.into_parameters(&network.graph)?;
        let model = self.into_model(network, weights);
        model.check_annotations()?;
        Ok((model, dialect))
    }

    /// The dialect of a RepVGG's parameter names. Older files do not record it; there the first parameter's name decides.
    fn dialect(&self, network: &Architecture, tensors: &[(String, Stored)]) -> Option<Dialect> {
        self.architecture.repvgg()?;
        let has = |name: &str| tensors.iter().any(|(known, _)| known == name);
        let first = network.graph.parameters().next().map(|(name, _)| name).unwrap_or_default();
        let mut dialects = Dialect::ALL.into_iter();
        let found = dialects.find(|dialect| dialect.spell(&first).is_some_and(|spelled| has(&spelled)));
        Some(self.names.or(found).unwrap_or(Dialect::Official))
    }

    /// Adds the document's labels, preprocessing and training record to a network and its weights.
    pub(super) fn into_model(self, network: Architecture, weights: Weights) -> Model {
        let mut model = network.into_model(weights, self.preprocessing.size);
        model.labels = self.labels;
        model.preprocessing = self.preprocessing;
        model.training = self.training;
        model
    }
}

impl Model {
    /// Builds the `architecture` entry of a model file: the specification of a RepVGG, or a copy of any other network's graph.
    pub fn to_architecture(&self) -> Specification {
        match self.specification() {
            Some(specification) if specification.repvgg().is_some() => specification.clone(),
            other => {
                let size = other.map_or(self.side(), Specification::image_size);
                Specification::from_graph(self.name(), size, self.graph().clone())
            }
        }
    }

    /// Writes the model file atomically: to a temporary file, which is then renamed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes()?;
        write_atomically(path, |file| file.write_all(&bytes))
    }

    /// Encodes the model file. The same model always gives the same bytes.
    ///
    /// # Errors
    /// When the metadata cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let metadata = HashMap::from([(KEY.to_owned(), Document::of(self, Dialect::Official).write()?)]);
        safetensors::write(&self.weights, Precision::Single, metadata)
    }

    /// Writes the network as ONNX. Its metadata holds the document of a model file under `repvgg`, and repeats labels and
    /// preprocessing under keys of their own.
    ///
    /// # Errors
    /// As [`onnx::write`].
    pub fn save_onnx(&self, path: &Path, options: &onnx::WriteOptions) -> Result<()> {
        let mut options = options.clone();
        options.metadata.insert(KEY.to_owned(), Document::of(self, Dialect::Official).write()?);
        for (key, value) in [
            ("labels", serde_json::to_string(&self.labels)),
            ("preprocessing", serde_json::to_string(&self.preprocessing)),
        ] {
            let value = value.map_err(|error| Error::format(key, format!("cannot be written as JSON: {error}")))?;
            options.metadata.insert(key.to_owned(), value);
        }
        onnx::write(path, self.graph(), &self.weights, &options)
    }
}

/// Writes a model as safetensors, with the parameter names of `dialect`.
///
/// # Errors
/// When the dialect has no name for a parameter, a value does not fit the precision, or the file cannot be written.
pub fn save(model: &Model, path: &Path, dialect: Dialect, precision: Precision) -> Result<()> {
    let is_repvgg = model.specification().is_some_and(|known| known.repvgg().is_some());
    let spell = |name: &str| match dialect {
        Dialect::Official => Some(name.to_owned()),
        _ => dialect.spell(name).filter(|_| is_repvgg),
    };
    let tensors = model.weights.iter().map(|(name, tensor)| {
        let none = || Error::weights(name, format!("{} has no name for this parameter", dialect.name()));
        Ok((spell(name).ok_or_else(none)?, tensor.clone()))
    });
    let weights = tensors.collect::<Result<Weights>>()?;
    let metadata = HashMap::from([(KEY.to_owned(), Document::of(model, dialect).write()?)]);
    let bytes = safetensors::write(&weights, precision, metadata)?;
    write_atomically(path, |file| file.write_all(&bytes))
}

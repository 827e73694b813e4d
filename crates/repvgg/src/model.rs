//! The model file: one `.safetensors` holds weights under PyTorch names and all that is needed to use them.
//!
//! The metadata are one JSON document under the key `repvgg`:
//!
//! ```json
//! {"version": 1, "form": "plain", "architecture": {"family": "repvgg", "depths": [2, 4, 14, 1], …},
//!  "labels": ["cat", "dog"], "preprocessing": {"size": 224, "crop_fraction": 0.875, …}, "training": {…}}
//! ```
//!
//! Python's `safetensors` opens the file as it is: `json.loads(safe_open(path, "np").metadata()["repvgg"])`.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Precision, safetensors};
use crate::error::expected;
use crate::file::write_atomically;
use crate::fuse::Plan;
use crate::image::Preprocessing;
use crate::zoo::{AnyGraph, Architecture, Form};
use crate::{Error, Graph, Result, Weights, checkpoint, onnx};

/// The key of our document in the file's metadata, and the version of the document.
pub(crate) const KEY: &str = "repvgg";
const VERSION: u64 = 1;

/// The document in the file's metadata: a [`Model`] without its weights.
#[derive(Serialize, Deserialize)]
pub(crate) struct Document {
    version: u64,
    pub(crate) form: Form,
    pub(crate) architecture: Architecture,
    #[serde(default)]
    labels: Vec<String>,
    preprocessing: Preprocessing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    training: Option<serde_json::Value>,
}

/// A network with its weights and everything needed to use it.
#[derive(Debug, Clone)]
pub struct Model {
    /// What builds its graph.
    pub architecture: Architecture,
    /// Which graph the weights belong to.
    pub form: Form,
    /// The parameters.
    pub weights: Weights,
    /// The classes' names, one per logit; empty when unknown.
    pub labels: Vec<String>,
    /// How an image becomes the network's input.
    pub preprocessing: Preprocessing,
    /// What the training recorded about itself.
    pub training: Option<serde_json::Value>,
}

impl Model {
    /// A network that has not been trained: `architecture` in training form with [initial weights](Weights::initialise),
    /// for images of the size that it is meant for.
    ///
    /// # Errors
    /// When the architecture cannot be built.
    pub fn initialise(architecture: Architecture, seed: u64) -> Result<Self> {
        let weights = Weights::initialise(&architecture.training_graph()?, seed);
        let preprocessing = Preprocessing { size: architecture.image_size(), ..Preprocessing::default() };
        let preprocessing = preprocessing.for_channels(architecture.input_channels());
        Ok(Self { architecture, form: Form::Training, weights, labels: Vec::new(), preprocessing, training: None })
    }

    /// The graph that the weights belong to.
    ///
    /// # Errors
    /// When the architecture cannot be built.
    pub fn graph(&self) -> Result<Graph> {
        graph(&self.architecture, self.form)
    }

    /// The same network in plain form.
    ///
    /// # Errors
    /// When it is plain already, or its weights do not fuse.
    pub fn fuse(&self) -> Result<Self> {
        if self.form == Form::Plain {
            return Err(Error::fuse(self.architecture.name(), "already in plain form, there is nothing to fuse"));
        }
        let plan = Plan::new(&self.graph()?);
        let weights = plan.apply(&self.weights)?;
        Ok(self.fused(&plan, weights))
    }

    /// The plain form of this network, of which `weights` are what `plan` made of its weights.
    #[must_use]
    pub fn fused(&self, plan: &Plan, weights: Weights) -> Self {
        let architecture = match &self.architecture {
            Architecture::Graph(any) => Architecture::Graph(AnyGraph { graph: plan.graph().clone(), ..any.clone() }),
            known => known.clone(),
        };
        Self { architecture, form: Form::Plain, weights, ..self.clone() }
    }

    /// Reads a model file of any kind that [`checkpoint::open`] knows.
    ///
    /// # Errors
    /// As there.
    pub fn load(path: &Path) -> Result<Self> {
        checkpoint::open(path, None).map(|(model, _)| model)
    }

    /// Checks that the network can be given images, not only tensors.
    ///
    /// # Errors
    /// When the preprocessing makes another number of channels than the network reads.
    pub fn check_images(&self) -> Result<()> {
        self.preprocessing.check_channels(self.architecture.input_channels())
    }

    /// Checks what stands beside the weights.
    pub(crate) fn check_document(&self) -> Result<()> {
        self.preprocessing.check()?;
        let classes = self.architecture.classes();
        if !self.labels.is_empty() && self.labels.len() != classes {
            let what = expected(format_args!("{classes} names")).found(self.labels.len());
            return Err(Error::format("repvgg.labels", what));
        }
        Ok(())
    }

    /// Writes the model file: beside its place first, then renamed, so that it is there whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes()?;
        write_atomically(path, |file| file.write_all(&bytes))
    }

    /// The bytes of the model file; the same model gives the same bytes.
    ///
    /// # Errors
    /// When the metadata cannot be expressed.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let metadata = HashMap::from([(KEY.to_owned(), self.document()?)]);
        safetensors::write(&self.weights, Precision::Single, metadata)
    }

    /// Writes the network as ONNX, with labels and preprocessing in its metadata: under `repvgg` the document of a model
    /// file, under `labels` and `preprocessing` these alone.
    ///
    /// # Errors
    /// As [`onnx::write`].
    pub fn save_onnx(&self, path: &Path, options: &onnx::Options) -> Result<()> {
        let mut options = options.clone();
        options.metadata.insert(KEY.to_owned(), self.document()?);
        for (key, value) in [
            ("labels", serde_json::to_string(&self.labels)),
            ("preprocessing", serde_json::to_string(&self.preprocessing)),
        ] {
            let value = value.map_err(|error| Error::format(key, format!("cannot be written as JSON: {error}")))?;
            options.metadata.insert(key.to_owned(), value);
        }
        onnx::write(path, &self.graph()?, &self.weights, &options)
    }

    /// All but the weights, as the document in a file's metadata.
    pub(crate) fn document(&self) -> Result<String> {
        let document = Document {
            version: VERSION,
            form: self.form,
            architecture: self.architecture.clone(),
            labels: self.labels.clone(),
            preprocessing: self.preprocessing.clone(),
            training: self.training.clone(),
        };
        serde_json::to_string(&document)
            .map_err(|error| Error::format("metadata", format!("cannot be written as JSON: {error}")))
    }
}

/// The graph of an architecture in a form.
///
/// # Errors
/// When the architecture cannot be built.
pub(crate) fn graph(architecture: &Architecture, form: Form) -> Result<Graph> {
    let training = architecture.training_graph()?;
    Ok(match (architecture, form) {
        (Architecture::RepVgg(_), Form::Plain) => Plan::new(&training).into_graph(),
        // A graph from elsewhere is what its weights belong to.
        (Architecture::RepVgg(_), Form::Training) | (Architecture::Graph(_), _) => training,
    })
}

impl Document {
    /// The document in a file's metadata, its version looked at before the rest.
    pub(crate) fn read(text: &str) -> Result<Self> {
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

    /// The model that it describes, with its weights.
    pub(crate) fn into_model(self, weights: Weights) -> Model {
        let Self { form, architecture, labels, preprocessing, training, .. } = self;
        Model { architecture, form, weights, labels, preprocessing, training }
    }
}

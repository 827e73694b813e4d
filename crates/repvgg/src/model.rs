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

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::file::{read_bounded, write_atomically};
use crate::fuse::{self, Plan};
use crate::image::Preprocessing;
use crate::zoo::{self, Architecture, Form};
use crate::{Error, ErrorKind, Graph, Result, Tensor, Weights};

/// The key of our document in the file's metadata, and the version of the document.
const KEY: &str = "repvgg";
const VERSION: u64 = 1;

/// The largest model file that is read, in bytes.
const LIMIT: u64 = 16 << 30;

/// The document in the file's metadata: a [`Model`] without its weights.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u64,
    form: Form,
    architecture: Architecture,
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
    /// The graph that the weights belong to.
    ///
    /// # Errors
    /// When the architecture cannot be built.
    pub fn graph(&self) -> Result<Graph> {
        let training = self.architecture.training_graph()?;
        Ok(match self.form {
            Form::Training => training,
            Form::Plain => Plan::new(&training).into_graph(),
        })
    }

    /// The same network in plain form.
    ///
    /// # Errors
    /// When it is plain already, or its weights do not fuse.
    pub fn fuse(&self) -> Result<Self> {
        if self.form == Form::Plain {
            return Err(Error::fuse(self.architecture.name(), "already in plain form, there is nothing to fuse"));
        }
        let weights = fuse::fuse(&self.graph()?, &self.weights)?.weights;
        Ok(Self { form: Form::Plain, weights, ..self.clone() })
    }

    /// Reads a model file. A file without our metadata is understood when its names are RepVGG's official ones.
    ///
    /// # Errors
    /// When the file cannot be read, is not safetensors, or its tensors are not exactly the network's.
    pub fn load(path: &Path) -> Result<Self> {
        let place = || path.display();
        let bytes = read_bounded(path, LIMIT)?;
        // A specification inside a file is data like the rest of it, not a setting of the caller's.
        Self::from_bytes(&bytes).map_err(|error| error.of_kind(ErrorKind::Format).within(place()))
    }

    /// Reads a model from the bytes of a file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let foreign = |error| Error::format("safetensors", format!("expected a whole model file, found {error:?}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(foreign)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(foreign)?;
        let weights = read_weights(&tensors)?;
        let document = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let model = match document {
            Some(document) => Self::new(read_document(document)?, weights),
            None => Self::without_metadata(weights)?,
        };
        model.check()?;
        Ok(model)
    }

    fn new(document: Document, weights: Weights) -> Self {
        let Document { form, architecture, labels, preprocessing, training, .. } = document;
        Self { architecture, form, weights, labels, preprocessing, training }
    }

    fn without_metadata(weights: Weights) -> Result<Self> {
        let (architecture, form) = zoo::infer(&weights)?;
        let preprocessing = Preprocessing::default().for_channels(architecture.input_channels());
        Ok(Self { architecture, form, weights, labels: Vec::new(), preprocessing, training: None })
    }

    /// Checks that the network can be given images, not only tensors.
    ///
    /// # Errors
    /// When the preprocessing makes another number of channels than the network reads.
    pub fn check_images(&self) -> Result<()> {
        self.preprocessing.check_channels(self.architecture.input_channels())
    }

    fn check(&self) -> Result<()> {
        self.weights.check(&self.graph()?)?;
        self.preprocessing.check()?;
        let classes = self.architecture.classes();
        if !self.labels.is_empty() && self.labels.len() != classes {
            return Err(Error::format(
                "repvgg.labels",
                format!("expected {classes} names, found {}", self.labels.len()),
            ));
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
        let document = Document {
            version: VERSION,
            form: self.form,
            architecture: self.architecture.clone(),
            labels: self.labels.clone(),
            preprocessing: self.preprocessing.clone(),
            training: self.training.clone(),
        };
        let document = serde_json::to_string(&document)
            .map_err(|error| Error::format("metadata", format!("cannot be written as JSON: {error}")))?;
        write_safetensors(&self.weights, HashMap::from([(KEY.to_owned(), document)]))
    }
}

/// Our document, its version looked at before the rest.
fn read_document(text: &str) -> Result<Document> {
    let wrong = |error| Error::format("metadata", format!("expected a description of the model, found {error}"));
    let value: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(VERSION) => serde_json::from_value(value).map_err(wrong),
        _ => {
            let found = value.get("version").map_or("none".to_owned(), ToString::to_string);
            Err(Error::format("metadata", format!("expected format version {VERSION}, found {found}")))
        }
    }
}

/// The bytes of a safetensors file; the same input gives the same bytes.
pub fn write_safetensors(weights: &Weights, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let foreign = |error| Error::format("safetensors", format!("cannot be written: {error:?}"));
    let bytes: Vec<(&str, &[usize], Vec<u8>)> = weights
        .iter()
        .map(|(name, tensor)| (name, tensor.shape(), tensor.data().iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views =
        bytes.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(foreign)?;
    safetensors::serialize(views, Some(metadata)).map_err(foreign)
}

/// All floating-point tensors in f32. PyTorch's integer `num_batches_tracked` counters are left out: nothing uses them.
pub fn read_weights(tensors: &SafeTensors<'_>) -> Result<Weights> {
    let mut weights = Weights::new();
    for (name, view) in tensors.iter() {
        if name.ends_with(".num_batches_tracked") {
            continue;
        }
        let data: Vec<f32> = match view.dtype() {
            Dtype::F32 => view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F64 => view.data().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
            other => return Err(Error::format(name, format!("expected F32 or F64, found {other:?}"))),
        };
        weights.insert(name, Tensor::new(view.shape(), data).map_err(|error| error.within(name))?);
    }
    Ok(weights)
}

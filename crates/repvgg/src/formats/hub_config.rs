//! The `config.json` of a model repository: labels and preprocessing.
//!
//! timm keeps its settings in `pretrained_cfg` or, in older files, next to `architecture`:
//!
//! ```json
//! {"architecture": "repvgg_a0", "num_classes": 2, "label_names": ["cat", "dog"],
//!  "pretrained_cfg": {"input_size": [3, 224, 224], "interpolation": "bilinear", "crop_pct": 0.875, "mean": […], "std": […]}}
//! ```
//!
//! transformers stores the labels as `{"id2label": {"0": "cat", "1": "dog"}}`.
//!
//! ```
//! let config = repvgg::formats::hub_config::read(br#"{"architecture": "repvgg_a0", "id2label": {"0": "cat"}}"#).unwrap();
//! assert_eq!(config.labels, ["cat"]);
//! assert_eq!(config.named().unwrap().name(), "repvgg-a0");
//! ```

use serde_json::{Map, Value};

use crate::error::{Problem, expected};
use crate::image::{Interpolation, Preprocessing};
use crate::{Error, ErrorKind, Model, Result, Specification};

const PLACE: &str = "config.json";

/// The contents of a `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct HubConfig {
    /// timm's name of the network, such as `repvgg_a0`.
    pub architecture: Option<String>,
    /// The class names, one per logit; empty if the file has none.
    pub labels: Vec<String>,
    /// The transform from an image to the network's input, with timm's defaults for missing entries; `None` if all are missing.
    pub preprocessing: Option<Preprocessing>,
}

impl HubConfig {
    /// The published network that `architecture` names: `repvgg_a0` is `repvgg-a0`.
    pub fn named(&self) -> Option<Specification> {
        Specification::named(&self.architecture.as_ref()?.replace('_', "-"))
    }

    /// Returns the model with the labels and preprocessing of the file.
    ///
    /// # Errors
    /// When the number of labels is not the number of classes.
    pub fn apply(self, model: Model) -> Result<Model> {
        let mut model = model;
        if !self.labels.is_empty() {
            model.labels = self.labels;
        }
        if let Some(given) = self.preprocessing {
            model.preprocessing = given.for_channels(model.input_channels());
        }
        model.check_annotations().map_err(|error| error.within(PLACE))?;
        Ok(model)
    }
}

/// Reads the bytes of a `config.json`.
///
/// # Errors
/// When the bytes are not JSON, an entry has the wrong type, the preprocessing is unsupported, or the number of labels is
/// not the number of classes.
pub fn read(bytes: &[u8]) -> Result<HubConfig> {
    let root: Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::format(PLACE, expected("a JSON document").found(error)))?;
    let root = root.as_object().ok_or_else(|| wrong(PLACE, "an object", &root))?;
    let settings = match entry(root, "pretrained_cfg") {
        None => root,
        Some(settings) => settings.as_object().ok_or_else(|| wrong("pretrained_cfg", "an object", settings))?,
    };
    Ok(HubConfig {
        architecture: entry(root, "architecture").map(|value| text("architecture", value)).transpose()?,
        labels: labels(root, settings)?,
        preprocessing: preprocessing(settings)?,
    })
}

/// Looks up `key`; `null` counts as missing.
fn entry<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// The class names: timm's, with precedence for entries at the root, or else those of transformers.
fn labels(root: &Map<String, Value>, settings: &Map<String, Value>) -> Result<Vec<String>> {
    let either = |key| entry(root, key).map_or_else(|| entry(settings, key), Some);
    let (key, labels) = if let Some(names) = either("label_names") {
        ("label_names", described(texts("label_names", names)?, either("label_descriptions"))?)
    } else if let Some(names) = either("labels") {
        ("labels", texts("labels", names)?)
    } else if let Some(names) = either("id2label") {
        ("id2label", numbered(names)?)
    } else {
        return Ok(Vec::new());
    };
    if let Some(classes) = either("num_classes") {
        let classes = integer("num_classes", classes)?;
        if classes != labels.len() as u64 {
            return Err(refuse(key, expected(format_args!("{classes} names")).found(labels.len())));
        }
    }
    Ok(labels)
}

/// Replaces `names`, such as WordNet's `n01440764`, with their `descriptions`, such as *tench*.
fn described(mut names: Vec<String>, descriptions: Option<&Value>) -> Result<Vec<String>> {
    let Some(descriptions) = descriptions else { return Ok(names) };
    let place = "label_descriptions";
    let descriptions = descriptions.as_object().ok_or_else(|| wrong(place, "an object", descriptions))?;
    for name in &mut names {
        if let Some(description) = entry(descriptions, name) {
            *name = text(place, description)?;
        }
    }
    Ok(names)
}

/// The values of `{"0": …, "1": …}`, ordered by their keys 0 to N − 1.
fn numbered(value: &Value) -> Result<Vec<String>> {
    let place = "id2label";
    let object = value.as_object().ok_or_else(|| wrong(place, "an object", value))?;
    let mut labels = vec![None; object.len()];
    for (key, label) in object {
        let slot = key.parse().ok().and_then(|index: usize| labels.get_mut(index)).filter(|slot| slot.is_none());
        let Some(slot) = slot else {
            return Err(refuse(place, expected(format_args!("the keys 0 to {}", object.len() - 1)).found(quoted(key))));
        };
        *slot = Some(text(place, label)?);
    }
    Ok(labels.into_iter().flatten().collect())
}

/// The evaluation transform, with timm's defaults for missing entries; `None` if all are missing.
fn preprocessing(settings: &Map<String, Value>) -> Result<Option<Preprocessing>> {
    if !["input_size", "interpolation", "crop_pct", "mean", "std"].iter().any(|key| entry(settings, key).is_some()) {
        return Ok(None);
    }
    let (channels, size) = entry(settings, "input_size").map_or(Ok((3, [224; 2])), input_size)?;
    if let Some(mode) = entry(settings, "crop_mode").filter(|&mode| mode != "center") {
        return Err(wrong("crop_mode", "\"center\"", mode));
    }
    let base = Preprocessing::default();
    let numbers_or = |key, default| entry(settings, key).map_or(Ok(default), |value| numbers(key, value));
    let preprocessing = Preprocessing {
        size,
        crop_fraction: entry(settings, "crop_pct").map_or(Ok(base.crop_fraction), |value| number("crop_pct", value))?,
        interpolation: entry(settings, "interpolation").map_or(Ok(Interpolation::Bicubic), interpolation)?,
        mean: numbers_or("mean", base.mean)?,
        std: numbers_or("std", base.std)?,
    }
    .for_channels(channels);
    let checked = preprocessing.check().and_then(|()| preprocessing.check_channels(channels));
    checked.map_err(|error| error.with_kind(ErrorKind::Format).within(PLACE))?;
    Ok(Some(preprocessing))
}

/// C and `[H, W]` of `[C, H, W]`.
fn input_size(value: &Value) -> Result<(usize, [usize; 2])> {
    let wrong_value = || wrong("input_size", "[channels, height, width]", value);
    let [channels, height, width] = value.as_array().ok_or_else(wrong_value)?.as_slice() else {
        return Err(wrong_value());
    };
    let extent = |value: &Value| value.as_u64().and_then(|extent| usize::try_from(extent).ok()).ok_or_else(wrong_value);
    Ok((extent(channels)?, [extent(height)?, extent(width)?]))
}

fn interpolation(value: &Value) -> Result<Interpolation> {
    match value.as_str() {
        Some("bilinear") => Ok(Interpolation::Bilinear),
        Some("bicubic") => Ok(Interpolation::Bicubic),
        _ => Err(wrong("interpolation", "\"bilinear\" or \"bicubic\"", value)),
    }
}

fn text(place: &str, value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(place, "a string", value))
}

fn texts(place: &str, value: &Value) -> Result<Vec<String>> {
    let values = value.as_array().ok_or_else(|| wrong(place, "a list of strings", value))?;
    values.iter().map(|value| text(place, value)).collect()
}

fn integer(place: &str, value: &Value) -> Result<u64> {
    value.as_u64().ok_or_else(|| wrong(place, "an integer", value))
}

fn number(place: &str, value: &Value) -> Result<f32> {
    value.as_f64().map(|number| number as f32).ok_or_else(|| wrong(place, "a number", value))
}

fn numbers(place: &str, value: &Value) -> Result<Vec<f32>> {
    let values = value.as_array().ok_or_else(|| wrong(place, "a list of numbers", value))?;
    values.iter().map(|value| number(place, value)).collect()
}

/// The error for an entry of the wrong type or value.
fn wrong(place: &str, required: &str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => quoted(value),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(_) => "an object".into(),
    };
    refuse(place, expected(required).found(found))
}

/// The beginning of `text`, quoted, on one line.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

fn refuse(place: &str, problem: Problem) -> Error {
    let error = Error::format(PLACE, problem.clone());
    if place == PLACE { error } else { Error::format(place, problem).within(PLACE) }
}

#[cfg(test)]
mod tests;

//! From an ONNX file's graph to a model: a known network where it is one, its own graph where it is not.

use super::names::Named;
use super::{Container, Origin, Stored};
use crate::check::renamed;
use crate::error::expected;
use crate::fuse::Plan;
use crate::image::Preprocessing;
use crate::model::{self, Model};
use crate::onnx::Onnx;
use crate::zoo::{self, AnyGraph, Architecture, Form};
use crate::{Error, Result, Weights};

/// The model in an ONNX file. Labels and preprocessing come from our own metadata, if it has them.
///
/// # Errors
/// When it was said to be another network, or its metadata do not suit it.
pub(super) fn model(file: Onnx, named: Option<&Architecture>) -> Result<(Model, Origin)> {
    let document = file.metadata.get(model::KEY).map(|text| model::Document::read(text)).transpose()?;
    let described = document.as_ref().map(|document| (document.architecture.clone(), document.form));
    let inferred = inferred(&file.weights);
    let origin = Origin { container: Container::Onnx, names: inferred.as_ref().and_then(|(_, names)| *names) };
    let known = inferred.map(|(known, _)| known);
    let wanted = named.into_iter().flat_map(|named| [Form::Plain, Form::Training].map(|form| (named.clone(), form)));
    let candidates = match named {
        Some(_) => wanted.collect::<Vec<_>>(),
        None => described.into_iter().chain(known).collect(),
    };
    let found = candidates.into_iter().find_map(|(architecture, form)| {
        let weights = renamed(&model::graph(&architecture, form).ok()?, &file.graph, &file.weights)?;
        Some((architecture, form, weights))
    });
    let (architecture, form, weights) = match (found, named) {
        (Some(found), _) => found,
        (None, Some(named)) => {
            let what = expected(format_args!("the graph of {}", named.name())).found("another one");
            return Err(Error::format("architecture", what));
        }
        (None, None) => {
            let form = if Plan::new(&file.graph).is_plain() { Form::Plain } else { Form::Training };
            let size = file.size.map_or(Preprocessing::default().size, |[height, width]| height.min(width));
            let any = AnyGraph { name: "onnx".to_owned(), size, graph: file.graph };
            (Architecture::Graph(any), form, file.weights)
        }
    };
    let channels = architecture.input_channels();
    let model = match document {
        Some(document) => Model { architecture, form, ..document.into_model(weights) },
        None => {
            let default = Preprocessing::default();
            let size = file.size.map_or(default.size, |[height, width]| height.min(width));
            let preprocessing = Preprocessing { size, ..default }.for_channels(channels);
            Model { architecture, form, weights, labels: Vec::new(), preprocessing, training: None }
        }
    };
    model.check_document()?;
    Ok((model, origin))
}

/// The RepVGG that the names and shapes of parameters speak of, if they do, and whose names they are.
fn inferred(weights: &Weights) -> Option<((Architecture, Form), Option<super::Dialect>)> {
    let tensors = weights.iter().map(|(name, tensor)| (name.to_owned(), Stored::Float(tensor.clone())));
    let named = Named::translated(tensors.collect()).ok()?;
    Some((zoo::infer(&named.weights).ok()?, named.dialect))
}

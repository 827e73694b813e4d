//! Files written by other programs. The network is inferred from the names and shapes of its parameters.

use super::claim::{Strides, reconcile};
use super::names::NamedTensors;
use super::{Dialect, Stored};
use crate::image::Preprocessing;
use crate::model::{Architecture, Form, Model};
use crate::weights::Shapes;
use crate::zoo::{self, RepVgg};
use crate::{Error, ErrorKind, Result, Specification, Weights};

/// Builds the model of a file that holds only tensors. `claimed` is the specification that the caller expects.
///
/// # Errors
/// When no network has exactly these parameters, more than one has, or the network is not the claimed one.
pub(super) fn open_tensors(
    tensors: Vec<(String, Stored)>,
    claimed: Option<&Specification>,
) -> Result<(Model, Option<Dialect>)> {
    let (tensors, network) = recognise(tensors, claimed)?;
    let size = network.specification.as_ref().map_or(Preprocessing::default().size, Specification::image_size);
    let dialect = tensors.dialect;
    let weights = tensors.into_parameters(&network.graph)?;
    Ok((network.into_model(weights, size), dialect))
}

/// Finds the network whose parameters have these names and shapes: a RepVGG, or another network of the zoo.
fn recognise(tensors: Vec<(String, Stored)>, claimed: Option<&Specification>) -> Result<(NamedTensors, Architecture)> {
    let tensors = NamedTensors::translated(tensors)?;
    if let Some(claimed) = claimed.filter(|claimed| !claimed.is_inferred()) {
        let tensors = tensors.unwrapped();
        let specification = claimed.clone().adapted_to(&tensors.weights.shapes());
        return Ok((tensors, Architecture::new(specification, Form::Training)?));
    }
    match (zoo::infer(&tensors.weights.shapes()), claimed) {
        (Ok((spec, form)), Some(claimed)) => {
            let specification = reconcile(&spec.into(), claimed, Strides::Assumed)?;
            Ok((tensors, Architecture::new(specification, form)?))
        }
        (Ok((spec, form)), None) => Ok((tensors, Architecture::new(spec.into(), form)?)),
        (Err(error), Some(_)) => Err(tensors.with_file_names(error)),
        (Err(error), None) => {
            let error = tensors.with_file_names(error);
            let tensors = tensors.unwrapped();
            let mut known = zoo::matching(&tensors.weights.shapes());
            if known.len() > 1 {
                let names = known.iter().map(Specification::name).collect::<Vec<_>>().join(", ");
                let problem = format!("ambiguous: the parameters of {names} have the same names and shapes");
                return Err(Error::new(ErrorKind::Ambiguous, problem).within("architecture"));
            }
            match known.pop() {
                Some(specification) => Ok((tensors, Architecture::new(specification, Form::Training)?)),
                None => Err(error),
            }
        }
    }
}

/// A RepVGG inferred from the names and shapes of its parameters.
pub(super) struct Inferred {
    pub(super) spec: RepVgg,
    pub(super) form: Form,
    pub(super) dialect: Option<Dialect>,
}

/// Infers a RepVGG from the names and shapes of its parameters; `None` if they are not those of a RepVGG.
pub(super) fn infer_repvgg(weights: &Weights) -> Option<Inferred> {
    let shapes = weights.shapes();
    let dialect = Dialect::of(shapes.keys().map(String::as_str));
    let official = |name: String| dialect.and_then(|dialect| dialect.official(&name)).unwrap_or(name);
    let count = shapes.len();
    let shapes: Shapes = shapes.into_iter().map(|(name, shape)| (official(name), shape)).collect();
    if shapes.len() != count {
        return None;
    }
    let (spec, form) = zoo::infer(&shapes).ok()?;
    Some(Inferred { spec, form, dialect })
}

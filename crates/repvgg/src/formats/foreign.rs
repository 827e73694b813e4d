//! Files written by other programs. The network is inferred from the names and shapes of its parameters.

use super::claim::{Strides, reconcile};
use super::dialect::{is_mobileone, mobileone};
use super::names::NamedTensors;
use super::prefix::{self, Tensors};
use super::{Dialect, OpenOptions};
use crate::error::expected;
use crate::model::{Architecture, Form, Model};
use crate::weights::Shapes;
use crate::zoo::{self, RepVgg};
use crate::{Error, ErrorKind, Result, Specification, Weights};

/// The model of a file that holds only tensors.
pub(super) struct Recognised {
    pub(super) model: Model,
    /// The dialect of the parameter names, if it is a RepVGG.
    pub(super) dialect: Option<Dialect>,
    /// The prefix of the parameter names; empty if the network is the whole file.
    pub(super) prefix: String,
    /// The names of the tensors that are not part of the network.
    pub(super) unused: Vec<String>,
}

/// Builds the model of a file that holds only tensors.
///
/// # Errors
/// When no network has exactly these parameters, more than one has, or the network is not the claimed one.
pub(super) fn open_tensors(tensors: Tensors, options: &OpenOptions) -> Result<Recognised> {
    let claimed = options.architecture.as_ref();
    let prefix = match &options.weights {
        Some(wanted) => wanted_prefix(&tensors, wanted)?,
        None if fits(&prefix::shapes_under(&tensors, ""), claimed) => String::new(),
        None => prefix::locate(&tensors, |shapes| fits(shapes, claimed))?.unwrap_or_default(),
    };
    let (tensors, unused) = prefix::split(tensors, &prefix);
    let (tensors, network) = recognise(tensors, claimed)?;
    let network = match options.epsilon {
        Some(epsilon) => network.with_epsilon(epsilon)?,
        None => network,
    };
    let size = network.image_size();
    let dialect = tensors.dialect;
    let weights = tensors.into_parameters(&network.graph)?;
    Ok(Recognised { model: network.into_model(weights, size), dialect, prefix, unused })
}

/// The prefix that the caller names, with or without the last dot.
fn wanted_prefix(tensors: &Tensors, wanted: &str) -> Result<String> {
    let prefix = if wanted.is_empty() || wanted.ends_with('.') { wanted.to_owned() } else { format!("{wanted}.") };
    if tensors.iter().any(|(name, _)| name.starts_with(&prefix)) {
        return Ok(prefix);
    }
    let problem = expected("a prefix of the names in the file").found(wanted);
    let example = tensors.first().map(|(name, _)| name.as_str()).unwrap_or_default();
    Err(Error::spec("weights", problem.with_hint(format_args!("its first name is {example}"))))
}

/// Whether tensors of these names and shapes are exactly the parameters of a network.
fn fits(shapes: &Shapes, claimed: Option<&Specification>) -> bool {
    if let Some(claimed) = claimed.filter(|claimed| !claimed.is_inferred()) {
        let graph = claimed.clone().adapted_to(shapes).training_graph();
        return graph.is_ok_and(|graph| zoo::has_parameters(&graph, shapes));
    }
    let dialect = Dialect::of(shapes.keys().map(String::as_str));
    let official = |name: &String| dialect.and_then(|dialect| dialect.official(name)).unwrap_or_else(|| name.clone());
    let translated: Shapes = shapes.iter().map(|(name, shape)| (official(name), shape.clone())).collect();
    match zoo::infer(&translated) {
        Ok((spec, form)) => {
            let network = Architecture::new(spec.into(), form);
            network.is_ok_and(|network| zoo::has_parameters(&network.graph, &translated))
        }
        Err(error) if error.is_ambiguous() => true,
        Err(_) if is_mobileone(shapes.keys().map(String::as_str)) => {
            let shapes = shapes.iter().map(|(name, shape)| (mobileone(name), shape.clone())).collect();
            claimed.is_none() && !zoo::matching(&shapes).is_empty()
        }
        Err(_) => claimed.is_none() && !zoo::matching(shapes).is_empty(),
    }
}

/// Finds the network whose parameters have these names and shapes: a RepVGG, or another network of the zoo.
fn recognise(tensors: Tensors, claimed: Option<&Specification>) -> Result<(NamedTensors, Architecture)> {
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
        (Err(error), _) if error.is_ambiguous() => Err(error),
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

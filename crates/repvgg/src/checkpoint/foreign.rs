//! Files of other programs: the network is inferred from names, shapes and graphs.

use super::document::Document;
use super::names::Named;
use super::{Container, Dialect, Origin, Stored};
use crate::error::expected;
use crate::fuse::Plan;
use crate::image::Preprocessing;
use crate::model::{Form, Model, Network};
use crate::onnx::Onnx;
use crate::weights::Shapes;
use crate::zoo::{self, RepVgg};
use crate::{Error, ErrorKind, Graph, Result, Specification, Weights};

/// Whether the strides of a network are known: a file of weights does not show them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strides {
    Known,
    Assumed,
}

/// The model of tensors that nothing describes. `claimed` is what the caller says it is.
///
/// # Errors
/// When no network has exactly these parameters, several have, or the network is not what the caller says.
pub(super) fn open_tensors(
    tensors: Vec<(String, Stored)>,
    claimed: Option<&Specification>,
) -> Result<(Model, Option<Dialect>)> {
    let (tensors, network) = recognise(tensors, claimed)?;
    let size = network.specification.as_ref().map_or(Preprocessing::default().size, Specification::image_size);
    let dialect = tensors.dialect;
    let weights = tensors.account(&network.graph)?;
    Ok((network.into_model(weights, size), dialect))
}

/// The network whose parameters have these names and shapes: a RepVGG, or one of the zoo's other networks.
fn recognise(tensors: Vec<(String, Stored)>, claimed: Option<&Specification>) -> Result<(Named, Network)> {
    let tensors = Named::translated(tensors)?;
    if let Some(claimed) = claimed.filter(|claimed| !claimed.is_inferred()) {
        let tensors = tensors.unwrapped();
        let network = trained(claimed.clone().suited_to(&tensors.weights.shapes()))?;
        return Ok((tensors, network));
    }
    match (zoo::infer(&tensors.weights.shapes()), claimed) {
        (Ok((spec, form)), Some(claimed)) => {
            let agreed = agree(&spec.into(), claimed, Strides::Assumed)?;
            Ok((tensors, Network::new(agreed, form)?))
        }
        (Ok((spec, form)), None) => Ok((tensors, Network::new(spec.into(), form)?)),
        (Err(error), Some(_)) => Err(tensors.spelled(error)),
        (Err(error), None) => {
            let error = tensors.spelled(error);
            let tensors = tensors.unwrapped();
            let mut known = zoo::known(&tensors.weights.shapes());
            if known.len() > 1 {
                let names = known.iter().map(Specification::name).collect::<Vec<_>>().join(", ");
                let problem = format!("ambiguous: the parameters of {names} have the same names and shapes");
                return Err(Error::new(ErrorKind::Ambiguous, problem).within("architecture"));
            }
            match known.pop() {
                Some(specification) => Ok((tensors, trained(specification)?)),
                None => Err(error),
            }
        }
    }
}

/// The network as it is trained, which is its plain form where nothing can be fused.
fn trained(specification: Specification) -> Result<Network> {
    let network = Network::new(specification, Form::Training)?;
    let is_repvgg = network.specification.as_ref().is_some_and(|known| known.repvgg().is_some());
    let is_plain = !is_repvgg && Plan::new(&network.graph).is_plain();
    Ok(Network { form: if is_plain { Form::Plain } else { Form::Training }, ..network })
}

/// The RepVGG that a file has, with the name and the strides of the one that the caller says it is.
///
/// # Errors
/// When their layers differ, or strides that are known.
pub(super) fn agree(found: &Specification, claimed: &Specification, strides: Strides) -> Result<Specification> {
    let (Some(spec), Some(other)) = (found.repvgg(), claimed.repvgg()) else {
        return Err(disagreement(["another graph", "its own graph"].map(str::to_owned), found.name(), claimed));
    };
    if let Some(difference) = spec.differs_from(other) {
        return Err(disagreement(difference, found.name(), claimed));
    }
    if strides == Strides::Known && spec.strides != other.strides {
        let difference = [spec.strides, other.strides].map(|strides| format!("strides {strides:?}"));
        return Err(disagreement(difference, found.name(), claimed));
    }
    let (name, strides) = (other.name.clone(), other.strides);
    Ok(RepVgg { name, strides, ..spec.clone() }.into())
}

/// The specification of a network given as its graph, if it is the one that the caller says, for any number of classes.
///
/// # Errors
/// When the graph is none of its forms.
pub(super) fn identify(network: &Network, claimed: &Specification) -> Result<Specification> {
    let graph = &network.graph;
    let parameters: Shapes = graph.parameters().map(|(name, parameter)| (name, parameter.shape)).collect();
    let suited = match network.form {
        Form::Training => Ok(claimed.clone().suited_to(&parameters)),
        // The auxiliary heads of the training form are gone.
        Form::Plain => claimed.clone().with_classes(graph.classes()),
    };
    let is_form_of = |training: Graph| {
        *graph == training
            || *graph == training.inference()
            || (network.form == Form::Plain && graph == Plan::new(&training).graph())
    };
    match suited {
        Ok(suited) if suited.training_graph().is_ok_and(is_form_of) => Ok(suited),
        _ => Err(disagreement(["another graph", "its own graph"].map(str::to_owned), &network.name, claimed)),
    }
}

fn disagreement([found, due]: [String; 2], name: &str, claimed: &Specification) -> Error {
    let expected = expected(format_args!("{} with {due}", claimed.name()));
    Error::format("architecture", expected.found(format_args!("{name} with {found}")))
}

/// The model in an ONNX file: a known network where its graph is one, else its own graph. Labels and preprocessing come
/// from our own metadata, if it has them.
///
/// # Errors
/// When the network is not what the caller says, or the metadata do not suit it.
pub(super) fn open_onnx(file: Onnx, claimed: Option<&Specification>) -> Result<(Model, Origin)> {
    let document = Document::find(&file.metadata)?;
    let inferred = inferred(&file.weights);
    let origin = Origin { container: Container::Onnx, names: inferred.as_ref().and_then(|inferred| inferred.dialect) };
    let candidates: Vec<Network> = match claimed {
        Some(claimed) => {
            let forms = [Form::Plain, Form::Training].into_iter();
            forms.filter_map(|form| Network::new(claimed.clone(), form).ok()).collect()
        }
        None => {
            let described = document.as_ref().and_then(|document| document.network(None).ok());
            let known = inferred.and_then(|inferred| Network::new(inferred.spec.into(), inferred.form).ok());
            described.into_iter().chain(known).collect()
        }
    };
    let renamed = |network: Network| Some((network.graph.renaming_from(&file.graph)?, network));
    let (network, weights) = match (candidates.into_iter().find_map(renamed), claimed) {
        (Some((names, network)), _) => {
            let missing = || Error::weights("onnx", "a parameter of the graph is missing");
            (network, file.weights.renamed(names).ok_or_else(missing)?)
        }
        (None, Some(claimed)) => {
            let problem = expected(format_args!("the graph of {}", claimed.name())).found("another one");
            return Err(Error::format("architecture", problem));
        }
        (None, None) => (Network::of_graph("onnx".to_owned(), file.graph), file.weights),
    };
    let size = file.size.map_or(Preprocessing::default().size, |[height, width]| height.min(width));
    let model = match document {
        Some(document) => document.into_model(network, weights),
        None => network.into_model(weights, size),
    };
    model.check_annotations()?;
    Ok((model, origin))
}

/// What the names and shapes of parameters say.
struct Inferred {
    spec: RepVgg,
    form: Form,
    dialect: Option<Dialect>,
}

/// The RepVGG with parameters of these names and shapes, if they are a RepVGG's.
fn inferred(weights: &Weights) -> Option<Inferred> {
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

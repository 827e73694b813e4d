//! What the caller says a network is, against what its file says.

use crate::error::expected;
use crate::fuse::Fusion;
use crate::model::{Form, Network};
use crate::weights::Shapes;
use crate::zoo::RepVgg;
use crate::{Error, Graph, Result, Specification};

/// Whether the strides of a network are known: a file of weights does not show them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strides {
    Known,
    Assumed,
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
            || (network.form == Form::Plain && graph == Fusion::new(&training).graph())
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

//! Checks the network of a file against the specification that the caller claims.

use crate::error::expected;
use crate::fuse::Fusion;
use crate::model::{Architecture, Form};
use crate::weights::Shapes;
use crate::zoo::RepVgg;
use crate::{Error, Graph, Result, Specification};

/// Whether the strides of a network, and ε of its batch norms, are known. Weights alone do not reveal them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strides {
    Known,
    Assumed,
}

/// Checks that the RepVGG found in a file is the claimed one. Returns it with the claimed name and strides, and with the claimed ε
/// unless the file states its own.
///
/// # Errors
/// When the layers differ, or the strides are known and differ.
pub(super) fn reconcile(found: &Specification, claimed: &Specification, strides: Strides) -> Result<Specification> {
    let (Some(spec), Some(other)) = (found.repvgg(), claimed.repvgg()) else {
        return Err(mismatch(["another graph", "its own graph"].map(str::to_owned), found.name(), claimed));
    };
    if let Some(difference) = spec.differs_from(other) {
        return Err(mismatch(difference, found.name(), claimed));
    }
    if strides == Strides::Known && spec.strides != other.strides {
        let difference = [spec.strides, other.strides].map(|strides| format!("strides {strides:?}"));
        return Err(mismatch(difference, found.name(), claimed));
    }
    let eps = if strides == Strides::Known { spec.eps } else { other.eps };
    Ok(RepVgg { name: other.name.clone(), strides: other.strides, eps, ..spec.clone() }.into())
}

/// Checks that the graph of `network` is a form of the claimed one. Returns `claimed` with the network's number of classes.
///
/// # Errors
/// When the graph is no form of the claimed network.
pub(super) fn identify(network: &Architecture, claimed: &Specification) -> Result<Specification> {
    let graph = &network.graph;
    let parameters: Shapes = graph.parameters().map(|(name, parameter)| (name, parameter.shape)).collect();
    let suited = match network.form {
        Form::Training => Ok(claimed.clone().adapted_to(&parameters)),
        // A plain form has no auxiliary heads.
        Form::Plain => claimed.clone().with_classes(graph.classes()),
    };
    let is_form_of = |training: Graph| {
        *graph == training
            || *graph == training.inference()
            || (network.form == Form::Plain && graph == Fusion::new(&training).graph())
    };
    match suited {
        Ok(suited) if suited.training_graph().is_ok_and(is_form_of) => Ok(suited),
        _ => Err(mismatch(["another graph", "its own graph"].map(str::to_owned), &network.name, claimed)),
    }
}

fn mismatch([found, required]: [String; 2], name: &str, claimed: &Specification) -> Error {
    let expected = expected(format_args!("{} with {required}", claimed.name()));
    Error::format("architecture", expected.found(format_args!("{name} with {found}")))
}

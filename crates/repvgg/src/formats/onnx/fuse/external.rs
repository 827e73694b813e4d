//! Constants in files next to a model that is fused.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::proto;
use super::super::read::parts::external_bytes;
use super::edit::{Edit, Nested};
use crate::error::expected;
use crate::{Error, Result};

/// The files that the edited model refers to.
pub(super) fn files(edit: &Edit, graph: &proto::Graph) -> Vec<String> {
    let kept = graph.initializer.iter().enumerate().filter(|(index, _)| !edit.initializers.contains_key(index));
    let external = kept.map(|(_, tensor)| tensor).filter(|tensor| tensor.data_location == proto::EXTERNAL);
    let locations = external.flat_map(|tensor| &tensor.external_data).filter(|entry| entry.key == "location");
    locations.map(|entry| entry.value.clone()).collect::<BTreeSet<String>>().into_iter().collect()
}

/// Takes the remaining external constants into the model; returns their number.
///
/// # Errors
/// When one cannot be read, or an attribute refers to a file.
pub(super) fn inline(
    edit: &mut Edit,
    graph: &proto::Graph,
    nested: &Nested,
    folder: Option<&Path>,
    bytes: usize,
) -> Result<usize> {
    if nested.is_external {
        let problem = expected("external data of initializers alone, or an output in the model's folder");
        return Err(Error::format("onnx", problem.found("external data of an attribute")));
    }
    let mut external: Vec<usize> = (0..graph.initializer.len()).collect();
    external.retain(|index| {
        graph.initializer[*index].data_location == proto::EXTERNAL && !edit.initializers.contains_key(index)
    });
    let tensors: Vec<&proto::Tensor> = external.iter().map(|&index| &graph.initializer[index]).collect();
    for (index, data) in external.iter().zip(external_bytes(&tensors, folder, bytes)?) {
        let tensor = &graph.initializer[*index];
        let raw_data = data.into();
        let inlined = proto::Tensor { raw_data, external_data: Vec::new(), data_location: 0, ..tensor.clone() };
        edit.initializers.insert(*index, Some(inlined));
    }
    Ok(external.len())
}

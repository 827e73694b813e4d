//! Inputs of pictures' bytes: with the evaluation transform inside as this crate writes it, or as plain numbers.

use std::collections::{BTreeMap, HashSet};

use super::value::{Binding, Data, NCHW};
use super::{Reader, constant, proto};
use crate::error::expected;
use crate::formats::onnx::proto::data_type;
use crate::formats::onnx::write;
use crate::image::Preprocessing;
use crate::{Error, Result};

/// The key of the evaluation transform in the file's metadata.
const KEY: &str = "preprocessing";

impl<'m> Reader<'m> {
    /// Whether the graph reads bytes.
    pub(super) fn reads_bytes(&self, graph: &proto::Graph) -> bool {
        let input = graph.input.iter().find(|input| !self.values.contains_key(input.name.as_str()));
        let kind = input.and_then(|input| input.kind.as_ref()).and_then(|kind| kind.tensor.as_ref());
        kind.is_some_and(|kind| kind.elem_type == data_type::UINT8)
    }

    /// Reads the transformed image in place of the graph's input, if the file begins with the evaluation transform that its
    /// metadata states, node by node as this crate writes it. Returns the nodes of the transform, which are not read.
    ///
    /// # Errors
    /// When the metadata states a transform that the nodes are not.
    pub(super) fn read_transform(
        &mut self,
        graph: &'m proto::Graph,
        metadata: &BTreeMap<String, String>,
    ) -> Result<HashSet<&'m str>> {
        let Some(text) = metadata.get(KEY) else { return Ok(HashSet::new()) };
        let refuse = |found: String| {
            Error::format(
                format_args!("metadata {KEY}"),
                expected("the transform that the file begins with").found(found),
            )
        };
        let settings: Preprocessing = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let (transform, value) = write::transform(&settings, self.opset)?;
        for constant in &transform.initializer {
            let own = graph.initializer.iter().find(|own| own.name == constant.name);
            let own = own.ok_or_else(|| refuse(format!("no constant {}", constant.name)))?;
            let mut decoded = |tensor| constant::decode(tensor, &mut self.external, &mut self.budget);
            match (decoded(own), decoded(constant)) {
                (Ok(own), Ok(constant)) if own.shape == constant.shape && own.values == constant.values => {}
                _ => return Err(refuse(format!("another constant {}", constant.name))),
            }
        }
        let mut names = HashSet::new();
        let mut transformed = None;
        for node in &transform.node {
            let own = graph.node.iter().find(|own| own.name == node.name && *own == node);
            let own = own.ok_or_else(|| refuse(format!("no such node {}", node.name)))?;
            names.insert(own.name.as_str());
            transformed = own.output.iter().find(|output| **output == value).or(transformed);
        }
        let transformed = transformed.ok_or_else(|| refuse(format!("no value {value}")))?;
        let size = settings.size;
        self.size = Some(size);
        self.drafts.input("input".to_owned(), settings.channels(), size.map(Some));
        self.values.insert(transformed, Binding::Data(Data::new(0, NCHW)));
        Ok(names)
    }
}

//! The graph of a file under construction.

use std::borrow::Cow;
use std::collections::HashSet;

use half::f16;

use super::super::proto::{self, attribute_kind, data_type};
use super::initializer::{Elements, Initializer};
use super::value_info::{Extent, value_info};
use super::{Precision, WriteOptions};
use crate::error::expected;
use crate::{Error, Graph, Result, Tensor};

/// The latest format in which constants must be listed among the graph's inputs.
const CONSTANTS_ARE_INPUTS: i64 = 3;

/// Collects nodes and constants. Every value has a unique name.
pub(super) struct Builder<'a> {
    pub(super) opset: i64,
    precision: Precision,
    taken: HashSet<String>,
    nodes: Vec<proto::Node>,
    initializers: Vec<Initializer<'a>>,
    input: Option<proto::ValueInfo>,
    output: Option<proto::ValueInfo>,
}

impl<'a> Builder<'a> {
    /// An empty graph in which the names of parameters, input and output are reserved.
    pub(super) fn new(graph: &Graph, options: &WriteOptions) -> Self {
        let reserved = ["input", "image", "logits"].map(str::to_owned);
        Self {
            opset: options.opset,
            precision: options.precision,
            taken: graph.parameters().map(|(name, _)| name).chain(reserved).collect(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            input: None,
            output: None,
        }
    }

    /// Declares the network's input as that of the graph.
    pub(super) fn network_input(&mut self, channels: usize) -> String {
        let extents =
            [Extent::Named("batch"), Extent::Known(channels), Extent::Named("height"), Extent::Named("width")];
        self.input("input", data_type::FLOAT, &extents)
    }

    /// Declares the graph's input; returns its name.
    pub(super) fn input(&mut self, name: &str, element: i32, extents: &[Extent<'_>]) -> String {
        self.input = Some(value_info(name, element, extents));
        name.to_owned()
    }

    /// Declares the graph's output.
    pub(super) fn output(&mut self, name: &str, extents: &[Extent<'_>]) {
        self.output = Some(value_info(name, data_type::FLOAT, extents));
    }

    /// An unused name: `preferred`, with a number if it is taken.
    fn unique(&mut self, preferred: &str) -> String {
        let numbered = (1..).map(|number| format!("{preferred}_{number}"));
        let free = std::iter::once(preferred.to_owned()).chain(numbered).find(|name| !self.taken.contains(name));
        let free = free.expect("the counter is unbounded");
        self.taken.insert(free.clone());
        free
    }

    /// Adds a node; returns the name of its value, which is that of the node.
    pub(super) fn node(
        &mut self,
        name: &str,
        op_type: &str,
        inputs: &[&str],
        attributes: Vec<proto::Attribute>,
    ) -> String {
        let value = self.unique(name);
        self.node_for(name, op_type, &value, inputs, attributes);
        value
    }

    /// Adds a node that computes the value called `value`.
    pub(super) fn node_for(
        &mut self,
        name: &str,
        op_type: &str,
        value: &str,
        inputs: &[&str],
        attribute: Vec<proto::Attribute>,
    ) {
        self.nodes.push(proto::Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![value.to_owned()],
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            attribute,
            domain: String::new(),
        });
    }

    /// Adds a parameter with the given shape under its own name; returns the name of its value in single precision.
    pub(super) fn parameter(&mut self, name: &str, tensor: &'a Tensor, shape: &[usize]) -> Result<String> {
        let elements = match self.precision {
            Precision::Single => Elements::F32(Cow::Borrowed(tensor.data())),
            Precision::Half => Elements::F16(halves(name, tensor.data())?),
        };
        self.initializers.push(Initializer { name: name.to_owned(), shape: shape.to_vec(), elements });
        Ok(match self.precision {
            Precision::Single => name.to_owned(),
            Precision::Half => self.cast(&format!("{name}.f32"), name, data_type::FLOAT),
        })
    }

    /// Adds a node that converts to another element type.
    pub(super) fn cast(&mut self, name: &str, value: &str, element: i32) -> String {
        self.node(name, "Cast", &[value], vec![int("to", i64::from(element))])
    }

    /// Adds a constant that is not a parameter.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> String {
        self.constant(name, shape, Elements::F32(Cow::Owned(values)))
    }

    /// Adds a list of integers.
    pub(super) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(name, &[values.len()], Elements::I64(values.to_vec()))
    }

    fn constant(&mut self, name: &str, shape: &[usize], elements: Elements<'a>) -> String {
        let name = self.unique(name);
        self.initializers.push(Initializer { name: name.clone(), shape: shape.to_vec(), elements });
        name
    }

    /// The graph without the initializers, and the initializers.
    pub(super) fn finish(self, ir_version: i64) -> (proto::Graph, Vec<Initializer<'a>>) {
        let mut input: Vec<proto::ValueInfo> = self.input.into_iter().collect();
        if ir_version <= CONSTANTS_ARE_INPUTS {
            input.extend(self.initializers.iter().map(Initializer::value_info));
        }
        let graph = proto::Graph {
            node: self.nodes,
            name: "network".to_owned(),
            initializer: Vec::new(),
            input,
            output: self.output.into_iter().collect(),
        };
        (graph, self.initializers)
    }
}

/// Rounds values to half precision.
fn halves(name: &str, values: &[f32]) -> Result<Vec<f16>> {
    let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
    match halves.iter().zip(values).find(|(half, _)| !half.is_finite()) {
        None => Ok(halves),
        Some((_, x)) => Err(Error::weights(
            name,
            expected(format_args!("values of at most {} for half precision", f16::MAX)).found(x),
        )),
    }
}

fn attribute(name: &str, kind: i32) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), kind, ..proto::Attribute::default() }
}

/// An attribute that is an integer.
pub(super) fn int(name: &str, value: i64) -> proto::Attribute {
    proto::Attribute { i: Some(value), ..attribute(name, attribute_kind::INT) }
}

/// An attribute that is a list of extents.
pub(super) fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> proto::Attribute {
    integers(name, &values.into_iter().map(|value| value as i64).collect::<Vec<_>>())
}

/// An attribute that is a list of integers.
pub(super) fn integers(name: &str, values: &[i64]) -> proto::Attribute {
    proto::Attribute { ints: values.to_vec(), ..attribute(name, attribute_kind::INTS) }
}

/// An attribute that is a number.
pub(super) fn float(name: &str, value: f32) -> proto::Attribute {
    proto::Attribute { f: Some(value), ..attribute(name, attribute_kind::FLOAT) }
}

/// An attribute that is text.
pub(super) fn text(name: &str, value: &'static str) -> proto::Attribute {
    let s = Some(prost::bytes::Bytes::from_static(value.as_bytes()));
    proto::Attribute { s, ..attribute(name, attribute_kind::STRING) }
}

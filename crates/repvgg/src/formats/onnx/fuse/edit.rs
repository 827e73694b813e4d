//! Edits a file by its fields: everything that is not replaced is copied as it is.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost::Message;

use super::super::proto::{self, attribute_kind, data_type};
use super::super::wire::{self, Piece};
use super::Plan;
use crate::error::expected;
use crate::graph::Op;
use crate::{Error, Result, Weights};

/// The numbers of fields in ONNX's messages.
mod field {
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const MODEL_TRAINING: u64 = 20;
    pub(super) const GRAPH_NODE: u64 = 1;
    pub(super) const GRAPH_INITIALIZER: u64 = 5;
    pub(super) const GRAPH_INPUT: u64 = 11;
    pub(super) const GRAPH_OUTPUT: u64 = 12;
    pub(super) const GRAPH_VALUE_INFO: u64 = 13;
    pub(super) const NODE_INPUT: u64 = 1;
    pub(super) const NODE_ATTRIBUTE: u64 = 5;
    pub(super) const ATTRIBUTE_TENSOR: u64 = 5;
    pub(super) const ATTRIBUTE_GRAPH: u64 = 6;
    pub(super) const ATTRIBUTE_TENSORS: u64 = 10;
    pub(super) const ATTRIBUTE_GRAPHS: u64 = 11;
    pub(super) const VALUE_NAME: u64 = 1;
    pub(super) const TENSOR_NAME: u64 = 8;
    pub(super) const TENSOR_LOCATION: u64 = 14;
}

/// The most graphs inside each other.
const DEEPEST: usize = 16;

/// What graphs inside the attributes of nodes need.
#[derive(Debug, Default)]
pub(super) struct Nested {
    /// The names that they read or define.
    pub(super) reads: HashSet<String>,
    /// Whether an attribute holds a tensor in another file.
    pub(super) is_external: bool,
}

impl Nested {
    /// Looks through all nodes of a file.
    ///
    /// # Errors
    /// When there are several graphs, graphs for training, or too many inside each other.
    pub(super) fn of(bytes: &[u8]) -> Result<Self> {
        let mut nested = Self::default();
        let model = wire::pieces(bytes)?;
        if model.iter().any(|piece| piece.number == field::MODEL_TRAINING) {
            return Err(Error::format("onnx", expected("a model for inference").found("one that holds its training")));
        }
        let graphs: Vec<&Piece<'_>> = model.iter().filter(|piece| piece.number == field::MODEL_GRAPH).collect();
        let [graph] = graphs.as_slice() else {
            return Err(Error::format("onnx", expected("one graph").found(graphs.len())));
        };
        for piece in wire::pieces(graph.content)?.iter().filter(|piece| piece.number == field::GRAPH_NODE) {
            nested.read_attributes(piece.content, 0)?;
        }
        Ok(nested)
    }

    fn read_attributes(&mut self, node: &[u8], depth: usize) -> Result<()> {
        for attribute in wire::pieces(node)?.iter().filter(|piece| piece.number == field::NODE_ATTRIBUTE) {
            for piece in wire::pieces(attribute.content)? {
                match piece.number {
                    field::ATTRIBUTE_GRAPH | field::ATTRIBUTE_GRAPHS => self.read_graph(piece.content, depth + 1)?,
                    field::ATTRIBUTE_TENSOR | field::ATTRIBUTE_TENSORS => self.read_tensor(piece.content)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn read_graph(&mut self, graph: &[u8], depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::format(
                "onnx",
                expected(format_args!("at most {DEEPEST} graphs inside each other")).found("more"),
            ));
        }
        for piece in wire::pieces(graph)? {
            match piece.number {
                field::GRAPH_NODE => {
                    for input in wire::pieces(piece.content)?.iter().filter(|piece| piece.number == field::NODE_INPUT) {
                        self.reads.insert(text(input.content));
                    }
                    self.read_attributes(piece.content, depth)?;
                }
                field::GRAPH_INITIALIZER => self.read_tensor(piece.content)?,
                field::GRAPH_INPUT | field::GRAPH_OUTPUT => {
                    self.reads.extend(name(piece.content, field::VALUE_NAME)?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_tensor(&mut self, tensor: &[u8]) -> Result<()> {
        for piece in wire::pieces(tensor)? {
            match piece.number {
                field::TENSOR_LOCATION => self.is_external |= piece.value == proto::EXTERNAL as u64,
                field::TENSOR_NAME => {
                    self.reads.insert(text(piece.content));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name in a field of a message.
fn name(message: &[u8], number: u64) -> Result<Option<String>> {
    Ok(wire::pieces(message)?.iter().find(|piece| piece.number == number).map(|piece| text(piece.content)))
}

/// What changes in a file.
pub(super) struct Edit {
    /// The nodes that take the place of a node of the file; none if it is dropped.
    nodes: BTreeMap<usize, Vec<proto::Node>>,
    /// The initializers that take the place of one of the file; `None` if it is dropped.
    pub(super) initializers: BTreeMap<usize, Option<proto::Tensor>>,
    added: Vec<proto::Tensor>,
    /// The names in use.
    names: HashSet<String>,
    /// The values that no longer exist.
    gone: HashSet<String>,
}

impl Edit {
    pub(super) fn new(graph: &proto::Graph, nested: &Nested) -> Self {
        let values = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output));
        let given = graph.initializer.iter().map(|tensor| &tensor.name);
        let described = graph.input.iter().chain(&graph.output).map(|value| &value.name);
        Self {
            nodes: BTreeMap::new(),
            initializers: BTreeMap::new(),
            added: Vec::new(),
            names: values.chain(given).chain(described).chain(&nested.reads).cloned().collect(),
            gone: HashSet::new(),
        }
    }

    /// Replaces the nodes of a region.
    ///
    /// # Errors
    /// When a fused parameter is missing.
    pub(super) fn replace(&mut self, plan: &Plan<'_>, graph: &proto::Graph, fused: &Weights) -> Result<()> {
        for &index in &plan.nodes {
            self.nodes.insert(index, Vec::new());
            self.gone.extend(graph.node[index].output.iter().filter(|value| *value != plan.output).cloned());
        }
        let name = &plan.region.name;
        let weight = fused.require(&format!("{name}.weight"))?;
        let bias = fused.require(&format!("{name}.bias"))?;
        let constant = |edit: &mut Self, suffix: &str, shape: &[usize], values: Vec<f32>| {
            edit.constant(&format!("{name}.{suffix}"), shape, &values, plan.element)
        };
        let bias_name = constant(self, "bias", bias.shape(), bias.data().to_vec());
        let nodes = match plan.region.op {
            Op::Linear(_) if plan.is_gemm(graph) => {
                let weight = constant(self, "weight", weight.shape(), weight.data().to_vec());
                vec![node(name, "Gemm", [plan.source, &weight, &bias_name], plan.output, vec![integer("transB", 1)])]
            }
            Op::Linear(layer) => {
                let transposed = (0..weight.data().len()).map(|place| {
                    weight.data()[place % layer.out_features * layer.in_features + place / layer.out_features]
                });
                let shape = [layer.in_features, layer.out_features];
                let weight = constant(self, "weight", &shape, transposed.collect());
                let product = self.unique(&format!("{name}.product"));
                let output = match &plan.view {
                    Some(view) => graph.node[view.input].output[0].as_str(),
                    None => plan.output,
                };
                vec![
                    node(&format!("{name}.product"), "MatMul", [plan.source, &weight], &product, Vec::new()),
                    node(name, "Add", [&product, &bias_name], output, Vec::new()),
                ]
            }
            _ => {
                let weight = constant(self, "weight", weight.shape(), weight.data().to_vec());
                vec![node(name, "Conv", [plan.source, &weight, &bias_name], plan.output, window(plan))]
            }
        };
        match &plan.view {
            None => {
                self.nodes.insert(plan.place, nodes);
            }
            Some(view) => {
                self.gone.remove(&graph.node[view.input].output[0]);
                self.nodes.insert(view.input, nodes);
                let output = vec![plan.output.to_owned()];
                self.nodes.insert(view.node, vec![proto::Node { output, ..graph.node[view.node].clone() }]);
            }
        }
        Ok(())
    }

    fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        let mut number = 1;
        while !self.names.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}_{number}");
        }
        unique
    }

    /// Adds an initializer; returns its name.
    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32], element: i32) -> String {
        let name = self.unique(name);
        let bytes: Vec<u8> = match element {
            data_type::FLOAT16 => values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        self.added.push(proto::Tensor {
            dims: shape.iter().map(|&extent| extent as i64).collect(),
            data_type: element,
            name: name.clone(),
            raw_data: bytes.into(),
            ..proto::Tensor::default()
        });
        name
    }

    /// Drops the constants that only replaced nodes read.
    pub(super) fn drop_unread(&mut self, graph: &proto::Graph, constants: &HashSet<usize>, nested: &Nested) {
        let emitted: Vec<proto::Node> = self.nodes.values().flatten().cloned().collect();
        let mut reads: HashMap<&str, usize> = HashMap::new();
        for node in graph.node.iter().chain(&emitted) {
            node.input.iter().for_each(|name| *reads.entry(name).or_default() += 1);
        }
        let results = graph.output.iter().map(|output| output.name.as_str());
        results.chain(nested.reads.iter().map(String::as_str)).for_each(|name| *reads.entry(name).or_default() += 1);
        let producers: HashMap<&str, usize> = constants
            .iter()
            .flat_map(|&index| graph.node[index].output.iter().map(move |value| (value.as_str(), index)))
            .collect();
        let mut unread = HashSet::new();
        let mut dropped: Vec<usize> = self.nodes.keys().copied().collect();
        while let Some(index) = dropped.pop() {
            for name in &graph.node[index].input {
                let left = reads.get_mut(name.as_str()).expect("every input is counted");
                *left -= 1;
                if *left == 0 {
                    unread.insert(name.as_str());
                    if let Some(&producer) = producers.get(name.as_str()) {
                        self.nodes.insert(producer, Vec::new());
                        self.gone.insert(name.clone());
                        dropped.push(producer);
                    }
                }
            }
        }
        let tensors = graph.initializer.iter().enumerate().filter(|(_, tensor)| unread.contains(tensor.name.as_str()));
        self.initializers.extend(tensors.map(|(index, _)| (index, None)));
    }

    /// The number of nodes afterwards.
    pub(super) fn node_count(&self, graph: &proto::Graph) -> usize {
        graph.node.len() - self.nodes.len() + self.nodes.values().map(Vec::len).sum::<usize>()
    }

    /// The number of convolutions before and after.
    pub(super) fn convolutions(&self, graph: &proto::Graph) -> [usize; 2] {
        let is_conv = |node: &&proto::Node| node.op_type == "Conv" && matches!(node.domain.as_str(), "" | "ai.onnx");
        let kept = graph.node.iter().enumerate().filter(|(index, _)| !self.nodes.contains_key(index));
        let kept = kept.map(|(_, node)| node).chain(self.nodes.values().flatten());
        [graph.node.iter().filter(is_conv).count(), kept.filter(is_conv).count()]
    }

    /// The number of floating-point constants before and after.
    pub(super) fn parameters(&self, graph: &proto::Graph) -> [u64; 2] {
        let is_float =
            |kind: i32| matches!(kind, data_type::FLOAT | data_type::FLOAT16 | data_type::DOUBLE | data_type::BFLOAT16);
        let count = |tensor: &proto::Tensor| match is_float(tensor.data_type) {
            true => tensor.dims.iter().map(|&dim| dim.max(0) as u64).fold(1, u64::saturating_mul),
            false => 0,
        };
        let before: u64 = graph.initializer.iter().map(count).fold(0, u64::saturating_add);
        let kept = graph.initializer.iter().enumerate();
        let kept = kept
            .filter(|(index, _)| self.initializers.get(index).is_none_or(Option::is_some))
            .map(|(_, tensor)| tensor);
        [before, kept.chain(&self.added).map(count).fold(0, u64::saturating_add)]
    }

    /// The bytes of the edited file.
    ///
    /// # Errors
    /// When the result exceeds the 2 GiB that readers accept.
    pub(super) fn apply(&self, bytes: &[u8], graph: &proto::Graph) -> Result<Vec<u8>> {
        const LONGEST: usize = i32::MAX as usize;
        let mut file = Vec::with_capacity(bytes.len());
        for piece in wire::pieces(bytes)? {
            match piece.number {
                field::MODEL_GRAPH => wire::push(&mut file, piece.number, &self.graph(piece.content, graph)?),
                _ => file.extend_from_slice(piece.whole),
            }
        }
        if file.len() > LONGEST {
            return Err(Error::spec(
                "onnx",
                expected("a model of at most 2 GiB").found(format_args!("{} bytes", file.len())),
            ));
        }
        Ok(file)
    }

    fn graph(&self, bytes: &[u8], graph: &proto::Graph) -> Result<Vec<u8>> {
        let dropped: HashSet<&str> = self
            .initializers
            .iter()
            .filter(|(_, tensor)| tensor.is_none())
            .map(|(&index, _)| graph.initializer[index].name.as_str())
            .collect();
        let lists_constants = graph.input.iter().any(|input| dropped.contains(input.name.as_str()));
        let mut edited = Vec::with_capacity(bytes.len());
        let (mut node, mut initializer) = (0, 0);
        for piece in wire::pieces(bytes)? {
            match piece.number {
                field::GRAPH_NODE => {
                    match self.nodes.get(&node) {
                        Some(nodes) => {
                            nodes.iter().for_each(|node| wire::push(&mut edited, piece.number, &node.encode_to_vec()))
                        }
                        None => edited.extend_from_slice(piece.whole),
                    }
                    node += 1;
                }
                field::GRAPH_INITIALIZER => {
                    match self.initializers.get(&initializer) {
                        Some(Some(tensor)) => wire::push(&mut edited, piece.number, &tensor.encode_to_vec()),
                        Some(None) => {}
                        None => edited.extend_from_slice(piece.whole),
                    }
                    initializer += 1;
                }
                field::GRAPH_INPUT | field::GRAPH_VALUE_INFO => {
                    let name = name(piece.content, field::VALUE_NAME)?.unwrap_or_default();
                    if !dropped.contains(name.as_str()) && !self.gone.contains(&name) {
                        edited.extend_from_slice(piece.whole);
                    }
                }
                _ => edited.extend_from_slice(piece.whole),
            }
        }
        for tensor in &self.added {
            wire::push(&mut edited, field::GRAPH_INITIALIZER, &tensor.encode_to_vec());
            if lists_constants {
                wire::push(&mut edited, field::GRAPH_INPUT, &described(tensor).encode_to_vec());
            }
        }
        Ok(edited)
    }
}

/// A constant's description, for files that list constants among the inputs.
fn described(tensor: &proto::Tensor) -> proto::ValueInfo {
    let dim = tensor.dims.iter().map(|&value| proto::Dimension { value: Some(value), name: None }).collect();
    let tensor_type = proto::TensorType { elem_type: tensor.data_type, shape: Some(proto::Shape { dim }) };
    proto::ValueInfo { name: tensor.name.clone(), kind: Some(proto::Type { tensor: Some(tensor_type) }) }
}

fn node<const N: usize>(
    name: &str,
    op_type: &str,
    inputs: [&str; N],
    output: &str,
    attribute: Vec<proto::Attribute>,
) -> proto::Node {
    proto::Node {
        input: inputs.map(str::to_owned).to_vec(),
        output: vec![output.to_owned()],
        name: name.to_owned(),
        op_type: op_type.to_owned(),
        attribute,
        domain: String::new(),
    }
}

/// The attributes of a region's convolution.
fn window(plan: &Plan<'_>) -> Vec<proto::Attribute> {
    let geometry = &plan.region.geometry;
    let extents = |pair: [usize; 2]| pair.map(|extent| extent as i64);
    let pads = |end: usize| [0, 1].map(|axis| (geometry.padding[axis] + plan.padding[axis][end]) as i64);
    vec![
        integers("dilations", &extents(geometry.dilation)),
        integer("group", geometry.groups as i64),
        integers("kernel_shape", &extents(geometry.kernel)),
        integers("pads", &[pads(0), pads(1)].concat()),
        integers("strides", &extents(geometry.stride)),
    ]
}

fn integer(name: &str, value: i64) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), i: Some(value), kind: attribute_kind::INT, ..proto::Attribute::default() }
}

fn integers(name: &str, values: &[i64]) -> proto::Attribute {
    proto::Attribute {
        name: name.to_owned(),
        ints: values.to_vec(),
        kind: attribute_kind::INTS,
        ..proto::Attribute::default()
    }
}

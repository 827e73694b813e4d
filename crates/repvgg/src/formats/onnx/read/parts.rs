//! The linear parts of any file, as one graph. Whatever else the file holds is cut out: the values that it computes are inputs
//! of the graph, the values that it reads are outputs.
//!
//! A value of four axes has its channels on the second, rows of features on the last. A convolution or a batch norm that reads
//! or computes a value states its channels; a value of unknown channels might broadcast, so no sum or factor of it is linear.

mod arithmetic;
mod fold;
mod layers;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::ptr;
use std::rc::Rc;

use super::budget::Budget;
use super::constant::Constant;
use super::external::External;
use super::order::order;
use super::value::Binding;
use super::{Failure, ReadResult, Reader, is_own_domain, place, proto, short};
use crate::error::expected;
use crate::formats::onnx::proto::data_type;
use crate::fuse::Obstacle;
use crate::graph::{Graph, NodeId, Op};
use crate::{Error, Result, Tensor, Weights};

/// Where the channels of a value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Layout {
    /// On the second of four axes.
    Map,
    /// On the last axis.
    Row,
}

/// The file's counterpart of a node of the graph.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Origin<'m> {
    /// The index of the file's node; `None` for an input.
    pub(in super::super) node: Option<usize>,
    /// The value that it computes.
    pub(in super::super) value: &'m str,
    /// The element type of a layer's weights.
    pub(in super::super) element: i32,
}

/// The linear parts of a file.
pub(in super::super) struct Parts<'m> {
    /// Its inputs are the values that other operators compute, its outputs those that they read.
    pub(in super::super) graph: Graph,
    pub(in super::super) weights: Weights,
    /// One for each node of the graph.
    pub(in super::super) origins: Vec<Origin<'m>>,
    /// Nodes that exist only together with their reader: they share one node of the file.
    pub(in super::super) inner: HashSet<NodeId>,
    /// Nodes that only merge the axes before the features of rows.
    pub(in super::super) views: HashSet<NodeId>,
    /// Convolutions and batch norms that stay as they are, and the reasons.
    pub(in super::super) obstacles: Vec<Obstacle>,
    /// The file's nodes with constant values.
    pub(in super::super) constants: HashSet<usize>,
}

/// Finds the linear parts of `file`. `nested` are the values that graphs inside its nodes read.
///
/// # Errors
/// When the nodes form a cycle, two compute the same value, or a layer's bias is not constant.
pub(in super::super) fn parts<'m>(
    model: &'m proto::Model,
    file: &'m proto::Graph,
    nested: &HashSet<String>,
    folder: Option<&'m Path>,
    bytes: usize,
) -> Result<Parts<'m>> {
    let opset = super::opset(model)?;
    let reader = Reader::new(file, opset, External::new(folder), Budget::new(bytes))?;
    let mut finder = Finder::new(reader, file, model.ir_version);
    let nodes = order(file)?;
    let indices: HashMap<*const proto::Node, usize> =
        file.node.iter().enumerate().map(|(index, node)| (ptr::from_ref(node), index)).collect();
    let nodes: Vec<(usize, &proto::Node)> =
        nodes.into_iter().map(|node| (indices[&ptr::from_ref(node)], node)).collect();
    nodes.iter().for_each(|&(index, node)| finder.fold(index, node));
    nodes.iter().for_each(|(_, node)| finder.read_dependence(node));
    nodes.iter().rev().for_each(|(_, node)| finder.read_matrix(node));
    nodes.iter().for_each(|(_, node)| finder.read_channels(node));
    for &(index, node) in &nodes {
        finder.node(index, node)?;
    }
    Ok(finder.finish(file, nested))
}

/// A value that the graph computes.
#[derive(Debug, Clone, Copy)]
struct Known {
    node: NodeId,
    layout: Layout,
    channels: usize,
    /// Whether it has two axes, which are those of both layouts.
    is_matrix: bool,
}

/// The search for linear nodes.
struct Finder<'m> {
    reader: Reader<'m>,
    parts: Parts<'m>,
    values: HashMap<&'m str, Known>,
    inputs: HashMap<(&'m str, Layout), NodeId>,
    /// The channels of values, where a layer that reads or computes them states them.
    channels: HashMap<(&'m str, Layout), usize>,
    /// Values that have two axes because a `Gemm` reads or computes them.
    matrices: HashSet<&'m str>,
    /// Values that depend on an input of the file.
    dependent: HashSet<&'m str>,
    /// How often the graph reads each of its values.
    reads: HashMap<&'m str, usize>,
    /// The element types of constants.
    elements: HashMap<&'m str, i32>,
    names: HashSet<String>,
    producers: HashMap<&'m str, &'m proto::Node>,
}

impl<'m> Finder<'m> {
    fn new(mut reader: Reader<'m>, file: &'m proto::Graph, ir_version: i64) -> Self {
        // A caller may replace the value of an initializer that is also an input. Before version 4, all are inputs.
        const INITIALIZERS_MAY_BE_INPUTS: i64 = 4;
        if ir_version >= INITIALIZERS_MAY_BE_INPUTS {
            for input in &file.input {
                reader.values.remove(input.name.as_str());
            }
        }
        let elements = file.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor.data_type)).collect();
        let outputs = |node: &'m proto::Node| node.output.iter().map(move |value| (value.as_str(), node));
        let parts = Parts {
            graph: Graph::new(),
            weights: Weights::new(),
            origins: Vec::new(),
            inner: HashSet::new(),
            views: HashSet::new(),
            obstacles: Vec::new(),
            constants: HashSet::new(),
        };
        Self {
            reader,
            parts,
            values: HashMap::new(),
            inputs: HashMap::new(),
            channels: HashMap::new(),
            matrices: HashSet::new(),
            dependent: file.input.iter().map(|input| input.name.as_str()).collect(),
            reads: HashMap::new(),
            elements,
            names: HashSet::new(),
            producers: file.node.iter().flat_map(outputs).collect(),
        }
    }

    /// Notes the values that have two axes. Readers come before the nodes that compute their inputs.
    fn read_matrix(&mut self, node: &'m proto::Node) {
        let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else { return };
        match node.op_type.as_str() {
            _ if !is_own_domain(&node.domain) => {}
            "Gemm" => self.matrices.extend([input.as_str(), output]),
            "BatchNormalization" | "Dropout" | "Identity" if self.matrices.contains(output.as_str()) => {
                self.matrices.insert(input);
            }
            _ => {}
        }
    }

    /// Notes the channels that a layer's weights state for the value that it reads.
    fn read_channels(&mut self, node: &'m proto::Node) {
        let Some(value) = node.input.first().filter(|_| is_own_domain(&node.domain)) else { return };
        let shape = node.input.get(1).and_then(|name| self.constant_shape(name)).unwrap_or_default();
        let (layout, channels) = match (node.op_type.as_str(), shape.as_slice()) {
            ("Conv", &[_, per_group, _, _]) => {
                (Layout::Map, usize::try_from(node.int("group", 1)).ok().and_then(|group| group.checked_mul(per_group)))
            }
            ("BatchNormalization", &[channels]) => (Layout::Map, Some(channels)),
            ("MatMul", &[features, _]) => (Layout::Row, Some(features)),
            ("Gemm", &[rows, columns]) => (Layout::Row, Some(if node.int("transB", 0) == 0 { rows } else { columns })),
            _ => return,
        };
        if let Some(channels) = channels.filter(|&channels| channels > 0) {
            let layout = if self.matrices.contains(value.as_str()) { Layout::Row } else { layout };
            self.channels.entry((value, layout)).or_insert(channels);
        }
    }

    fn constant_shape(&self, name: &str) -> Option<Vec<usize>> {
        match self.reader.values.get(name)? {
            Binding::Initializer(tensor) => tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect(),
            Binding::Constant(constant) => Some(constant.shape.clone()),
            _ => None,
        }
    }

    fn is_constant(&self, name: &str) -> bool {
        matches!(self.reader.values.get(name), Some(Binding::Initializer(_) | Binding::Constant(_)))
    }

    /// Adds a node of the file to the graph if it is linear.
    fn node(&mut self, index: usize, node: &'m proto::Node) -> Result<()> {
        let is_single = node.output.iter().filter(|name| !name.is_empty()).count() == 1;
        if !is_single || !is_own_domain(&node.domain) || self.parts.constants.contains(&index) {
            return Ok(());
        }
        match self.linear(index, node) {
            Ok(_) => Ok(()),
            Err(Failure::Node(error) | Failure::Upstream(error)) if error.is_fuse() => Err(error.within(place(node))),
            Err(Failure::Node(error) | Failure::Upstream(error)) => {
                let name = node.title().to_owned();
                self.parts.obstacles.push(Obstacle { sum: name.clone(), by: name, why: error.to_string() });
                Ok(())
            }
        }
    }

    /// Adds a linear node; returns whether it is one. The reason why a convolution or a batch norm is none is an error.
    fn linear(&mut self, index: usize, node: &'m proto::Node) -> ReadResult<bool> {
        match node.op_type.as_str() {
            "Conv" => self.convolution(index, node).map(|()| true),
            "BatchNormalization" => self.batch_norm(index, node).map(|()| true),
            "MatMul" => self.mat_mul(index, node),
            "Gemm" => self.gemm(index, node),
            "AveragePool" => self.average_pool(index, node),
            "Flatten" | "Reshape" => self.view(index, node),
            "Pad" => self.pad(index, node),
            "Identity" | "Dropout" | "Neg" => self.identity(index, node),
            "Add" | "Sub" | "Mul" | "Div" | "Sum" => self.arithmetic(index, node),
            _ => Ok(false),
        }
    }

    /// The node that computes a value and its channels, where these are known; an input if the graph does not compute it.
    fn operand(&mut self, name: &'m str, layout: Layout) -> Option<(NodeId, usize)> {
        match self.values.get(name) {
            Some(known) if known.layout == layout || known.is_matrix => return Some((known.node, known.channels)),
            _ if self.is_constant(name) || name.is_empty() => return None,
            _ => {}
        }
        let channels = *self.channels.get(&(name, layout))?;
        if let Some(&input) = self.inputs.get(&(name, layout)) {
            return Some((input, channels));
        }
        let origin = Origin { node: None, value: name, element: 0 };
        let input = self.add(name, Op::Input { channels }, &[], origin);
        self.inputs.insert((name, layout), input);
        Some((input, channels))
    }

    /// The layout that all of these values have, if the graph knows one.
    fn layout(&self, names: &[&'m str]) -> Option<Layout> {
        let computed: Vec<Layout> =
            names.iter().filter_map(|name| self.values.get(name)).map(|known| known.layout).collect();
        match computed.split_first() {
            Some((&first, rest)) => rest.iter().all(|&layout| layout == first).then_some(first),
            None => [Layout::Map, Layout::Row]
                .into_iter()
                .find(|&layout| names.iter().all(|&name| self.channels.contains_key(&(name, layout)))),
        }
    }

    /// Adds a node under an unused name that begins with `name`.
    fn add(&mut self, name: &str, op: Op, inputs: &[NodeId], origin: Origin<'m>) -> NodeId {
        let mut unique = short(name).to_owned();
        let mut number = 1;
        while !self.names.insert(unique.clone()) {
            number += 1;
            unique = format!("{}_{number}", short(name));
        }
        self.parts.origins.push(origin);
        self.parts.graph.add(unique, op, inputs)
    }

    /// Adds the node that computes the value of the file's node.
    fn commit(&mut self, index: usize, node: &'m proto::Node, op: Op, step: Step<'_>) -> ReadResult<NodeId> {
        op.check()?;
        let value = node.output[0].as_str();
        let id = self.add(node.title(), op, step.inputs, Origin { node: Some(index), value, element: step.element });
        for (suffix, tensor) in step.parameters {
            let name = format!("{}.{suffix}", self.parts.graph.node(id).name);
            self.parts.weights.insert(name, tensor);
        }
        let Step { layout, channels, is_matrix, .. } = step;
        self.values.insert(value, Known { node: id, layout, channels, is_matrix });
        self.channels.entry((value, layout)).or_insert(channels);
        let graph = &self.parts.graph;
        let shared = |id: NodeId| if self.parts.inner.contains(&id) { graph.node(id).inputs[0] } else { id };
        let read: Vec<NodeId> = step.inputs.iter().map(|&id| shared(id)).collect();
        for name in &node.input {
            // A value of the other layout is an input of the graph.
            if self.values.get(name.as_str()).is_some_and(|known| read.contains(&known.node)) {
                *self.reads.entry(name).or_default() += 1;
            }
        }
        Ok(id)
    }

    /// A node that shares the file's node with the one that reads it.
    fn add_inner(&mut self, index: usize, node: &'m proto::Node, op: Op, input: NodeId) -> NodeId {
        let origin = Origin { node: Some(index), value: "", element: 0 };
        let id = self.add(&format!("{}.inner", node.title()), op, &[input], origin);
        self.parts.inner.insert(id);
        id
    }

    /// The constant at `index` of a layer's inputs.
    fn constant(&mut self, node: &'m proto::Node, index: usize, what: &str) -> ReadResult<Rc<Constant>> {
        let name = Reader::name(node, index).ok_or_else(|| expected(what).found("none"))?;
        if !self.is_constant(name) {
            let found = match self.producers.get(name) {
                Some(producer) => {
                    format!("{:?}, which {} ({}) computes", short(name), producer.title(), short(&producer.op_type))
                }
                None => format!("{:?}, which is an input", short(name)),
            };
            return Err(expected(format_args!("constant {what}")).found(found).into());
        }
        self.reader.constant(node, index)
    }

    /// The bias of a layer. One that depends on an input is an error of the file.
    fn bias(&mut self, node: &'m proto::Node) -> ReadResult<Option<Rc<Constant>>> {
        let Some(name) = Reader::name(node, 2) else { return Ok(None) };
        match self.constant(node, 2, "bias") {
            Err(Failure::Node(error)) if self.producers.contains_key(name) && self.dependent.contains(name) => {
                let problem = error.to_string();
                Err(Failure::Node(Error::new(crate::ErrorKind::Fuse, problem)))
            }
            constant => constant.map(Some),
        }
    }

    /// The element type of the constant at `index`, if it is one that a fused layer can have.
    fn element(&self, node: &proto::Node, index: usize) -> ReadResult<i32> {
        let element = node.input.get(index).and_then(|name| self.elements.get(name.as_str())).copied().unwrap_or(0);
        match element {
            data_type::FLOAT | data_type::FLOAT16 => Ok(element),
            other => {
                Err(expected("weights of type float32 or float16").found(format_args!("element type {other}")).into())
            }
        }
    }

    /// Declares the values that anything else reads outputs of the graph.
    fn finish(mut self, file: &'m proto::Graph, nested: &HashSet<String>) -> Parts<'m> {
        // A view keeps the name of what it reads, so its shape can be read further on.
        let views = self.parts.views.iter().map(|&view| self.parts.graph.node(view).inputs[0]);
        let viewed: HashSet<&str> = views.map(|id| self.parts.origins[id.index()].value).collect();
        let mut uses: HashMap<&str, usize> = HashMap::new();
        for node in &file.node {
            let is_shape = node.op_type == "Shape" && is_own_domain(&node.domain);
            for name in node.input.iter().filter(|name| !is_shape || !viewed.contains(name.as_str())) {
                *uses.entry(name).or_default() += 1;
            }
        }
        let results: HashSet<&str> = file.output.iter().map(|output| output.name.as_str()).collect();
        let mut values: Vec<(&str, NodeId)> = self.values.iter().map(|(name, known)| (*name, known.node)).collect();
        values.sort_by_key(|(_, node)| *node);
        for (name, node) in values {
            let read = self.reads.get(name).copied().unwrap_or(0);
            if results.contains(name) || nested.contains(name) || uses.get(name).copied().unwrap_or(0) > read {
                self.parts.graph.output(name, node);
            }
        }
        self.parts
    }
}

/// A node's inputs, parameters and result.
struct Step<'a> {
    inputs: &'a [NodeId],
    layout: Layout,
    channels: usize,
    is_matrix: bool,
    /// The element type of a layer's weights; 0 for other nodes.
    element: i32,
    parameters: Vec<(&'static str, Tensor)>,
}

/// The bytes of constants in other files.
///
/// # Errors
/// When one cannot be read.
pub(in super::super) fn external_bytes(
    tensors: &[&proto::Tensor],
    folder: Option<&Path>,
    bytes: usize,
) -> Result<Vec<Vec<u8>>> {
    let (mut external, mut budget) = (External::new(folder), Budget::new(bytes));
    let read = |tensor: &&proto::Tensor| {
        let stated =
            tensor.external_data.iter().find(|entry| entry.key == "length").and_then(|entry| entry.value.parse().ok());
        let width = element_width(tensor.data_type);
        let elements =
            tensor.dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?));
        let length = stated.or_else(|| elements?.checked_mul(width?));
        let length = length.ok_or_else(|| expected("external data of a stated length").found("none").into());
        length.and_then(|length| external.read(&tensor.external_data, length, &mut budget)).map_err(
            |failure: Failure| {
                let (Failure::Node(error) | Failure::Upstream(error)) = failure;
                error.within(short(&tensor.name)).within("onnx")
            },
        )
    };
    tensors.iter().map(read).collect()
}

/// The bytes of an element, for types that other files hold.
fn element_width(element: i32) -> Option<usize> {
    match element {
        data_type::FLOAT | data_type::INT32 => Some(4),
        data_type::DOUBLE | data_type::INT64 => Some(8),
        data_type::FLOAT16 | data_type::BFLOAT16 => Some(2),
        data_type::UINT8 | data_type::INT8 | data_type::BOOL => Some(1),
        _ => None,
    }
}

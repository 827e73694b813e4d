//! Reads ONNX: translates the nodes of a file, in order, into nodes of a graph.
//!
//! Values of a file are arrays of any rank; values of a graph are `[C, H, W]`. Each value therefore records the meaning of its
//! axes, and an operator is interpreted by the axes that it works on, whatever their order. If a node cannot be read, neither
//! can its readers. That is an error only if the main output needs them.

mod activation;
mod arithmetic;
mod attributes;
mod branch;
mod broadcast;
mod budget;
mod channels;
mod constant;
mod convolution;
mod draft;
mod elementwise;
mod external;
mod fold;
mod input;
mod linear;
mod operator;
mod order;
pub(super) mod parts;
mod pattern;
mod pool;
mod reduce;
mod resize;
mod shape;
mod slice;
mod transform;
mod value;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter;
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use super::{proto, wire};
use crate::error::{Problem, expected};
use crate::{Error, ErrorKind, Graph, Result, Weights};
use budget::Budget;
use constant::Constant;
use draft::Drafts;
use external::External;
use value::{Binding, Data};

/// The first supported version of the operators: earlier ones state shapes and padding differently.
const OLDEST_OPSET: i64 = 6;

/// A network from an ONNX file.
#[derive(Debug, Clone)]
pub struct Onnx {
    /// The network. Its first output, `main`, is the first output of the file.
    pub graph: Graph,
    /// Its parameters.
    pub weights: Weights,
    /// Height and width of the images in pixels, if the file fixes them.
    pub size: Option<[usize; 2]>,
    /// What the input holds.
    pub pixels: Pixels,
    /// The file's metadata properties.
    pub metadata: BTreeMap<String, String>,
}

const WITHOUT_TRANSFORM: &str =
    "the file reads bytes: export the network without what prepares the image, which `repvgg` does outside it";

/// The numbers that a network reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// Those of a prepared image.
    Prepared,
    /// A picture's bytes, as numbers from 0 to 255: the file declares bytes and normalises them itself.
    Bytes,
}

/// The reason why a node cannot be read.
#[derive(Debug, Clone)]
enum Failure {
    /// An error of the node itself.
    Node(Error),
    /// The error of an earlier node that it needs.
    Upstream(Error),
}

impl<P: Into<Problem>> From<P> for Failure {
    fn from(problem: P) -> Self {
        Self::Node(Error::new(ErrorKind::Format, problem))
    }
}

type ReadResult<T> = Result<T, Failure>;

/// Reads a model. `folder` holds its external data, which is refused if there is no folder.
///
/// # Errors
/// When the bytes are not an ONNX model of opset 6 or later, or a node that the main output needs has no equivalent among our
/// operations; the error names the node.
pub fn read(bytes: impl Into<Bytes>, folder: Option<&Path>) -> Result<Onnx> {
    let bytes: Bytes = bytes.into();
    wire::check(&bytes)?;
    let budget = Budget::new(bytes.len());
    let model = proto::Model::decode(bytes);
    let model = model.map_err(|error| Error::format("onnx", expected("a complete ONNX file").found(error)))?;
    let opset = opset(&model)?;
    let graph = model.graph.as_ref().ok_or_else(|| Error::format("onnx", expected("a graph").found("none")))?;
    let metadata = model.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    let mut reader = Reader::new(graph, opset, External::new(folder), budget)?;
    let (mut pixels, mut done) = (Pixels::Prepared, HashSet::new());
    if reader.reads_bytes(graph) {
        done = reader.read_transform(graph, &metadata)?;
        pixels = if done.is_empty() { Pixels::Bytes } else { Pixels::Prepared };
    }
    if done.is_empty() {
        reader.read_input(graph)?;
    }
    for node in order::order(graph)?.into_iter().filter(|node| !done.contains(node.name.as_str())) {
        reader.read_node(node);
    }
    let outputs = reader.outputs(graph).map_err(|error| match pixels {
        Pixels::Bytes => error.with_hint(WITHOUT_TRANSFORM),
        Pixels::Prepared => error,
    })?;
    let size = reader.size;
    let (graph, weights) = reader.drafts.finish(outputs);
    weights.check(&graph).map_err(|error| error.within("onnx"))?;
    if let Some(size) = size {
        graph.shapes(size).map_err(|error| error.within("onnx"))?;
    }
    Ok(Onnx { graph, weights, size, pixels, metadata })
}

/// The version of ONNX's own operators.
fn opset(model: &proto::Model) -> Result<i64> {
    let own = model.opset_import.iter().find(|set| is_own_domain(&set.domain));
    let version = own.map(|set| set.version);
    match version {
        Some(version) if version >= OLDEST_OPSET => Ok(version),
        found => {
            let found = found.map_or("none".to_owned(), |version| version.to_string());
            Err(Error::format("onnx", expected(format_args!("an opset of at least {OLDEST_OPSET}")).found(found)))
        }
    }
}

fn is_own_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// A node, as the place of an error.
fn place(node: &proto::Node) -> String {
    format!("node {} ({})", node.title(), short(&node.op_type))
}

/// Truncates a name, so that copies of a long one cannot exhaust memory.
fn short(name: &str) -> &str {
    const LONGEST: usize = 256;
    &name[..name.floor_char_boundary(LONGEST)]
}

/// The state of the translation.
struct Reader<'m> {
    opset: i64,
    drafts: Drafts,
    values: HashMap<&'m str, Binding<'m>>,
    /// The number of nodes and outputs that read each value.
    uses: HashMap<&'m str, usize>,
    /// The batch size, if the file fixes it.
    batch: Option<usize>,
    size: Option<[usize; 2]>,
    external: External<'m>,
    budget: Budget,
}

impl<'m> Reader<'m> {
    fn new(graph: &'m proto::Graph, opset: i64, external: External<'m>, budget: Budget) -> Result<Self> {
        let mut uses = HashMap::new();
        let outputs = graph.output.iter().map(|output| output.name.as_str());
        for name in graph.node.iter().flat_map(proto::Node::reads).chain(outputs) {
            *uses.entry(name).or_default() += 1;
        }
        let (drafts, values) = (Drafts::default(), HashMap::new());
        let mut reader = Self { opset, drafts, values, uses, batch: None, size: None, external, budget };
        reader.bind_initializers(graph)?;
        Ok(reader)
    }

    fn bind_initializers(&mut self, graph: &'m proto::Graph) -> Result<()> {
        for tensor in &graph.initializer {
            if self.values.insert(&tensor.name, Binding::Initializer(tensor)).is_some() {
                let problem = expected("initializers of different names").found("two of this name");
                return Err(Error::format(&tensor.name, problem));
            }
        }
        Ok(())
    }

    /// Reads one node. Its inputs have been read.
    fn read_node(&mut self, node: &'m proto::Node) {
        let (values, rest) = match self.operator(node) {
            Ok(values) => {
                let problem = "only its first output is supported, and another one is read";
                (values, Error::format(place(node), problem))
            }
            Err(Failure::Node(error)) => (Vec::new(), error.within(place(node))),
            Err(Failure::Upstream(error)) => (Vec::new(), error),
        };
        let values = values.into_iter().chain(iter::repeat(Binding::Failed(rest)));
        self.values.extend(node.output.iter().map(String::as_str).zip(values));
    }

    /// The outputs by name and draft: the first, and all others that can be read.
    fn outputs(&mut self, graph: &'m proto::Graph) -> Result<Vec<(String, usize)>> {
        let mut outputs: Vec<(String, usize)> = Vec::new();
        let mut taken = HashSet::new();
        for output in &graph.output {
            let place = format!("output {}", short(&output.name));
            let index = match self.value(&output.name).and_then(|value| self.computed_value(value)) {
                Ok(data) => data.draft,
                Err(_) if !outputs.is_empty() => continue,
                Err(Failure::Node(error)) => return Err(error.within(place)),
                Err(Failure::Upstream(error)) => return Err(error),
            };
            let name = if outputs.is_empty() { "main" } else { &output.name };
            if taken.insert(name) {
                outputs.push((name.to_owned(), index));
            }
        }
        if outputs.is_empty() {
            return Err(Error::format("onnx", expected("an output").found("none")));
        }
        Ok(outputs)
    }

    /// Looks up the value called `name`, and decodes it if it is an initializer.
    fn value(&mut self, name: &str) -> ReadResult<Binding<'m>> {
        match self.values.get(name) {
            None => {
                let name = short(name);
                Err(expected(format_args!("its input {name:?} to be constant or computed"))
                    .found("no such value")
                    .into())
            }
            Some(Binding::Failed(error)) => Err(Failure::Upstream(error.clone())),
            Some(Binding::Initializer(tensor)) => {
                let constant = constant::decode(tensor, &mut self.external, &mut self.budget);
                Ok(Binding::Constant(constant.map_err(|failure| failure.within(name))?))
            }
            Some(Binding::Data(data)) => {
                let mut data = data.clone();
                data.is_exclusive &= self.uses.get(name).is_none_or(|&uses| uses < 2);
                Ok(Binding::Data(data))
            }
            Some(value) => Ok(value.clone()),
        }
    }

    /// Requires a value that depends on the input, and applies its pending padding.
    fn computed_value(&mut self, value: Binding<'m>) -> ReadResult<Data> {
        match value {
            Binding::Data(data) => self.apply_padding(data),
            _ => Err(expected("a value that depends on the input").found("a constant").into()),
        }
    }
}

impl Failure {
    /// Adds the name of a value to the place of the error.
    fn within(self, name: &str) -> Self {
        match self {
            Self::Node(error) => Self::Node(error.within(short(name))),
            earlier @ Self::Upstream(_) => earlier,
        }
    }
}

#[cfg(test)]
mod tests;

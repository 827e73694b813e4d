//! Reading: a file's nodes, in order, become nodes of a graph.
//!
//! The file's values are arrays of any rank; ours are `[C, H, W]`. Each value therefore records which of our axes its own axes
//! are, and an operator is interpreted by the axes that it works on, whatever their order. A node that cannot be read fails
//! together with its readers; that is an error only if the main output needs it.

mod arithmetic;
mod attributes;
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
mod pool;
mod shape;
mod value;

use std::collections::{BTreeMap, HashMap, HashSet};
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
use value::{Data, Value};

/// The first supported version of the operators: earlier ones broadcast differently.
const OLDEST_OPSET: i64 = 7;

/// A network from an ONNX file.
#[derive(Debug, Clone)]
pub struct Onnx {
    /// The network; its first output is the file's first one, called `main`.
    pub graph: Graph,
    /// Its parameters.
    pub weights: Weights,
    /// Height and width of the images in pixels, where the file fixes them.
    pub size: Option<[usize; 2]>,
    /// The file's metadata properties.
    pub metadata: BTreeMap<String, String>,
}

/// Why a node cannot be read: what is wrong with the node itself, or the error of an earlier one that it needs.
#[derive(Debug, Clone)]
enum Trouble {
    Here(Error),
    Earlier(Error),
}

impl<P: Into<Problem>> From<P> for Trouble {
    fn from(problem: P) -> Self {
        Self::Here(Error::new(ErrorKind::Format, problem))
    }
}

type Found<T> = Result<T, Trouble>;

/// Reads a model. Constants in other files are read from `folder`; without one they are refused.
///
/// # Errors
/// When the bytes are not an ONNX model of opset 7 or later, or a node that the main output needs has no equivalent among our
/// operations; the error names the node.
pub fn read(bytes: impl Into<Bytes>, folder: Option<&Path>) -> Result<Onnx> {
    let bytes: Bytes = bytes.into();
    wire::check(&bytes)?;
    let budget = Budget::new(bytes.len());
    let model = proto::Model::decode(bytes);
    let model = model.map_err(|error| Error::format("onnx", expected("a whole ONNX file").found(error)))?;
    let opset = opset(&model)?;
    let graph = model.graph.as_ref().ok_or_else(|| Error::format("onnx", expected("a graph").found("none")))?;
    let mut reader = Reader::new(graph, opset, External::new(folder), budget)?;
    for node in order::order(graph)? {
        reader.node(node);
    }
    let outputs = reader.outputs(graph)?;
    let size = reader.size;
    let (graph, weights) = reader.drafts.finish(outputs);
    graph.check().map_err(|error| error.within("onnx"))?;
    weights.check(&graph).map_err(|error| error.within("onnx"))?;
    if let Some(size) = size {
        graph.shapes(size).map_err(|error| error.within("onnx"))?;
    }
    let metadata = model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    Ok(Onnx { graph, weights, size, metadata })
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

/// A node as an error names it.
fn place(node: &proto::Node) -> String {
    format!("node {} ({})", node.title(), short(&node.op_type))
}

/// The beginning of a name, so that copies of a long one cannot exhaust memory.
fn short(name: &str) -> &str {
    const LONGEST: usize = 256;
    &name[..name.floor_char_boundary(LONGEST)]
}

/// A file on the way to a graph.
struct Reader<'m> {
    opset: i64,
    drafts: Drafts,
    values: HashMap<&'m str, Value<'m>>,
    /// The number of nodes and outputs that read each value.
    uses: HashMap<&'m str, usize>,
    /// The number of images, where the file fixes it.
    batch: Option<usize>,
    size: Option<[usize; 2]>,
    external: External<'m>,
    budget: Budget,
}

impl<'m> Reader<'m> {
    fn new(graph: &'m proto::Graph, opset: i64, external: External<'m>, budget: Budget) -> Result<Self> {
        let mut uses = HashMap::new();
        let read = graph.node.iter().flat_map(|node| &node.input).chain(graph.output.iter().map(|output| &output.name));
        for name in read {
            *uses.entry(name.as_str()).or_default() += 1;
        }
        let (drafts, values) = (Drafts::default(), HashMap::new());
        let mut reader = Self { opset, drafts, values, uses, batch: None, size: None, external, budget };
        for tensor in &graph.initializer {
            if reader.values.insert(&tensor.name, Value::Initializer(tensor)).is_some() {
                let what = expected("initializers of different names").found("two of this one");
                return Err(Error::format(&tensor.name, what));
            }
        }
        reader.input(graph)?;
        Ok(reader)
    }

    /// Reads one node, whose inputs were read before.
    fn node(&mut self, node: &'m proto::Node) {
        let mut outputs = node.output.iter();
        let failed = |trouble: Trouble| match trouble {
            Trouble::Here(error) => Value::Failed(error.within(place(node))),
            Trouble::Earlier(error) => Value::Failed(error),
        };
        if is_own_domain(&node.domain) && node.op_type == "Split" {
            match self.split(node) {
                Ok(parts) => self.values.extend(outputs.map(String::as_str).zip(parts.into_iter().map(Value::Data))),
                Err(trouble) => {
                    let value = failed(trouble);
                    self.values.extend(outputs.map(|name| (name.as_str(), value.clone())));
                }
            }
            return;
        }
        let value = self.operator(node).unwrap_or_else(failed);
        if let Some(first) = outputs.next() {
            self.values.insert(first, value);
        }
        let mut others = outputs.filter(|name| !name.is_empty()).peekable();
        if others.peek().is_some() {
            let problem = "only its first output is supported, and another one is read";
            let error = Error::format(place(node), problem);
            self.values.extend(others.map(|name| (name.as_str(), Value::Failed(error.clone()))));
        }
    }

    /// The outputs by name and draft: the first, and the others that can be read.
    fn outputs(&mut self, graph: &'m proto::Graph) -> Result<Vec<(String, usize)>> {
        let mut outputs: Vec<(String, usize)> = Vec::new();
        let mut taken = HashSet::new();
        for output in &graph.output {
            let place = format!("output {}", short(&output.name));
            let index = match self.value(&output.name).and_then(|value| self.whole(value)) {
                Ok(data) => data.draft,
                Err(_) if !outputs.is_empty() => continue,
                Err(Trouble::Here(error)) => return Err(error.within(place)),
                Err(Trouble::Earlier(error)) => return Err(error),
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

    /// The value called `name`, decoded if it is an initializer.
    fn value(&mut self, name: &str) -> Found<Value<'m>> {
        match self.values.get(name) {
            None => {
                let name = short(name);
                Err(expected(format_args!("its input {name:?} to be constant or computed"))
                    .found("no such value")
                    .into())
            }
            Some(Value::Failed(error)) => Err(Trouble::Earlier(error.clone())),
            Some(Value::Initializer(tensor)) => {
                let constant = constant::decode(tensor, &mut self.external, &mut self.budget);
                Ok(Value::Constant(constant.map_err(|trouble| trouble.about(name))?))
            }
            Some(Value::Data(data)) => {
                let mut data = data.clone();
                data.is_exclusive &= self.uses.get(name).is_none_or(|&uses| uses < 2);
                Ok(Value::Data(data))
            }
            Some(value) => Ok(value.clone()),
        }
    }

    /// The value as a node of the graph, with its pending padding applied.
    fn whole(&mut self, value: Value<'m>) -> Found<Data> {
        match value {
            Value::Data(data) => self.pad(data),
            _ => Err(expected("a value that depends on the input").found("a constant").into()),
        }
    }
}

impl Trouble {
    /// The same trouble at the value called `name`.
    fn about(self, name: &str) -> Self {
        match self {
            Self::Here(error) => Self::Here(error.within(short(name))),
            earlier @ Self::Earlier(_) => earlier,
        }
    }
}

#[cfg(test)]
mod tests;

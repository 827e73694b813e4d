//! Writes ONNX: nodes become operators, parameters become initializers under their own names.

mod activation;
mod build;
mod initializer;
mod nodes;
mod preprocess;
mod store;
mod value_info;

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;

use super::proto;
use crate::error::expected;
use crate::file::write_atomically;
use crate::image::Preprocessing;
use crate::{Error, Graph, Precision, Result, Weights};
use build::Builder;
use initializer::Initializer;

/// The opsets that can be written, each with the version of the file format it was released with.
const VERSIONS: [(i64, i64); 15] = [
    (7, 3),
    (8, 3),
    (9, 4),
    (10, 5),
    (11, 6),
    (12, 7),
    (13, 7),
    (14, 7),
    (15, 8),
    (16, 8),
    (17, 8),
    (18, 8),
    (19, 9),
    (20, 9),
    (21, 10),
];

/// The first opset whose `Resize` can express [`Preprocessing`].
pub const PREPROCESSING_OPSET: i64 = 18;

/// The largest message that other readers accept, in bytes.
const MESSAGE_LIMIT: usize = i32::MAX as usize;

/// Options for writing an ONNX file.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteOptions {
    /// The version of ONNX's operators, 7 to 21; with preprocessing at least 18.
    pub opset: i64,
    /// The precision of stored parameters.
    pub precision: Precision,
    /// If the parameters exceed this many bytes in total, they go to a file next to the model.
    pub external_over: u64,
    /// The evaluation transform to include in the graph, if any. The graph's input is then `image`, uint8
    /// `[batch, height, width, 3]` in RGB and of any size, instead of `input`, float `[batch, C, height, width]`.
    pub preprocess: Option<Preprocessing>,
    /// Text for the file's metadata properties.
    pub metadata: BTreeMap<String, String>,
}

/// Opset 17, single precision, one file below 2 GB, no preprocessing.
impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            opset: 17,
            precision: Precision::Single,
            external_over: 2_000_000_000,
            preprocess: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// Writes the main output of `graph`: `logits` `[batch, K]` (or a map `[batch, K, height, width]`), from the input that
/// [`WriteOptions::preprocess`] describes. The same arguments give the same bytes.
///
/// External parameters go to `<file name>.data`, which is written first. Each file is complete or absent.
///
/// # Errors
/// When the weights do not fit the graph, the opset or half precision cannot express the model, or a file cannot be written.
pub fn write(path: &Path, graph: &Graph, weights: &Weights, options: &WriteOptions) -> Result<()> {
    let (mut model, initializers) = model(graph, weights, options)?;
    let total: u64 = initializers.iter().map(|initializer| initializer.bytes() as u64).sum();
    let tensors = if total > options.external_over {
        store::write_external(path, &initializers)?
    } else {
        initializers.iter().map(Initializer::embedded).collect()
    };
    let graph = model.graph.get_or_insert_default();
    graph.initializer = tensors;
    let length = model.encoded_len();
    if length > MESSAGE_LIMIT {
        let what = expected("a model of at most 2 GiB or external weights").found(format_args!("{length} bytes"));
        return Err(Error::spec("onnx", what));
    }
    let bytes = model.encode_to_vec();
    write_atomically(path, |file| file.write_all(&bytes))
}

/// The nodes and constants of the evaluation transform that [`write`] includes, and the name of the transformed value.
pub(super) fn transform(settings: &Preprocessing, opset: i64) -> Result<(proto::Graph, String)> {
    let options = WriteOptions { opset, ..WriteOptions::default() };
    let mut builder = Builder::new(&Graph::new(), &options);
    let value = preprocess::preprocess(&mut builder, settings, settings.channels())?;
    let (mut graph, initializers) = builder.finish(i64::MAX);
    graph.initializer = initializers.iter().map(Initializer::embedded).collect();
    Ok((graph, value))
}

/// The file without its initializers, and the initializers.
fn model<'a>(
    graph: &Graph,
    weights: &'a Weights,
    options: &WriteOptions,
) -> Result<(proto::Model, Vec<Initializer<'a>>)> {
    let version = VERSIONS.iter().find(|(opset, _)| *opset == options.opset);
    let &(opset, ir_version) = version.ok_or_else(|| {
        Error::spec("opset", expected(format_args!("{} to {}", VERSIONS[0].0, VERSIONS[14].0)).found(options.opset))
    })?;
    if options.preprocess.is_some() && opset < PREPROCESSING_OPSET {
        let what = expected(format_args!("at least {PREPROCESSING_OPSET}, which preprocessing needs")).found(opset);
        return Err(Error::spec("opset", what));
    }
    weights.check(graph)?;
    let graph = graph.inference();
    let mut builder = Builder::new(&graph, options);
    let input = match &options.preprocess {
        Some(preprocessing) => preprocess::preprocess(&mut builder, preprocessing, graph.input_channels())?,
        None => builder.network_input(graph.input_channels()),
    };
    nodes::nodes(&mut builder, &graph, weights, input)?;
    let (graph, initializers) = builder.finish(ir_version);
    let entry = |(key, value): (&String, &String)| proto::Entry { key: key.clone(), value: value.clone() };
    let model = proto::Model {
        ir_version,
        producer_name: "repvgg".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: opset }],
        metadata_props: options.metadata.iter().map(entry).collect(),
    };
    Ok((model, initializers))
}

//! Fuses the linear parts of any ONNX file and leaves the rest as it is, byte for byte.

mod edit;
mod external;
mod sizes;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use half::f16;
use prost::Message;
use prost::bytes::Bytes;

use super::proto::{self, data_type};
use super::read::parts::{self, Parts};
use super::wire;
use crate::check::{ROUNDING, RegionProgress, RegionReport, verify_region};
use crate::error::expected;
use crate::fuse::{Fusion, Obstacle, Region};
use crate::graph::{NodeId, Op};
use crate::random::Normal;
use crate::weights::MERGED;
use crate::{Error, Result, Weights};
use edit::{Edit, Nested};
use sizes::Sizes;

/// What becomes of constants in files next to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalData {
    /// The fused model refers to the same files, so it has to lie in the same folder.
    Keep,
    /// The fused model holds them itself.
    Inline,
}

/// A fused file.
#[derive(Debug, Clone)]
pub struct FileFusion {
    /// The bytes of the fused file.
    pub bytes: Vec<u8>,
    /// What was fused.
    pub report: FileReport,
}

/// What was fused in a file, and what was not.
#[derive(Debug, Clone)]
pub struct FileReport {
    /// The regions that became one operator each, compared with their branches, in the order of the file.
    pub regions: Vec<RegionReport>,
    /// Sums, convolutions and batch norms that stay as they are: the node, the one that stands in the way, and the reason.
    pub obstacles: Vec<Obstacle>,
    /// The number of nodes before and after.
    pub nodes: [usize; 2],
    /// The number of convolutions before and after.
    pub convolutions: [usize; 2],
    /// The number of floating-point constants before and after.
    pub parameters: [u64; 2],
    /// The multiply-adds of one image in the regions whose sizes the file states, before and after.
    pub multiply_adds: [u64; 2],
    /// The number of regions whose sizes the file does not state.
    pub regions_of_unknown_size: usize,
    /// The files with constants that the fused model refers to.
    pub external: Vec<String>,
    /// The number of constants from such files that it now holds itself.
    pub inlined: usize,
}

impl FileReport {
    /// The largest relative error of a region.
    pub fn worst_error(&self) -> f64 {
        self.regions.iter().map(|region| region.error).fold(0.0, f64::max)
    }
}

/// Fuses every linear region of an ONNX file: convolutions, fully connected layers, batch norms, sums and differences,
/// constants per channel, average pools and zero padding, in chains and between branches that meet.
///
/// Every other operator is kept as it is, with its attributes, subgraphs and domain; so are names of inputs, outputs and
/// values, opsets and metadata. Kernels are computed in double precision and rounded once to the type of the weights, float32
/// or float16. Each region is compared with its branches on seeded random activations, and `progress` is called after each.
///
/// `folder` holds the constants in other files, `external` says what becomes of them.
///
/// # Errors
/// When the bytes are not an ONNX model of a supported opset, its nodes form a cycle, the bias of a layer is computed, there is
/// nothing to fuse, a fused value is not finite, or a region is not exact to rounding.
pub fn fuse(
    bytes: impl Into<Bytes>,
    folder: Option<&Path>,
    external: ExternalData,
    progress: impl FnMut(RegionProgress<'_>),
) -> Result<FileFusion> {
    let bytes: Bytes = bytes.into();
    wire::check(&bytes)?;
    let model = proto::Model::decode(bytes.clone());
    let model = model.map_err(|error| Error::format("onnx", expected("a complete ONNX file").found(error)))?;
    let graph = model.graph.as_ref().ok_or_else(|| Error::format("onnx", expected("a graph").found("none")))?;
    let nested = Nested::of(&bytes)?;
    let parts = parts::parts(&model, graph, &nested.reads, folder, bytes.len())?;
    let fusion = Fusion::of_parts(parts.graph.clone(), MERGED, &parts.inner);
    let plans: Vec<Plan<'_>> = fusion.regions().iter().map(|region| Plan::new(region, &fusion, &parts)).collect();
    let plans: Vec<Plan<'_>> = plans.into_iter().filter(|plan| plan.is_shorter(graph)).collect();
    let obstacles = obstacles(graph, &fusion, &parts, &plans);
    if plans.is_empty() {
        let why = obstacles.first().map(|first| format!(": {}: {} ({})", first.sum, first.why, first.by));
        return Err(Error::fuse("onnx", format!("nothing to fuse{}", why.unwrap_or_default())));
    }
    let fused = fused_weights(&fusion, &parts, &plans)?;
    let regions = verify(&fusion, &parts, &plans, &fused, progress)?;
    let mut edit = Edit::new(graph, &nested);
    for plan in &plans {
        edit.replace(plan, graph, &fused)?;
    }
    edit.drop_unread(graph, &parts.constants, &nested);
    let inlined = match external {
        ExternalData::Inline => external::inline(&mut edit, graph, &nested, folder, bytes.len())?,
        ExternalData::Keep => 0,
    };
    let sizes = Sizes::of(&bytes, graph)?;
    let (multiply_adds, regions_of_unknown_size) = sizes.multiply_adds(&fusion, &parts, &plans);
    let report = FileReport {
        regions,
        obstacles,
        nodes: [graph.node.len(), edit.node_count(graph)],
        convolutions: edit.convolutions(graph),
        parameters: edit.parameters(graph),
        multiply_adds,
        regions_of_unknown_size,
        external: external::files(&edit, graph),
        inlined,
    };
    Ok(FileFusion { bytes: edit.apply(&bytes, graph)?, report })
}

/// A region as nodes of the file.
struct Plan<'a> {
    region: &'a Region,
    /// The value that the new node reads.
    source: &'a str,
    /// The value that it computes.
    output: &'a str,
    /// The nodes of the file that it replaces.
    nodes: BTreeSet<usize>,
    /// The node of the file whose place it takes.
    place: usize,
    /// Zeros above and below, then left and right, beyond the region's own padding.
    padding: [[usize; 2]; 2],
    /// The element type of its weights.
    element: i32,
    view: Option<View>,
    /// Whether it can be written: at most one view, and that in a chain.
    is_expressible: bool,
}

/// A node inside a region of rows that merges the axes before the features.
struct View {
    /// Its index in the file.
    node: usize,
    /// The index of the node that computes what it reads.
    input: usize,
}

impl<'a> Plan<'a> {
    fn new(region: &'a Region, fusion: &Fusion, parts: &Parts<'a>) -> Self {
        let (graph, origin) = (fusion.original(), |id: NodeId| parts.origins[id.index()]);
        let mut nodes: BTreeSet<usize> = region.nodes.iter().filter_map(|&id| origin(id).node).collect();
        let (mut source, mut padding) = (region.source, [[0; 2]; 2]);
        if let Op::Pad { padding: zeros } = graph.node(source).op
            && let Some(zeros) = absorbed(fusion, region, zeros)
        {
            nodes.extend(origin(source).node);
            (source, padding) = (graph.node(source).inputs[0], zeros);
        }
        let element = region.nodes.iter().map(|&id| origin(id).element).find(|&element| element != 0);
        let views: Vec<NodeId> = region.nodes.iter().copied().filter(|id| parts.views.contains(id)).collect();
        let view = views
            .first()
            .and_then(|&id| Some(View { node: origin(id).node?, input: origin(graph.node(id).inputs[0]).node? }));
        let is_chain = !region.nodes.iter().any(|&id| graph.node(id).op == Op::Add);
        // What the view reads is computed by the region, or the view would come before its layers.
        let is_inside = view.as_ref().is_none_or(|view| nodes.contains(&view.input));
        Self {
            region,
            source: origin(source).value,
            output: origin(region.output).value,
            nodes,
            place: origin(region.output).node.expect("a region ends at a node of the file"),
            padding,
            element: element.unwrap_or(data_type::FLOAT),
            view,
            is_expressible: views.is_empty() || (views.len() == 1 && is_chain && is_inside),
        }
    }

    /// Whether there are fewer nodes of the file or fewer batch norms afterwards: a product with a bias is two nodes already.
    fn is_shorter(&self, graph: &proto::Graph) -> bool {
        let has_norm = self.nodes.iter().any(|&index| graph.node[index].op_type == "BatchNormalization");
        let layer = if matches!(self.region.op, Op::Linear(_)) && !self.is_gemm(graph) { 2 } else { 1 };
        let emitted = layer + usize::from(self.view.is_some());
        self.is_expressible && (self.nodes.len() > emitted || (self.nodes.len() == emitted && has_norm))
    }

    /// Whether a fully connected layer among the nodes is a `Gemm`, so that all values have two axes.
    fn is_gemm(&self, graph: &proto::Graph) -> bool {
        self.view.is_none() && self.nodes.iter().any(|&index| graph.node[index].op_type == "Gemm")
    }
}

/// The zeros that a convolution takes over from the `Pad` before it: all, if nothing else reads the padded map.
fn absorbed(fusion: &Fusion, region: &Region, padding: [[isize; 2]; 2]) -> Option<[[usize; 2]; 2]> {
    let graph = fusion.original();
    let readers = graph.iter().filter(|(_, node)| node.inputs.contains(&region.source));
    let mut readers = readers
        .map(|(id, _)| id)
        .chain(graph.outputs().iter().map(|output| output.node).filter(|&id| id == region.source));
    let is_positive = padding.as_flattened().iter().all(|&end| end >= 0);
    let is_exclusive = readers.all(|id| region.nodes.contains(&id));
    (is_positive && is_exclusive).then(|| padding.map(|ends| ends.map(isize::unsigned_abs)))
}

/// The fused parameters, rounded once to the element type of their region.
fn fused_weights(fusion: &Fusion, parts: &Parts<'_>, plans: &[Plan<'_>]) -> Result<Weights> {
    parts.weights.check_parameters(fusion.original()).map_err(|error| error.within("onnx"))?;
    let mut fused = fusion.apply(&parts.weights)?;
    for plan in plans.iter().filter(|plan| plan.element == data_type::FLOAT16) {
        let conv = fusion.kernel(plan.region, &parts.weights)?;
        for (suffix, values) in [("weight", conv.kernel), ("bias", conv.bias)] {
            let name = format!("{}.{suffix}", plan.region.name);
            let tensor = fused.get_mut(&name).expect("every region has a weight and a bias");
            for (stored, value) in tensor.data_mut().iter_mut().zip(values) {
                *stored = f16::from_f64(value).to_f32();
                if !stored.is_finite() {
                    return Err(Error::fuse(
                        name,
                        expected(format_args!("fused values up to {}", f16::MAX)).found(value),
                    ));
                }
            }
        }
    }
    Ok(fused)
}

fn verify(
    fusion: &Fusion,
    parts: &Parts<'_>,
    plans: &[Plan<'_>],
    fused: &Weights,
    mut progress: impl FnMut(RegionProgress<'_>),
) -> Result<Vec<RegionReport>> {
    let mut noise = Normal::new(0x5eed);
    let mut regions = Vec::with_capacity(plans.len());
    for plan in plans {
        // Half a unit in the last place of 11 bits, and the least positive number's effect on small weights.
        let rounding = if plan.element == data_type::FLOAT16 { 1.0 / 2048.0 } else { ROUNDING };
        let weights = [&parts.weights, fused];
        let report = verify_region(fusion.original(), plan.region, weights, rounding, &mut noise)?;
        report.accept()?;
        progress(RegionProgress { region: &report, done: regions.len() + 1, total: plans.len() });
        regions.push(report);
    }
    Ok(regions)
}

/// Why sums of branches, convolutions and batch norms remain.
fn obstacles(graph: &proto::Graph, fusion: &Fusion, parts: &Parts<'_>, plans: &[Plan<'_>]) -> Vec<Obstacle> {
    let replaced: HashSet<usize> = plans.iter().flat_map(|plan| plan.nodes.iter().copied()).collect();
    let producers: HashMap<&str, &proto::Node> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |value| (value.as_str(), node))).collect();
    let mut obstacles: Vec<Obstacle> = parts.obstacles.iter().chain(fusion.obstacles()).cloned().collect();
    let known: HashSet<String> = obstacles.iter().map(|obstacle| obstacle.sum.clone()).collect();
    let original = fusion.original();
    for (id, node) in original.iter() {
        let index = parts.origins[id.index()].node;
        let is_left = index.is_some_and(|index| !replaced.contains(&index)) && !known.contains(&node.name);
        if !is_left || parts.inner.contains(&id) {
            continue;
        }
        let cut = |input: &NodeId| original.node(*input).inputs.is_empty().then(|| parts.origins[input.index()].value);
        let found = match node.op {
            Op::Add => sources(original, id).into_iter().filter_map(|source| producers.get(cut(&source)?)).next_back(),
            Op::BatchNorm(_) if is_norm(graph, index) => {
                node.inputs.first().and_then(cut).and_then(|value| producers.get(value))
            }
            _ => continue,
        };
        let (by, why) = match (found, &node.op) {
            (Some(by), Op::Add) => (by.title(), format!("{} inside a branch", by.op_type)),
            (Some(by), _) => (by.title(), format!("it normalises the result of {}", by.op_type)),
            (None, Op::Add) => continue,
            (None, _) => (node.name.as_str(), "no convolution computes what it normalises alone".to_owned()),
        };
        obstacles.push(Obstacle { sum: node.name.clone(), by: by.to_owned(), why });
    }
    obstacles
}

fn is_norm(graph: &proto::Graph, index: Option<usize>) -> bool {
    index.is_some_and(|index| graph.node[index].op_type == "BatchNormalization")
}

/// The inputs of the graph from which a node's value follows.
fn sources(graph: &crate::Graph, id: NodeId) -> BTreeSet<NodeId> {
    const MOST: usize = 256;
    let (mut seen, mut open) = (BTreeSet::from([id]), vec![id]);
    while let Some(id) = open.pop().filter(|_| seen.len() < MOST) {
        open.extend(graph.node(id).inputs.iter().copied().filter(|&input| seen.insert(input)));
    }
    seen.into_iter().filter(|&id| graph.node(id).inputs.is_empty()).collect()
}

#[cfg(test)]
mod tests;

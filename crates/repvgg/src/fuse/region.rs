//! The parts of a graph that are one convolution, and the graph that remains when each is one.

use std::collections::{BTreeSet, HashMap, HashSet};

use repvgg_kernels::Geometry;

use super::linear::{evaluate, layer_weights, merged_op};
use super::search::{Collapse, Search};
use crate::algebra::LinearConv;
use crate::error::expected;
use crate::graph::{Graph, NodeId, Op};
use crate::weights::MERGED;
use crate::{Error, Result, Tensor, Weights};

/// A part of the graph that is one convolution.
#[derive(Debug, Clone)]
pub struct Region {
    /// The name of the convolution that replaces it.
    pub name: String,
    /// The node that it reads.
    pub source: NodeId,
    /// The node whose value it computes.
    pub output: NodeId,
    /// The nodes that the convolution replaces, `output` last.
    pub nodes: Vec<NodeId>,
    /// The convolution's geometry; it always has a bias.
    pub geometry: Geometry,
    /// The operation that replaces it: the convolution or, where the region holds a fully connected layer, one such layer.
    pub op: Op,
}

/// A sum, or a batch norm before a convolution, that is not part of any convolution, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The sum where branches meet, or the batch norm.
    pub sum: String,
    /// The node that prevents it, or the sum itself.
    pub by: String,
    /// The reason.
    pub why: String,
}

/// The fusion of a graph: the regions that become one convolution each, and the fused graph.
///
/// ```
/// use repvgg::Specification;
/// use repvgg::fuse::Fusion;
///
/// let graph = Specification::named("repvgg-a0").unwrap().training_graph()?;
/// let fusion = Fusion::new(&graph);
/// assert_eq!((fusion.regions().len(), fusion.obstacles()), (22, [].as_slice()));
/// assert_eq!(fusion.regions()[1].name, "stage1.0.rbr_reparam");
/// # Ok::<(), repvgg::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fusion {
    original: Graph,
    graph: Graph,
    regions: Vec<Region>,
    obstacles: Vec<Obstacle>,
}

impl Fusion {
    /// Finds the regions of `graph`'s main output and the graph that remains when each is one convolution. A convolution that
    /// replaces branches is called [`MERGED`] under the prefix that the branches' names share.
    ///
    /// # Panics
    /// When the graph has no output.
    pub fn new(graph: &Graph) -> Self {
        Self::named(graph, MERGED)
    }

    /// Like [`new`](Self::new), with `merged` in place of [`MERGED`].
    ///
    /// # Panics
    /// When the graph has no output.
    pub fn named(graph: &Graph, merged: &str) -> Self {
        Self::of_parts(graph.inference(), merged, &HashSet::new())
    }

    /// The fusion of all outputs of `original`. No region ends at a node of `inner`: it exists only together with its reader.
    pub(crate) fn of_parts(original: Graph, merged: &str, inner: &HashSet<NodeId>) -> Self {
        let search = Search::new(&original);
        let (mut collapsed, mut obstacles) = search.all();
        let mut needed: BTreeSet<NodeId> = original.outputs().iter().map(|output| output.node).collect();
        let mut regions = Vec::new();
        for (id, node) in original.iter().rev() {
            if !needed.contains(&id) {
                continue;
            }
            match collapsed.remove(&id).filter(|_| !inner.contains(&id)) {
                Some((source, collapse)) => {
                    needed.insert(source);
                    let name = fused_name(&original, &collapse.nodes, merged);
                    let Collapse { geometry, nodes, .. } = collapse;
                    let op = merged_op(&original, &nodes, geometry);
                    regions.push(Region { name, source, output: id, nodes, geometry, op });
                }
                None => needed.extend(node.inputs.iter().copied()),
            }
        }
        regions.reverse();
        number_names(&original, &needed, &mut regions);
        let fused: HashSet<NodeId> = regions.iter().map(|region| region.output).collect();
        obstacles.retain(|obstacle| original.find(&obstacle.sum).is_some_and(|id| needed.contains(&id)));
        let norms = original.iter().filter(|(_, node)| matches!(node.op, Op::BatchNorm(_) | Op::Scale { .. }));
        let left = norms.map(|(id, _)| id).filter(|id| needed.contains(id) && !fused.contains(id));
        obstacles.extend(left.filter_map(|id| search.before_a_layer(id)));
        let graph = rewrite(&original, &needed, &regions);
        Self { original, graph, regions, obstacles }
    }

    /// The original graph without auxiliary outputs.
    pub fn original(&self) -> &Graph {
        &self.original
    }

    /// The fused graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The fused graph, by value.
    pub fn into_graph(self) -> Graph {
        self.graph
    }

    /// For each node of the fused graph, the node of the original graph that computes the same value.
    pub fn counterparts(&self) -> Vec<NodeId> {
        let outputs: HashMap<&str, NodeId> =
            self.regions.iter().map(|region| (region.name.as_str(), region.output)).collect();
        let unfused = |name: &str| self.original.find(name).expect("a node outside all regions keeps its name");
        let names = self.graph.nodes().iter().map(|node| node.name.as_str());
        names.map(|name| outputs.get(name).copied().unwrap_or_else(|| unfused(name))).collect()
    }

    /// The regions that become one convolution each, in the graph's order.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The sums that remain, and the reasons.
    pub fn obstacles(&self) -> &[Obstacle] {
        &self.obstacles
    }

    /// Whether there is nothing to fuse.
    pub fn is_plain(&self) -> bool {
        self.regions.is_empty()
    }

    /// The parameters of the fused graph: kernels computed in f64 and rounded once, everything else unchanged.
    ///
    /// # Errors
    /// When a parameter is missing, or a fused value is not finite, as with a variance of zero.
    pub fn apply(&self, weights: &Weights) -> Result<Weights> {
        let mut fused = Weights::new();
        for region in &self.regions {
            let conv = self.kernel(region, weights)?;
            let g = conv.geometry;
            let shape = match region.op {
                Op::Linear(_) => vec![g.out_channels, g.in_channels],
                _ => vec![g.out_channels, g.in_channels / g.groups, g.kernel[0], g.kernel[1]],
            };
            for (suffix, shape, values) in [("weight", shape, conv.kernel), ("bias", vec![g.out_channels], conv.bias)] {
                let name = format!("{}.{suffix}", region.name);
                let tensor = Tensor::new(shape, values)?.to_f32();
                if let Some(value) = tensor.data().iter().find(|value| !value.is_finite()) {
                    return Err(Error::fuse(name, expected("finite fused values").found(value)));
                }
                fused.insert(name, tensor);
            }
        }
        for (name, _) in self.graph.parameters() {
            if fused.get(&name).is_none() {
                fused.insert(name.clone(), weights.require(&name)?.clone());
            }
        }
        Ok(fused)
    }

    /// The convolution that `region` computes, in f64.
    ///
    /// # Errors
    /// When a parameter is missing.
    pub fn kernel(&self, region: &Region, weights: &Weights) -> Result<LinearConv> {
        let channels = region.geometry.in_channels;
        let mut values = HashMap::from([(region.source, LinearConv::identity(channels))]);
        for &id in &region.nodes {
            let value = evaluate(&self.original, id, weights, &values).map_err(|error| error.within(&region.name))?;
            values.insert(id, value);
        }
        Ok(values.remove(&region.output).expect("a region computes its output"))
    }
}

/// A chain around one convolution keeps that convolution's name; branches become `merged` under the prefix that the names of
/// their parameters share.
fn fused_name(graph: &Graph, nodes: &[NodeId], merged: &str) -> String {
    let named = |is: fn(&Op) -> bool| {
        let chosen = nodes.iter().map(|&id| graph.node(id)).filter(move |node| is(&node.op));
        chosen.map(|node| node.name.as_str()).collect::<Vec<_>>()
    };
    let convolutions = named(|op| layer_weights(op).is_some());
    if let ([only], []) = (convolutions.as_slice(), named(|op| *op == Op::Add).as_slice()) {
        return (*only).to_owned();
    }
    // Names from ONNX files are paths.
    let separator = if convolutions[0].contains('/') { "/" } else { "." };
    let mut prefix: Vec<&str> = convolutions[0].split(separator).collect();
    for name in named(|op| !op.parameters().is_empty()) {
        let shared = prefix.iter().zip(name.split(separator)).take_while(|(a, b)| **a == *b).count();
        prefix.truncate(shared);
    }
    prefix.push(merged);
    prefix.join(separator)
}

/// Appends numbers to names of regions that are already taken by another region or a remaining node.
fn number_names(graph: &Graph, needed: &BTreeSet<NodeId>, regions: &mut [Region]) {
    let replaced: BTreeSet<NodeId> = regions.iter().map(|region| region.output).collect();
    let remaining = needed.difference(&replaced).map(|&id| graph.node(id).name.clone());
    let mut taken: HashMap<String, usize> = remaining.map(|name| (name, 0)).collect();
    for region in regions {
        let requested = region.name.clone();
        while taken.contains_key(&region.name) {
            let number = taken.entry(requested.clone()).or_default();
            *number += 1;
            region.name = format!("{requested}_{number}");
        }
        taken.insert(region.name.clone(), 0);
    }
}

/// The graph with each region replaced by one convolution.
fn rewrite(original: &Graph, needed: &BTreeSet<NodeId>, regions: &[Region]) -> Graph {
    let by_output: HashMap<NodeId, &Region> = regions.iter().map(|region| (region.output, region)).collect();
    let mut graph = Graph::new();
    let mut moved: HashMap<NodeId, NodeId> = HashMap::new();
    for &id in needed {
        let node = original.node(id);
        let new = match by_output.get(&id) {
            Some(region) => graph.add(region.name.clone(), region.op.clone(), &[moved[&region.source]]),
            None => {
                let inputs: Vec<NodeId> = node.inputs.iter().map(|input| moved[input]).collect();
                graph.add(node.name.clone(), node.op.clone(), &inputs)
            }
        };
        moved.insert(id, new);
    }
    for output in original.outputs() {
        graph.output(output.name.clone(), moved[&output.node]);
    }
    graph
}

//! Finds the parts of a graph that are one convolution, from shapes alone.

use std::collections::{BTreeSet, HashMap};

use repvgg_kernels::Geometry;

use crate::algebra::{Affine, LinearConv, Unfusable, identity_geometry, sum_geometry, then_geometry};
use crate::error::expected;
use crate::graph::{Conv2d, Graph, NodeId, Op, Pool, WINDOW_LIMIT};
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
}

/// A sum that is not part of any convolution, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The sum where branches meet.
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

/// A region that collapses into one convolution of its source.
struct Collapse {
    geometry: Geometry,
    nodes: Vec<NodeId>,
    /// The number of convolutions among the nodes.
    convolutions: usize,
    /// The number of weights of those convolutions.
    weights: usize,
}

/// A node's value as a convolution of the source, without the numbers.
#[derive(Clone, Copy)]
struct ConvShape {
    geometry: Geometry,
    /// Whether it may add a constant.
    has_bias: bool,
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
        let original = graph.inference();
        let (users, channels, dominators) = (original.users(), original.channels(), dominators(&original));
        let search = Search { graph: &original, users, channels, dominators };
        let (mut collapsed, obstacles) = search.all();
        let mut needed: BTreeSet<NodeId> = BTreeSet::from([original.main_output()]);
        let mut regions = Vec::new();
        for (id, node) in original.iter().rev() {
            if !needed.contains(&id) {
                continue;
            }
            match collapsed.remove(&id) {
                Some((source, collapse)) => {
                    needed.insert(source);
                    let name = fused_name(&original, &collapse.nodes, merged);
                    let Collapse { geometry, nodes, .. } = collapse;
                    regions.push(Region { name, source, output: id, nodes, geometry });
                }
                None => needed.extend(node.inputs.iter().copied()),
            }
        }
        regions.reverse();
        number_names(&original, &needed, &mut regions);
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
            let shape = [g.out_channels, g.in_channels / g.groups, g.kernel[0], g.kernel[1]];
            for (suffix, shape, values) in
                [("weight", shape.to_vec(), conv.kernel), ("bias", vec![g.out_channels], conv.bias)]
            {
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

/// The value of a linear node from its inputs' values.
fn evaluate(graph: &Graph, id: NodeId, weights: &Weights, values: &HashMap<NodeId, LinearConv>) -> Result<LinearConv> {
    let node = graph.node(id);
    let input = &values[&node.inputs[0]];
    let combined = match &node.op {
        Op::Conv2d(_) | Op::NormalizedConv2d(_) => input.then(&LinearConv::of(node, weights)?),
        Op::Pad { padding } => {
            let channels = input.geometry.out_channels;
            let pad = |geometry| input.then(&LinearConv { geometry, ..LinearConv::identity(channels) });
            pad_geometry(*padding, channels).and_then(pad)
        }
        Op::BatchNorm(_) | Op::Scale { .. } => Ok(input.clone().scale(&Affine::of(node, weights)?)),
        Op::AvgPool(pool) => {
            let geometry = pool_geometry(pool, input.geometry.out_channels);
            geometry.and_then(|geometry| input.then(&LinearConv::average(geometry)))
        }
        Op::Add => node.inputs[1..].iter().try_fold(input.clone(), |sum, other| sum.sum(&values[other])),
        other => unreachable!("{} is not linear", other.kind()),
    };
    combined.map_err(|reason| Error::fuse(&node.name, reason))
}

/// An average pool as a convolution, which requires equal padding on opposite sides.
fn pool_geometry(pool: &Pool, channels: usize) -> Result<Geometry, Unfusable> {
    let Pool { kernel, stride, dilation, padding } = *pool;
    if padding.iter().any(|[begin, end]| begin != end) {
        return Err(Unfusable(format!("padding {padding:?} is not equal on opposite sides")));
    }
    let padding = padding.map(|[begin, _]| begin);
    Ok(Geometry { kernel, stride, dilation, padding, ..identity_geometry(channels) })
}

/// Zero padding as a convolution, which requires equal padding on opposite sides.
fn pad_geometry(padding: [[isize; 2]; 2], channels: usize) -> Result<Geometry, Unfusable> {
    let even = padding.map(|[begin, end]| usize::try_from(begin).ok().filter(|_| begin == end));
    match even {
        [Some(rows), Some(columns)] => Ok(Geometry { padding: [rows, columns], ..identity_geometry(channels) }),
        _ => Err(Unfusable(format!("padding {padding:?} is negative or not equal on opposite sides"))),
    }
}

/// The immediate dominator of each node: the nearest earlier node on every path to it.
fn dominators(graph: &Graph) -> Vec<Option<NodeId>> {
    let mut dominators: Vec<Option<NodeId>> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let meet = |a: Option<NodeId>, b: Option<NodeId>| {
            let (mut a, mut b) = (a?, b?);
            while a != b {
                if a > b {
                    a = dominators[a.index()]?;
                } else {
                    b = dominators[b.index()]?;
                }
            }
            Some(a)
        };
        let mut inputs = node.inputs.iter().copied().map(Some);
        let first = inputs.next().flatten();
        dominators.push(inputs.fold(first, meet));
    }
    dominators
}

/// The most nodes of a region: more than any block has, and few enough to try every source.
const REGION_LIMIT: usize = 32;

/// The search for the largest region that ends at each node.
struct Search<'a> {
    graph: &'a Graph,
    users: Vec<Vec<NodeId>>,
    channels: Vec<Option<usize>>,
    dominators: Vec<Option<NodeId>>,
}

type Collapsed = HashMap<NodeId, (NodeId, Collapse)>;

impl Search<'_> {
    /// For each node, the region worth fusing that ends there; and the sums where none ends.
    fn all(&self) -> (Collapsed, Vec<Obstacle>) {
        let mut collapsed = HashMap::new();
        let mut obstacles = Vec::new();
        for (id, node) in self.graph.iter().filter(|(_, node)| is_linear(&node.op)) {
            match self.largest(id) {
                Ok(Some(found)) => {
                    collapsed.insert(id, found);
                }
                Ok(None) => {}
                Err(obstacle) if node.op == Op::Add => obstacles.push(obstacle),
                Err(_) => {}
            }
        }
        (collapsed, obstacles)
    }

    /// Extends the region that ends at `output` backwards from its nearest possible source, as long as it remains one
    /// convolution that costs no more than the nodes it replaces.
    fn largest(&self, output: NodeId) -> Result<Option<(NodeId, Collapse)>, Obstacle> {
        let mut source = self.dominators[output.index()];
        let mut best = None;
        while let Some(candidate) = source {
            match self.collapse(output, candidate) {
                Ok(collapse) if self.is_cheaper(&collapse) => {
                    if !self.splits_norm(candidate) {
                        best = Some((candidate, collapse));
                    }
                }
                Ok(_) => break,
                Err(obstacle) if best.is_none() => return Err(obstacle),
                Err(_) => break,
            }
            source = self.dominators[candidate.index()];
        }
        Ok(best.filter(|(_, collapse)| collapse.convolutions > 0 && collapse.nodes.len() > 1))
    }

    /// Whether a region that starts after `source` would separate a convolution from its batch norm, which is its bias.
    fn splits_norm(&self, source: NodeId) -> bool {
        let is_norm = |user: &NodeId| matches!(self.graph.node(*user).op, Op::BatchNorm(_) | Op::Scale { .. });
        self.graph.node(source).op.convolution().is_some() && self.users[source.index()].iter().all(is_norm)
    }

    /// Whether fusing adds no weights, and so no multiply-adds: a 1×1 convolution followed by a 2×2 average pool is better left
    /// apart than turned into a 2×2 convolution.
    fn is_cheaper(&self, collapse: &Collapse) -> bool {
        collapse.convolutions == 0 || collapse.geometry.weight_len() <= collapse.weights
    }

    /// Collapses the nodes from `source` to `output` into one convolution.
    fn collapse(&self, output: NodeId, source: NodeId) -> Result<Collapse, Obstacle> {
        let sum = &self.graph.node(output).name;
        let obstacle =
            |by: NodeId, why: String| Obstacle { sum: sum.clone(), by: self.graph.node(by).name.clone(), why };
        let nodes = self
            .between(source, output)
            .ok_or_else(|| obstacle(source, format!("more than {REGION_LIMIT} operations separate it from the sum")))?;
        let channels =
            self.channels[source.index()].ok_or_else(|| obstacle(source, "its channels are unknown".to_owned()))?;
        let identity = ConvShape { geometry: identity_geometry(channels), has_bias: false };
        let mut shapes = HashMap::from([(source, identity)]);
        for &id in &nodes {
            let node = self.graph.node(id);
            if !is_linear(&node.op) {
                return Err(obstacle(id, format!("{} inside a branch", node.op.kind())));
            }
            if let Some(user) = self.users[id.index()].iter().find(|user| id != output && !nodes.contains(user)) {
                return Err(obstacle(id, format!("its value is also used by {}", self.graph.node(*user).name)));
            }
            let inputs: Vec<ConvShape> = node.inputs.iter().map(|input| shapes[input]).collect();
            shapes.insert(id, conv_shape(&node.op, &inputs).map_err(|reason| obstacle(id, reason.0))?);
        }
        let geometry = shapes[&output].geometry;
        let convolutions: Vec<usize> = nodes
            .iter()
            .filter_map(|id| self.graph.node(*id).op.convolution())
            .map(|conv| conv.geometry.weight_len())
            .collect();
        Ok(Collapse { geometry, convolutions: convolutions.len(), weights: convolutions.iter().sum(), nodes })
    }

    /// The nodes on the paths from `source`, which dominates `output`, to `output`, in the graph's order; `None` if there
    /// are more than [`REGION_LIMIT`].
    fn between(&self, source: NodeId, output: NodeId) -> Option<Vec<NodeId>> {
        let mut found = BTreeSet::from([output]);
        let mut open = vec![output];
        while let Some(id) = open.pop() {
            if found.len() > REGION_LIMIT {
                return None;
            }
            for &input in self.graph.node(id).inputs.iter().filter(|&&input| input != source) {
                if found.insert(input) {
                    open.push(input);
                }
            }
        }
        Some(found.into_iter().collect())
    }
}

/// The output of a linear operation, from its inputs.
fn conv_shape(op: &Op, inputs: &[ConvShape]) -> Result<ConvShape, Unfusable> {
    let ConvShape { geometry, has_bias } = inputs[0];
    let then = |second: &Geometry, bias: bool| {
        let extents = [&geometry, second].map(|g| [g.kernel, g.stride, g.padding, g.dilation]);
        if extents.as_flattened().as_flattened().iter().any(|&extent| extent > WINDOW_LIMIT) {
            return Err(Unfusable(format!("its kernel, stride or padding is larger than {WINDOW_LIMIT}")));
        }
        Ok(ConvShape { geometry: then_geometry(&geometry, second, has_bias)?, has_bias: has_bias || bias })
    };
    match op {
        Op::Conv2d(conv) | Op::NormalizedConv2d(conv) => then(&conv.geometry, conv.bias),
        Op::Pad { padding } => then(&pad_geometry(*padding, geometry.out_channels)?, false),
        Op::AvgPool(pool) => then(&pool_geometry(pool, geometry.out_channels)?, false),
        Op::BatchNorm(_) => Ok(ConvShape { geometry, has_bias: true }),
        Op::Add => inputs[1..].iter().try_fold(inputs[0], |sum, other| {
            let geometry = sum_geometry(&sum.geometry, &other.geometry)?;
            Ok(ConvShape { geometry, has_bias: sum.has_bias || other.has_bias })
        }),
        _ => Ok(inputs[0]),
    }
}

fn is_linear(op: &Op) -> bool {
    op.convolution().is_some()
        || matches!(op, Op::BatchNorm(_) | Op::Scale { .. } | Op::AvgPool(_) | Op::Pad { .. } | Op::Add)
}

/// A chain around one convolution keeps that convolution's name; branches become `merged` under the prefix that the names of
/// their parameters share.
fn fused_name(graph: &Graph, nodes: &[NodeId], merged: &str) -> String {
    let named = |is: fn(&Op) -> bool| {
        let chosen = nodes.iter().map(|&id| graph.node(id)).filter(move |node| is(&node.op));
        chosen.map(|node| node.name.as_str()).collect::<Vec<_>>()
    };
    let convolutions = named(|op| op.convolution().is_some());
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
            Some(region) => {
                let conv = Conv2d { geometry: region.geometry, bias: true };
                graph.add(region.name.clone(), Op::Conv2d(conv), &[moved[&region.source]])
            }
            None => {
                let inputs: Vec<NodeId> = node.inputs.iter().map(|input| moved[input]).collect();
                graph.add(node.name.clone(), node.op.clone(), &inputs)
            }
        };
        moved.insert(id, new);
    }
    let main = &original.outputs()[0];
    graph.output(main.name.clone(), moved[&main.node]);
    graph
}

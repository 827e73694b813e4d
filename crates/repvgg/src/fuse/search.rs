//! The search for regions: for each node, the largest part of the graph that ends there and is one convolution.

use std::collections::{BTreeSet, HashMap, HashSet};

use repvgg_kernels::Geometry;

use super::linear::{ConvShape, conv_shape, filling, is_linear, layer_weights, weight_count};
use super::region::Obstacle;
use crate::graph::{Graph, NodeId, Op};

/// The most nodes of a region: more than any block has, and few enough to try every source.
const REGION_LIMIT: usize = 32;

/// A region that collapses into one convolution of its source.
pub(super) struct Collapse {
    pub(super) geometry: Geometry,
    pub(super) nodes: Vec<NodeId>,
    /// The number of convolutions and fully connected layers among the nodes.
    layers: usize,
    /// The weights that the convolution may have: those of the layers, and the gaps of dilated branches.
    weights: usize,
}

/// For each node where a region ends, its source and the region.
pub(super) type Collapsed = HashMap<NodeId, (NodeId, Collapse)>;

/// The search for the largest region that ends at each node.
pub(super) struct Search<'a> {
    graph: &'a Graph,
    users: Vec<Vec<NodeId>>,
    channels: Vec<Option<usize>>,
    dominators: Vec<Option<NodeId>>,
    outputs: HashSet<NodeId>,
}

impl<'a> Search<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        let outputs = graph.outputs().iter().map(|output| output.node).collect();
        Self { graph, users: graph.users(), channels: graph.channels(), dominators: dominators(graph), outputs }
    }

    /// For each node, the region worth fusing that ends there; and the sums where none ends.
    pub(super) fn all(&self) -> (Collapsed, Vec<Obstacle>) {
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

    /// Why the batch norm `norm` is not part of the layer after it; `None` if no layer reads it alone.
    pub(super) fn before_a_layer(&self, norm: NodeId) -> Option<Obstacle> {
        let &[reader] = self.users[norm.index()].as_slice() else { return None };
        layer_weights(&self.graph.node(reader).op)?;
        let source = *self.graph.node(norm).inputs.first()?;
        let obstacle = self.collapse(reader, source).err()?;
        Some(Obstacle { sum: self.graph.node(norm).name.clone(), ..obstacle })
    }

    /// Extends the region that ends at `output` backwards from its nearest possible source, as long as it remains one
    /// convolution that costs no more than the nodes it replaces.
    fn largest(&self, output: NodeId) -> Result<Option<(NodeId, Collapse)>, Obstacle> {
        let mut source = self.dominators[output.index()];
        let mut best = None;
        while let Some(candidate) = source {
            match self.collapse(output, candidate) {
                Ok(collapse) if is_cheaper(&collapse) => {
                    if !self.splits_norm(candidate) {
                        best = Some((candidate, collapse));
                    }
                }
                Ok(collapse) if best.is_none() => return Err(self.costs_more(output, &collapse)),
                Ok(_) => break,
                Err(obstacle) if best.is_none() => return Err(obstacle),
                Err(_) => break,
            }
            source = self.dominators[candidate.index()];
        }
        Ok(best.filter(|(_, collapse)| collapse.layers > 0 && collapse.nodes.len() > 1))
    }

    /// Whether a region that starts after `source` would separate a convolution from its batch norm, which is its bias.
    fn splits_norm(&self, source: NodeId) -> bool {
        let is_norm = |user: &NodeId| matches!(self.graph.node(*user).op, Op::BatchNorm(_) | Op::Scale { .. });
        layer_weights(&self.graph.node(source).op).is_some() && self.users[source.index()].iter().all(is_norm)
    }

    fn costs_more(&self, output: NodeId, collapse: &Collapse) -> Obstacle {
        let name = &self.graph.node(output).name;
        let why = format!(
            "one convolution would have {} weights, its branches have {}",
            weight_count(&collapse.geometry),
            collapse.weights
        );
        Obstacle { sum: name.clone(), by: name.clone(), why }
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
        let mut shapes = HashMap::from([(source, ConvShape::identity(channels))]);
        let (mut layers, mut weights) = (0, 0_usize);
        for &id in &nodes {
            let node = self.graph.node(id);
            if !is_linear(&node.op) {
                return Err(obstacle(id, format!("{} inside a branch", node.op.kind())));
            }
            if let Some(reader) = self.reader_outside(id, &nodes).filter(|_| id != output) {
                return Err(obstacle(id, format!("its value is also {reader}")));
            }
            let inputs: Vec<ConvShape> = node.inputs.iter().map(|input| shapes[input]).collect();
            let shape = conv_shape(&node.op, &inputs).map_err(|reason| obstacle(id, reason.0))?;
            layers += usize::from(layer_weights(&node.op).is_some());
            let more = layer_weights(&node.op).unwrap_or_else(|| filling(&node.op, &inputs, &shape));
            weights = weights.saturating_add(more);
            shapes.insert(id, shape);
        }
        Ok(Collapse { geometry: shapes[&output].geometry, layers, weights, nodes })
    }

    /// Who else needs the value of `id`, as the end of a sentence; `None` if only `nodes` do.
    fn reader_outside(&self, id: NodeId, nodes: &[NodeId]) -> Option<String> {
        let user = self.users[id.index()].iter().find(|user| !nodes.contains(user));
        let user = user.map(|user| format!("used by {}", self.graph.node(*user).name));
        user.or_else(|| self.outputs.contains(&id).then(|| "an output".to_owned()))
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

/// Whether fusing adds no multiply-adds: a 1×1 convolution followed by a 2×2 average pool is better left apart than turned
/// into a 2×2 convolution.
fn is_cheaper(collapse: &Collapse) -> bool {
    collapse.layers == 0 || weight_count(&collapse.geometry) <= collapse.weights
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

//! Activation memory: which values are alive while each node runs, and which node each of them is held for.
//!
//! A branched or residual block holds its input until the addition at its end; after a plain
//! convolution, its input can be freed (2101.03697, Sect. 3.1, Fig. 3).

use super::bytes;
use crate::Result;
use crate::graph::{Graph, Node, NodeId, Op, Shape};

/// A value that is alive while a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// The node that computed it.
    pub name: String,
    /// Its bytes for one image.
    pub bytes: u64,
    /// The node that it is held for: where the branch of its last reader joins the others, usually an addition, or the last
    /// reader itself if there is no branch. `None` if the value can be freed.
    pub held_for: Option<String>,
}

/// A value held for its last reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The value, and the node that it is held for.
    pub value: Alive,
    /// The number of nodes that run while it is held.
    pub nodes: usize,
}

/// Bytes of activations while a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    /// All live values.
    pub(super) bytes: u64,
    /// Earlier values that later nodes read.
    pub(super) held: u64,
}

/// The live bytes while each node runs.
pub(super) fn live(graph: &Graph, shapes: &[Shape]) -> Vec<Live> {
    let last = last_reads(graph);
    // Bytes that this node or a later one reads.
    let mut needed = 0;
    let mut curve = Vec::with_capacity(shapes.len());
    for (id, node) in graph.iter() {
        let own = bytes(shapes[id.index()]);
        let going = going(node, id, &last);
        let held = needed - going.iter().map(|&input| bytes(shapes[input])).sum::<u64>();
        let written = if overwrites(node, own, &going, shapes) { 0 } else { own };
        curve.push(Live { bytes: needed + written, held });
        needed = held + if last[id.index()] > id.index() { own } else { 0 };
    }
    curve
}

/// The values that are alive while `node` runs for one image of `[height, width]`: earlier ones in the graph's order, then its own
/// unless it overwrites one of them.
///
/// # Errors
/// When the image does not suit the graph.
pub fn alive_at(graph: &Graph, size: [usize; 2], node: NodeId) -> Result<Vec<Alive>> {
    let shapes = graph.shapes(size)?;
    let at = node.index();
    let own = bytes(shapes[at]);
    let (last, users) = (last_reads(graph), graph.users());
    let earlier = graph.iter().take(at).filter(|(id, _)| last[id.index()] >= at);
    let mut alive: Vec<Alive> = earlier
        .map(|(id, value)| Alive {
            name: value.name.clone(),
            bytes: bytes(shapes[id.index()]),
            held_for: (last[id.index()] > at).then(|| goal(graph, &users, id, last[id.index()])),
        })
        .collect();
    let running = graph.node(node);
    if !overwrites(running, own, &going(running, node, &last), &shapes) {
        alive.push(Alive { name: running.name.clone(), bytes: own, held_for: None });
    }
    Ok(alive)
}

/// The value held while the most nodes run, the largest if several are; `None` if each node is read only by the next one. The inputs of blocks with branches wait until the addition.
///
/// # Errors
/// When the image does not suit the graph.
pub fn longest_wait(graph: &Graph, size: [usize; 2]) -> Result<Option<Wait>> {
    let shapes = graph.shapes(size)?;
    let (last, users) = (last_reads(graph), graph.users());
    let waits = graph.iter().filter(|(id, _)| last[id.index()] < graph.nodes().len());
    let waits = waits.map(|(id, _)| (last[id.index()].saturating_sub(id.index() + 1), bytes(shapes[id.index()]), id));
    let longest = waits.max_by_key(|&(nodes, bytes, id)| (nodes, bytes, std::cmp::Reverse(id)));
    Ok(longest.filter(|&(nodes, ..)| nodes > 0).map(|(nodes, bytes, id)| {
        let held_for = Some(goal(graph, &users, id, last[id.index()]));
        Wait { value: Alive { name: graph.node(id).name.clone(), bytes, held_for }, nodes }
    }))
}

/// For each value, the index of the last node that reads it: its own index if none does, one past the last node for an output.
fn last_reads(graph: &Graph) -> Vec<usize> {
    let mut last: Vec<usize> = (0..graph.nodes().len()).collect();
    for (id, node) in graph.iter() {
        node.inputs.iter().for_each(|input| last[input.index()] = id.index());
    }
    graph.outputs().iter().for_each(|output| last[output.node.index()] = graph.nodes().len());
    last
}

/// The inputs of the node `id` that no later node reads.
fn going(node: &Node, id: NodeId, last: &[usize]) -> Vec<usize> {
    let mut inputs: Vec<usize> = node.inputs.iter().map(|input| input.index()).collect();
    inputs.sort_unstable();
    inputs.dedup();
    inputs.retain(|&input| last[input] == id.index());
    inputs
}

/// Whether a node overwrites an input that no other node needs with its value of `own` bytes.
fn overwrites(node: &Node, own: u64, going: &[usize], shapes: &[Shape]) -> bool {
    let in_place = matches!(
        node.op,
        Op::BatchNorm(_) | Op::Scale { .. } | Op::Activation(_) | Op::Add | Op::Mul | Op::Softmax(_) | Op::Flatten
    );
    in_place && going.iter().any(|&input| bytes(shapes[input]) == own)
}

/// The node that the value of `id` is held for: the end of the branch of its last reader.
fn goal(graph: &Graph, users: &[Vec<NodeId>], id: NodeId, last: usize) -> String {
    let output = graph.outputs().iter().find(|output| output.node == id);
    let Some(&reader) = users[id.index()].iter().find(|user| user.index() == last) else {
        return output.map_or_else(String::new, |output| output.name.clone());
    };
    let mut end = reader;
    while let ([_], [next]) = (graph.node(end).inputs.as_slice(), users[end.index()].as_slice()) {
        end = *next;
    }
    let joins = graph.node(end).inputs.len() > 1;
    graph.node(if joins { end } else { reader }).name.clone()
}

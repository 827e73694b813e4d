//! Degree of parallelism: the number of fragmented operators in a building block (Ma et al., 1807.11164, Sect. 2, G3;
//! 2101.03697, Sect. 3.1). Each is a kernel to launch and to wait for.
//!
//! Fragmented operators are convolutions and pools. Operations that an engine does in the same pass do not count (batch
//! norm, activation, addition, multiplication, concatenation), nor do operations on one value per channel: global pooling
//! and everything that only it feeds, which is squeeze-and-excitation and the classifier.
//!
//! A block spans two consecutive values that every path from the image to the main output passes. A RepVGG block has two
//! operators in training form and one in plain form; a residual block has one per convolution. Cells that read their two
//! predecessors (NASNet's) have no such value between them, so a block whose operators belong to several modules, by the
//! first dotted part of their names, is split by module. The literature counts 13 operators for NASNet-A: it leaves out the
//! 1×1 convolutions at a cell's entrance and counts a depthwise convolution and the pointwise one after it as one. Here every
//! convolution counts.

use std::collections::HashMap;

use crate::graph::{Graph, Op, Role};

/// A building block and its fragmented operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOperators {
    /// The node that ends it, or the module's name.
    pub name: String,
    /// Its convolutions and pools.
    pub operators: usize,
}

/// The building blocks that have fragmented operators, in the graph's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragmentation {
    /// The blocks.
    pub blocks: Vec<BlockOperators>,
}

impl Fragmentation {
    /// The mean number of operators per block; 0 without blocks.
    pub fn mean(&self) -> f64 {
        let operators: usize = self.blocks.iter().map(|block| block.operators).sum();
        operators as f64 / self.blocks.len().max(1) as f64
    }

    /// The most operators of a block.
    pub fn max(&self) -> usize {
        self.blocks.iter().map(|block| block.operators).max().unwrap_or(0)
    }
}

/// Counts the fragmented operators of each building block of the main output.
///
/// # Panics
/// When the graph has no output.
pub fn fragmentation(graph: &Graph) -> Fragmentation {
    let graph = graph.inference();
    let users = graph.users();
    let mut blocks = Vec::new();
    let mut operators: Vec<&str> = Vec::new();
    let mut is_vector: Vec<bool> = Vec::with_capacity(users.len());
    // The last node that reads a value from before this node: up to there, that value bypasses this one.
    let mut reach = 0;
    for (id, node) in graph.iter() {
        let of_vectors = !node.inputs.is_empty() && node.inputs.iter().all(|input| is_vector[input.index()]);
        if is_operator(&node.op) && !of_vectors {
            operators.push(&node.name);
        }
        is_vector.push(of_vectors || matches!(node.op, Op::GlobalAvgPool | Op::Flatten));
        if reach <= id.index() {
            blocks.extend(split(&node.name, &operators));
            operators.clear();
        }
        reach = users[id.index()].iter().map(|user| user.index()).max().unwrap_or(0).max(reach);
    }
    Fragmentation { blocks }
}

/// Whether `op` is a convolution or a pool.
fn is_operator(op: &Op) -> bool {
    matches!(op, Op::MaxPool(_) | Op::AvgPool(_) | Op::AvgPoolInside(_))
        || op.parameters().iter().any(|parameter| parameter.role == Role::Kernel)
}

/// The block that ends in the node `end`, or one per module if the operators belong to several.
fn split(end: &str, operators: &[&str]) -> Vec<BlockOperators> {
    let modules: Option<Vec<&str>> =
        operators.iter().map(|name| name.split_once('.').map(|(module, _)| module)).collect();
    let mut blocks: Vec<BlockOperators> = Vec::new();
    let mut places = HashMap::new();
    for module in modules.iter().flatten() {
        let place = *places.entry(module).or_insert(blocks.len());
        if place == blocks.len() {
            blocks.push(BlockOperators { name: (*module).to_owned(), operators: 0 });
        }
        blocks[place].operators += 1;
    }
    match operators.len() {
        0 => Vec::new(),
        _ if blocks.len() > 1 => blocks,
        count => vec![BlockOperators { name: end.to_owned(), operators: count }],
    }
}

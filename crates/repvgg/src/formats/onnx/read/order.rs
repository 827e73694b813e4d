//! The order of the nodes: inputs before their readers, otherwise as in the file.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::{place, proto};
use crate::error::expected;
use crate::{Error, Result};

/// Sorts the nodes.
///
/// # Errors
/// When two nodes compute values of the same name, a node computes a constant or an input, or there is a cycle.
pub(super) fn order(graph: &proto::Graph) -> Result<Vec<&proto::Node>> {
    let constants = graph.initializer.iter().map(|tensor| &tensor.name);
    let given: HashSet<&String> = constants.chain(graph.input.iter().map(|input| &input.name)).collect();
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if producers.insert(output, index).is_some() || given.contains(output) {
                let what = expected("a value that nothing else computes").found(format_args!("{output:?} again"));
                return Err(Error::format(place(node), what));
            }
        }
    }
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    let mut pending_inputs = vec![0_usize; graph.node.len()];
    for (index, node) in graph.node.iter().enumerate() {
        for producer in node.reads().into_iter().filter_map(|input| producers.get(input)) {
            readers[*producer].push(index);
            pending_inputs[index] += 1;
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..pending_inputs.len()).filter(|&index| pending_inputs[index] == 0).map(Reverse).collect();
    let mut ordered = Vec::with_capacity(graph.node.len());
    while let Some(Reverse(index)) = ready.pop() {
        ordered.push(&graph.node[index]);
        for &reader in &readers[index] {
            pending_inputs[reader] -= 1;
            if pending_inputs[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    match pending_inputs.iter().position(|&waits| waits > 0) {
        None => Ok(ordered),
        Some(index) => {
            Err(Error::format(place(&graph.node[index]), expected("inputs computed earlier").found("a cycle")))
        }
    }
}

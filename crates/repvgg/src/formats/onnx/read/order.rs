//! The order of the nodes: inputs before users, otherwise the file's order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::{place, proto};
use crate::error::expected;
use crate::{Error, Result};

/// The nodes in order.
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
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    let mut waits_for = vec![0_usize; graph.node.len()];
    for (index, node) in graph.node.iter().enumerate() {
        for producer in node.input.iter().filter_map(|input| producers.get(input.as_str())) {
            users[*producer].push(index);
            waits_for[index] += 1;
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..waits_for.len()).filter(|&index| waits_for[index] == 0).map(Reverse).collect();
    let mut ordered = Vec::with_capacity(graph.node.len());
    while let Some(Reverse(index)) = ready.pop() {
        ordered.push(&graph.node[index]);
        for &user in &users[index] {
            waits_for[user] -= 1;
            if waits_for[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    match waits_for.iter().position(|&waits| waits > 0) {
        None => Ok(ordered),
        Some(index) => {
            Err(Error::format(place(&graph.node[index]), expected("inputs computed earlier").found("a cycle")))
        }
    }
}

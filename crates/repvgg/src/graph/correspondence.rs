//! Graphs that differ only in names.

use std::collections::{HashMap, HashSet};

use super::{Graph, NodeId};
use crate::weights::Renaming;

impl Graph {
    /// For each node that the main output needs, its counterpart in `other`; `None` when the graphs differ in more than names. No
    /// two nodes have the same counterpart.
    pub fn correspondence(&self, other: &Self) -> Option<HashMap<NodeId, NodeId>> {
        let mut pairs = HashMap::from([(self.main_output(), other.main_output())]);
        let mut taken = HashSet::from([other.main_output()]);
        let mut open = vec![self.main_output()];
        while let Some(id) = open.pop() {
            let (ours, theirs) = (self.node(id), other.node(pairs[&id]));
            if ours.op != theirs.op || ours.inputs.len() != theirs.inputs.len() {
                return None;
            }
            for (&input, &counterpart) in ours.inputs.iter().zip(&theirs.inputs) {
                match pairs.insert(input, counterpart) {
                    Some(before) if before != counterpart => return None,
                    Some(_) => {}
                    None if taken.insert(counterpart) => open.push(input),
                    None => return None,
                }
            }
        }
        Some(pairs)
    }

    /// For each parameter, its name in `other`, if the two graphs differ only in names and this one has no output but the main
    /// one. Renames the [`Weights`](crate::Weights) of `other` for this graph.
    pub fn renaming_from(&self, other: &Self) -> Option<Vec<Renaming>> {
        let pairs = self.correspondence(other)?;
        let mut names = Vec::new();
        for (id, node) in self.iter() {
            for parameter in node.op.parameters() {
                let name = |prefix: &str| format!("{prefix}.{}", parameter.suffix);
                names.push(Renaming { from: name(&other.node(*pairs.get(&id)?).name), to: name(&node.name) });
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Graph, Op};

    fn graph(prefix: &str, last: Op) -> Graph {
        let mut graph = Graph::new();
        let input = graph.add(format!("{prefix}input"), Op::Input { channels: 4 }, &[]);
        let norm = graph.add(format!("{prefix}norm"), Op::batch_norm(4), &[input]);
        let sum = graph.add(format!("{prefix}sum"), Op::Add, &[input, norm]);
        let last = graph.add(format!("{prefix}last"), last, &[sum]);
        graph.output("main", last);
        graph
    }

    #[test]
    fn names_do_not_matter_and_operations_do() {
        let ours = graph("a.", Op::relu());
        let pairs = ours.correspondence(&graph("b.", Op::relu())).unwrap();
        assert_eq!(pairs.len(), 4);
        assert!(pairs.iter().all(|(a, b)| a == b));
        assert_eq!(ours.correspondence(&graph("b.", Op::GlobalAvgPool)), None);
    }

    #[test]
    fn a_value_read_twice_is_not_two_values() {
        let mut twice = Graph::new();
        let input = twice.add("input", Op::Input { channels: 4 }, &[]);
        let norm = twice.add("norm", Op::batch_norm(4), &[input]);
        let sum = twice.add("sum", Op::Add, &[norm, norm]);
        twice.output("main", sum);
        let mut two = Graph::new();
        let input = two.add("input", Op::Input { channels: 4 }, &[]);
        let first = two.add("first", Op::batch_norm(4), &[input]);
        let second = two.add("second", Op::batch_norm(4), &[input]);
        let sum = two.add("sum", Op::Add, &[first, second]);
        two.output("main", sum);
        assert_eq!(twice.correspondence(&two), None);
    }
}

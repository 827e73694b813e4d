//! The account of parameters that do not fit a network.

use std::collections::{BTreeMap, HashSet};

use super::Weights;
use crate::graph::Role;
use crate::{Error, ErrorKind, Graph, Result, Tensor};

/// What is wrong with one parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Misfit {
    /// The network has it, the weights do not.
    Missing(Vec<usize>),
    /// The weights have it, the network does not.
    Unexpected,
    /// It is there, but is not what the network needs; a sentence says how.
    Wrong(String),
}

/// All parameters that do not fit, by their names.
#[derive(Debug, Default)]
pub(crate) struct Misfits {
    found: Vec<(String, Misfit)>,
    /// How many of the network's parameters are there as they should be.
    fitting: Vec<String>,
}

/// How many misfits are told in full.
const TOLD: usize = 4;

/// The most names among which the nearest is looked for, and the longest.
const NEAREST: usize = 4096;

impl Misfits {
    /// Compares `weights` with the parameters of `graph`.
    pub(crate) fn of(graph: &Graph, weights: &Weights) -> Self {
        let mut misfits = Self::default();
        let mut known = HashSet::new();
        for (name, parameter) in graph.parameters() {
            known.insert(name.clone());
            let misfit = match weights.get(&name) {
                None => Some(Misfit::Missing(parameter.shape)),
                Some(tensor) if tensor.shape() != parameter.shape => {
                    Some(Misfit::Wrong(format!("expected {:?}, found {:?}", parameter.shape, tensor.shape())))
                }
                Some(tensor) => bad_value(parameter.role, tensor).map(Misfit::Wrong),
            };
            match misfit {
                Some(misfit) => misfits.found.push((name, misfit)),
                None => misfits.fitting.push(name),
            }
        }
        let unexpected = weights.iter().filter(|(name, _)| !known.contains(*name));
        misfits.found.extend(unexpected.map(|(name, _)| (name.to_owned(), Misfit::Unexpected)));
        misfits
    }

    /// Adds those of tensors that are no weights; they replace what was said of the same names before.
    pub(crate) fn replace(&mut self, misfits: BTreeMap<String, Misfit>) {
        self.found.retain(|(name, _)| !misfits.contains_key(name));
        self.found.extend(misfits);
    }

    /// An error that tells the first of them, with names as `spell` writes them; nothing when there are none.
    ///
    /// # Errors
    /// When there is any.
    pub(crate) fn refuse(&self, spell: &dyn Fn(&str) -> String) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        let told: Vec<String> =
            self.found.iter().take(TOLD).map(|(name, misfit)| self.tell(name, misfit, spell)).collect();
        let rest = match self.found.len() - told.len() {
            0 => String::new(),
            1 => " (and 1 more parameter does not fit)".to_owned(),
            rest => format!(" (and {rest} more parameters do not fit)"),
        };
        Err(Error::new(ErrorKind::Weights, told.join("; ") + &rest))
    }

    fn tell(&self, name: &str, misfit: &Misfit, spell: &dyn Fn(&str) -> String) -> String {
        let place = spell(name);
        // What is unexpected may be what is missing, misspelt; else it is nearest to something that is known.
        let (text, missing_first) = match misfit {
            Misfit::Wrong(what) => return format!("{place}: {what}"),
            Misfit::Missing(shape) => (format!("{place}: missing, expected {shape:?}"), false),
            Misfit::Unexpected => (format!("{place}: unexpected, the network has no such parameter"), true),
        };
        let others = self.found.iter().filter(|(_, other)| match other {
            Misfit::Missing(_) => missing_first,
            Misfit::Unexpected => !missing_first,
            Misfit::Wrong(_) => false,
        });
        let others = others.map(|(other, _)| other);
        let fitting = self.fitting.iter().filter(|_| missing_first);
        match nearest(&place, others.chain(fitting).take(NEAREST).map(|name| spell(name))) {
            Some(nearest) => format!("{text}, the nearest name is {nearest}"),
            None => text,
        }
    }
}

/// The name that takes the fewest changes to become `name`, if that is less than a third of it.
fn nearest(name: &str, others: impl Iterator<Item = String>) -> Option<String> {
    let near = others.filter(|other| other.len() <= 256 && name.len() <= 256);
    let near = near.map(|other| (strsim::levenshtein(name, &other), other));
    near.filter(|(changes, _)| 3 * changes < name.len()).min().map(|(_, other)| other)
}

/// A sentence about the first value that no trained network has.
fn bad_value(role: Role, tensor: &Tensor) -> Option<String> {
    let at = |what: &str, index: usize| format!("expected {what}, found {} at index {index}", tensor.data()[index]);
    if let Some(index) = tensor.data().iter().position(|x| !x.is_finite()) {
        return Some(at("finite values", index));
    }
    let negative = tensor.data().iter().position(|&x| role == Role::RunningVar && x < 0.0)?;
    Some(at("a variance of at least 0", negative))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;

    fn graph() -> Graph {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: 2 }, &[]);
        let norm = graph.add("stage0.bn", Op::batch_norm(2), &[input]);
        graph.output("main", norm);
        graph
    }

    fn weights() -> Weights {
        graph().parameters().map(|(name, parameter)| (name, Tensor::full(parameter.shape, 1.0))).collect()
    }

    fn sentence(weights: &Weights) -> String {
        weights.check(&graph()).unwrap_err().to_string()
    }

    #[test]
    fn a_misspelt_name_is_told_with_the_right_one() {
        let mut weights = weights();
        let tensor = weights.remove("stage0.bn.running_var").unwrap();
        weights.insert("stage0.bn.runing_var", tensor);
        assert_eq!(
            sentence(&weights),
            "stage0.bn.running_var: missing, expected [2], the nearest name is stage0.bn.runing_var; \
             stage0.bn.runing_var: unexpected, the network has no such parameter, the nearest name is stage0.bn.running_var"
        );
    }

    #[test]
    fn what_is_near_nothing_stands_alone_and_many_are_counted() {
        let mut weights = weights();
        for index in 0..6 {
            weights.insert(format!("x{index}"), Tensor::full([1], 0.0));
        }
        let sentence = sentence(&weights);
        assert!(sentence.starts_with("x0: unexpected, the network has no such parameter; x1: "), "{sentence}");
        assert!(sentence.ends_with(" (and 2 more parameters do not fit)"), "{sentence}");
    }

    #[test]
    fn values_that_no_trained_network_has_are_named() {
        let mut weights = weights();
        weights.insert("stage0.bn.bias", Tensor::new([2], vec![0.0, f32::NAN]).unwrap());
        weights.insert("stage0.bn.running_var", Tensor::new([2], vec![-1.0, 0.0]).unwrap());
        weights.insert("stage0.bn.weight", Tensor::full([3], 0.0));
        assert_eq!(
            sentence(&weights),
            "stage0.bn.weight: expected [2], found [3]; stage0.bn.bias: expected finite values, found NaN at index 1; \
             stage0.bn.running_var: expected a variance of at least 0, found -1 at index 0"
        );
    }
}

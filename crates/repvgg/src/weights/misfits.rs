//! Parameters that do not fit a network.

use std::collections::{BTreeMap, HashSet};

use super::Weights;
use crate::error::{Problem, SHOWN, expected};
use crate::graph::Role;
use crate::{Error, Graph, Result, Tensor};

/// The problem with one parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Misfit {
    /// Missing from the weights.
    Missing(Vec<usize>),
    /// Unknown to the network.
    Unexpected,
    /// Unsuitable for the network.
    Wrong(Problem),
}

/// All parameters that do not fit, by their names.
#[derive(Debug, Default)]
pub(crate) struct Misfits {
    found: Vec<(String, Misfit)>,
    /// The network's parameters that fit.
    fitting: Vec<String>,
}

/// The most names to search for the nearest one.
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
                Some(tensor) if tensor.shape() != parameter.shape => Some(Misfit::Wrong(
                    expected(format_args!("{:?}", parameter.shape)).found(format_args!("{:?}", tensor.shape())),
                )),
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

    /// Adds the misfits of tensors that are not weights; they replace earlier ones of the same names.
    pub(crate) fn replace(&mut self, misfits: BTreeMap<String, Misfit>) {
        self.found.retain(|(name, _)| !misfits.contains_key(name));
        self.found.extend(misfits);
    }

    /// Combines all misfits into one error, with names as `spell` writes them.
    ///
    /// # Errors
    /// When there are any.
    pub(crate) fn refuse(&self, spell: &dyn Fn(&str) -> String) -> Result<()> {
        let errors = self.found.iter().enumerate().map(|(index, (name, misfit))| {
            let problem = match misfit {
                Misfit::Wrong(problem) => problem.clone(),
                Misfit::Missing(shape) => Problem::missing(format_args!("{shape:?}")),
                Misfit::Unexpected => "unexpected, the network has no such parameter".into(),
            };
            // Comparing names is slow, and an error shows only a few.
            let nearest = if index < SHOWN { self.nearest_name(name, misfit, spell) } else { None };
            let error = Error::weights(spell(name), problem);
            match nearest {
                Some(nearest) => error.with_hint(format_args!("the nearest name is {nearest}")),
                None => error,
            }
        });
        Error::several(errors.collect()).map_or(Ok(()), Err)
    }

    /// The likely correct spelling of a name that only one side has.
    fn nearest_name(&self, name: &str, misfit: &Misfit, spell: &dyn Fn(&str) -> String) -> Option<String> {
        // An unexpected name may be a missing one, misspelt; otherwise any known name may be meant.
        let known: &[String] = match misfit {
            Misfit::Wrong(_) => return None,
            Misfit::Missing(_) => &[],
            Misfit::Unexpected => &self.fitting,
        };
        let others = self.found.iter().filter(|(_, other)| {
            matches!(
                (misfit, other),
                (Misfit::Missing(_), Misfit::Unexpected) | (Misfit::Unexpected, Misfit::Missing(_))
            )
        });
        let candidates = others.map(|(other, _)| other).chain(known).take(NEAREST);
        nearest(&spell(name), candidates.map(|name| spell(name)))
    }
}

/// The name at the smallest edit distance from `name`, if that is less than a third of its length.
fn nearest(name: &str, others: impl Iterator<Item = String>) -> Option<String> {
    let near = others.filter(|other| other.len() <= 256 && name.len() <= 256);
    let near = near.map(|other| (strsim::levenshtein(name, &other), other));
    near.filter(|(changes, _)| 3 * changes < name.len()).min().map(|(_, other)| other)
}

/// The first value that no trained network has.
fn bad_value(role: Role, tensor: &Tensor) -> Option<Problem> {
    let at = |what: &str, index: usize| expected(what).found(format_args!("{} at index {index}", tensor.data()[index]));
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
            "stage0.bn.running_var: missing, expected [2] (the nearest name is stage0.bn.runing_var); \
             stage0.bn.runing_var: unexpected, the network has no such parameter (the nearest name is stage0.bn.running_var)"
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
        assert!(sentence.ends_with(" (and 2 more)"), "{sentence}");
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

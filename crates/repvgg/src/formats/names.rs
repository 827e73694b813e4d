//! From a file's names to the official ones; accounts for every name.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::dialect::unwrapped;
use super::{Dialect, Stored};
use crate::error::expected;
use crate::graph::Op;
use crate::weights::{Misfit, Misfits};
use crate::{Error, Graph, Result, Weights};

/// The tensors of a file under this project's names.
pub(super) struct Named {
    /// Floating-point tensors.
    pub(super) weights: Weights,
    /// The dialect of the file's names; `None` when they were left unchanged.
    pub(super) dialect: Option<Dialect>,
    /// The types of all other tensors.
    others: BTreeMap<String, String>,
    /// The file's own spelling of each name.
    spelling: BTreeMap<String, String>,
    /// The prefix of every name in the file.
    wrapper: String,
}

/// The suffix of PyTorch's batch counters, usually integers, which nothing uses.
const COUNTER: &str = ".num_batches_tracked";

impl Named {
    /// The parameters of `graph` as `dialect` names them; other names, and all names without a dialect, are left unchanged.
    pub(super) fn documented(tensors: Vec<(String, Stored)>, graph: &Graph, dialect: Option<Dialect>) -> Result<Self> {
        let Some(dialect) = dialect else { return Self::as_they_are(tensors) };
        let counters = counters(graph);
        let names = graph.parameters().map(|(name, _)| name).chain(counters);
        let official: HashMap<String, String> = names.filter_map(|name| Some((dialect.spell(&name)?, name))).collect();
        Self::new(tensors, Some(dialect), |name| official.get(name).cloned().unwrap_or_else(|| name.to_owned()))
    }

    /// The tensors under the file's own names.
    fn as_they_are(tensors: Vec<(String, Stored)>) -> Result<Self> {
        Self::new(tensors, None, |name| name.to_owned())
    }

    /// The tensors with names translated from the dialect that most of them belong to; other names are left unchanged.
    pub(super) fn translated(tensors: Vec<(String, Stored)>) -> Result<Self> {
        match Dialect::of(tensors.iter().map(|(name, _)| name.as_str())) {
            Some(dialect) => {
                Self::new(tensors, Some(dialect), |name| dialect.official(name).unwrap_or_else(|| name.to_owned()))
            }
            None => Self::as_they_are(tensors),
        }
    }

    /// The tensors under the file's own names without the prefixes of wrappers.
    pub(super) fn unwrapped(self) -> Self {
        let Self { weights, others, spelling, .. } = self;
        let own = |name: &str| unwrapped(&spelling[name]).to_owned();
        Self {
            weights: weights.into_iter().map(|(name, tensor)| (own(&name), tensor)).collect(),
            dialect: None,
            others: others.into_iter().map(|(name, dtype)| (own(&name), dtype)).collect(),
            spelling: spelling.values().map(|original| (unwrapped(original).to_owned(), original.clone())).collect(),
            wrapper: spelling.values().next().map_or_else(String::new, |original| wrapper(original, None)),
        }
    }

    fn new(tensors: Vec<(String, Stored)>, dialect: Option<Dialect>, rename: impl Fn(&str) -> String) -> Result<Self> {
        let mut named = Self {
            weights: Weights::new(),
            dialect,
            others: BTreeMap::new(),
            spelling: BTreeMap::new(),
            wrapper: wrapper(tensors.first().map_or("", |(name, _)| name), dialect),
        };
        for (original, stored) in tensors {
            let name = rename(&original);
            if let Some(first) = named.spelling.insert(name.clone(), original.clone()) {
                return Err(Error::weights(original, format!("{first} names the same parameter")));
            }
            match stored {
                Stored::Float(tensor) => named.weights.insert(name, tensor),
                Stored::Other { dtype, .. } => {
                    named.others.insert(name, dtype);
                }
            }
        }
        Ok(named)
    }

    /// The weights, if they are exactly the parameters of `graph`.
    ///
    /// # Errors
    /// Names the parameters that are missing, unexpected or wrong, as the file spells them.
    pub(super) fn account(mut self, graph: &Graph) -> Result<Weights> {
        for counter in counters(graph) {
            self.weights.remove(&counter);
            self.others.remove(&counter);
        }
        let mut misfits = Misfits::of(graph, &self.weights);
        let known: HashSet<String> = graph.parameters().map(|(name, _)| name).collect();
        let others = self.others.iter().map(|(name, dtype)| {
            let misfit = match known.contains(name) {
                true => Misfit::Wrong(expected("floating-point elements").found(dtype)),
                false => Misfit::Unexpected,
            };
            (name.clone(), misfit)
        });
        misfits.replace(others.collect());
        misfits.refuse(&|name| self.spell(name))?;
        Ok(self.weights)
    }

    /// The error with its parameter named as the file spells it.
    pub(super) fn spelled(&self, error: Error) -> Error {
        // Only parameters have dotted names.
        error.map_place(|place| if place.contains('.') { self.spell(place) } else { place.to_owned() })
    }

    /// The file's spelling of a name, or the spelling it would use.
    fn spell(&self, name: &str) -> String {
        if let Some(original) = self.spelling.get(name) {
            return original.clone();
        }
        let spelled = self.dialect.and_then(|dialect| dialect.spell(name));
        spelled.map_or_else(|| name.to_owned(), |spelled| format!("{}{spelled}", self.wrapper))
    }
}

/// The names of PyTorch's counters of the graph's batch norms.
fn counters(graph: &Graph) -> impl Iterator<Item = String> {
    let norms = graph.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm(_)));
    norms.map(|node| format!("{}{COUNTER}", node.name))
}

/// The prefix of a tensor's name; mmpretrain's `backbone.` is part of its names.
fn wrapper(name: &str, dialect: Option<Dialect>) -> String {
    let wrapper = &name[..name.len() - unwrapped(name).len()];
    match dialect {
        Some(Dialect::Mmpretrain) => wrapper.replace("backbone.", ""),
        _ => wrapper.to_owned(),
    }
}

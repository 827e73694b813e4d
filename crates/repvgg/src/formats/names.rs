//! Translates the names in a file into official ones, and accounts for every name.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::dialect::{is_mobileone, mobileone, unwrapped};
use super::{Dialect, Stored};
use crate::error::expected;
use crate::graph::Op;
use crate::weights::{Misfit, Misfits};
use crate::{Error, Graph, Result, Weights};

/// The tensors of a file under official names.
pub(super) struct NamedTensors {
    /// Floating-point tensors.
    pub(super) weights: Weights,
    /// The dialect of the names in the file; `None` if they were left unchanged.
    pub(super) dialect: Option<Dialect>,
    /// The element types of all other tensors.
    others: BTreeMap<String, String>,
    /// The name in the file, by official name.
    spelling: BTreeMap<String, String>,
    /// The wrapper prefix of the names in the file.
    wrapper: String,
}

/// The suffix of PyTorch's batch counters, usually integers, which inference never reads.
const COUNTER: &str = ".num_batches_tracked";

impl NamedTensors {
    /// Translates `dialect`'s names of the parameters of `graph`. Other names, or all names without a dialect, stay unchanged.
    pub(super) fn for_graph(tensors: Vec<(String, Stored)>, graph: &Graph, dialect: Option<Dialect>) -> Result<Self> {
        let Some(dialect) = dialect else { return Self::untranslated(tensors) };
        let counters = counters(graph);
        let names = graph.parameters().map(|(name, _)| name).chain(counters);
        let official: HashMap<String, String> = names.filter_map(|name| Some((dialect.spell(&name)?, name))).collect();
        Self::new(tensors, Some(dialect), |name| official.get(name).cloned().unwrap_or_else(|| name.to_owned()))
    }

    /// Uses the names in the file as they are.
    fn untranslated(tensors: Vec<(String, Stored)>) -> Result<Self> {
        Self::new(tensors, None, |name| name.to_owned())
    }

    /// Translates the names from the dialect that most of them follow. Other names stay unchanged.
    pub(super) fn translated(tensors: Vec<(String, Stored)>) -> Result<Self> {
        match Dialect::of(tensors.iter().map(|(name, _)| name.as_str())) {
            Some(dialect) => {
                Self::new(tensors, Some(dialect), |name| dialect.official(name).unwrap_or_else(|| name.to_owned()))
            }
            None => Self::untranslated(tensors),
        }
    }

    /// Goes back to the names in the file, without wrapper prefixes. Those of MobileOne's authors become timm's.
    pub(super) fn unwrapped(self) -> Self {
        let Self { weights, others, spelling, .. } = self;
        let is_mobileone = is_mobileone(spelling.values().map(String::as_str));
        let named = |original: &str| match is_mobileone {
            true => mobileone(unwrapped(original)),
            false => unwrapped(original).to_owned(),
        };
        let own = |name: &str| named(&spelling[name]);
        Self {
            weights: weights.into_iter().map(|(name, tensor)| (own(&name), tensor)).collect(),
            dialect: None,
            others: others.into_iter().map(|(name, dtype)| (own(&name), dtype)).collect(),
            spelling: spelling.values().map(|original| (named(original), original.clone())).collect(),
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

    /// Returns the weights if they are exactly the parameters of `graph`.
    ///
    /// # Errors
    /// Lists the missing, unexpected and wrong parameters under their names in the file.
    pub(super) fn into_parameters(mut self, graph: &Graph) -> Result<Weights> {
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
        misfits.refuse(&|name| self.file_name(name))?;
        Ok(self.weights)
    }

    /// Replaces the parameter's name in an error with its name in the file.
    pub(super) fn with_file_names(&self, error: Error) -> Error {
        // Only parameters have dotted names.
        error.map_place(|place| if place.contains('.') { self.file_name(place) } else { place.to_owned() })
    }

    /// The name of a parameter in the file, or the name that the file would use for it.
    fn file_name(&self, name: &str) -> String {
        if let Some(original) = self.spelling.get(name) {
            return original.clone();
        }
        let spelled = self.dialect.and_then(|dialect| dialect.spell(name));
        spelled.map_or_else(|| name.to_owned(), |spelled| format!("{}{spelled}", self.wrapper))
    }
}

/// The names of PyTorch's batch counters, one for each batch norm of the graph.
fn counters(graph: &Graph) -> impl Iterator<Item = String> {
    let norms = graph.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm(_)));
    norms.map(|node| format!("{}{COUNTER}", node.name))
}

/// The wrapper prefix of a tensor's name. In mmpretrain's names, `backbone.` is no wrapper.
fn wrapper(name: &str, dialect: Option<Dialect>) -> String {
    let wrapper = &name[..name.len() - unwrapped(name).len()];
    match dialect {
        Some(Dialect::Mmpretrain) => wrapper.replace("backbone.", ""),
        _ => wrapper.to_owned(),
    }
}

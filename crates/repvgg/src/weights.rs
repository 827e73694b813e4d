//! Parameters by PyTorch's own names.
//!
//! ```
//! use repvgg::{Tensor, Weights};
//! use repvgg::weights::Renaming;
//!
//! let mut weights = Weights::new();
//! weights.insert("head.fc.bias", Tensor::full([10], 0.0));
//! let names = [Renaming { from: "head.fc.bias".to_owned(), to: "linear.bias".to_owned() }];
//! let weights = weights.renamed(names).unwrap();
//! assert_eq!(weights.require("linear.bias").unwrap().shape(), [10]);
//! ```

mod initialise;
mod misfits;

pub(crate) use misfits::{Misfit, Misfits};

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use crate::{Error, Graph, Result, Tensor};

/// The name of the convolution that replaces a block's branches, in the checkpoints of the paper's authors:
/// `stage1.0.rbr_reparam`.
pub const MERGED: &str = "rbr_reparam";

/// The shapes of parameters by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// A map from parameter names (`stage1.0.rbr_dense.conv.weight`) to tensors, in the order of the names.
///
/// Clones share tensors; writing to a tensor copies only that one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights(BTreeMap<String, Arc<Tensor>>);

impl Weights {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name).map(|tensor| &**tensor)
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn require(&self, name: &str) -> Result<&Tensor> {
        self.get(name).ok_or_else(|| Error::weights(name, "missing"))
    }

    /// The tensor called `name`, to write.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        self.0.get_mut(name).map(Arc::make_mut)
    }

    /// Adds a tensor, or replaces the one of that name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.insert(name.into(), Arc::new(tensor));
    }

    /// Removes the tensor called `name`.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.0.remove(name).map(Arc::unwrap_or_clone)
    }

    /// All tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), &**tensor))
    }

    /// The shape of each tensor.
    pub fn shapes(&self) -> Shapes {
        self.0.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect()
    }

    /// Renames tensors without copying them; tensors that `names` does not mention are dropped.
    ///
    /// `None` if `names` mentions a tensor that does not exist.
    pub fn renamed(mut self, names: impl IntoIterator<Item = Renaming>) -> Option<Self> {
        names
            .into_iter()
            .map(|Renaming { from, to }| Some((to, self.0.remove(&from)?)))
            .collect::<Option<_>>()
            .map(Self)
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that these are exactly the parameters of `graph`: none missing or unexpected, the right shapes, finite values, and
    /// no negative running variance.
    ///
    /// # Errors
    /// As [`Graph::check`]; otherwise names the first parameters that do not fit, the nearest known name of each, and the number
    /// of others.
    pub fn check(&self, graph: &Graph) -> Result<()> {
        graph.check()?;
        self.check_parameters(graph)
    }

    /// Like [`check`](Self::check), for graphs with any number of inputs and outputs.
    pub(crate) fn check_parameters(&self, graph: &Graph) -> Result<()> {
        Misfits::of(graph, self).refuse(&str::to_owned)
    }
}

/// A parameter's old name and its new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renaming {
    /// The old name.
    pub from: String,
    /// The new name.
    pub to: String,
}

impl FromIterator<(String, Tensor)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(tensors: I) -> Self {
        Self(tensors.into_iter().map(|(name, tensor)| (name, Arc::new(tensor))).collect())
    }
}

impl IntoIterator for Weights {
    type Item = (String, Tensor);
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter(self.0.into_iter())
    }
}

/// The tensors of [`Weights`] in the order of their names.
#[derive(Debug)]
pub struct IntoIter(btree_map::IntoIter<String, Arc<Tensor>>);

impl Iterator for IntoIter {
    type Item = (String, Tensor);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, tensor)| (name, Arc::unwrap_or_clone(tensor)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

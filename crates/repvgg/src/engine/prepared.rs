//! A network with packed weights, shared by sessions.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repvgg_kernels::{ConvSpec, Layout, PackedConv2d, Packing, Parameters, ThreadPool};

use super::choice::ConvSite;
use super::parameters::{Affine, Folded};
use super::placement::Placement;
use super::{BatchShape, Options, Tuning};
use crate::graph::{NodeId, Shape};
use crate::program::{Convolution, Operation, Program};
use crate::{Error, Graph, Result, Weights};

/// A network ready for [`Session`](super::Session)s of any batch and size: its program, its weights, and the packed forms
/// that sessions use.
///
/// It is `Send` and `Sync`; sessions share it by [`Arc`]. Weights are packed when the first session needs them in a form,
/// and stay packed. The tensors of the [`Weights`] are shared with the caller, not copied.
pub struct Prepared {
    program: Program,
    weights: Weights,
    options: Options,
    /// The batch norms and factors of the terms of sums.
    affines: HashMap<NodeId, Arc<Affine>>,
    packed: Mutex<HashMap<PackedKey, Arc<PackedConv2d>>>,
}

/// Determines the bytes of packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PackedKey {
    filters: NodeId,
    layout: Layout,
    packing: Packing,
}

impl Prepared {
    /// Prepares the main output of `graph`, without auxiliary outputs.
    ///
    /// # Errors
    /// When the weights do not fit the graph ([`Weights::check`]).
    pub fn new(graph: &Graph, weights: &Weights, options: Options) -> Result<Self> {
        weights.check(graph)?;
        let program = Program::inference(graph);
        let lanes = options.level.lanes();
        let sums = program.steps().iter().filter_map(|step| match &step.operation {
            Operation::Sum(sum) => Some(sum),
            _ => None,
        });
        let affine = |&id: &NodeId| Ok((id, Arc::new(Affine::of(program.graph().node(id), weights, lanes)?)));
        let affines = sums.flat_map(|sum| sum.affines.iter().flatten()).map(affine).collect::<Result<_>>()?;
        Ok(Self { weights: weights.clone(), options, affines, packed: Mutex::default(), program })
    }

    /// The steps that compute the network.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The options that it was prepared with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Bytes of all packed weights; shared ones count once.
    pub fn packed_bytes(&self) -> usize {
        let affines: usize = self.affines.values().map(|affine| affine.bytes()).sum();
        let packed: usize = self.packed().values().map(|packed| packed.bytes()).sum();
        affines + packed
    }

    /// Drops packed weights that no session uses.
    pub fn drop_unused(&self) {
        self.packed().retain(|_, packed| Arc::strong_count(packed) > 1);
    }

    /// Measures the fastest algorithm of each convolution for images of this shape, except those already in the options' tuning.
    /// `progress(done, all)` is called before each convolution and at the end.
    ///
    /// # Errors
    /// When the graph cannot take images of this shape, or the system refuses memory.
    pub fn tune(
        &self,
        pool: &ThreadPool,
        shape: BatchShape,
        tuning: &mut Tuning,
        progress: impl FnMut(usize, usize),
    ) -> Result<()> {
        let placement = Placement::new(&self.program, shape, self.options.level.lanes())?;
        let sites: Vec<ConvSite> = placement.convolutions(&self.program, shape.batch).collect();
        tuning.measure(pool, &sites, &self.options, progress)
    }

    /// One image of the input for images of `size`: `[C, H, W]`.
    pub(super) fn input_shape(&self, [height, width]: [usize; 2]) -> Shape {
        [self.program.graph().input_channels(), height, width]
    }

    /// A term's batch norm or factor per channel.
    pub(super) fn affine(&self, id: NodeId) -> Arc<Affine> {
        Arc::clone(&self.affines[&id])
    }

    /// A convolution with its weights in this form, packed now if no session has needed it before.
    ///
    /// # Errors
    /// When the system refuses the memory.
    pub(super) fn packed_convolution(
        &self,
        pool: &ThreadPool,
        convolution: &Convolution,
        spec: &ConvSpec,
        packing: Packing,
    ) -> Result<Arc<PackedConv2d>> {
        let key = PackedKey { filters: convolution.filters, layout: spec.layout, packing };
        // Packing holds the lock, so two sessions never pack the same weights.
        let mut packed = self.packed();
        if let Some(found) = packed.get(&key) {
            return Ok(Arc::clone(found));
        }
        let graph = self.program.graph();
        let folded = Folded::of(graph, convolution, &self.weights)?;
        let parameters = Parameters {
            weights: &folded.weights,
            bias: Some(&folded.bias),
            addend_scale: folded.addend_scale.as_deref(),
            activation: convolution.activation,
        };
        let new = PackedConv2d::new(pool, self.options.level, spec, packing, parameters);
        let new = Arc::new(new.map_err(|error| Error::shape(&graph.node(convolution.filters).name, error))?);
        packed.insert(key, Arc::clone(&new));
        Ok(new)
    }

    fn packed(&self) -> MutexGuard<'_, HashMap<PackedKey, Arc<PackedConv2d>>> {
        // Entries are inserted complete, so a panic elsewhere leaves the map valid.
        self.packed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, options, .. } = self;
        f.debug_struct("Prepared")
            .field("steps", &program.steps().len())
            .field("options", options)
            .field("packed_bytes", &self.packed_bytes())
            .finish_non_exhaustive()
    }
}

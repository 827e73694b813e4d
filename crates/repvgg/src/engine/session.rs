//! Sessions: memory for values of one shape, and a plan for each step.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use repvgg_kernels::maps::{self, Cpu, MapMut, ResizeTap};
use repvgg_kernels::{Buffer, ConvPlan, Packing, ThreadPool};

use super::choice::{Choice, ConvSite, choose};
use super::memory::{Location, ReadView, Slot};
use super::placement::Placement;
use super::step::{BoundStep, Constants, StepRun};
use super::{BatchShape, Prepared};
use crate::cost::{LayerCost, cost};
use crate::error::expected;
use crate::graph::{NodeId, Shape, Tap};
use crate::program::{Operation, Program, ValueId};
use crate::{Error, Result};

/// The most memory for activations: a shape that needs more is a mistake.
const MEMORY_LIMIT: u64 = 64 << 30;

/// One step of a session, for reports.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Layer {
    /// The name of the node whose value the step writes.
    pub name: String,
    /// The operations that the step performs in one pass: `Conv2d + ReLU`.
    pub kind: String,
    /// Its output for one image: `[C, H, W]`.
    pub shape: Shape,
    /// Multiply-adds per image.
    pub macs: u64,
    /// The algorithm, if the step is a convolution.
    pub choice: Option<Choice>,
}

/// Runs a [`Prepared`] network on up to a batch of images of one size.
///
/// It holds memory for activations and no weights, so it is cheap: open one per calling thread and shape. Results are bit-equal
/// for any number of threads in its pool and for any other images in the batch.
pub struct Session {
    prepared: Arc<Prepared>,
    pool: Arc<ThreadPool>,
    shape: BatchShape,
    steps: Vec<BoundStep>,
    layers: Vec<Layer>,
    input: Shape,
    /// The location of the packed images, if some step reads images in blocks.
    blocks: Option<Slot>,
    output: Slot,
    arena: Buffer,
    workspace: Buffer,
}

impl Session {
    /// A session for up to `shape.batch` images of `shape.size` on the threads of `pool`. Packs the weights
    /// whose form no earlier session has needed.
    ///
    /// # Errors
    /// When the graph cannot take images of this size, the shape is empty, activations exceed 64 GiB or the memory of the
    /// system, or no choice of algorithms meets [`Options::memory_limit`](super::Options::memory_limit).
    pub fn new(prepared: &Arc<Prepared>, pool: &Arc<ThreadPool>, shape: BatchShape) -> Result<Self> {
        shape.check()?;
        let (program, options) = (prepared.program(), prepared.options());
        let placement = Placement::new(program, shape, options.level.lanes())?;
        check_memory(placement.arena, shape)?;
        let sites: Vec<ConvSite> = placement.convolutions(program, shape.batch).collect();
        let mut convolutions = sites.iter().zip(choose(&sites, options)?);
        let binding = Binding { prepared, pool, placement: &placement };
        let report = Report { program, costs: &cost(program.graph(), shape.size)?.layers };
        let blocks = placement.blocks(program);
        let images = program.node_of(program.input());
        let mut layers: Vec<Layer> = blocks.iter().map(|_| report.layer(program.input(), &[images], None)).collect();
        let mut steps = Vec::with_capacity(placement.steps.len());
        for &index in &placement.steps {
            let step = &program.steps()[index];
            let convolution = match step.operation {
                Operation::Convolution(_) => convolutions.next(),
                _ => None,
            };
            let constants = binding.constants(index, convolution.as_ref().map(|(site, choice)| (*site, choice)))?;
            layers.push(report.layer(step.output, &step.nodes, convolution.map(|(_, choice)| choice)));
            steps.push(binding.bind(index, constants));
        }
        let workspace = steps.iter().map(|step| step.constants.workspace_len()).max().unwrap_or(0);
        Ok(Self {
            shape,
            layers,
            input: prepared.input_shape(shape.size),
            blocks,
            output: placement.slots[program.outputs()[0].index()],
            arena: zeroed(placement.arena, shape)?,
            workspace: zeroed(workspace as u64, shape)?,
            steps,
            prepared: Arc::clone(prepared),
            pool: Arc::clone(pool),
        })
    }

    /// Runs `N` images, 1 to [`BatchShape::batch`]: `input` `[N, C, H, W]` to `output` `[N, K]`, where `K` is the product of
    /// [`Session::output_shape`]. Allocates nothing.
    ///
    /// # Errors
    /// When `input` is not 1 to [`BatchShape::batch`] whole images, or `output` does not have one row per image; `output`
    /// is then unchanged.
    pub fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<()> {
        self.execute(input, output, || ())
    }

    /// Runs like [`Session::run`] and returns the time of each of [`Session::layers`].
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_timed(&mut self, input: &[f32], output: &mut [f32]) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(self.layers.len());
        let mut before = Instant::now();
        self.execute(input, output, || {
            let now = Instant::now();
            times.push(now - before);
            before = now;
        })?;
        Ok(times)
    }

    /// The network that it runs.
    pub fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// The batch and size that it was opened for.
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// Threads that work on a run, including the caller's.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The shape of one image: `[C, H, W]`.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// The main output for one image: `[K, 1, 1]` for a classifier.
    pub fn output_shape(&self) -> Shape {
        self.output.shape
    }

    /// The steps in execution order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Bytes of the packed weights that its steps read; other sessions may share them ([`Prepared::packed_bytes`]).
    pub fn packed_bytes(&self) -> usize {
        self.steps.iter().map(|step| step.constants.packed_bytes()).sum()
    }

    /// Bytes of activations and workspace: everything that only this session holds.
    pub fn arena_bytes(&self) -> usize {
        self.arena.bytes() + self.workspace.bytes()
    }

    /// The part of [`Session::arena_bytes`] for intermediate results of convolutions, on all threads.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace.bytes()
    }

    /// Runs the steps and calls `after` after each of them.
    fn execute(&mut self, input: &[f32], output: &mut [f32], mut after: impl FnMut()) -> Result<()> {
        let images = self.check(input, output)?;
        let cpu = Cpu { pool: &self.pool, level: self.prepared.options().level };
        if let Some(slot) = self.blocks {
            let (_, blocks) = ReadView::split(input, &mut self.arena, images, slot);
            maps::pack(cpu, input, MapMut::new(blocks, slot.layout(images)));
            after();
        }
        let program = self.prepared.program();
        for step in &self.steps {
            let (readable, output) = ReadView::split(input, &mut self.arena, images, step.output);
            let run = StepRun { cpu, images, readable, output, workspace: &mut self.workspace };
            step.run(&program.steps()[step.index].operation, run);
            after();
        }
        let arena = ReadView::all(input, &self.arena, images);
        match self.output.location {
            Location::Caller => output.copy_from_slice(arena.data(self.output)),
            Location::Arena(_) => maps::unpack(cpu, arena.map(self.output), output),
        }
        Ok(())
    }

    /// Checks the lengths of the slices and returns the number of images.
    fn check(&self, input: &[f32], output: &[f32]) -> Result<usize> {
        let (image, row) = (self.input.iter().product::<usize>(), self.output.shape.iter().product::<usize>());
        let (images, batch) = (input.len() / image, self.shape.batch);
        if input.len() != images * image || !(1..=batch).contains(&images) {
            let what = expected(format_args!("1 to {batch} images of {image} elements"));
            return Err(Error::shape("input", what.found(format_args!("{} elements", input.len()))));
        }
        if output.len() != images * row {
            let what = expected(format_args!("{images} rows of {row} elements"));
            return Err(Error::shape("output", what.found(format_args!("{} elements", output.len()))));
        }
        Ok(images)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("shape", &self.shape)
            .field("threads", &self.threads())
            .field("layers", &self.layers.len())
            .field("arena_bytes", &self.arena_bytes())
            .finish_non_exhaustive()
    }
}

/// Binds steps to memory and packed weights.
struct Binding<'a> {
    prepared: &'a Prepared,
    pool: &'a ThreadPool,
    placement: &'a Placement,
}

impl Binding<'_> {
    fn slot(&self, value: ValueId) -> Slot {
        self.placement.slots[value.index()]
    }

    fn bind(&self, index: usize, constants: Constants) -> BoundStep {
        let step = &self.prepared.program().steps()[index];
        let inputs = step.inputs.iter().map(|&input| self.slot(input)).collect();
        BoundStep { index, constants, inputs, output: self.slot(step.output) }
    }

    /// The engine's constants for a step; `convolution` is the site and the choice of a convolution.
    fn constants(&self, index: usize, convolution: Option<(&ConvSite, &Choice)>) -> Result<Constants> {
        let step = &self.prepared.program().steps()[index];
        Ok(match (&step.operation, convolution) {
            (Operation::Convolution(convolution), Some((ConvSite { spec, site }, choice))) => {
                let name = &self.prepared.program().graph().node(convolution.filters).name;
                let invalid = |error| Error::shape(name, error);
                let packing = Packing::of(choice.taken.algorithm, spec, site.size).map_err(invalid)?;
                let packed = self.prepared.packed_convolution(self.pool, convolution, spec, packing)?;
                let plan = ConvPlan::new(&packed, *site, self.pool.threads()).map_err(invalid)?;
                Constants::Convolution { packed, plan: Box::new(plan) }
            }
            (Operation::Sum(sum), _) => {
                let affine = |id: &Option<NodeId>| id.map(|id| self.prepared.affine(id));
                Constants::Affines(sum.affines.iter().map(affine).collect())
            }
            (Operation::Shuffle { groups }, _) => {
                let channels = self.slot(step.output).shape[0];
                let source = |channel: usize| channel % groups * (channels / groups) + channel / groups;
                Constants::Channels((0..channels).map(source).collect())
            }
            (Operation::Slice { start, channels }, _) => Constants::Channels((*start..start + channels).collect()),
            (Operation::Resize(resize), _) => {
                let [input, output] = [step.inputs[0], step.output].map(|value| self.slot(value).shape);
                let taps = |axis: usize| {
                    let taps = resize.taps(axis, input[axis + 1], output[axis + 1]).into_iter();
                    taps.map(|Tap { indices, weight }| ResizeTap { indices, weight: weight as f32 }).collect()
                };
                Constants::Taps([taps(0), taps(1)])
            }
            _ => Constants::None,
        })
    }
}

/// Describes steps for reports.
struct Report<'a> {
    program: &'a Program,
    /// One per node of the graph.
    costs: &'a [LayerCost],
}

impl Report<'_> {
    fn layer(&self, output: ValueId, nodes: &[NodeId], choice: Option<Choice>) -> Layer {
        let (graph, node) = (self.program.graph(), self.program.node_of(output));
        let kinds: Vec<&str> = nodes.iter().map(|&node| graph.node(node).op.kind()).collect();
        Layer {
            name: graph.node(node).name.clone(),
            kind: kinds.join(" + "),
            shape: self.costs[node.index()].shape,
            macs: nodes.iter().map(|node| self.costs[node.index()].macs).sum(),
            choice,
        }
    }
}

/// Refuses activations of `len` elements beyond the memory limit.
fn check_memory(len: u64, shape: BatchShape) -> Result<()> {
    let bytes = len.saturating_mul(size_of::<f32>() as u64);
    if bytes <= MEMORY_LIMIT { Ok(()) } else { Err(too_much_memory(bytes, shape)) }
}

fn too_much_memory(bytes: u64, BatchShape { batch, size: [height, width] }: BatchShape) -> Error {
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    let (limit, found) = (gib(MEMORY_LIMIT), gib(bytes));
    let what = expected(format_args!("activations that fit into memory and {limit:.0} GiB"));
    let place = format_args!("batch {batch} of {height}x{width} images");
    Error::spec(place, what.found(format_args!("{found:.1} GiB")))
}

/// `len` zeros, or an error if they exceed the memory limit or the system refuses them.
fn zeroed(len: u64, shape: BatchShape) -> Result<Buffer> {
    check_memory(len, shape)?;
    let buffer = usize::try_from(len).ok().and_then(|len| Buffer::zeroed(len).ok());
    let mut buffer = buffer.ok_or_else(|| too_much_memory(len.saturating_mul(size_of::<f32>() as u64), shape))?;
    // Writing the zeros maps every page now rather than during the first run.
    buffer.fill(0.0);
    Ok(buffer)
}

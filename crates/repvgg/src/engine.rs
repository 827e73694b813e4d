//! The engine: a graph planned once for one shape, then run many times without allocating.
//!
//! Planning checks the weights, joins nodes into steps that each make one pass over memory (`lower`), chooses an
//! algorithm for each convolution (`choose`, `tune`), packs the weights, and gives every value a place in one arena where
//! values that are never alive together share memory (`arena`). Running walks the steps. Callers see only images
//! `[N, C, H, W]` and rows `[N, K]`; how values are laid out in between is the engine's own affair.

mod arena;
mod choose;
mod kernel;
mod lower;
mod settings;
mod tune;

use std::time::{Duration, Instant};

use repvgg_kernels::maps::{self, Cpu};
use repvgg_kernels::{
    Buffer, ConvPlan, ConvSpec, Geometry, Layout, PackedConv2d, Packing, Parameters, Site, ThreadPool,
};

pub use choose::{Choice, Reason};
pub use repvgg_kernels::{Accuracy, Algorithm, Estimate, Level, fma_peak};
pub use settings::Settings;
pub use tune::Tuning;

use crate::cost::cost;
use crate::graph::{NodeId, Op, Shape};
use crate::{Error, Graph, Result, Weights};
use arena::Layout as Places;
use kernel::{Kernel, Slot, Source, Values};
use lower::{Affine, Step as Lowered, Work};

/// The most memory that activations may take; more is a mistake in the shape, not a network.
const MEMORY_LIMIT: u64 = 64 << 30;

/// The most channels of images that a convolution reads as they come; it reads more in blocks, which costs a pass.
const PLANAR_CHANNELS: usize = 4;

/// One step of a plan: what a report prints about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The name of the node whose value the step writes.
    pub name: String,
    /// The operations that the step performs in one pass: `Conv2d + ReLU`.
    pub kind: String,
    /// What it writes for each image: `[C, H, W]`.
    pub shape: Shape,
    /// Multiply-adds for each image.
    pub macs: u64,
    /// How a convolution is computed.
    pub choice: Option<Choice>,
}

/// A network ready to run: its main output, for up to [`Settings::batch`] images of one size.
///
/// Results do not depend on the number of threads, not even in the last bit.
pub struct Plan {
    settings: Settings,
    pool: ThreadPool,
    steps: Vec<Step>,
    layers: Vec<Layer>,
    input: Shape,
    output: Slot,
    arena: Buffer,
    workspace: Buffer,
}

/// A kernel bound to its memory.
struct Step {
    kernel: Kernel,
    inputs: Vec<Slot>,
    output: Slot,
}

impl Plan {
    /// Plans the main output of `graph`; auxiliary outputs are left out.
    ///
    /// # Errors
    /// When the weights do not fit the graph ([`Weights::check`]), the graph cannot take images of this size, or the
    /// settings ask for nothing, for more than 64 GiB of activations, or for less memory than the weights need.
    pub fn new(graph: &Graph, weights: &Weights, settings: Settings) -> Result<Self> {
        Self::tuned(graph, weights, settings, &Tuning::new())
    }

    /// As [`Plan::new`], with the algorithms that were measured to be the fastest where they are allowed.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn tuned(graph: &Graph, weights: &Weights, settings: Settings, tuning: &Tuning) -> Result<Self> {
        let Draft { graph, steps, slots, arena } = Draft::new(graph, weights, settings)?;
        let convolutions = convolutions(&steps, &slots, settings.batch);
        let mut choices = choose::choose(&convolutions, &settings, tuning)?.into_iter();
        let choices: Vec<Option<Choice>> =
            steps.iter().map(|step| if let Work::Conv(_) = step.work { choices.next() } else { None }).collect();
        let layers = layers(&graph, settings.size, &steps, &choices)?;
        let arena = zeroed(arena, settings)?;
        let pool = ThreadPool::new(settings.threads);
        let steps: Vec<Step> = steps
            .into_iter()
            .zip(&choices)
            .map(|(step, choice)| Step::bind(step, &graph, &slots, (&pool, settings), choice.as_ref()))
            .collect::<Result<_>>()?;
        let workspace = steps.iter().map(|step| step.workspace_len()).max().unwrap_or(0);
        Ok(Self {
            settings,
            pool,
            layers,
            input: [graph.input_channels(), settings.size[0], settings.size[1]],
            output: slots[graph.main_output().index()],
            arena,
            workspace: zeroed(workspace as u64, settings)?,
            steps,
        })
    }

    /// Measures the fastest algorithm of each convolution that `tuning` does not know yet; `progress` hears how many of
    /// how many are done.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn tune(
        graph: &Graph,
        weights: &Weights,
        settings: Settings,
        tuning: &mut Tuning,
        progress: impl FnMut(usize, usize),
    ) -> Result<()> {
        let Draft { steps, slots, .. } = Draft::new(graph, weights, settings)?;
        tuning.measure(&convolutions(&steps, &slots, settings.batch), &settings, progress)
    }

    /// Runs `N` images, `1 ≤ N ≤` [`Settings::batch`]: `input` `[N, C, H, W]` to `output` `[N, K]`, where `K` is the
    /// product of [`Plan::output_shape`]. Nothing is allocated.
    ///
    /// # Panics
    /// When `input` is not a whole number of images, too many or none, or `output` has another number of rows.
    pub fn run(&mut self, input: &[f32], output: &mut [f32]) {
        self.execute(input, output, || ());
    }

    /// As [`Plan::run`], and says how long each of [`Plan::layers`] took.
    ///
    /// # Panics
    /// As [`Plan::run`].
    pub fn run_timed(&mut self, input: &[f32], output: &mut [f32]) -> Vec<Duration> {
        let mut times = Vec::with_capacity(self.steps.len());
        let mut before = Instant::now();
        self.execute(input, output, || {
            let now = Instant::now();
            times.push(now - before);
            before = now;
        });
        times
    }

    /// What the plan was made for.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// One image of the input: `[C, H, W]`.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// The main output for one image: `[K, 1, 1]` for a classifier.
    pub fn output_shape(&self) -> Shape {
        self.output.shape
    }

    /// The steps in the order in which they run.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Bytes of packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.steps.iter().map(|step| step.kernel.packed_bytes()).sum()
    }

    /// Bytes of activations and workspace: with [`Plan::packed_bytes`], all that the plan holds.
    pub fn arena_bytes(&self) -> usize {
        self.arena.bytes() + self.workspace.bytes()
    }

    /// The part of [`Plan::arena_bytes`] that holds no values but what convolutions compute in between, on each thread.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace.bytes()
    }

    /// Runs the steps; `after` is called after each of them.
    fn execute(&mut self, input: &[f32], output: &mut [f32], mut after: impl FnMut()) {
        let (image, row) = (self.input.iter().product::<usize>(), self.output.shape.iter().product::<usize>());
        let images = input.len() / image;
        assert!(
            input.len() == images * image && (1..=self.settings.batch).contains(&images),
            "input: expected 1 to {} images of {image} elements, found {} elements",
            self.settings.batch,
            input.len()
        );
        assert_eq!(output.len(), images * row, "output: expected {images} rows of {row} elements");
        for step in &self.steps {
            let (values, target) = Values::split(input, &mut self.arena, images, step.output);
            let call = kernel::Call {
                pool: &self.pool,
                level: self.settings.level,
                images,
                inputs: &step.inputs,
                values,
                output: target,
                slot: step.output,
                workspace: &mut self.workspace,
            };
            step.kernel.run(call);
            after();
        }
        let values = Values::all(input, &self.arena, images);
        match self.output.source {
            Source::Input => output.copy_from_slice(values.data(self.output)),
            Source::Arena(_) => {
                let cpu = Cpu { pool: &self.pool, level: self.settings.level };
                maps::unpack(cpu, values.map(self.output), output);
            }
        }
    }
}

/// Steps whose values have places, before anything is packed.
struct Draft {
    graph: Graph,
    steps: Vec<Lowered>,
    /// Where the value of each node lies. Nodes that are computed within another's step have no value of their own.
    slots: Vec<Slot>,
    /// Elements of the arena.
    arena: u64,
}

impl Draft {
    fn new(graph: &Graph, weights: &Weights, settings: Settings) -> Result<Self> {
        settings.check()?;
        weights.check(graph)?;
        let graph = graph.inference();
        let shapes = graph.shapes(settings.size)?;
        let mut steps = lower::lower(&graph, weights)?;
        steps.retain(|step| !is_alias(step, &shapes));
        if let Some(input) = blocked_input(&graph, &shapes, &steps) {
            let step = Lowered { nodes: vec![input], output: input, inputs: vec![input], work: Work::Block };
            steps.insert(0, step);
        }
        let lanes = settings.level.lanes();
        let places = arena::place(&lifetimes(&graph, &shapes, (settings.batch, lanes), &steps));
        check_memory(places.len, settings)?;
        let slots = slots(&graph, &shapes, lanes, &steps, &places);
        Ok(Self { graph, steps, slots, arena: places.len })
    }
}

/// Whether a step's value is that of its input: flattening a map of one pixel changes nothing.
fn is_alias(step: &Lowered, shapes: &[Shape]) -> bool {
    matches!(step.work, Work::Flatten) && shapes[step.inputs[0].index()][1..] == [1, 1]
}

/// The node of the images, if some step has to read them in blocks.
fn blocked_input(graph: &Graph, shapes: &[Shape], steps: &[Lowered]) -> Option<NodeId> {
    let (input, _) = graph.iter().find(|(_, node)| matches!(node.op, Op::Input { .. }))?;
    let owners = owners(graph, shapes);
    let is_input = |read: &NodeId| owners[read.index()] == input.index();
    let reads_blocks = |step: &Lowered| {
        let is_planar = matches!(step.work, Work::Conv(_)) && graph.input_channels() <= PLANAR_CHANNELS;
        step.inputs.iter().any(is_input) && (!is_planar || step.inputs[1..].iter().any(is_input))
    };
    steps.iter().any(reads_blocks).then_some(input)
}

impl Step {
    fn bind(
        step: Lowered,
        graph: &Graph,
        slots: &[Slot],
        (pool, settings): (&ThreadPool, Settings),
        choice: Option<&Choice>,
    ) -> Result<Self> {
        let mut inputs: Vec<Slot> = step.inputs.iter().map(|input| slots[input.index()]).collect();
        let output = slots[step.output.index()];
        let channels = output.shape[0].next_multiple_of(output.lanes);
        let pad = |affine: Affine| {
            let [scale, shift] = [affine.scale, affine.shift].map(|mut values| {
                values.resize(channels, 0.0);
                values
            });
            Affine { scale, shift }
        };
        let kernel = match step.work {
            Work::Conv(conv) => {
                let algorithm = choice.expect("a convolution has a choice").taken.algorithm;
                let parameters = Parameters {
                    weights: &conv.weights,
                    bias: Some(&conv.bias),
                    addend_scale: conv.addend_scale.as_deref(),
                    activation: conv.activation,
                };
                let (spec, site) = convolution(conv.geometry, inputs[0], settings.batch);
                let packed = Packing::of(algorithm, &spec, site.size)
                    .and_then(|packing| PackedConv2d::new(pool, settings.level, &spec, packing, parameters))
                    .and_then(|conv| ConvPlan::new(&conv, site, settings.threads).map(|plan| (conv, plan)));
                let (packed, plan) = packed.map_err(|error| Error::shape(&graph.node(step.output).name, error))?;
                Kernel::Conv { packed: Box::new(packed), plan: Box::new(plan) }
            }
            Work::Sum { affines, activation } => {
                let affines = affines.into_iter().map(|affine| affine.map(pad)).collect();
                Kernel::Sum { affines, activation }
            }
            Work::Mul(activation) => Kernel::Mul(activation),
            Work::Concat => Kernel::Concat,
            Work::Gather(sources) => Kernel::Gather(sources),
            Work::Pad(begin) => Kernel::Pad(begin),
            Work::MaxPool(pool) => Kernel::MaxPool(pool),
            Work::AvgPool(pool) => Kernel::AvgPool(pool),
            Work::AvgPoolInside(pool) => Kernel::AvgPoolInside(pool),
            Work::GlobalAvgPool => Kernel::GlobalAvgPool,
            Work::Flatten => Kernel::Flatten,
            Work::Softmax(kind) => Kernel::Softmax(kind),
            Work::Block => {
                inputs[0].source = Source::Input;
                Kernel::Block
            }
        };
        Ok(Self { kernel, inputs, output })
    }

    fn workspace_len(&self) -> usize {
        if let Kernel::Conv { plan, .. } = &self.kernel { plan.workspace_len() } else { 0 }
    }
}

/// The kind of a convolution that reads `input`, and the images that it is applied to.
fn convolution(geometry: Geometry, input: Slot, batch: usize) -> (ConvSpec, Site) {
    let [_, height, width] = input.shape;
    let layout = if input.source == Source::Input { Layout::Planar } else { Layout::Blocked };
    (ConvSpec { geometry, layout }, Site { batch, size: [height, width] })
}

/// The convolutions of the steps in order.
fn convolutions(steps: &[Lowered], slots: &[Slot], batch: usize) -> Vec<(ConvSpec, Site)> {
    let found = |step: &Lowered| match &step.work {
        Work::Conv(conv) => Some(convolution(conv.geometry, slots[step.inputs[0].index()], batch)),
        _ => None,
    };
    steps.iter().filter_map(found).collect()
}

/// The node whose memory holds the value of each node: a flattened map of one pixel is the map itself.
fn owners(graph: &Graph, shapes: &[Shape]) -> Vec<usize> {
    let mut owners: Vec<usize> = Vec::with_capacity(graph.nodes().len());
    for (id, node) in graph.iter() {
        let is_alias = node.op == Op::Flatten && shapes[node.inputs[0].index()][1..] == [1, 1];
        owners.push(if is_alias { owners[node.inputs[0].index()] } else { id.index() });
    }
    owners
}

/// The buffer that each step writes and for how long its value is needed.
fn lifetimes(graph: &Graph, shapes: &[Shape], (batch, lanes): (usize, usize), steps: &[Lowered]) -> Vec<arena::Buffer> {
    let owners = owners(graph, shapes);
    // The main output is read once more, after the last step.
    let mut last_read = vec![0; owners.len()];
    for (step, lowered) in steps.iter().enumerate() {
        lowered.inputs.iter().for_each(|input| last_read[owners[input.index()]] = step);
    }
    last_read[owners[graph.main_output().index()]] = steps.len();
    let buffer = |(first, step): (usize, &Lowered)| {
        let node = step.output.index();
        let [channels, height, width] = shapes[node];
        let extents = [channels.next_multiple_of(lanes), height, width].map(|extent| extent as u64);
        let len = extents.into_iter().fold(batch as u64, u64::saturating_mul);
        arena::Buffer { len, first, last: last_read[node].max(first) }
    };
    steps.iter().enumerate().map(buffer).collect()
}

/// Where the value of each node lies. Nodes that are computed within another's step have no value of their own.
fn slots(graph: &Graph, shapes: &[Shape], lanes: usize, steps: &[Lowered], places: &Places) -> Vec<Slot> {
    let mut sources = vec![Source::Input; shapes.len()];
    for (step, &offset) in steps.iter().zip(&places.offsets) {
        sources[step.output.index()] = Source::Arena(offset as usize);
    }
    let slot = |(owner, &shape): (usize, &Shape)| Slot { source: sources[owner], shape, lanes };
    owners(graph, shapes).into_iter().zip(shapes).map(slot).collect()
}

fn layers(graph: &Graph, size: [usize; 2], steps: &[Lowered], choices: &[Option<Choice>]) -> Result<Vec<Layer>> {
    let costs = cost(graph, size)?.layers;
    let layer = |(step, choice): (&Lowered, &Option<Choice>)| {
        let kinds: Vec<&str> = step.nodes.iter().map(|&node| graph.node(node).op.kind()).collect();
        Layer {
            name: graph.node(step.output).name.clone(),
            kind: kinds.join(" + "),
            shape: costs[step.output.index()].shape,
            macs: step.nodes.iter().map(|node| costs[node.index()].macs).sum(),
            choice: choice.clone(),
        }
    };
    Ok(steps.iter().zip(choices).map(layer).collect())
}

/// Refuses activations of `len` elements beyond the memory limit.
fn check_memory(len: u64, settings: Settings) -> Result<()> {
    let bytes = len.saturating_mul(size_of::<f32>() as u64);
    if bytes <= MEMORY_LIMIT { Ok(()) } else { Err(too_much_memory(bytes, settings)) }
}

fn too_much_memory(bytes: u64, Settings { batch, size: [height, width], .. }: Settings) -> Error {
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    let (limit, found) = (gib(MEMORY_LIMIT), gib(bytes));
    let what = format!("expected activations that fit into memory and {limit:.0} GiB, found {found:.1} GiB");
    Error::spec(format!("batch {batch} of {height}x{width} images"), what)
}

/// `len` zeros, or an error where the memory limit or the system refuses them.
fn zeroed(len: u64, settings: Settings) -> Result<Buffer> {
    check_memory(len, settings)?;
    let buffer = usize::try_from(len).ok().and_then(|len| Buffer::zeroed(len).ok());
    let mut buffer = buffer.ok_or_else(|| too_much_memory(len.saturating_mul(size_of::<f32>() as u64), settings))?;
    // Writing the zeros takes every page now, and not during the first run.
    buffer.fill(0.0);
    Ok(buffer)
}

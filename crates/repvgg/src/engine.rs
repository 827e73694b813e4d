//! The engine: a graph planned once for one shape, then run many times without allocating.
//!
//! Planning checks the weights, lowers the graph to a [`Program`], chooses an algorithm for each convolution (`choice`,
//! `tune`), packs the weights, and gives every value a place in one arena (`placement`). Running walks the steps. Callers
//! see only images `[N, C, H, W]` and rows `[N, K]`; how values are laid out in between is the engine's own affair.

mod choice;
mod kernel;
mod parameters;
mod placement;
mod settings;
mod tune;

use std::time::{Duration, Instant};

use repvgg_kernels::maps::{self, Cpu, MapMut};
use repvgg_kernels::{
    Buffer, ConvPlan, ConvSpec, Geometry, Layout, PackedConv2d, Packing, Parameters, Site, ThreadPool,
};

pub use choice::{Choice, Reason};
pub use repvgg_kernels::{Accuracy, Algorithm, Estimate, Level, fma_peak};
pub use settings::Settings;
pub use tune::Tuning;

use crate::cost::cost;
use crate::graph::Shape;
use crate::program::{Operation, Program, Step as ProgramStep};
use crate::{Error, Graph, Result, Weights};
use kernel::{Constants, Slot, Source, Values};
use parameters::{Affine, Folded};
use placement::Placement;

/// The most memory that activations may take; more is a mistake in the shape, not a network.
const MEMORY_LIMIT: u64 = 64 << 30;

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
    program: Program,
    steps: Vec<Step>,
    layers: Vec<Layer>,
    input: Shape,
    /// Where the caller's images lie in blocks, if some step reads them so.
    blocks: Option<Slot>,
    output: Slot,
    arena: Buffer,
    workspace: Buffer,
}

/// A step of the program bound to its memory.
struct Step {
    /// Its index in the program.
    index: usize,
    constants: Constants,
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
        let (program, placement) = draft(graph, weights, settings)?;
        let convolutions = convolutions(&program, &placement, settings.batch);
        let mut choices = choice::choose(&convolutions, &settings, tuning)?.into_iter();
        let is_convolution = |index: &usize| matches!(program.steps()[*index].operation, Operation::Convolution(_));
        let choices: Vec<Option<Choice>> =
            placement.steps.iter().map(|index| if is_convolution(index) { choices.next() } else { None }).collect();
        let blocks = blocks(&program, &placement);
        let layers = layers(&program, settings.size, &placement, &choices)?;
        let arena = zeroed(placement.arena, settings)?;
        let pool = ThreadPool::new(settings.threads);
        let binding = Binding { program: &program, placement: &placement, weights, pool: &pool, settings };
        let bound = placement.steps.iter().zip(&choices).map(|(&index, choice)| binding.bind(index, choice.as_ref()));
        let steps = bound.collect::<Result<Vec<_>>>()?;
        let workspace = steps.iter().map(|step| step.constants.workspace_len()).max().unwrap_or(0);
        Ok(Self {
            settings,
            pool,
            layers,
            input: [program.graph().input_channels(), settings.size[0], settings.size[1]],
            blocks,
            output: placement.slots[program.outputs()[0].index()],
            arena,
            workspace: zeroed(workspace as u64, settings)?,
            steps,
            program,
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
        let (program, placement) = draft(graph, weights, settings)?;
        tuning.measure(&convolutions(&program, &placement, settings.batch), &settings, progress)
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
        let mut times = Vec::with_capacity(self.layers.len());
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
        self.steps.iter().map(|step| step.constants.packed_bytes()).sum()
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
        if let Some(slot) = self.blocks {
            let (_, target) = Values::split(input, &mut self.arena, images, slot);
            let cpu = Cpu { pool: &self.pool, level: self.settings.level };
            maps::pack(cpu, input, MapMut::new(target, slot.layout(images)));
            after();
        }
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
            kernel::run(&self.program.steps()[step.index].operation, &step.constants, call);
            after();
        }
        let values = Values::all(input, &self.arena, images);
        match self.output.source {
            Source::Caller => output.copy_from_slice(values.data(self.output)),
            Source::Arena(_) => {
                let cpu = Cpu { pool: &self.pool, level: self.settings.level };
                maps::unpack(cpu, values.map(self.output), output);
            }
        }
    }
}

/// The program of a graph, its values placed.
fn draft(graph: &Graph, weights: &Weights, settings: Settings) -> Result<(Program, Placement)> {
    settings.check()?;
    weights.check(graph)?;
    let program = Program::inference(graph);
    let placement = Placement::new(&program, settings.batch, settings.size, settings.level.lanes())?;
    check_memory(placement.arena, settings)?;
    Ok((program, placement))
}

/// Where the caller's images lie in blocks, if they do.
fn blocks(program: &Program, placement: &Placement) -> Option<Slot> {
    Some(placement.slots[program.input().index()]).filter(|slot| slot.source != Source::Caller)
}

/// What binds steps to memory and weights.
struct Binding<'a> {
    program: &'a Program,
    placement: &'a Placement,
    weights: &'a Weights,
    pool: &'a ThreadPool,
    settings: Settings,
}

impl Binding<'_> {
    fn bind(&self, index: usize, choice: Option<&Choice>) -> Result<Step> {
        let step = &self.program.steps()[index];
        let inputs: Vec<Slot> = step.inputs.iter().map(|input| self.placement.slots[input.index()]).collect();
        let output = self.placement.slots[step.output.index()];
        let constants = match &step.operation {
            Operation::Convolution(convolution) => {
                let algorithm = choice.expect("a convolution has a choice").taken.algorithm;
                let folded = Folded::of(self.program, convolution, self.weights)?;
                let parameters = Parameters {
                    weights: &folded.weights,
                    bias: Some(&folded.bias),
                    addend_scale: folded.addend_scale.as_deref(),
                    activation: convolution.activation,
                };
                let (spec, site) = conv_site(convolution.geometry, inputs[0], self.settings.batch);
                let packed = Packing::of(algorithm, &spec, site.size)
                    .and_then(|packing| PackedConv2d::new(self.pool, self.settings.level, &spec, packing, parameters))
                    .and_then(|conv| ConvPlan::new(&conv, site, self.settings.threads).map(|plan| (conv, plan)));
                let (packed, plan) = packed.map_err(|error| Error::shape(self.name(step), error))?;
                Constants::Convolution { packed: Box::new(packed), plan: Box::new(plan) }
            }
            Operation::Sum(sum) => {
                let channels = output.shape[0].next_multiple_of(output.lanes);
                let affine = |node: &Option<_>| {
                    node.map(|node| Affine::of(self.program, node, self.weights, channels)).transpose()
                };
                Constants::Affines(sum.affines.iter().map(affine).collect::<Result<_>>()?)
            }
            Operation::Shuffle { groups } => {
                let channels = output.shape[0];
                let source = |channel: usize| channel % groups * (channels / groups) + channel / groups;
                Constants::Channels((0..channels).map(source).collect())
            }
            Operation::Slice { start, channels } => Constants::Channels((*start..start + channels).collect()),
            _ => Constants::None,
        };
        Ok(Step { index, constants, inputs, output })
    }

    fn name(&self, step: &ProgramStep) -> String {
        self.program.graph().node(self.program.node_of(step.output)).name.clone()
    }
}

/// The kind of a convolution that reads `input`, and the images that it is applied to.
fn conv_site(geometry: Geometry, input: Slot, batch: usize) -> (ConvSpec, Site) {
    let [_, height, width] = input.shape;
    let layout = if input.source == Source::Caller { Layout::Planar } else { Layout::Blocked };
    (ConvSpec { geometry, layout }, Site { batch, size: [height, width] })
}

/// The convolutions of the steps in order.
fn convolutions(program: &Program, placement: &Placement, batch: usize) -> Vec<(ConvSpec, Site)> {
    let convolution = |&index: &usize| match &program.steps()[index] {
        ProgramStep { operation: Operation::Convolution(convolution), inputs, .. } => {
            Some(conv_site(convolution.geometry, placement.slots[inputs[0].index()], batch))
        }
        _ => None,
    };
    placement.steps.iter().filter_map(convolution).collect()
}

/// What reports print: the images in blocks, if some step reads them so, and each step.
fn layers(
    program: &Program,
    size: [usize; 2],
    placement: &Placement,
    choices: &[Option<Choice>],
) -> Result<Vec<Layer>> {
    let graph = program.graph();
    let costs = cost(graph, size)?.layers;
    let layer = |output, nodes: &[crate::NodeId], choice: Option<Choice>| {
        let node = program.node_of(output);
        let kinds: Vec<&str> = nodes.iter().map(|&node| graph.node(node).op.kind()).collect();
        Layer {
            name: graph.node(node).name.clone(),
            kind: kinds.join(" + "),
            shape: costs[node.index()].shape,
            macs: nodes.iter().map(|node| costs[node.index()].macs).sum(),
            choice,
        }
    };
    let images = blocks(program, placement).map(|_| layer(program.input(), &[program.node_of(program.input())], None));
    let steps = placement.steps.iter().map(|&index| &program.steps()[index]).zip(choices);
    Ok(images.into_iter().chain(steps.map(|(step, choice)| layer(step.output, &step.nodes, choice.clone()))).collect())
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

//! The engine: a graph planned once for one shape, then run many times without allocating.
//!
//! Planning checks the weights, joins nodes into steps that each make one pass over memory (`lower`), packs the
//! weights, and gives every value a place in one arena where values that are never alive together share memory
//! (`arena`). Running walks the steps. Callers see only images `[N, C, H, W]` and rows `[N, K]`; how values are laid
//! out in between is the engine's own affair.

mod arena;
mod kernel;
mod linear;
mod lower;
mod window;

use std::time::{Duration, Instant};

use repvgg_conv::ThreadPool;

use crate::cost::cost;
use crate::graph::{Op, Shape};
use crate::{Error, Graph, Result, Weights};
use arena::{Buffer, Layout};
use kernel::{Kernel, Slot, Source, Values};

/// The most memory that activations may take; more is a mistake in the shape, not a network.
const MEMORY_LIMIT: u64 = 64 << 30;

/// The largest height, width and batch. Sizes far beyond them overflow before they run out of memory.
const EXTENT_LIMIT: usize = 1 << 16;

/// The most threads: no machine has more, and each costs a stack.
const THREAD_LIMIT: usize = 1 << 10;

/// The shape a plan is made for, and the threads it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The most images in one run.
    pub batch: usize,
    /// Height and width of the images.
    pub size: [usize; 2],
    /// Threads, the caller's included.
    pub threads: usize,
}

/// One step of a plan: what a report prints about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The name of the node whose value the step writes.
    pub name: String,
    /// The operations that the step performs in one pass: `Conv2d + ReLU`.
    pub kind: String,
    /// What it writes for each image: `[C, H, W]`.
    pub shape: Shape,
    /// Multiply-adds for each image.
    pub macs: u64,
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
    arena: Vec<f32>,
    workspace: Vec<f32>,
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
    /// settings ask for nothing, or for more than 64 GiB of activations.
    pub fn new(graph: &Graph, weights: &Weights, settings: Settings) -> Result<Self> {
        settings.check()?;
        weights.check(graph)?;
        let graph = graph.inference();
        let shapes = graph.shapes(settings.size)?;
        let buffers = |steps: &[lower::Step]| lifetimes(&graph, &shapes, settings.batch, steps);
        let steps = lower::lower(&graph, weights)?;
        let layout = arena::place(&buffers(&steps));
        let slots = slots(&graph, &shapes, &steps, &layout);
        let layers = layers(&graph, settings.size, &steps)?;
        let arena = zeroed(layout.len, settings)?;
        let steps: Vec<Step> = steps.into_iter().map(|step| Step::bind(step, &slots)).collect();
        let workspace = steps.iter().map(|step| step.workspace_len(settings)).max().unwrap_or(0);
        Ok(Self {
            settings,
            pool: ThreadPool::new(settings.threads),
            layers,
            input: [graph.input_channels(), settings.size[0], settings.size[1]],
            output: slots[graph.main_output().index()],
            arena,
            workspace: zeroed(workspace as u64, settings)?,
            steps,
        })
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
        (self.arena.len() + self.workspace.len()) * size_of::<f32>()
    }

    /// Runs the steps; `after` is called after each of them.
    fn execute(&mut self, input: &[f32], output: &mut [f32], mut after: impl FnMut()) {
        let (image, row) = (self.input.iter().product::<usize>(), self.output.len());
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
                images,
                inputs: &step.inputs,
                values,
                output: target,
                shape: step.output.shape,
                workspace: &mut self.workspace,
            };
            step.kernel.run(call);
            after();
        }
        output.copy_from_slice(Values::all(input, &self.arena, images).map(self.output).data);
    }
}

impl Settings {
    fn check(self) -> Result<()> {
        let [height, width] = self.size;
        let extents = [
            ("batch", self.batch, EXTENT_LIMIT),
            ("height", height, EXTENT_LIMIT),
            ("width", width, EXTENT_LIMIT),
            ("threads", self.threads, THREAD_LIMIT),
        ];
        match extents.into_iter().find(|(_, found, limit)| !(1..=*limit).contains(found)) {
            None => Ok(()),
            Some((name, found, limit)) => Err(Error::spec(name, format!("expected 1 to {limit}, found {found}"))),
        }
    }
}

impl Step {
    fn bind(step: lower::Step, slots: &[Slot]) -> Self {
        let inputs = step.inputs.iter().map(|input| slots[input.index()]).collect();
        Self { inputs, output: slots[step.output().index()], kernel: step.kernel }
    }

    fn workspace_len(&self, settings: Settings) -> usize {
        match &self.kernel {
            Kernel::Conv(conv) => {
                let [_, height, width] = self.inputs[0].shape;
                conv.workspace_len(settings.batch, [height, width], settings.threads)
            }
            Kernel::Linear(linear) => linear.workspace_len(settings.batch),
            _ => 0,
        }
    }
}

/// The node whose memory holds the value of each node: a flattened map is the map itself.
fn owners(graph: &Graph) -> Vec<usize> {
    let mut owners: Vec<usize> = Vec::with_capacity(graph.nodes().len());
    for (id, node) in graph.iter() {
        owners.push(if node.op == Op::Flatten { owners[node.inputs[0].index()] } else { id.index() });
    }
    owners
}

/// The buffer that each step writes and for how long its value is needed.
fn lifetimes(graph: &Graph, shapes: &[Shape], batch: usize, steps: &[lower::Step]) -> Vec<Buffer> {
    let owners = owners(graph);
    // The main output is read once more, after the last step.
    let mut last_read = vec![0; owners.len()];
    for (step, lowered) in steps.iter().enumerate() {
        lowered.inputs.iter().for_each(|input| last_read[owners[input.index()]] = step);
    }
    last_read[owners[graph.main_output().index()]] = steps.len();
    let buffer = |(first, step): (usize, &lower::Step)| {
        let node = step.output().index();
        let extents = shapes[node].iter().map(|&extent| extent as u64);
        Buffer { len: extents.fold(batch as u64, u64::saturating_mul), first, last: last_read[node] }
    };
    steps.iter().enumerate().map(buffer).collect()
}

/// Where the value of each node lies. Nodes that are computed within another's step have no value of their own.
fn slots(graph: &Graph, shapes: &[Shape], steps: &[lower::Step], layout: &Layout) -> Vec<Slot> {
    let mut sources = vec![Source::Input; shapes.len()];
    for (step, &offset) in steps.iter().zip(&layout.offsets) {
        sources[step.output().index()] = Source::Arena(offset as usize);
    }
    owners(graph).into_iter().zip(shapes).map(|(owner, &shape)| Slot { source: sources[owner], shape }).collect()
}

fn layers(graph: &Graph, size: [usize; 2], steps: &[lower::Step]) -> Result<Vec<Layer>> {
    let costs = cost(graph, size)?.layers;
    let layer = |step: &lower::Step| {
        let kinds: Vec<&str> = step.nodes.iter().map(|&node| graph.node(node).op.kind()).collect();
        Layer {
            name: graph.node(step.output()).name.clone(),
            kind: kinds.join(" + "),
            shape: costs[step.output().index()].shape,
            macs: step.nodes.iter().map(|node| costs[node.index()].macs).sum(),
        }
    };
    Ok(steps.iter().map(layer).collect())
}

/// `len` zeros, or an error where the memory limit or the system refuses them.
fn zeroed(len: u64, Settings { batch, size: [height, width], .. }: Settings) -> Result<Vec<f32>> {
    let bytes = len.saturating_mul(size_of::<f32>() as u64);
    let mut memory = Vec::new();
    let fits = bytes <= MEMORY_LIMIT && usize::try_from(len).is_ok_and(|len| memory.try_reserve_exact(len).is_ok());
    if !fits {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let what = format!(
            "expected activations that fit into memory and {:.0} GiB, found {:.1} GiB",
            gib(MEMORY_LIMIT),
            gib(bytes)
        );
        return Err(Error::spec(format!("batch {batch} of {height}x{width} images"), what));
    }
    // Writing the zeros touches every page now, and not during the first run.
    memory.resize(len as usize, 0.0);
    Ok(memory)
}

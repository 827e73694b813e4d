//! `repvgg cost`: the costs of a network beyond multiply-adds, in both forms (2101.03697, Sect. 3.1).

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use repvgg::Form;
use repvgg::cost::{Alive, Cost, Fragmentation, Wait, alive_at, cost, fragmentation, longest_wait};
use repvgg::file::{refuse_overwrite, write_atomically};
use repvgg::fuse::Fusion;
use repvgg::measure::Memory;
use repvgg::{Graph, Result};
use repvgg_hub::ModelName;
use serde_json::json;

use super::CommandResult;
use crate::live_plot::{MemoryCurve, MemoryPlot, bars, svg};
use crate::observe::observe;
use crate::output::{print, print_json, table, thousands};
use crate::progress::bar;
use crate::source::{open, parse_size};

/// Show the costs that multiply-adds leave out: memory access, arithmetic intensity, operators per block, activation memory
///
/// All costs are counted for the training form, with its branches, and for the fused form. Auxiliary heads, which only training needs,
/// are left out.
///
/// Memory access is the memory access cost (MAC) of ShuffleNet V2 and RepVGG: the f32 bytes that each operation reads and writes.
/// Operators per block counts the convolutions and pools between two values that every path through the network passes. The operators
/// of cells that read two predecessors are grouped by the first part of their names. Activation memory is the memory of all live values
/// while nodes run one after another. A value is held while a later node still needs it: a block with branches holds its input until
/// the addition.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg cost repvgg-a0 resnet-18
  repvgg cost repvgg-a0 --batch 8 --measure
  repvgg cost plain.safetensors --plot memory.svg")]
pub(crate) struct Arguments {
    /// Networks: model files, names of architectures (see `repvgg models`) or specification files (*.toml)
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Image size in pixels: S for a square, or HxW [default: each network's own]
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Images per run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Also run each form once, on one thread in a separate process, and report the memory used by the engine and the process
    #[arg(long)]
    measure: bool,
    /// Plot activation memory over the nodes, one plot per network with both forms
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// One network at one image size.
struct CountedNetwork {
    name: String,
    size: [usize; 2],
    /// The training form and the plain form, or only the plain form if fusing changes nothing.
    forms: Vec<Counted>,
}

/// One form of a network.
struct Counted {
    form: Form,
    graph: Graph,
    cost: Cost,
    fragmentation: Fragmentation,
    /// The first node with the most live bytes.
    peak: PeakNode,
    longest_wait: Option<Wait>,
    /// For each node, the number of nodes of the network's first form that have run when it ends.
    ends: Vec<usize>,
    observed: Option<Memory>,
}

/// The node at which activation memory peaks, and the values that are live there.
struct PeakNode {
    name: String,
    alive: Vec<Alive>,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let models = arguments.models.iter();
    let mut networks =
        models.map(|name| CountedNetwork::count(name, arguments.size)).collect::<Result<Vec<CountedNetwork>>>()?;
    let batch = u64::from(arguments.batch);
    if let Some(path) = &arguments.plot {
        arguments.models.iter().try_for_each(|name| refuse_overwrite(Path::new(name), path))?;
        let plots: Vec<MemoryPlot> = networks.iter().map(|network| network.plot(batch)).collect();
        write_atomically(path, |file| file.write_all(svg(&plots).as_bytes()))?;
    }
    if arguments.measure {
        measure(&mut networks, arguments.batch as usize)?;
    }
    if arguments.json {
        print_json(&networks.iter().map(|network| network.json(batch)).collect())?;
    } else {
        print(&text(&networks, batch))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(networks: &mut [CountedNetwork], batch: usize) -> anyhow::Result<()> {
    let progress = bar(networks.iter().map(|network| network.forms.len()).sum(), "measuring");
    for CountedNetwork { name, size, forms } in networks {
        for counted in forms {
            let observed = observe(&counted.graph, batch, *size);
            counted.observed = Some(observed.map_err(|error| error.context(format!("{name}, {}", counted.form)))?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(())
}

impl CountedNetwork {
    /// Counts the network called `name` for images of `size`. The default is the network's own size.
    fn count(name: &str, size: Option<[usize; 2]>) -> Result<Self> {
        let (title, graph, default_size) = match ModelName::parse(name)? {
            ModelName::Specification(specification) => {
                (specification.name().to_owned(), specification.training_graph()?, [specification.image_size(); 2])
            }
            _ => {
                let model = open(name)?.model;
                let training = model.training_specification().map(|known| known.training_graph()).transpose()?;
                let graph = training.unwrap_or_else(|| model.graph().clone());
                (model.name().to_owned(), graph, model.preprocessing.size)
            }
        };
        let size = size.unwrap_or(default_size);
        let fusion = Fusion::new(&graph);
        let training = (!fusion.is_plain()).then(|| {
            let ends = (1..=fusion.original().nodes().len()).collect();
            Counted::count(Form::Training, fusion.original().clone(), ends, size)
        });
        let ends = fusion.counterparts().iter().map(|node| node.index() + 1).collect();
        let plain = Counted::count(Form::Plain, fusion.graph().clone(), ends, size);
        let forms = training.into_iter().chain([plain]).collect::<Result<Vec<Counted>>>();
        let forms = forms.map_err(|error| error.within(name))?;
        Ok(Self { name: title, size, forms })
    }

    /// The most live bytes of any form.
    fn peak_bytes(&self) -> u64 {
        self.forms.iter().map(|counted| counted.cost.peak_activation_bytes).max().unwrap_or(0)
    }

    fn plot(&self, batch: u64) -> MemoryPlot {
        let [height, width] = self.size;
        let caption = |counted: &Counted| {
            let peak = mebibytes(counted.cost.peak_activation_bytes * batch);
            format!("{}: peak {peak} MiB at {}", counted.form, counted.peak.name)
        };
        let nodes = match self.forms.len() {
            1 => "nodes in execution order",
            _ => "nodes of the training form; a node of the plain form spans those that it replaces",
        };
        MemoryPlot {
            nodes,
            title: format!("{}, batch {batch} of {height}x{width}", self.name),
            curves: self.forms.iter().map(|counted| counted.curve(caption(counted), batch)).collect(),
        }
    }

    fn json(&self, batch: u64) -> serde_json::Value {
        let forms: Vec<serde_json::Value> = self.forms.iter().map(|counted| counted.json(batch)).collect();
        json!({"name": self.name, "size": self.size, "batch": batch, "forms": forms})
    }
}

impl Counted {
    fn count(form: Form, graph: Graph, ends: Vec<usize>, size: [usize; 2]) -> Result<Self> {
        let cost = cost(&graph, size)?;
        let nodes = graph.iter().map(|(id, _)| id).zip(&cost.layers);
        let peak = nodes.max_by_key(|(id, layer)| (layer.live_bytes, Reverse(*id)));
        let (id, layer) = peak.expect("a graph has nodes");
        let peak = PeakNode { name: layer.name.clone(), alive: alive_at(&graph, size, id)? };
        let longest_wait = longest_wait(&graph, size)?;
        Ok(Self { form, fragmentation: fragmentation(&graph), peak, longest_wait, ends, observed: None, cost, graph })
    }

    fn curve(&self, caption: String, batch: u64) -> MemoryCurve {
        let steps = self.ends.iter().zip(&self.cost.layers).map(|(&end, layer)| (end, layer.live_bytes * batch));
        MemoryCurve { caption, steps: steps.collect() }
    }

    /// The number of nodes that run while a value is held.
    fn nodes_while_held(&self) -> usize {
        self.cost.layers.iter().filter(|layer| layer.held_bytes > 0).count()
    }

    fn held_bytes(&self) -> u64 {
        self.cost.layers.iter().map(|layer| layer.held_bytes).max().unwrap_or(0)
    }

    fn name(&self) -> &'static str {
        match self.form {
            Form::Training => "training",
            Form::Plain => "plain",
        }
    }

    fn json(&self, batch: u64) -> serde_json::Value {
        let Self { cost, fragmentation, observed, .. } = self;
        let live: Vec<serde_json::Value> = cost
            .layers
            .iter()
            .map(|layer| {
                json!({"name": layer.name, "bytes": layer.live_bytes * batch, "held_bytes": layer.held_bytes * batch})
            })
            .collect();
        let value =
            |value: &Alive| json!({"name": value.name, "bytes": value.bytes * batch, "held_for": value.held_for});
        let wait = |wait: &Wait| json!({"value": value(&wait.value), "nodes": wait.nodes});
        json!({
            "form": self.form,
            "parameters": cost.parameters,
            "macs": cost.macs,
            "winograd_multiplies": cost.winograd_multiplies,
            "memory_access_bytes": cost.memory_access.bytes(batch),
            "conv_memory_access_bytes": cost.conv_memory_access.bytes(batch),
            "weight_bytes": cost.memory_access.weight_bytes,
            "arithmetic_intensity": cost.arithmetic_intensity(batch),
            "operators_per_block": {"mean": fragmentation.mean(), "max": fragmentation.max()},
            "peak_activation_bytes": cost.peak_activation_bytes * batch,
            "peak_at": self.peak.name,
            "alive_at_peak": self.peak.alive.iter().map(value).collect::<Vec<_>>(),
            "held_bytes": self.held_bytes() * batch,
            "nodes": cost.layers.len(),
            "nodes_while_held": self.nodes_while_held(),
            "longest_wait": self.longest_wait.as_ref().map(wait),
            "arena_bytes": observed.map(|observed| observed.arena_bytes),
            "workspace_bytes": observed.map(|observed| observed.workspace_bytes),
            "packed_bytes": observed.map(|observed| observed.packed_bytes),
            "process_base_bytes": observed.and_then(|observed| observed.process_base_bytes),
            "process_peak_bytes": observed.and_then(|observed| observed.process_peak_bytes),
            "live_bytes": live,
        })
    }
}

impl PeakNode {
    /// `at a: b (1.00 MiB) held for c`, the largest values first.
    fn text(&self, batch: u64) -> String {
        let mut held: Vec<&Alive> = self.alive.iter().filter(|value| value.held_for.is_some()).collect();
        held.sort_by_key(|value| Reverse(value.bytes));
        let listed: Vec<String> = held.iter().take(LISTED).map(|value| held_text(value, batch)).collect();
        match held.len() - listed.len() {
            0 if listed.is_empty() => format!("at {}: nothing held", self.name),
            0 => format!("at {}: {}", self.name, listed.join(", ")),
            rest => format!("at {}: {}, and {rest} more", self.name, listed.join(", ")),
        }
    }
}

fn held_text(value: &Alive, batch: u64) -> String {
    let reader = value.held_for.as_deref().unwrap_or("nothing");
    format!("{} ({} MiB) held for {reader}", value.name, mebibytes(value.bytes * batch))
}

/// The maximum number of held values in a list.
const LISTED: usize = 3;

fn mebibytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 20))
}

fn text(networks: &[CountedNetwork], batch: u64) -> String {
    let forms = || networks.iter().flat_map(|network| network.forms.iter().map(move |counted| (network, counted)));
    let counts: Vec<Vec<String>> = forms().map(|(network, counted)| counts(network, counted, batch)).collect();
    let header = [
        "model",
        "form",
        "parameters",
        "GMACs",
        "Winograd G",
        "access MiB",
        "of convs",
        "weights",
        "MACs/byte",
        "operators",
        "most",
        "peak MiB",
        "held MiB",
        "nodes",
        "while held",
    ];
    let mut text = table(&header, &counts);
    text.push_str(NOTES);
    let observed: Vec<Vec<String>> =
        forms().filter_map(|(network, counted)| observations(network, counted, batch)).collect();
    if !observed.is_empty() {
        let header =
            ["model", "form", "peak MiB", "arena", "workspace", "packed weights", "process before", "process peak"];
        text.push_str(&format!("\n{}{OBSERVED_NOTES}", table(&header, &observed)));
    }
    networks.iter().for_each(|network| text.push_str(&bars_of(network, batch)));
    text
}

const NOTES: &str = "\
Parameters, multiply-adds and Winograd multiplies (10^9) are for one image, everything else for the batch, in f32 and MiB.
access: bytes read and written by all operators, each run separately; of convs: by convolutions and fully connected layers;
weights: parameters and batch-norm statistics; MACs/byte: arithmetic intensity, multiply-adds per byte of access;
operators, most: convolutions and pools per block, mean and maximum; peak: most bytes of activations live at once;
held: most bytes of activations that wait for a later node; while held: nodes that run while a value waits.
";

const OBSERVED_NOTES: &str = "\
All in MiB, on one thread, each row in a separate process. peak: predicted node by node, images included.
arena: the engine's values and workspace, without the images. Batch norms, sums and ReLUs run inside convolutions, and
channels are rounded up to whole registers. workspace: the part of the arena that convolutions compute in.
packed weights: the weights as transformed by the engine. process before: peak resident memory before the network is
prepared (the program and the original weights); process peak: after preparing, which copies and packs the weights, and one run.
";

fn counts(network: &CountedNetwork, counted: &Counted, batch: u64) -> Vec<String> {
    let Counted { cost, fragmentation, .. } = counted;
    let billions = |count: u64| format!("{:.3}", count as f64 / 1e9);
    vec![
        network.name.clone(),
        counted.name().to_owned(),
        thousands(cost.parameters),
        billions(cost.macs),
        billions(cost.winograd_multiplies),
        mebibytes(cost.memory_access.bytes(batch)),
        mebibytes(cost.conv_memory_access.bytes(batch)),
        mebibytes(cost.memory_access.weight_bytes),
        format!("{:.2}", cost.arithmetic_intensity(batch)),
        format!("{:.2}", fragmentation.mean()),
        fragmentation.max().to_string(),
        mebibytes(cost.peak_activation_bytes * batch),
        mebibytes(counted.held_bytes() * batch),
        cost.layers.len().to_string(),
        counted.nodes_while_held().to_string(),
    ]
}

fn observations(network: &CountedNetwork, counted: &Counted, batch: u64) -> Option<Vec<String>> {
    let observed = counted.observed?;
    let or_dash = |bytes: Option<u64>| bytes.map_or("-".to_owned(), mebibytes);
    Some(vec![
        network.name.clone(),
        counted.name().to_owned(),
        mebibytes(counted.cost.peak_activation_bytes * batch),
        mebibytes(observed.arena_bytes),
        mebibytes(observed.workspace_bytes),
        mebibytes(observed.packed_bytes),
        or_dash(observed.process_base_bytes),
        or_dash(observed.process_peak_bytes),
    ])
}

/// The activation memory of each form over the nodes, the values held at its peak, and the longest wait.
fn bars_of(network: &CountedNetwork, batch: u64) -> String {
    let [height, width] = network.size;
    let full = network.peak_bytes() * batch;
    let mut text = format!(
        "\n{}, batch {batch} of {height}x{width}: live activations over the nodes; a full bar is {} MiB\n",
        network.name,
        mebibytes(full)
    );
    for counted in &network.forms {
        let curve = counted.curve(String::new(), batch);
        let peak = mebibytes(curve.peak());
        text.push_str(&format!("{:<8}  {}\n", counted.name(), bars(&curve, full)));
        text.push_str(&format!("          peak {peak} MiB {}\n", counted.peak.text(batch)));
        if let Some(Wait { value, nodes }) = &counted.longest_wait {
            text.push_str(&format!("          longest wait {}, {nodes} nodes\n", held_text(value, batch)));
        }
    }
    text
}

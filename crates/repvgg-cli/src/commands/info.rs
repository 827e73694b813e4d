//! `repvgg info`: a network, layer by layer.

use std::process::ExitCode;

use repvgg::cost::{Cost, cost};
use repvgg::formats::Origin;
use repvgg::fuse::Fusion;
use repvgg::zoo::published;
use repvgg::{Form, Graph, Model, Result, Specification};
use repvgg_hub::{ModelName, Opened};
use serde_json::json;

use super::CommandResult;
use crate::output::{print, print_json, table, thousands};
use crate::source::{ModelOptions, parse_size};

/// Show a model, a named architecture or a specification file layer by layer
///
/// Prints the shape, parameters, multiply-adds and Winograd multiplies of each layer, and the totals and activation memory of both forms.
/// For a model file, also its format, labels and preprocessing.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg info run/best.safetensors
  repvgg info repvgg-b1g4 --size 192x256")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Image size in pixels: S for a square, or HxW [default: the network's own]
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let network = ShownNetwork::open(&arguments.model)?;
    let size = arguments.size.unwrap_or(network.image_size);
    let facts = NetworkFacts {
        size,
        shown: cost(&network.graph, size)?,
        training: cost(&network.training, size)?,
        plain: cost(&network.plain, size)?,
        network: &network,
    };
    if arguments.json {
        print_json(&facts.json())?;
    } else {
        print(&facts.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The network to show: that of a model, or an architecture without weights.
struct ShownNetwork {
    name: String,
    architecture: Specification,
    specification: Option<Specification>,
    model: Option<Model>,
    origin: Option<Origin>,
    form: Form,
    /// `[H, W]`
    image_size: [usize; 2],
    /// The graph to show layer by layer.
    graph: Graph,
    /// The training graph, or the plain graph if the training form is unknown.
    training: Graph,
    plain: Graph,
}

impl ShownNetwork {
    fn open(options: &ModelOptions) -> Result<Self> {
        if let ModelName::Specification(specification) = ModelName::parse(&options.model)? {
            return Self::new(*specification);
        }
        let Opened { model, origin, .. } = options.open_with_origin()?;
        let graph = model.graph().clone();
        let plain = if model.form() == Form::Plain { graph.clone() } else { Fusion::new(&graph).into_graph() };
        let training = model.training_specification().map(|known| known.training_graph()).transpose()?;
        Ok(Self {
            name: model.name().to_owned(),
            architecture: model.to_architecture(),
            specification: model.specification().cloned(),
            form: model.form(),
            image_size: model.preprocessing.size,
            training: training.unwrap_or_else(|| graph.clone()),
            model: Some(model),
            origin,
            graph,
            plain,
        })
    }

    fn new(specification: Specification) -> Result<Self> {
        let training = specification.training_graph()?;
        let plain = Fusion::new(&training).into_graph();
        let (name, image_size) = (specification.name().to_owned(), specification.image_size());
        let architecture = match specification.repvgg() {
            Some(_) => specification.clone(),
            None => Specification::from_graph(&name, image_size, training.clone()),
        };
        Ok(Self {
            name,
            architecture,
            specification: Some(specification),
            model: None,
            origin: None,
            form: Form::Plain,
            image_size: [image_size; 2],
            graph: plain.clone(),
            training,
            plain,
        })
    }
}

struct NetworkFacts<'a> {
    network: &'a ShownNetwork,
    size: [usize; 2],
    shown: Cost,
    training: Cost,
    plain: Cost,
}

impl NetworkFacts<'_> {
    fn json(&self) -> serde_json::Value {
        let layers: Vec<serde_json::Value> = self
            .shown
            .layers
            .iter()
            .map(|layer| {
                json!({
                    "name": layer.name, "kind": layer.kind, "shape": layer.shape, "parameters": layer.parameters,
                    "macs": layer.macs, "winograd_multiplies": layer.winograd_multiplies,
                })
            })
            .collect();
        json!({
            "name": self.network.name,
            "form": self.network.form,
            "file": self.network.origin,
            "size": self.size,
            "classes": self.network.graph.classes(),
            "parameters": self.plain.parameters,
            "training_parameters": self.training.parameters,
            "macs": self.plain.macs,
            "training_macs": self.training.macs,
            "winograd_multiplies": self.plain.winograd_multiplies,
            "peak_activation_bytes": self.plain.peak_activation_bytes,
            "training_peak_activation_bytes": self.training.peak_activation_bytes,
            "architecture": self.network.architecture,
            "specification": self.network.specification,
            "labels": self.network.model.as_ref().map(|model| &model.labels),
            "preprocessing": self.network.model.as_ref().map(|model| &model.preprocessing),
            "training": self.network.model.as_ref().and_then(|model| model.training.as_ref()),
            "paper": published(&self.network.name).map(|paper| json!({"source": paper.source, "top1": paper.top1})),
            "layers": layers,
        })
    }

    fn text(&self) -> String {
        let [height, width] = self.size;
        let rows: Vec<Vec<String>> = self
            .shown
            .layers
            .iter()
            .zip(self.network.graph.nodes())
            .map(|(layer, node)| {
                let [c, h, w] = layer.shape;
                vec![
                    layer.name.clone(),
                    describe(&node.op),
                    format!("{c}x{h}x{w}"),
                    thousands(layer.parameters),
                    thousands(layer.macs),
                    thousands(layer.winograd_multiplies),
                ]
            })
            .collect();
        let header = ["layer", "operation", "output", "parameters", "MACs", "Winograd multiplies"];
        let mut text = table(&header, &rows);
        let line = |what: &str, of: &Cost| {
            format!(
                "{what:<14} {:>13} parameters  {:>16} MACs  {:>16} Winograd multiplies  {:>8.1} MiB peak activations\n",
                thousands(of.parameters),
                thousands(of.macs),
                thousands(of.winograd_multiplies),
                of.peak_activation_bytes as f64 / f64::from(1 << 20),
            )
        };
        text.push_str(&format!(
            "\n{}, {} classes, in {}, for one {height}x{width} image\n",
            self.network.name,
            self.network.graph.classes(),
            self.network.form
        ));
        if let Some(origin) = self.network.origin {
            text.push_str(&format!("file           {origin}\n"));
        }
        text.push_str(&line("training form", &self.training));
        text.push_str(&line("plain form", &self.plain));
        if let Some(paper) = published(&self.network.name) {
            let millions = paper.parameters.map_or(String::new(), |millions| format!(", {millions:.2} M parameters"));
            text.push_str(&format!("paper          top-1 {:.2} %{millions} ({})\n", paper.top1, paper.source));
        }
        if let Some(model) = &self.network.model {
            if !model.labels.is_empty() {
                text.push_str(&format!("labels         {}\n", shortened(&model.labels)));
            }
            let preprocessing = &model.preprocessing;
            text.push_str(&format!(
                "preprocessing  {}x{} pixels, crop fraction {}, {:?}, mean {:?}, std {:?}\n",
                preprocessing.size[0],
                preprocessing.size[1],
                preprocessing.crop_fraction,
                preprocessing.interpolation,
                preprocessing.mean,
                preprocessing.std
            ));
        }
        text
    }
}

fn shortened(labels: &[String]) -> String {
    match labels {
        [first @ .., _] if first.len() > 12 => format!("{}, … ({} in all)", labels[..12].join(", "), labels.len()),
        _ => labels.join(", "),
    }
}

fn describe(op: &repvgg::Op) -> String {
    match op {
        repvgg::Op::Conv2d(conv) => {
            let g = conv.geometry;
            let mut text = format!("conv {}x{}", g.kernel[0], g.kernel[1]);
            if g.stride != [1, 1] {
                text.push_str(&format!(" s{}", g.stride[0]));
            }
            if g.groups > 1 {
                text.push_str(&format!(" g{}", g.groups));
            }
            text
        }
        other => other.kind().to_owned(),
    }
}

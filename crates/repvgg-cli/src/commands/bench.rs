//! `repvgg bench`: the speed of a model on this machine, layer by layer.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use repvgg::Error;
use repvgg::cost::cost;
use repvgg::engine::{
    BatchShape, Choice, Estimate, Layer, Options, Prepared, Reason, Session, ThreadPool, Tuning, thread_pool,
};
use repvgg::measure::{self, Profile};
use serde_json::json;

use super::CommandResult;
use crate::engine::EngineOptions;
use crate::output::{print, print_json, table};
use crate::progress::bar;
use crate::source::{ModelOptions, parse_size};

/// Time a model, or a named architecture with random weights, layer by layer
///
/// Prints the time of each layer, milliseconds per run, images per second, and a comparison with a perfect direct convolution: all
/// multiply-adds at the peak rate of the processor. The peak is measured with fused multiply-adds on one thread, times the number of
/// threads.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg bench plain.safetensors --batch 8
  repvgg bench repvgg-a0 --explain                  # random weights; the algorithm of each layer, and the reason
  repvgg bench plain.safetensors --tune             # measure all algorithms and remember the fastest")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Images per run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Image size in pixels: S for a square, or HxW [default: the model's]
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Timed runs, after one warm-up run for every five of them
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iterations: u32,
    /// Also print each layer's algorithm and tiles, the reason for the choice, and the alternatives
    #[arg(long)]
    explain: bool,
    /// Measure the algorithms of each layer first and store the fastest in MODEL.tune.json
    ///
    /// Every command that runs the model uses the stored choices when batch, size, accuracy and instruction set are the same.
    #[arg(long)]
    tune: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let opened = arguments.model.open_or_initialise()?;
    let model = &opened.model;
    let size = arguments.size.unwrap_or(model.preprocessing.size);
    let shape = BatchShape { batch: arguments.batch as usize, size };
    let pool = thread_pool(arguments.engine.threads)?;
    let options = arguments.engine.options();
    let graph = model.graph();
    let known = opened.tuning();
    // Tuning replaces a file that cannot be read.
    let mut tuning = if arguments.tune { known.unwrap_or_default() } else { known? };
    if arguments.tune {
        let Some(file) = &opened.file else {
            let problem =
                format!("expected a model file to store the choices next to, found {}", arguments.model.model);
            return Err(Error::spec("tune", problem).into());
        };
        let prepared = Prepared::new(graph, &model.weights, options.clone())?;
        tuning.extend(tune(&prepared, &pool, shape)?);
        tuning.save(&Tuning::path(file))?;
    }
    let start = Instant::now();
    let prepared = Arc::new(Prepared::new(graph, &model.weights, Options { tuning, ..options })?);
    let mut session = Session::new(&prepared, &pool, shape)?;
    let load = start.elapsed();
    let macs = cost(&graph.inference(), size)?.macs * u64::from(arguments.batch);
    let profile = profile(&mut session, arguments.iterations as usize)?;
    let name = model.name();
    let report = BenchReport { arguments, session: &session, name, form: model.form(), macs, load, profile };
    if arguments.json {
        print_json(&report.json())?;
    } else {
        print(&report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures every convolution of the model.
fn tune(prepared: &Prepared, pool: &ThreadPool, shape: BatchShape) -> repvgg::Result<Tuning> {
    let progress = bar(0, "tuning");
    let mut tuning = Tuning::new();
    let result = prepared.tune(pool, shape, &mut tuning, |done, of| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    });
    progress.finish_and_clear();
    result.map(|()| tuning)
}

/// Times the session, with a progress bar.
fn profile(session: &mut Session, iterations: usize) -> repvgg::Result<Profile> {
    let warmup = iterations.div_ceil(5);
    let progress = bar(warmup + iterations, "timing");
    let profile = measure::profile(session, warmup, iterations, |turn| progress.set_position(turn.run as u64));
    progress.finish_and_clear();
    profile
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

struct BenchReport<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
    name: &'a str,
    form: repvgg::Form,
    /// Multiply-adds per run.
    macs: u64,
    load: Duration,
    profile: Profile,
}

impl BenchReport<'_> {
    fn median(&self) -> Duration {
        self.profile.times.median()
    }

    /// The speed relative to a perfect direct convolution.
    fn relative_to_direct(&self) -> f64 {
        self.profile.peak.relative_speed(self.macs as f64, self.session.threads(), self.median())
    }

    fn images_per_second(&self) -> f64 {
        f64::from(self.arguments.batch) / self.median().as_secs_f64()
    }

    fn json(&self) -> serde_json::Value {
        let samples = || self.profile.times.samples();
        let layers = self.layers().map(|(layer, time)| self.layer_json(layer, time)).collect::<Vec<_>>();
        let BatchShape { batch, size } = self.session.shape();
        json!({
            "model": self.name,
            "form": self.form,
            "batch": batch,
            "threads": self.session.threads(),
            "size": size,
            "simd": self.session.prepared().options().level.name(),
            "times_ms": samples().map(|sample| milliseconds(sample.wall)).collect::<Vec<f64>>(),
            "cpu_times_ms": samples().filter_map(|sample| sample.cpu.map(milliseconds)).collect::<Vec<f64>>(),
            "median_ms": milliseconds(self.median()),
            "images_per_second": self.images_per_second(),
            "macs_per_second": self.macs as f64 / self.median().as_secs_f64(),
            "fma_peak_macs_per_second": self.profile.peak.macs_per_second(),
            "direct_roofline": self.relative_to_direct(),
            "load_ms": milliseconds(self.load),
            "peak_bytes": self.session.packed_bytes() + self.session.arena_bytes(),
            "packed_bytes": self.session.packed_bytes(),
            "layers": layers,
        })
    }

    fn layer_json(&self, layer: &Layer, time: Duration) -> serde_json::Value {
        let mut value = json!({
            "name": layer.name,
            "kind": layer.kind,
            "shape": layer.shape,
            "macs": layer.macs,
            "median_ms": milliseconds(time),
            "direct_roofline": self.relative_speed(layer, time),
        });
        if let Some(choice) = &layer.choice {
            let estimate = |estimate: &Estimate| {
                json!({
                    "algorithm": estimate.algorithm.to_string(),
                    "estimated_ms": estimate.time / 1e6,
                    "multiplies": estimate.macs,
                    "packed_bytes": estimate.weight_bytes,
                })
            };
            value["algorithm"] = choice.taken.algorithm.to_string().into();
            value["reason"] = reason(choice).into();
            value["tiles"] = json!(choice.tiles);
            value["estimate"] = estimate(&choice.taken);
            value["not_taken"] = choice.others.iter().map(estimate).collect();
        }
        value
    }

    fn layers(&self) -> impl Iterator<Item = (&Layer, Duration)> {
        self.session.layers().iter().zip(self.profile.layers.iter().copied())
    }

    /// The speed of a layer relative to a perfect direct convolution; 0 for a layer without multiply-adds.
    fn relative_speed(&self, layer: &Layer, time: Duration) -> f64 {
        let macs = layer.macs as f64 * self.session.shape().batch as f64;
        self.profile.peak.relative_speed(macs, self.session.threads(), time)
    }

    fn text(&self) -> String {
        let mut text = self.layer_table();
        let BatchShape { batch, size: [height, width] } = self.session.shape();
        let fastest = self.profile.times.least();
        text += &format!(
            "\n{} in {}, batch {}, {height}x{width}, {} threads, {}, {} runs\n\
             median {:.2} ms, fastest {:.2} ms, {:.1} images/s, {:.1} GMAC/s: {:.2} times a perfect direct convolution ({:.1} GMAC/s per thread)\n\
             prepared in {:.1} ms, {:.1} MiB of packed weights, {:.1} MiB of activations and workspace\n",
            self.name,
            self.form,
            batch,
            self.session.threads(),
            self.session.prepared().options().level.name(),
            self.profile.times.samples().count(),
            milliseconds(self.median()),
            milliseconds(fastest),
            self.images_per_second(),
            self.macs as f64 / self.median().as_secs_f64() / 1e9,
            self.relative_to_direct(),
            self.profile.peak.macs_per_second() / 1e9,
            milliseconds(self.load),
            self.session.packed_bytes() as f64 / f64::from(1 << 20),
            self.session.arena_bytes() as f64 / f64::from(1 << 20),
        );
        text
    }

    fn layer_table(&self) -> String {
        let mut header = vec!["layer", "operation", "output", "median ms", "GMAC/s"];
        if self.arguments.explain {
            header.extend(["x direct", "algorithm", "tiles", "chosen because", "alternatives (estimated ms)"]);
        }
        let rows: Vec<Vec<String>> = self.layers().map(|(layer, time)| self.row(layer, time)).collect();
        table(&header, &rows)
    }

    fn row(&self, layer: &Layer, time: Duration) -> Vec<String> {
        let [c, h, w] = layer.shape;
        let images = u64::from(self.arguments.batch);
        let rate = (layer.macs * images) as f64 / time.as_secs_f64().max(1e-9) / 1e9;
        let or_none = |text: String| if layer.macs == 0 { "-".to_owned() } else { text };
        let mut row = vec![
            layer.name.clone(),
            layer.kind.clone(),
            format!("{c}x{h}x{w}"),
            format!("{:.3}", milliseconds(time)),
            or_none(format!("{rate:.1}")),
        ];
        if self.arguments.explain {
            row.push(or_none(format!("{:.2}", self.relative_speed(layer, time))));
            if let Some(choice) = &layer.choice {
                let others = choice.others.iter();
                let others = others.map(|other| format!("{} {:.3}", other.algorithm, other.time / 1e6));
                row.push(choice.taken.algorithm.to_string());
                row.push(tiles(choice));
                row.push(reason(choice).to_owned());
                row.push(others.collect::<Vec<_>>().join(", "));
            }
        }
        row
    }
}

/// The tiles of a layer's output, rows first: `2*5+4 by 2*5+4`.
fn tiles(choice: &Choice) -> String {
    let axis = |tiles: &Vec<usize>| {
        let runs = tiles.chunk_by(|a, b| a == b);
        let run = |run: &[usize]| if run.len() == 1 { run[0].to_string() } else { format!("{}*{}", run.len(), run[0]) };
        runs.map(run).collect::<Vec<_>>().join("+")
    };
    choice
        .tiles
        .as_ref()
        .map_or_else(|| "-".to_owned(), |[rows, columns]| format!("{} by {}", axis(rows), axis(columns)))
}

fn reason(choice: &Choice) -> &'static str {
    match choice.reason {
        Reason::Estimated => "estimated fastest",
        Reason::Measured => "measured fastest",
        Reason::Requested => "asked for",
        Reason::Memory => "memory limit",
        Reason::Shared => "shared packing",
        _ => "another reason",
    }
}

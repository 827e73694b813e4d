//! `repvgg bench`: how fast a model runs here, and why.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use repvgg::cost::cost;
use repvgg::engine::{Choice, Estimate, Layer, Plan, Reason, Settings, Tuning, fma_peak};
use repvgg::{Error, Graph, Weights};
use serde_json::json;

use super::Outcome;
use crate::engine::EngineOptions;
use crate::measure::{images, median};
use crate::output::{print, print_json, table};
use crate::progress::bar;
use crate::source::{ModelOptions, parse_size};

/// Time a model, or fresh weights of a named architecture: milliseconds per run, images per second, each layer, and how this compares with the processor's limit
///
/// The limit is a perfect direct convolution: all multiply-adds at the rate of fused multiply-adds that one thread reaches in the same
/// process, times the threads.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Images per run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Image size in pixels, S or HxW [default: the model file's]
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Timed runs, after one fifth as many to warm up
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iterations: u32,
    /// Print for each layer the algorithm and its tiles, why it was taken, and what was not
    #[arg(long)]
    explain: bool,
    /// First measure the few candidates of each layer, and keep the fastest in MODEL.tune.json, which every command uses where
    /// batch, size, accuracy and instructions are the same
    #[arg(long)]
    tune: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

struct Measurement {
    load: Duration,
    /// One per iteration, in order.
    times: Vec<Duration>,
    /// Processor time of each iteration, all threads, where the system tells.
    cpu_times: Vec<Duration>,
    /// The median over the iterations of each layer's time.
    layers: Vec<Duration>,
    /// Multiply-adds per second that one thread reaches, the better of before and after.
    peak: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let model = arguments.model.open_or_fresh()?;
    let size = arguments.size.unwrap_or([model.preprocessing.size; 2]);
    let settings = arguments.engine.settings(arguments.batch as usize, size);
    let graph = model.graph();
    let known = arguments.model.tuning();
    // What cannot be read is written anew.
    let mut tuning = if arguments.tune { known.unwrap_or_default() } else { known? };
    if arguments.tune {
        let Some(file) = arguments.model.file() else {
            let what = format!("expected a model file to keep the choices beside, found {}", arguments.model.model);
            return Err(Error::spec("tune", what).into());
        };
        tuning.extend(tune(graph, &model.weights, settings)?);
        tuning.save(&Tuning::path(&file))?;
    }
    let start = Instant::now();
    let mut plan = Plan::tuned(graph, &model.weights, settings, &tuning)?;
    let load = start.elapsed();
    let macs = cost(&graph.inference(), size)?.macs * u64::from(arguments.batch);
    let measurement = measure(&mut plan, load, arguments.iterations as usize);
    let roofline = macs as f64 / (measurement.peak * settings.threads as f64);
    let name = model.name();
    let report = Report { arguments, plan: &plan, name, form: model.form(), macs, roofline, measurement };
    if arguments.json {
        print_json(&report.json())?;
    } else {
        print(&report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures every convolution of the model anew.
fn tune(graph: &Graph, weights: &Weights, settings: Settings) -> repvgg::Result<Tuning> {
    let progress = bar(0, "tuning");
    let mut tuning = Tuning::new();
    let result = Plan::tune(graph, weights, settings, &mut tuning, |done, of| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    });
    progress.finish_and_clear();
    result.map(|()| tuning)
}

fn measure(plan: &mut Plan, load: Duration, iterations: usize) -> Measurement {
    let settings = plan.settings();
    let elements = |shape: [usize; 3]| settings.batch * shape.iter().product::<usize>();
    let input = images(elements(plan.input_shape()));
    let mut output = vec![0.0; elements(plan.output_shape())];
    let mut peak = fma_peak(settings.level);
    let progress = bar(iterations, "timing");
    for _ in 0..iterations.div_ceil(5) {
        plan.run(&input, &mut output);
    }
    let mut times = Vec::with_capacity(iterations);
    let mut cpu_times = Vec::with_capacity(iterations);
    let mut layers = vec![Vec::with_capacity(iterations); plan.layers().len()];
    for _ in 0..iterations {
        let (cpu, start) = (cpu_time(), Instant::now());
        let of_layers = plan.run_timed(&input, &mut output);
        times.push(start.elapsed());
        cpu_times.extend(cpu.zip(cpu_time()).map(|(before, after)| after - before));
        layers.iter_mut().zip(of_layers).for_each(|(layer, time)| layer.push(time));
        progress.inc(1);
    }
    progress.finish_and_clear();
    peak = peak.max(fma_peak(settings.level));
    let layers = layers.into_iter().map(|mut layer| median(&mut layer)).collect();
    Measurement { load, times, cpu_times, layers, peak }
}

/// Processor time of this process so far, all threads.
fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    return Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)).ok();
    #[cfg(not(unix))]
    None
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

struct Report<'a> {
    arguments: &'a Arguments,
    plan: &'a Plan,
    name: &'a str,
    form: repvgg::Form,
    /// Multiply-adds of one run.
    macs: u64,
    /// Seconds that a perfect direct convolution would take.
    roofline: f64,
    measurement: Measurement,
}

impl Report<'_> {
    fn median(&self) -> Duration {
        median(&mut self.measurement.times.clone())
    }

    fn images_per_second(&self) -> f64 {
        f64::from(self.arguments.batch) / self.median().as_secs_f64()
    }

    fn json(&self) -> serde_json::Value {
        let milliseconds_of = |times: &[Duration]| times.iter().map(|&time| milliseconds(time)).collect::<Vec<f64>>();
        let layers = self.layers().map(|(layer, time)| self.layer_json(layer, time)).collect::<Vec<_>>();
        let settings = self.plan.settings();
        json!({
            "model": self.name,
            "form": self.form,
            "batch": settings.batch,
            "threads": settings.threads,
            "size": settings.size,
            "simd": settings.level.name(),
            "times_ms": milliseconds_of(&self.measurement.times),
            "cpu_times_ms": milliseconds_of(&self.measurement.cpu_times),
            "median_ms": milliseconds(self.median()),
            "images_per_second": self.images_per_second(),
            "macs_per_second": self.macs as f64 / self.median().as_secs_f64(),
            "fma_peak_macs_per_second": self.measurement.peak,
            "direct_roofline": self.roofline / self.median().as_secs_f64(),
            "load_ms": milliseconds(self.measurement.load),
            "peak_bytes": self.plan.packed_bytes() + self.plan.arena_bytes(),
            "packed_bytes": self.plan.packed_bytes(),
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
            "direct_roofline": self.times_roofline(layer, time),
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
        self.plan.layers().iter().zip(self.measurement.layers.iter().copied())
    }

    /// How many times as fast as a perfect direct convolution a layer is; 0 where it has no multiply-adds.
    fn times_roofline(&self, layer: &Layer, time: Duration) -> f64 {
        let settings = self.plan.settings();
        let macs = layer.macs as f64 * settings.batch as f64;
        macs / (self.measurement.peak * settings.threads as f64) / time.as_secs_f64().max(1e-9)
    }

    fn text(&self) -> String {
        let mut text = self.layer_table();
        let settings = self.plan.settings();
        let [height, width] = settings.size;
        let least = self.measurement.times.iter().min().copied().unwrap_or_default();
        text += &format!(
            "\n{} in {}, batch {}, {height}x{width}, {} threads, {}, {} runs\n\
             median {:.2} ms, least {:.2} ms, {:.1} images/s, {:.1} GMAC/s: {:.2} times a perfect direct convolution ({:.1} GMAC/s per thread)\n\
             loaded in {:.1} ms; {:.1} MiB of packed weights, {:.1} MiB of activations and workspace\n",
            self.name,
            self.form,
            settings.batch,
            settings.threads,
            settings.level.name(),
            self.measurement.times.len(),
            milliseconds(self.median()),
            milliseconds(least),
            self.images_per_second(),
            self.macs as f64 / self.median().as_secs_f64() / 1e9,
            self.roofline / self.median().as_secs_f64(),
            self.measurement.peak / 1e9,
            milliseconds(self.measurement.load),
            self.plan.packed_bytes() as f64 / f64::from(1 << 20),
            self.plan.arena_bytes() as f64 / f64::from(1 << 20),
        );
        text
    }

    fn layer_table(&self) -> String {
        let mut header = vec!["layer", "operation", "output", "median ms", "GMAC/s"];
        if self.arguments.explain {
            header.extend(["x direct", "algorithm", "tiles", "taken because", "not taken (estimated ms)"]);
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
            row.push(or_none(format!("{:.2}", self.times_roofline(layer, time))));
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

/// `2*5+4 by 2*5+4`: how the outputs are divided, rows first.
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
        Reason::Asked => "asked for",
        Reason::Memory => "memory limit",
    }
}

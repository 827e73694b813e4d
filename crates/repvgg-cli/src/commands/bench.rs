//! `repvgg bench`: how fast a model runs here.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use repvgg::cost::cost;
use repvgg::engine::{Plan, Settings};
use serde_json::json;

use super::Outcome;
use crate::output::{print, print_json, table};
use crate::progress::bar;
use crate::source::{default_threads, model_or_fresh, parse_size};

/// Time a model: milliseconds per run, images per second, each layer, and how this compares with the processor's limit
///
/// The limit is a perfect direct convolution: all multiply-adds at the rate of fused multiply-adds that one thread reaches in the same
/// process, times the threads.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A model file, or an architecture's name or specification file for fresh weights in plain form
    model: String,
    /// Images per run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Threads [default: all cores]
    #[arg(long, default_value_t = default_threads())]
    threads: usize,
    /// Image size in pixels, S or HxW [default: the model file's]
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Timed runs, after one fifth as many to warm up
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iterations: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

struct Measurement {
    load: Duration,
    /// One per iteration, in order.
    times: Vec<Duration>,
    /// The median over the iterations of each layer's time.
    layers: Vec<Duration>,
    /// Multiply-adds per second that one thread reaches, the better of before and after.
    peak: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let model = model_or_fresh(&arguments.model)?;
    let size = arguments.size.unwrap_or([model.preprocessing.size; 2]);
    let settings =
        Settings { batch: arguments.batch as usize, size, threads: arguments.threads, ..Settings::default() };
    let graph = model.graph()?;
    let start = Instant::now();
    let mut plan = Plan::new(&graph, &model.weights, settings)?;
    let load = start.elapsed();
    let macs = cost(&graph.inference(), size)?.macs * u64::from(arguments.batch);
    let measurement = measure(&mut plan, load, arguments.iterations as usize);
    let roofline = macs as f64 / (measurement.peak * arguments.threads as f64);
    let report = Report {
        arguments,
        plan: &plan,
        name: model.architecture.name(),
        form: model.form,
        macs,
        roofline,
        measurement,
    };
    if arguments.json {
        print_json(&report.json())?;
    } else {
        print(&report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(plan: &mut Plan, load: Duration, iterations: usize) -> Measurement {
    let settings = plan.settings();
    let elements = |shape: [usize; 3]| settings.batch * shape.iter().product::<usize>();
    // A fixed pattern: the time does not depend on the values as long as they are ordinary numbers.
    let input: Vec<f32> = (0..elements(plan.input_shape())).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
    let mut output = vec![0.0; elements(plan.output_shape())];
    let mut peak = repvgg::engine::fma_peak(settings.level);
    let progress = bar(iterations, "timing");
    for _ in 0..iterations.div_ceil(5) {
        plan.run(&input, &mut output);
    }
    let mut times = Vec::with_capacity(iterations);
    let mut layers = vec![Vec::with_capacity(iterations); plan.layers().len()];
    for _ in 0..iterations {
        let start = Instant::now();
        let of_layers = plan.run_timed(&input, &mut output);
        times.push(start.elapsed());
        layers.iter_mut().zip(of_layers).for_each(|(layer, time)| layer.push(time));
        progress.inc(1);
    }
    progress.finish_and_clear();
    peak = peak.max(repvgg::engine::fma_peak(settings.level));
    Measurement { load, times, layers: layers.into_iter().map(|mut layer| median(&mut layer)).collect(), peak }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

struct Report<'a> {
    arguments: &'a Arguments,
    plan: &'a Plan,
    name: &'a str,
    form: repvgg::zoo::Form,
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
        let times: Vec<f64> = self.measurement.times.iter().map(|&time| milliseconds(time)).collect();
        let layers: Vec<serde_json::Value> = self
            .plan
            .layers()
            .iter()
            .zip(&self.measurement.layers)
            .map(|(layer, &time)| {
                json!({"name": layer.name, "kind": layer.kind, "shape": layer.shape, "macs": layer.macs, "median_ms": milliseconds(time)})
            })
            .collect();
        let settings = self.plan.settings();
        json!({
            "model": self.name,
            "form": self.form,
            "batch": settings.batch,
            "threads": settings.threads,
            "size": settings.size,
            "times_ms": times,
            "median_ms": milliseconds(self.median()),
            "images_per_second": self.images_per_second(),
            "macs_per_second": self.macs as f64 / self.median().as_secs_f64(),
            "fma_peak_macs_per_second": self.measurement.peak,
            "direct_roofline": self.roofline / self.median().as_secs_f64(),
            "load_ms": milliseconds(self.measurement.load),
            "peak_bytes": self.plan.packed_bytes() + self.plan.arena_bytes(),
            "layers": layers,
        })
    }

    fn text(&self) -> String {
        let images = u64::from(self.arguments.batch);
        let rows: Vec<Vec<String>> = self
            .plan
            .layers()
            .iter()
            .zip(&self.measurement.layers)
            .map(|(layer, &time)| {
                let [c, h, w] = layer.shape;
                let rate = (layer.macs * images) as f64 / time.as_secs_f64().max(1e-9) / 1e9;
                let rate = if layer.macs == 0 { "-".to_owned() } else { format!("{rate:.1}") };
                vec![
                    layer.name.clone(),
                    layer.kind.clone(),
                    format!("{c}x{h}x{w}"),
                    format!("{:.3}", milliseconds(time)),
                    rate,
                ]
            })
            .collect();
        let settings = self.plan.settings();
        let [height, width] = settings.size;
        let least = self.measurement.times.iter().min().copied().unwrap_or_default();
        format!(
            "{}\n{} in {}, batch {}, {height}x{width}, {} threads, {} runs\n\
             median {:.2} ms, least {:.2} ms, {:.1} images/s, {:.1} GMAC/s: {:.2} times a perfect direct convolution ({:.1} GMAC/s per thread)\n\
             loaded in {:.1} ms; {:.1} MiB of packed weights, {:.1} MiB of activations and workspace\n",
            table(&["layer", "operation", "output", "median ms", "GMAC/s"], &rows),
            self.name,
            self.form,
            settings.batch,
            settings.threads,
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
        )
    }
}

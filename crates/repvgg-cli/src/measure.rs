//! How fast networks are beside one another, by the paper's protocol (2101.03697, Sect. 4.1): some runs to warm up, then as
//! many that are timed, all networks on the same device in the same process.
//!
//! Networks take turns, round after round, so that whatever slows the machine for a while slows all of them; a network is
//! planned when its turn comes and dropped after it, so that one is in memory at a time.

use std::time::{Duration, Instant};

use repvgg::Form;
use repvgg::engine::{Plan, Settings, fma_peak};
use repvgg::fuse;
use repvgg::{Architecture, Graph, Result, Weights};
use repvgg_train::{Device, Network};

use crate::engine::EngineOptions;
use crate::progress::bar;
use crate::source::parse_size;

/// How speeds are measured.
///
/// The paper's own protocol is `--batch 128 --warmup 50 --iterations 50 --rounds 1` on a graphics processor.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Measuring (the paper: --batch 128 --warmup 50 --iterations 50 --rounds 1 on a GPU)")]
pub(crate) struct Protocol {
    /// Images per run
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: u32,
    /// Image size in pixels, S or HxW [default: each network's own]
    #[arg(long, value_parser = parse_size)]
    pub(crate) size: Option<[usize; 2]>,
    /// Where to compute: cpu, which is the engine, or vulkan:0, wgpu:0, metal, cuda:0, rocm:0 where the program was built with that
    /// feature, which is the training framework and includes the way of images there and of logits back
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Runs of a network in each round before those that are timed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) warmup: u32,
    /// Timed runs of a network in each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) iterations: u32,
    /// Rounds, in each of which every network has its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rounds: u32,
}

/// A network to be timed.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) graph: Graph,
    pub(crate) weights: Weights,
    pub(crate) size: [usize; 2],
}

/// How fast a network is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Speed {
    /// By the median of all timed runs.
    pub(crate) images_per_second: f64,
    /// Of the slowest and of the fastest round, each by the median of its runs.
    pub(crate) range: [f64; 2],
    /// Height and width of the images.
    pub(crate) size: [usize; 2],
}

/// What was measured, and on what.
#[derive(Debug, Clone)]
pub(crate) struct Measurement {
    /// One for each network.
    pub(crate) speeds: Vec<Speed>,
    /// Multiply-adds per second that one thread reaches, the best between rounds; of the CPU alone.
    pub(crate) peak: Option<f64>,
    pub(crate) device: Device,
}

impl Protocol {
    /// Times the networks called `names`, of which `candidate` makes the one of an index whenever its turn comes.
    ///
    /// # Errors
    /// When there is no such device, or a network cannot be made or does not take images of its size.
    pub(crate) fn measure(
        &self,
        engine: &EngineOptions,
        names: &[&str],
        candidate: impl Fn(usize) -> Result<Candidate>,
    ) -> Result<Measurement> {
        let device: Device = self.device.parse()?;
        let is_cpu = device == Device::cpu();
        let batch = self.batch as usize;
        let mut peak = None;
        let mut timings = vec![Timing::default(); names.len()];
        let progress = bar(names.len() * self.rounds as usize, "measuring");
        for _ in 0..self.rounds {
            for (index, (name, timing)) in names.iter().zip(&mut timings).enumerate() {
                progress.set_message((*name).to_owned());
                let Candidate { graph, weights, size } = candidate(index)?;
                let size = self.size.unwrap_or(size);
                let settings = engine.settings(batch, size);
                if is_cpu {
                    peak = Some(fma_peak(settings.level).max(peak.unwrap_or(0.0)));
                }
                let network = if is_cpu {
                    on_cpu(&graph, &weights, settings)
                } else {
                    on_device(graph, &weights, (batch, size), device)
                };
                let network = network.map_err(|error| error.within(name))?;
                drop(weights);
                timing.size = size;
                timing.rounds.push(self.round(network).map_err(|error| error.within(name))?);
                progress.inc(1);
            }
        }
        progress.finish_and_clear();
        Ok(Measurement { speeds: timings.iter().map(|timing| timing.speed(batch)).collect(), peak, device })
    }

    /// The times of one round's runs.
    fn round(&self, mut run: Run) -> Result<Vec<Duration>> {
        (0..self.warmup).try_for_each(|_| run())?;
        let timed = |_| {
            let start = Instant::now();
            run().map(|()| start.elapsed())
        };
        (0..self.iterations).map(timed).collect()
    }
}

/// One run of a network on a batch.
type Run = Box<dyn FnMut() -> Result<()>>;

fn on_cpu(graph: &Graph, weights: &Weights, settings: Settings) -> Result<Run> {
    let mut plan = Plan::new(graph, weights, settings)?;
    let elements = |shape: [usize; 3]| settings.batch * shape.iter().product::<usize>();
    let input = images(elements(plan.input_shape()));
    let mut output = vec![0.0; elements(plan.output_shape())];
    Ok(Box::new(move || {
        plan.run(&input, &mut output);
        Ok(())
    }))
}

fn on_device(graph: Graph, weights: &Weights, (batch, size): (usize, [usize; 2]), device: Device) -> Result<Run> {
    let input = images(batch * graph.input_channels() * size[0] * size[1]);
    let network = Network::new(graph, weights, device)?;
    Ok(Box::new(move || network.logits(&input, size).map(drop)))
}

/// The timed runs of one network.
#[derive(Debug, Clone, Default)]
struct Timing {
    rounds: Vec<Vec<Duration>>,
    size: [usize; 2],
}

impl Timing {
    fn speed(&self, batch: usize) -> Speed {
        let rate = |times: &mut [Duration]| batch as f64 / median(times).as_secs_f64().max(1e-9);
        let rounds: Vec<f64> = self.rounds.iter().map(|round| rate(&mut round.clone())).collect();
        Speed {
            images_per_second: rate(&mut self.rounds.concat()),
            range: [rounds.iter().copied().fold(f64::INFINITY, f64::min), rounds.iter().copied().fold(0.0, f64::max)],
            size: self.size,
        }
    }
}

/// An architecture's graph in a form, with fresh weights.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn fresh(architecture: &Architecture, form: Form) -> Result<(Graph, Weights)> {
    let training = architecture.training_graph()?.inference();
    let weights = Weights::initialise(&training, 0);
    Ok(match form {
        Form::Training => (training, weights),
        Form::Plain => {
            let plan = fuse::Plan::new(&training);
            let weights = plan.apply(&weights)?;
            (plan.into_graph(), weights)
        }
    })
}

/// Pixels in a fixed pattern: the time does not depend on the values as long as they are ordinary numbers.
pub(crate) fn images(elements: usize) -> Vec<f32> {
    (0..elements).map(|index| ((index * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
}

pub(crate) fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_the_median_of_all_runs_and_its_range_that_of_the_rounds() {
        let rounds =
            [[100, 90, 500], [200, 200, 200], [50, 100, 90]].map(|round| round.map(Duration::from_millis).to_vec());
        let timing = Timing { rounds: rounds.to_vec(), size: [224, 160] };
        assert_eq!(timing.speed(10), Speed { images_per_second: 100.0, range: [50.0, 10.0 / 0.09], size: [224, 160] });
    }

    #[test]
    fn fresh_weights_fit_their_graph_in_both_forms() {
        let architecture =
            Architecture::from_toml("depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]", "small").unwrap();
        for form in [Form::Training, Form::Plain] {
            let (graph, weights) = fresh(&architecture, form).unwrap();
            weights.check(&graph).unwrap();
            assert_eq!(
                graph.nodes().iter().any(|node| matches!(node.op, repvgg::Op::BatchNorm(_))),
                form == Form::Training
            );
        }
    }

    #[test]
    fn the_engine_and_the_framework_run_the_same_network() {
        let architecture =
            Architecture::from_toml("depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]", "small").unwrap();
        let (graph, weights) = fresh(&architecture, Form::Plain).unwrap();
        let settings = Settings { batch: 2, size: [32, 64], ..Settings::default() };
        let cpu = on_cpu(&graph, &weights, settings).unwrap();
        let device = on_device(graph, &weights, (2, [32, 64]), Device::cpu()).unwrap();
        let protocol = Protocol { batch: 2, size: None, device: "cpu".to_owned(), warmup: 1, iterations: 3, rounds: 1 };
        for run in [cpu, device] {
            let times = protocol.round(run).unwrap();
            assert!(times.len() == 3 && times.iter().all(|time| !time.is_zero()), "{times:?}");
        }
    }
}

//! Options for timing several networks in turn, and the measurement itself.

use repvgg::engine::BatchShape;
use repvgg::measure::{Peak, Protocol, Speed};
use repvgg::{Graph, Result, Weights};
use repvgg_train::Device;
use repvgg_train::measure::{Runner, workload};

use crate::engine::EngineOptions;
use crate::progress::bar;
use crate::source::parse_size;

/// The measurement protocol.
///
/// The paper's protocol is `--batch 128 --warmup 50 --iterations 50 --rounds 1` on a GPU.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Measurement (the paper's: --batch 128 --warmup 50 --iterations 50 --rounds 1 on a GPU)")]
pub(crate) struct ProtocolOptions {
    /// Images per run
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: u32,
    /// Image size in pixels: S for a square, or HxW [default: each network's own]
    #[arg(long, value_parser = parse_size)]
    pub(crate) size: Option<[usize; 2]>,
    /// Device to run on: cpu; vulkan:0, wgpu:0, metal, cuda:0 or rocm:0 if the program was built with that feature
    ///
    /// The CPU runs the engine. Other devices run the training framework, and their times include the transfer of images and logits.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Warm-up runs of each network per round
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) warmup: u32,
    /// Timed runs of each network per round
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) iterations: u32,
    /// Rounds; the networks take turns in each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rounds: u32,
}

/// A network to time.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) graph: Graph,
    pub(crate) weights: Weights,
    pub(crate) size: [usize; 2],
}

/// The results of a measurement.
#[derive(Debug, Clone)]
pub(crate) struct Measurement {
    /// The speed of each network.
    pub(crate) speeds: Vec<Speed>,
    /// Height and width of each network's images.
    pub(crate) sizes: Vec<[usize; 2]>,
    /// The peak multiply-adds per second of one thread, the best of several samples; only on the CPU.
    pub(crate) peak: Option<f64>,
    pub(crate) device: Device,
}

impl ProtocolOptions {
    fn protocol(&self) -> Protocol {
        let [warmup, iterations, rounds] = [self.warmup, self.iterations, self.rounds].map(|count| count as usize);
        Protocol { warmup, iterations, rounds }
    }

    /// Times the networks called `names`. `candidate` builds the network of an index each time that its turn comes.
    ///
    /// # Errors
    /// When the device does not exist, or a network cannot be built or does not accept images of its size.
    pub(crate) fn measure(
        &self,
        engine: &EngineOptions,
        names: &[&str],
        candidate: impl Fn(usize) -> Result<Candidate>,
    ) -> Result<Measurement> {
        let device: Device = self.device.parse()?;
        let batch = self.batch as usize;
        let engine = engine.engine()?;
        let runner = match device == Device::cpu() {
            true => Runner::Engine(engine),
            false => Runner::Framework { device, pool: engine.pool },
        };
        let mut peak = match &runner {
            Runner::Engine(engine) => Some(Peak::new(engine.options.level)),
            Runner::Framework { .. } => None,
        };
        let mut sizes = vec![[0; 2]; names.len()];
        let prepare = |index: usize| {
            let Candidate { graph, weights, size } = candidate(index)?;
            sizes[index] = self.size.unwrap_or(size);
            peak.iter_mut().for_each(Peak::sample);
            let workload = workload(&graph, &weights, &runner, BatchShape { batch, size: sizes[index] });
            workload.map_err(|error| error.within(names[index]))
        };
        let progress = bar(names.len() * self.rounds as usize, "measuring");
        let times = self.protocol().measure(names.len(), prepare, |turn| {
            progress.set_message(names[turn.workload].to_owned());
            progress.set_position((turn.round * names.len() + turn.workload) as u64);
        });
        progress.finish_and_clear();
        let speeds = times?.iter().map(|times| times.speed(batch)).collect();
        Ok(Measurement { speeds, sizes, peak: peak.map(Peak::macs_per_second), device })
    }
}

//! How networks are timed beside one another, as options.

use repvgg::engine::BatchShape;
use repvgg::measure::{Peak, Protocol, Speed};
use repvgg::{Graph, Result, Weights};
use repvgg_train::Device;
use repvgg_train::measure::{Runner, workload};

use crate::engine::EngineOptions;
use crate::progress::bar;
use crate::source::parse_size;

/// How speeds are measured.
///
/// The paper's own protocol is `--batch 128 --warmup 50 --iterations 50 --rounds 1` on a graphics processor.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Measuring (the paper: --batch 128 --warmup 50 --iterations 50 --rounds 1 on a GPU)")]
pub(crate) struct ProtocolOptions {
    /// Images per run
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: u32,
    /// Image size in pixels, S or HxW [default: each network's own]
    #[arg(long, value_parser = parse_size)]
    pub(crate) size: Option<[usize; 2]>,
    /// Device: cpu, which runs the engine; or vulkan:0, wgpu:0, metal, cuda:0, rocm:0 if the program was built with that feature, which
    /// run the training framework and include the transfer of images and logits
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Warm-up runs of each network per round
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) warmup: u32,
    /// Timed runs of each network per round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) iterations: u32,
    /// Rounds; every network has its turn in each
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

/// Speeds, and the device.
#[derive(Debug, Clone)]
pub(crate) struct Measurement {
    /// One for each network.
    pub(crate) speeds: Vec<Speed>,
    /// Height and width of each network's images.
    pub(crate) sizes: Vec<[usize; 2]>,
    /// Multiply-adds per second that one thread reaches, the best of several samples; on the CPU only.
    pub(crate) peak: Option<f64>,
    pub(crate) device: Device,
}

impl ProtocolOptions {
    fn protocol(&self) -> Protocol {
        let [warmup, iterations, rounds] = [self.warmup, self.iterations, self.rounds].map(|count| count as usize);
        Protocol { warmup, iterations, rounds }
    }

    /// Times the networks called `names`; `candidate` makes the one of an index whenever its turn comes.
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
        let batch = self.batch as usize;
        let runner = if device == Device::cpu() { Runner::Engine(engine.engine()?) } else { Runner::Framework(device) };
        let mut peak = match &runner {
            Runner::Engine(engine) => Some(Peak::new(engine.options.level)),
            Runner::Framework(_) => None,
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

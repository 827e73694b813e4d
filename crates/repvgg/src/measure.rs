//! Speed and memory of networks, measured so that figures are comparable.
//!
//! [`Protocol`] is the paper's (2101.03697, Sect. 4.1): a few warm-up runs, then timed runs. Several networks take
//! turns, round after round, so a temporary slowdown of the machine affects all of them. Each is prepared for its turn and
//! then dropped, so only one is in memory at a time.
//!
//! ```
//! use repvgg::engine::{BatchShape, Engine, Level};
//! use repvgg::measure::{Peak, Protocol, Workload, engine};
//! use repvgg::{Model, Specification};
//!
//! # fn main() -> repvgg::Result<()> {
//! let spec = "depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]";
//! let training = Model::initialise(Specification::from_toml(spec, "tiny")?, 0)?;
//! let models = [&training, &training.fuse()?];
//!
//! let (cpu, shape) = (Engine::on_all_cores(), BatchShape { batch: 2, size: [32, 32] });
//! let prepare = |index: usize| -> repvgg::Result<Box<dyn Workload>> {
//!     Ok(Box::new(engine(&cpu, models[index].graph(), &models[index].weights, shape)?))
//! };
//! let protocol = Protocol { warmup: 1, iterations: 3, rounds: 2 };
//! let times = protocol.measure(models.len(), prepare, |_| ())?;
//! for times in &times {
//!     println!("{:.0} images per second", times.speed(shape.batch).images_per_second);
//! }
//! println!("{:.1} GMAC/s at most", Peak::new(Level::detect()).macs_per_second() / 1e9);
//! # Ok(())
//! # }
//! ```

mod memory;

use std::time::{Duration, Instant};

use crate::engine::{BatchShape, Engine, Level, Session, fma_peak};
use crate::{Graph, Result, Weights};

pub use memory::{Memory, memory};

/// The number of runs of each network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// Untimed runs in each round, before the timed ones.
    pub warmup: usize,
    /// Timed runs in each round.
    pub iterations: usize,
    /// Rounds; every network has one turn in each.
    pub rounds: usize,
}

impl Default for Protocol {
    /// Three rounds of three timed runs, each after one warm-up run.
    fn default() -> Self {
        Self { warmup: 1, iterations: 3, rounds: 3 }
    }
}

/// A workload whose runs are timed: usually a network with its input.
///
/// Closures that return a [`Result`] are workloads.
pub trait Workload {
    /// Runs once.
    ///
    /// # Errors
    /// When the computation fails, which ends the measurement.
    fn run(&mut self) -> Result<()>;
}

impl<F: FnMut() -> Result<()>> Workload for F {
    fn run(&mut self) -> Result<()> {
        self()
    }
}

/// The run that a measurement is about to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The round, from 0.
    pub round: usize,
    /// The index of the workload.
    pub workload: usize,
    /// The run within the turn, from 0, including warm-up runs.
    pub run: usize,
}

/// The time of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Wall time.
    pub wall: Duration,
    /// Processor time of all threads of the process, if the system provides it.
    pub cpu: Option<Duration>,
}

/// The timed runs of one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// The samples of each round, in order.
    pub rounds: Vec<Vec<Sample>>,
}

/// The speed of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Images per second, from the median of all runs.
    pub images_per_second: f64,
    /// The slowest round, by the median of its runs, in images per second.
    pub slowest_round: f64,
    /// The fastest round, by the median of its runs, in images per second.
    pub fastest_round: f64,
}

impl Protocol {
    /// Times `workloads` workloads in turn; `prepare(i)` prepares the workload `i` for its turn. `progress` is
    /// called before each run.
    ///
    /// # Errors
    /// When a workload cannot be prepared or fails.
    pub fn measure<'a>(
        &self,
        workloads: usize,
        mut prepare: impl FnMut(usize) -> Result<Box<dyn Workload + 'a>>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Vec<Times>> {
        let mut times = vec![Times::default(); workloads];
        for round in 0..self.rounds {
            for (workload, times) in times.iter_mut().enumerate() {
                progress(Progress { round, workload, run: 0 });
                let mut prepared = prepare(workload)?;
                let samples = self.round(&mut *prepared, |run| progress(Progress { round, workload, run }))?;
                times.rounds.push(samples);
            }
        }
        Ok(times)
    }

    /// Times a single workload that is already prepared. `progress` is called before each run.
    ///
    /// # Errors
    /// When the workload fails.
    pub fn measure_one(&self, workload: &mut dyn Workload, mut progress: impl FnMut(Progress)) -> Result<Times> {
        let round = |round| self.round(workload, |run| progress(Progress { round, workload: 0, run }));
        Ok(Times { rounds: (0..self.rounds).map(round).collect::<Result<_>>()? })
    }

    /// The timed runs of one round.
    fn round(&self, workload: &mut dyn Workload, mut progress: impl FnMut(usize)) -> Result<Vec<Sample>> {
        for run in 0..self.warmup {
            progress(run);
            workload.run()?;
        }
        let mut samples = Vec::with_capacity(self.iterations);
        for run in 0..self.iterations {
            progress(self.warmup + run);
            let (cpu, start) = (cpu_time(), Instant::now());
            workload.run()?;
            let wall = start.elapsed();
            samples.push(Sample { wall, cpu: cpu.zip(cpu_time()).map(|(before, after)| after.saturating_sub(before)) });
        }
        Ok(samples)
    }
}

impl Times {
    /// All samples, round after round.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.rounds.iter().flatten()
    }

    /// The median wall time of all runs; zero without runs.
    pub fn median(&self) -> Duration {
        median(self.samples().map(|sample| sample.wall))
    }

    /// The least wall time of all runs; zero without runs.
    pub fn least(&self) -> Duration {
        self.samples().map(|sample| sample.wall).min().unwrap_or_default()
    }

    /// The speed of a workload that computes `images` images per run.
    pub fn speed(&self, images: usize) -> Speed {
        let rate = |time: Duration| images as f64 / time.as_secs_f64().max(1e-9);
        let rounds = || self.rounds.iter().map(|round| rate(median(round.iter().map(|sample| sample.wall))));
        Speed {
            images_per_second: rate(self.median()),
            slowest_round: rounds().fold(f64::INFINITY, f64::min),
            fastest_round: rounds().fold(0.0, f64::max),
        }
    }
}

/// The median: the mean of the middle two for an even count, zero for none.
pub fn median(times: impl IntoIterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort_unstable();
    match times.len() {
        0 => Duration::ZERO,
        count => (times[(count - 1) / 2] + times[count / 2]) / 2,
    }
}

/// The processor's limit: fused multiply-adds per second of one thread of this process, the best of several samples.
///
/// Sample it before and after the runs that it is compared with, so that both see the same clock rate.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    level: Level,
    best: f64,
}

impl Peak {
    /// Takes a first sample with the instructions of `level`.
    pub fn new(level: Level) -> Self {
        Self { level, best: fma_peak(level) }
    }

    /// Takes another sample.
    pub fn sample(&mut self) {
        self.best = self.best.max(fma_peak(self.level));
    }

    /// Multiply-adds per second of one thread.
    pub fn macs_per_second(self) -> f64 {
        self.best
    }

    /// The speed of a computation of `macs` multiply-adds in `time`, relative to `threads` threads at this peak. Winograd's
    /// algorithm multiplies less than a direct convolution, so its speed relative to the direct one's can exceed 1.
    pub fn relative_speed(self, macs: f64, threads: usize, time: Duration) -> f64 {
        macs / (self.best * threads as f64) / time.as_secs_f64().max(1e-9)
    }
}

/// A network on the engine with a full batch of [`images`].
///
/// # Errors
/// As [`Engine::session`].
pub fn engine(engine: &Engine, graph: &Graph, weights: &Weights, shape: BatchShape) -> Result<impl Workload + use<>> {
    let mut session = engine.session(graph, weights, shape)?;
    let (input, mut output) = buffers(&session);
    Ok(move || session.run(&input, &mut output))
}

/// The times of one session, layer by layer.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The times of whole runs.
    pub times: Times,
    /// The median time of each of [`Session::layers`].
    pub layers: Vec<Duration>,
    /// The processor's limit, sampled before and after the runs.
    pub peak: Peak,
}

/// Times a session with a full batch of [`images`], layer by layer: `iterations` runs after `warmup` untimed ones. `progress`
/// is called before each run.
///
/// # Errors
/// When the session fails, which a full batch does not cause.
pub fn profile(
    session: &mut Session,
    warmup: usize,
    iterations: usize,
    progress: impl FnMut(Progress),
) -> Result<Profile> {
    let mut peak = Peak::new(session.prepared().options().level);
    let (input, mut output) = buffers(session);
    let mut layers = vec![Vec::with_capacity(warmup + iterations); session.layers().len()];
    let mut run = || {
        let times = session.run_timed(&input, &mut output)?;
        layers.iter_mut().zip(times).for_each(|(layer, time)| layer.push(time));
        Ok(())
    };
    let protocol = Protocol { warmup, iterations, rounds: 1 };
    let times = protocol.measure_one(&mut run, progress)?;
    peak.sample();
    let layers = layers.into_iter().map(|times| median(times.into_iter().skip(warmup))).collect();
    Ok(Profile { times, layers, peak })
}

/// A full batch of [`images`], and a buffer for its output.
fn buffers(session: &Session) -> (Vec<f32>, Vec<f32>) {
    let elements = |shape: [usize; 3]| session.shape().batch * shape.iter().product::<usize>();
    (images(elements(session.input_shape())), vec![0.0; elements(session.output_shape())])
}

/// Pixels in a fixed pattern: times do not depend on the values, as long as these are normal numbers.
pub fn images(elements: usize) -> Vec<f32> {
    (0..elements).map(|index| ((index * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// The processor time of all threads of this process so far.
fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    return Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)).ok();
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_the_median_of_all_runs_with_the_range_of_the_rounds() {
        let sample = |milliseconds| Sample { wall: Duration::from_millis(milliseconds), cpu: None };
        let rounds = [[100, 90, 500], [200, 200, 200], [50, 100, 90]].map(|round| round.map(sample).to_vec());
        let times = Times { rounds: rounds.to_vec() };
        let speed = Speed { images_per_second: 100.0, slowest_round: 50.0, fastest_round: 10.0 / 0.09 };
        assert_eq!(times.speed(10), speed);
        assert_eq!((times.median(), times.least()), (Duration::from_millis(100), Duration::from_millis(50)));
        assert_eq!(Times::default().median(), Duration::ZERO);
    }

    #[test]
    fn workloads_take_turns_and_are_prepared_for_each() {
        let order = std::cell::RefCell::new(Vec::new());
        let prepare = |index: usize| -> Result<Box<dyn Workload + '_>> {
            order.borrow_mut().push(format!("prepare {index}"));
            let order = &order;
            Ok(Box::new(move || {
                order.borrow_mut().push(format!("run {index}"));
                Ok(())
            }))
        };
        let mut runs = Vec::new();
        let protocol = Protocol { warmup: 1, iterations: 2, rounds: 2 };
        let times = protocol.measure(2, prepare, |progress| runs.push(progress)).unwrap();
        assert!(times.len() == 2 && times.iter().all(|times| times.rounds.iter().map(Vec::len).eq([2, 2])));
        let turn = |index: usize| [format!("prepare {index}"), format!("run {index}")].into_iter();
        let turn = |index| turn(index).chain([format!("run {index}"), format!("run {index}")]);
        let expected: Vec<String> = [0, 1, 0, 1].into_iter().flat_map(turn).collect();
        assert_eq!(*order.borrow(), expected);
        assert_eq!(runs.last(), Some(&Progress { round: 1, workload: 1, run: 2 }));
    }

    #[test]
    fn a_profile_has_a_time_for_each_layer() {
        let architecture =
            crate::Specification::from_toml("depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]", "tiny").unwrap();
        let model = crate::Model::initialise(architecture, 0).unwrap().fuse().unwrap();
        let (engine, shape) = (Engine::with_threads(1).unwrap(), BatchShape { batch: 1, size: [32, 32] });
        let mut session = engine.session(model.graph(), &model.weights, shape).unwrap();
        let profile = profile(&mut session, 1, 3, |_| ()).unwrap();
        assert_eq!((profile.times.samples().count(), profile.layers.len()), (3, session.layers().len()));
        assert!(profile.layers.iter().all(|layer| *layer <= profile.times.median() * 2), "{profile:?}");
        assert!(profile.peak.macs_per_second() > 0.0);
    }
}

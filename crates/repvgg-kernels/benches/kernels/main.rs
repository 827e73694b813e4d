//! Speed of the kernels on layers of real networks, each answer compared with the reference before it is timed.
//!
//! * Inference: every algorithm that fits, in GMAC/s of the direct convolution, and as a fraction of the multiply-add peak
//!   of as many cores.
//! * Maps: GB/s of sums, pools and softmax.
//! * Training: forward and both gradients, which pack per call, in GMAC/s and percent of the peak; sums of batch norms in GB/s.
//!
//! `cargo bench --bench kernels -- [FILTER] [--threads N] [--level NAME]` measures what has FILTER in its name. As a test
//! (`cargo test --benches`, or `--test`) every case runs once, on every level of this CPU.

mod answers;
mod inference;
mod layers;
mod maps;
mod training;

use std::time::{Duration, Instant};

use repvgg_kernels::maps::Cpu;
use repvgg_kernels::{Level, ThreadPool, fma_peak};

/// How cases are run.
pub(crate) struct Bench<'a> {
    pub(crate) cpu: Cpu<'a>,
    mode: Mode,
    filter: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Each case runs for a while, and its speed is printed.
    Measure,
    /// Each case runs once.
    Test,
}

/// The arguments of the command line.
struct Arguments {
    mode: Mode,
    filter: String,
    threads: usize,
    level: Option<Level>,
}

impl Arguments {
    /// # Panics
    ///
    /// If an option is unknown or has no value.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        // `cargo bench` passes `--bench`; `cargo test` passes nothing.
        let mut modes = Vec::new();
        let mut parsed = Self { mode: Mode::Test, filter: String::new(), threads: 1, level: None };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} has a value"));
            match &*argument {
                "--bench" => modes.push(Mode::Measure),
                "--test" => modes.push(Mode::Test),
                "--threads" => parsed.threads = value().parse().expect("--threads is a number"),
                "--level" => {
                    let name = value();
                    let level = Level::named(&name);
                    parsed.level = Some(level.unwrap_or_else(|| panic!("this CPU has a level {name}")));
                }
                filter if !filter.starts_with('-') => parsed.filter = filter.to_owned(),
                unknown => panic!("expected [FILTER] [--threads N] [--level NAME] [--test], found {unknown}"),
            }
        }
        if modes == [Mode::Measure] {
            parsed.mode = Mode::Measure;
        }
        parsed
    }
}

fn main() {
    let Arguments { mode, filter, threads, level } = Arguments::parse(std::env::args().skip(1));
    let levels = match (level, mode) {
        (Some(level), _) => vec![level],
        (None, Mode::Measure) => vec![Level::detect()],
        (None, Mode::Test) => Level::NAMES.iter().filter_map(|name| Level::named(name)).collect(),
    };
    let pool = ThreadPool::new(if mode == Mode::Test { 2 } else { threads });
    for level in levels {
        let bench = Bench { cpu: Cpu { pool: &pool, level }, mode, filter: filter.clone() };
        let peak = fma_peak(level) / 1e9;
        println!("{} on {} threads, peak {peak:.1} GMAC/s per thread", level.name(), pool.threads());
        inference::run(&bench);
        maps::run(&bench);
        training::run(&bench);
    }
}

impl Bench<'_> {
    /// Whether a case is asked for.
    pub(crate) fn selects(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Multiply-adds per second of all threads at their peak.
    pub(crate) fn peak(&self) -> f64 {
        fma_peak(self.cpu.level) * self.cpu.pool.threads() as f64
    }

    /// Seconds of the fastest of the rounds in about 0.3 s, or of a single round where this is a test.
    pub(crate) fn fastest(&self, mut work: impl FnMut()) -> f64 {
        let time = |work: &mut dyn FnMut()| {
            let round = Instant::now();
            work();
            round.elapsed().as_secs_f64()
        };
        let first = time(&mut work);
        if self.mode == Mode::Test {
            return first;
        }
        let start = Instant::now();
        let mut best = f64::INFINITY;
        while start.elapsed() < Duration::from_millis(300) {
            best = best.min(time(&mut work));
        }
        best
    }
}

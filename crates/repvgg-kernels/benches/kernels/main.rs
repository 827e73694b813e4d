//! The speed of the kernels on layers of real networks. Results are compared with the reference.
//!
//! * Inference: every applicable algorithm, in GMAC/s of the direct convolution, and as a fraction of the multiply-add peak of
//!   all threads.
//! * Maps: sums, pooling and softmax, in GB/s.
//! * Training: forward and both gradients, packing included, in GMAC/s and percent of the peak; sums of batch norms in GB/s.
//!
//! `cargo bench --bench kernels -- [FILTER] [--threads N] [--level NAME]` measures the cases whose name contains FILTER. As a
//! test (`cargo test --benches`, or `--test`), every case runs once on every level of this CPU.

mod answers;
mod inference;
mod layers;
mod maps;
mod training;

use std::time::{Duration, Instant};

use repvgg_kernels::maps::Cpu;
use repvgg_kernels::{Level, ThreadPool, fma_peak};

/// The options that cases run with.
pub(crate) struct Bench<'a> {
    pub(crate) cpu: Cpu<'a>,
    mode: Mode,
    filter: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Each case runs repeatedly for about 0.3 s.
    Measure,
    /// Each case runs once.
    Test,
}

/// The command line arguments.
struct Arguments {
    mode: Mode,
    filter: String,
    threads: usize,
    level: Option<Level>,
}

impl Arguments {
    /// Parses the command line.
    ///
    /// # Panics
    ///
    /// If an option is unknown or lacks a value.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        // `cargo bench` passes `--bench`; `cargo test` passes nothing.
        let mut modes = Vec::new();
        let mut parsed = Self { mode: Mode::Test, filter: String::new(), threads: 1, level: None };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument}: expected a value, found none"));
            match &*argument {
                "--bench" => modes.push(Mode::Measure),
                "--test" => modes.push(Mode::Test),
                "--threads" => parsed.threads = value().parse().expect("--threads: expected a number"),
                "--level" => {
                    let name = value();
                    let level = Level::named(&name);
                    parsed.level =
                        Some(level.unwrap_or_else(|| panic!("--level: expected a level of this CPU, found {name}")));
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
    /// Whether the filter selects a case.
    pub(crate) fn selects(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// The peak rate of all threads, in multiply-adds per second.
    pub(crate) fn peak(&self) -> f64 {
        fma_peak(self.cpu.level) * self.cpu.pool.threads() as f64
    }

    /// Seconds of the fastest round within about 0.3 s, or of a single round in a test.
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

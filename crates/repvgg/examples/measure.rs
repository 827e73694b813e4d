//! Time both forms of a network and compare them with the processor's limit: `measure [NAME]`, the name of an architecture.

use repvgg::cost::cost;
use repvgg::engine::{BatchShape, Engine};
use repvgg::measure::{Peak, Protocol, Workload, engine};
use repvgg::{Model, Result, Specification};

fn main() -> Result<()> {
    let architecture = match std::env::args().nth(1) {
        Some(name) => Specification::open(&name)?,
        None => Specification::from_toml("depths = [1, 2, 2, 1]\nwidth = [0.25, 0.25, 0.25, 0.25]", "small")?,
    };
    let training = Model::initialise(architecture, 0)?;
    let models = [("training form", &training), ("fused", &training.fuse()?)];

    let size = training.preprocessing.size;
    let (cpu, shape) = (Engine::with_threads(1)?, BatchShape { batch: 4, size });
    let mut peak = Peak::new(cpu.options.level);
    let prepare = |index: usize| -> Result<Box<dyn Workload>> {
        let (_, model) = models[index];
        peak.sample();
        Ok(Box::new(engine(&cpu, model.graph(), &model.weights, shape)?))
    };
    // The networks take turns, so a temporary slowdown of the machine affects both.
    let times = Protocol { warmup: 1, iterations: 3, rounds: 3 }.measure(models.len(), prepare, |_| ())?;

    for ((name, model), times) in models.iter().zip(&times) {
        let speed = times.speed(shape.batch);
        let macs = cost(&model.graph().inference(), size)?.macs as f64;
        println!(
            "{name:<14} {:8.1} images/s ({:.1} to {:.1} by round), {:.2} times a perfect direct convolution",
            speed.images_per_second,
            speed.slowest_round,
            speed.fastest_round,
            speed.images_per_second * macs / peak.macs_per_second()
        );
        assert_eq!(times.samples().count(), 9);
        assert!(speed.slowest_round <= speed.fastest_round);
    }
    Ok(())
}

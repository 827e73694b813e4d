//! Times training steps on 32x32 images: `training_speed [small|a0] [BATCH] [STEPS]`.
//!
//! `tools/training_speed.py` times the same networks in PyTorch.

use repvgg::Weights;
use repvgg::engine::Engine;
use repvgg::measure::Protocol;
use repvgg::zoo::RepVgg;
use repvgg_train::{Batch, Device, LossSettings, Network, Sgd, SgdSettings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "small".to_owned());
    let batch: usize = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let steps: usize = arguments.next().map_or(Ok(10), |text| text.parse())?;

    let spec = match name.as_str() {
        "small" => RepVgg { depths: [2, 4, 6, 1], width: [0.5; 4], ..RepVgg::default() },
        "a0" => RepVgg::default(),
        _ => return Err(format!("network: expected small or a0, found {name}").into()),
    };
    let graph = RepVgg { classes: 10, strides: [1, 1, 2, 2, 2], ..spec }.training_graph()?;
    let device = Device::cpu();
    let pool = Engine::on_all_cores().pool;
    let mut network = Network::new(graph.clone(), &Weights::initialise(&graph, 0), device, &pool)?;
    let mut sgd = Sgd::new(SgdSettings::default(), &graph, device);
    let pixels: Vec<f32> = (0..batch * 3 * 32 * 32).map(|i| ((i * i % 9973) as f32 * 0.01).sin()).collect();
    let labels: Vec<usize> = (0..batch).map(|i| i % 10).collect();
    let images = Batch { images: &pixels, size: [32, 32], labels: &labels };

    let mut losses = Vec::new();
    let mut step = || {
        losses.push(network.step(&images, &LossSettings::default(), &mut sgd, 0.05)?.loss);
        Ok(())
    };
    let protocol = Protocol { warmup: 2, iterations: steps, rounds: 1 };
    let times = protocol.measure_one(&mut step, |_| ())?;
    println!("loss {:.4} at first, {:.4} after {} steps", losses[0], losses[losses.len() - 1], losses.len());
    let [median, best] = [times.median(), times.least()].map(|time| time.as_secs_f64());
    println!(
        "repvgg-train {name}, batch {batch}: {:.1} images/s median, {:.1} best ({:.1} ms, {:.1} ms)",
        batch as f64 / median,
        batch as f64 / best,
        median * 1e3,
        best * 1e3
    );
    Ok(())
}

//! Embed a network in ten lines: build, fuse, plan once, run many times.

use repvgg::engine::{Plan, Settings};
use repvgg::fuse::fuse;
use repvgg::{Result, Specification, Tensor, Weights};

fn main() -> Result<()> {
    // A real program calls `repvgg::Model::load("plain.safetensors")`, which holds the graph's architecture and its weights.
    let training = Specification::named("repvgg-a0").expect("an official name").with_classes(10)?.training_graph()?;
    let weights: Weights = training.parameters().map(|(name, p)| (name, Tensor::full(p.shape, 0.01))).collect();
    let plain = fuse(&training, &weights)?;

    let mut plan = Plan::new(
        &plain.graph,
        &plain.weights,
        Settings { batch: 1, size: [224, 224], threads: 2, ..Settings::default() },
    )?;
    let image = vec![0.5; 3 * 224 * 224];
    let mut logits = [0.0; 10];
    plan.run(&image, &mut logits);
    println!(
        "{} layers, {:.1} MiB, logits {logits:?}",
        plan.layers().len(),
        plan.packed_bytes() as f64 / f64::from(1 << 20)
    );
    Ok(())
}

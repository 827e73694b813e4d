//! Embed a network in a program: prepare its weights once, then run sessions of any batch size on any thread.

use std::sync::Arc;
use std::thread;

use repvgg::engine::{BatchShape, Options, Prepared, Session, thread_pool};
use repvgg::{Model, Result, Specification};

fn main() -> Result<()> {
    // A real program calls `Model::load("plain.safetensors".as_ref())?`.
    let spec = "depths = [1, 2, 2, 1]\nwidth = [0.5, 0.25, 0.25, 0.125]\nclasses = 10";
    let model = Model::initialise(Specification::from_toml(spec, "small")?, 0)?.fuse()?;
    let prepared = Arc::new(Prepared::new(model.graph(), &model.weights, Options::default())?);

    // Each client has its own session, which holds memory for activations but no weights.
    let clients = [1, 8].map(|batch| {
        let prepared = Arc::clone(&prepared);
        thread::spawn(move || -> Result<f32> {
            let mut session = Session::new(&prepared, &thread_pool(1)?, BatchShape { batch, size: [96, 96] })?;
            let images = vec![0.5; batch * 3 * 96 * 96];
            let mut logits = vec![0.0; batch * 10];
            session.run(&images, &mut logits)?;
            println!(
                "batch {batch}: {} layers, {:.1} MiB of activations, logits {:.3?}",
                session.layers().len(),
                session.arena_bytes() as f64 / f64::from(1 << 20),
                &logits[..10]
            );
            Ok(logits[0])
        })
    });
    let [first, second] = clients.map(|client| client.join().expect("the client does not panic"));
    println!("{:.1} MiB of packed weights for both", prepared.packed_bytes() as f64 / f64::from(1 << 20));
    // The two batches may use different algorithms, so the last bits may differ.
    let (first, second) = (first?, second?);
    assert!((first - second).abs() <= 1e-4 * first.abs().max(1.0), "{first} and {second}");
    Ok(())
}

//! The engine against the oracle: every op, random graphs, networks; and what a plan promises about memory and threads.

#[path = "engine/accuracy.rs"]
mod accuracy;
#[path = "engine/choices.rs"]
mod choices;
#[path = "engine/networks.rs"]
mod networks;
#[path = "engine/ops.rs"]
mod ops;
#[path = "engine/promises.rs"]
mod promises;
#[path = "engine/random_graphs.rs"]
mod random_graphs;
#[path = "engine/zoo.rs"]
mod zoo;

use repvgg::engine::{Accuracy, Plan, Settings};
use repvgg::interpret::{interpret, magnitudes};
use repvgg::{Graph, Tensor, Weights};
use repvgg_testing::{noise, positive_weights};

fn random_images(channels: usize, settings: Settings) -> Tensor {
    let [height, width] = settings.size;
    Tensor::from_fn([settings.batch, channels, height, width], |i| noise(99, i))
}

/// Runs `images` through a plan and compares with the oracle within `c · nodes · ε · Σ|x||w|`: each node rounds a few
/// times, relative to the terms that meet in it. Tiles of Winograd's algorithm mix the terms of neighbouring outputs, so
/// the sum is taken where it is largest in the map of a channel, and the transforms of the largest tiles that the settings
/// allow amplify what they round by up to `c`.
fn assert_matches_the_oracle(graph: &Graph, weights: &Weights, settings: Settings, images: &Tensor) {
    let mut plan = Plan::new(graph, weights, settings).unwrap();
    let count = images.shape()[0];
    let mut output = vec![f32::NAN; count * plan.output_shape().iter().product::<usize>()];
    plan.run(images.data(), &mut output);
    let main = graph.main_output().index();
    let expected = interpret(graph, weights, &images.to_f64()).unwrap().swap_remove(main);
    let magnitude = magnitudes(graph, weights, &images.to_f64()).unwrap().swap_remove(main);
    let tile = match (settings.algorithm, settings.accuracy) {
        (Some(algorithm), _) => algorithm.tile().map_or(1, |tile| tile.outputs()),
        (None, Accuracy::Strict) => 2,
        (None, Accuracy::Default) => 6,
        (None, Accuracy::Fast) => 8,
    };
    let amplification = [8.0, 20.0, 50.0, 500.0][tile.div_ceil(2) - 1];
    let constant = amplification * graph.nodes().len() as f64 * f64::from(f32::EPSILON);
    let [_, height, width] = plan.output_shape();
    let magnitude: Vec<f64> = magnitude
        .data()
        .chunks(height * width)
        .flat_map(|map| std::iter::repeat_n(map.iter().copied().fold(0.0, f64::max), map.len()))
        .collect();
    for (i, (&found, expected)) in output.iter().zip(expected.data()).enumerate() {
        let bound = constant * magnitude[i];
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= bound,
            "element {i} of {:?}: expected {expected}, found {found}, error {error:e} beyond {bound:e} with {settings:?}",
            plan.output_shape()
        );
    }
    assert_eq!(output.len(), expected.data().len());
}

//! The engine against the oracle: every op, random graphs and networks. Also the guarantees of sessions about memory, threads
//! and sharing.

#[path = "engine/accuracy.rs"]
mod accuracy;
#[path = "engine/choices.rs"]
mod choices;
#[path = "engine/guarantees.rs"]
mod guarantees;
#[path = "engine/networks.rs"]
mod networks;
#[path = "engine/ops.rs"]
mod ops;
#[path = "engine/random_graphs.rs"]
mod random_graphs;
#[path = "engine/sharing.rs"]
mod sharing;
#[path = "engine/zoo.rs"]
mod zoo;

use std::sync::Arc;

use repvgg::engine::{Accuracy, Algorithm, BatchShape, Level, Options, Prepared, Session, thread_pool};
use repvgg::interpret::{interpret, magnitudes};
use repvgg::{Graph, Result, Tensor, Weights};
use repvgg_testing::{noise, positive_weights};

/// The options and the images of one test case.
#[derive(Debug, Clone, Copy)]
struct Case {
    batch: usize,
    size: [usize; 2],
    threads: usize,
    level: Level,
    accuracy: Accuracy,
    algorithm: Option<Algorithm>,
    memory_limit: Option<u64>,
}

impl Default for Case {
    fn default() -> Self {
        let Options { level, accuracy, algorithm, memory_limit, .. } = Options::default();
        Self { batch: 1, size: [224, 224], threads: 1, level, accuracy, algorithm, memory_limit }
    }
}

impl Case {
    fn options(self) -> Options {
        let Self { level, accuracy, algorithm, memory_limit, .. } = self;
        Options { level, accuracy, algorithm, memory_limit, ..Options::default() }
    }

    fn shape(self) -> BatchShape {
        BatchShape { batch: self.batch, size: self.size }
    }
}

/// Prepares a network and opens a session.
fn open(graph: &Graph, weights: &Weights, case: Case) -> Result<Session> {
    let prepared = Arc::new(Prepared::new(graph, weights, case.options())?);
    Session::new(&prepared, &thread_pool(case.threads)?, case.shape())
}

fn random_images(channels: usize, case: Case) -> Tensor {
    let [height, width] = case.size;
    Tensor::from_fn([case.batch, channels, height, width], |i| noise(99, i))
}

/// Runs `images` through a session and compares the output with the oracle's within `c · nodes · ε · Σ|x||w|`: each node
/// rounds a few times, relative to its terms. Tiles of Winograd's algorithm mix the terms of neighbouring outputs, so the
/// largest sum in a channel's map counts. The transforms of the largest tiles that the case allows amplify rounding errors
/// by up to `c`.
fn assert_matches_the_oracle(graph: &Graph, weights: &Weights, case: Case, images: &Tensor) {
    let mut session = open(graph, weights, case).unwrap();
    let count = images.shape()[0];
    let mut output = vec![f32::NAN; count * session.output_shape().iter().product::<usize>()];
    session.run(images.data(), &mut output).unwrap();
    let main = graph.main_output().index();
    let expected = interpret(graph, weights, &images.to_f64()).unwrap().swap_remove(main);
    let magnitude = magnitudes(graph, weights, &images.to_f64()).unwrap().swap_remove(main);
    let tile = match (case.algorithm, case.accuracy) {
        (Some(algorithm), _) => algorithm.tile().map_or(1, |tile| tile.outputs()),
        (None, Accuracy::Strict) => 2,
        (None, Accuracy::Default) => 6,
        (None, Accuracy::Fast) => 8,
    };
    let amplification = [8.0, 20.0, 50.0, 500.0][tile.div_ceil(2) - 1];
    let constant = amplification * graph.nodes().len() as f64 * f64::from(f32::EPSILON);
    let [_, height, width] = session.output_shape();
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
            "element {i} of {:?}: expected {expected}, found {found}, error {error:e} beyond {bound:e} with {case:?}",
            session.output_shape()
        );
    }
    assert_eq!(output.len(), expected.data().len());
}

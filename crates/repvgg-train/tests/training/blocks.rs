//! Every kind of block, trained a few steps: it learns, and all of its parameters move.

use repvgg::zoo::{BLOCKS, BlockKind, RepVgg};
use repvgg::{Graph, Weights};
use repvgg_train::{Batch, Decayed, Device, LossSettings, Network, Sgd, SgdSettings, initialise};

const SETTINGS: SgdSettings =
    SgdSettings { momentum: 0.9, nesterov: false, weight_decay: 1e-4, decayed: Decayed::KernelsAndIdentities };

/// The losses of some steps on one batch of distinct images, and the parameters afterwards.
fn train(graph: &Graph, size: [usize; 2], classes: usize, steps: usize) -> (Vec<f64>, Weights, Weights) {
    let before = initialise(graph, 1);
    let mut network = Network::new(graph.clone(), &before, Device::cpu()).unwrap();
    let mut sgd = Sgd::new(SETTINGS, graph, Device::cpu());
    let images: Vec<f32> = (0..4 * 3 * size[0] * size[1]).map(|i| ((i * i % 977) as f32 * 0.013).sin()).collect();
    let labels: Vec<usize> = (0..4).map(|i| i % classes).collect();
    let batch = Batch { images: &images, size, labels: &labels };
    let step = |_| network.step(&batch, &LossSettings::default(), &mut sgd, 0.02).unwrap().loss;
    let losses = (0..steps).map(step).collect();
    (losses, before, network.weights())
}

#[test]
fn every_kind_of_block_learns() {
    for block in &BLOCKS {
        let spec = RepVgg {
            depths: [1, 2, 2, 1],
            width: [0.125; 4],
            block: BlockKind::named(block.name).unwrap(),
            strides: [1, 1, 2, 2, 1],
            classes: 4,
            ..RepVgg::default()
        };
        let graph = spec.training_graph().unwrap();
        let (losses, before, after) = train(&graph, [12, 12], 4, 12);
        assert!(losses.iter().all(|loss| loss.is_finite()), "{}: {losses:?}", block.name);
        assert!(losses[11] < 0.7 * losses[0], "{}: {losses:?}", block.name);
        for (name, _) in graph.parameters() {
            assert_ne!(before.get(&name), after.get(&name), "{}: {name} has not moved", block.name);
        }
    }
}

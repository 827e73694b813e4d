//! Every kind of block learns, and every family of networks makes a step.

use repvgg::cost::cost;
use repvgg::graph::Role;
use repvgg::zoo::{BLOCKS, BlockKind, RepVgg};
use repvgg::{Graph, Specification, Weights};
use repvgg_train::{Batch, Decayed, Device, LossSettings, Network, Sgd, SgdSettings};

use crate::pool;

const SETTINGS: SgdSettings =
    SgdSettings { momentum: 0.9, nesterov: false, weight_decay: 0.0, decayed: Decayed::KernelsAndIdentities };

/// The losses of `steps` steps on one batch of distinct images, and the parameters before and after them.
fn train(graph: &Graph, size: [usize; 2], classes: usize, steps: usize) -> (Vec<f64>, Weights, Weights) {
    let before = Weights::initialise(graph, 1);
    let mut network = Network::new(graph.clone(), &before, Device::cpu(), &pool()).unwrap();
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
            assert_ne!(before.get(&name), after.get(&name), "{}: {name} has not changed", block.name);
        }
    }
}

/// The network with the fewest multiply-adds of each family makes a step, after which every parameter is finite.
#[test]
fn every_family_makes_a_step() {
    for (family, names) in Specification::families() {
        let networks = names.iter().map(|name| Specification::named(name).unwrap());
        let macs_and_side = |architecture: &Specification| {
            let graph = architecture.training_graph().unwrap();
            let default = architecture.image_size();
            let side = [64, 96, 128].into_iter().find(|&side| graph.shapes([side; 2]).is_ok()).unwrap_or(default);
            (cost(&graph, [side; 2]).unwrap().macs, side)
        };
        let architecture = networks.min_by_key(macs_and_side).unwrap().with_classes(4).unwrap();
        let graph = architecture.training_graph().unwrap();
        let (_, side) = macs_and_side(&architecture);
        let (losses, before, after) = train(&graph, [side; 2], 4, 1);
        assert!(losses[0].is_finite(), "{family}: {losses:?}");
        for (name, parameter) in graph.parameters() {
            let (before, after) = (before.get(&name).unwrap(), after.get(&name).unwrap());
            assert!(after.data().iter().all(|x| x.is_finite()), "{family}: {name}");
            // The gradient must reach all of these.
            let must_change = matches!(parameter.role, Role::Kernel | Role::Matrix | Role::RunningMean);
            assert!(!must_change || before != after, "{family}: {name} has not changed");
        }
    }
}

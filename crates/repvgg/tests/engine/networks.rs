//! Small networks of the family, in the form they are trained in.

use repvgg::engine::Settings;
use repvgg::zoo::{RepVgg, SqueezeExcite};

use super::{assert_matches_the_oracle, random_images, random_weights};

fn small() -> RepVgg {
    RepVgg { depths: [1, 2, 2, 1], width: [0.125, 0.125, 0.0625, 0.0625], classes: 10, ..RepVgg::default() }
}

fn assert_network_matches(spec: &RepVgg, settings: Settings) {
    let graph = spec.training_graph().unwrap();
    let weights = random_weights(&graph, 7);
    assert_matches_the_oracle(&graph, &weights, settings, &random_images(3, settings));
}

#[test]
fn the_training_form_of_every_kind() {
    let kinds = [
        small(),
        RepVgg { groups: 4, ..small() },
        RepVgg { se: SqueezeExcite::BeforeRelu, ..small() },
        RepVgg { se: SqueezeExcite::AfterRelu, auxiliary_heads: true, ..small() },
        RepVgg { strides: [1, 1, 2, 2, 2], ..small() },
    ];
    for spec in kinds {
        assert_network_matches(&spec, Settings { batch: 2, size: [32, 32], threads: 2, ..Settings::default() });
    }
}

#[test]
fn every_batch_and_odd_images() {
    for batch in 1..=9 {
        assert_network_matches(&small(), Settings { batch, size: [33, 31], threads: 2, ..Settings::default() });
    }
    assert_network_matches(&small(), Settings { batch: 3, size: [1, 1], threads: 2, ..Settings::default() });
    assert_network_matches(&small(), Settings { batch: 1, size: [97, 64], threads: 3, ..Settings::default() });
}

//! Small networks: RepVGGs in training form, other networks in both forms.

use repvgg::Specification;
use repvgg::fuse::Fusion;
use repvgg::zoo::{RepVgg, SqueezeExcite};

use super::{Case, assert_matches_the_oracle, positive_weights, random_images};

fn small() -> RepVgg {
    RepVgg { depths: [1, 2, 2, 1], width: [0.125, 0.125, 0.0625, 0.0625], classes: 10, ..RepVgg::default() }
}

fn assert_network_matches(spec: &RepVgg, case: Case) {
    let graph = spec.training_graph().unwrap();
    let weights = positive_weights(&graph, 7);
    assert_matches_the_oracle(&graph, &weights, case, &random_images(3, case));
}

#[test]
fn training_forms_of_every_kind_match_the_oracle() {
    let kinds = [
        small(),
        RepVgg { groups: 4, ..small() },
        RepVgg { se: SqueezeExcite::BeforeRelu, ..small() },
        RepVgg { se: SqueezeExcite::AfterRelu, auxiliary_heads: true, ..small() },
        RepVgg { strides: [1, 1, 2, 2, 2], ..small() },
    ];
    for spec in kinds {
        assert_network_matches(&spec, Case { batch: 2, size: [32, 32], threads: 2, ..Case::default() });
    }
}

#[test]
fn every_batch_and_odd_image_sizes_match_the_oracle() {
    for batch in 1..=9 {
        assert_network_matches(&small(), Case { batch, size: [33, 31], threads: 2, ..Case::default() });
    }
    assert_network_matches(&small(), Case { batch: 3, size: [1, 1], threads: 2, ..Case::default() });
    assert_network_matches(&small(), Case { batch: 1, size: [97, 64], threads: 3, ..Case::default() });
}

/// Other networks shuffle and split channels, pad sides unequally, crop maps, exclude padding from means and have branches of
/// every kind.
#[test]
fn both_forms_of_other_networks_match_the_oracle() {
    for text in [
        "family = \"mobilenet-v1\"\nwidth = 0.25",
        "family = \"mobileone\"\ndepths = [1, 2, 1, 1]\nwidth = [0.25, 0.125, 0.125, 0.125]\nexcited = [0, 1, 0, 1]",
        "family = \"nasnet-a\"\ncells = 1\nfeatures = 96\nstem = 8",
        "family = \"nasnet-a\"\ncells = 1\nfeatures = 96\nstem = 6\nskips_reduction = false\ncounts_padding = false",
        "family = \"shufflenet-v1\"\ngroups = 4\nchannels = 48\nstem = 8\ndepths = [2, 1, 1]",
        "family = \"shufflenet-v2\"\ndepths = [2, 1, 1]\nchannels = [8, 20, 28, 36, 40]",
        "family = \"xception\"\nentry = [12, 16, 20]\nmiddle = 1\nexit = [24, 28, 32]",
    ] {
        let network = Specification::from_toml(&format!("{text}\nclasses = 10\nsize = 40"), "small").unwrap();
        let training = network.training_graph().unwrap();
        let plain = Fusion::new(&training).into_graph();
        for graph in [training, plain] {
            let weights = positive_weights(&graph, 7);
            let case = Case { batch: 2, size: [40, 40], threads: 2, ..Case::default() };
            assert_matches_the_oracle(&graph, &weights, case, &random_images(3, case));
        }
    }
}

//! The error of whole networks for each accuracy, relative to the largest logit.

use repvgg::engine::Accuracy;
use repvgg::fuse::fuse;
use repvgg::graph::Role;
use repvgg::interpret::interpret;
use repvgg::zoo::RepVgg;
use repvgg::{Graph, Tensor, Weights};

use super::{Case, noise, open, random_images};

/// Weights like those of a trained network: the magnitudes of kernels vary between channels (He, 1502.01852, times 1/4 to 4),
/// and statistics vary as widely.
fn trained_weights(graph: &Graph) -> Weights {
    let tensor = |(number, (name, parameter)): (usize, (String, repvgg::graph::Parameter))| {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let filter_len = fan_in.max(1);
        let value = |i: usize| {
            let x = noise(number as u64, i);
            let spread = 4.0_f32.powf(noise(1000 + number as u64, i / filter_len));
            match parameter.role {
                Role::Kernel => spread * x * (6.0 / fan_in as f32).sqrt(),
                Role::Matrix => x * (3.0 / fan_in as f32).sqrt(),
                Role::Bias | Role::NormShift => 0.3 * x,
                Role::NormScale | Role::Scale => 0.6 + 0.4 * x,
                Role::RunningMean => 0.5 * x,
                Role::RunningVar => 4.0_f32.powf(1.5 * x),
            }
        };
        (name, Tensor::from_fn(parameter.shape.clone(), value))
    };
    graph.parameters().enumerate().map(tensor).collect()
}

#[test]
fn the_error_of_whole_networks_is_within_its_bound() {
    for groups in [1, 4] {
        // The depth of A0 and A1, with fewer channels and pixels.
        let spec = RepVgg {
            depths: [2, 4, 14, 1],
            width: [0.5, 0.25, 0.125, 0.125],
            groups,
            classes: 100,
            ..RepVgg::default()
        };
        let graph = spec.training_graph().unwrap();
        let fused = fuse(&graph, &trained_weights(&graph)).unwrap();
        let case = Case { batch: 2, size: [112, 112], threads: 2, ..Case::default() };
        let images = random_images(3, case);
        let expected = interpret(&fused.graph, &fused.weights, &images.to_f64()).unwrap();
        let expected = expected[fused.graph.main_output().index()].data();
        let largest = expected.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        for (accuracy, bound) in [(Accuracy::Strict, 2e-6), (Accuracy::Default, 5e-6), (Accuracy::Fast, 5e-5)] {
            let case = Case { accuracy, ..case };
            let mut session = open(&fused.graph, &fused.weights, case).unwrap();
            let mut logits = vec![0.0; 2 * 100];
            session.run(images.data(), &mut logits).unwrap();
            let errors = logits.iter().zip(expected).map(|(&found, expected)| (f64::from(found) - expected).abs());
            let error = errors.fold(0.0, f64::max) / largest;
            println!("groups {groups} {accuracy:?}: {error:.1e}");
            assert!(error <= bound, "{accuracy:?}, {groups} groups: {error:e} of the largest logit, at most {bound:e}");
        }
    }
}

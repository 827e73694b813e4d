//! Which algorithm a convolution gets, and that every one of them computes the same.

use std::fs;

use repvgg::engine::{Accuracy, Algorithm, Level, Plan, Reason, Settings, Tuning};
use repvgg::graph::Conv2d;
use repvgg::zoo::RepVgg;
use repvgg::{Graph, Op, Weights};
use repvgg_testing::available_levels;

use super::{assert_matches_the_oracle, positive_weights, random_images};

fn network(groups: usize) -> (Graph, Weights) {
    let spec =
        RepVgg { depths: [1, 2, 2, 1], width: [0.5, 0.25, 0.125, 0.0625], groups, classes: 10, ..RepVgg::default() };
    let graph = spec.training_graph().unwrap();
    let weights = positive_weights(&graph, 11);
    (graph, weights)
}

fn settings() -> Settings {
    Settings { batch: 2, size: [48, 40], threads: 2, ..Settings::default() }
}

#[test]
fn every_algorithm_and_level_matches_the_oracle() {
    for groups in [1, 4] {
        let (graph, weights) = network(groups);
        for level in available_levels(Level::NAMES, Level::named) {
            for algorithm in Algorithm::ALL {
                let settings = Settings { algorithm: Some(algorithm), level, ..settings() };
                assert_matches_the_oracle(&graph, &weights, settings, &random_images(3, settings));
            }
        }
    }
}

#[test]
fn every_accuracy_keeps_its_bound_and_every_thread_count_its_bits() {
    let (graph, weights) = network(2);
    for accuracy in [Accuracy::Strict, Accuracy::Default, Accuracy::Fast] {
        for size in [[48, 40], [33, 65], [1, 1], [2, 90]] {
            let settings = Settings { accuracy, size, batch: 3, ..settings() };
            let images = random_images(3, settings);
            assert_matches_the_oracle(&graph, &weights, settings, &images);
            let logits = |threads| {
                let mut plan = Plan::new(&graph, &weights, Settings { threads, ..settings }).unwrap();
                let mut logits = vec![0.0; 3 * 10];
                plan.run(images.data(), &mut logits);
                logits
            };
            let one = logits(1);
            for threads in 2..=4 {
                assert!(logits(threads) == one, "{accuracy:?} {size:?}: {threads} threads differ from one");
            }
        }
    }
}

fn tiles(plan: &Plan) -> Vec<usize> {
    let choices = plan.layers().iter().filter_map(|layer| layer.choice.as_ref());
    choices.filter_map(|choice| choice.tiles.as_ref()).flatten().flatten().copied().collect()
}

/// Two convolutions on maps so large that Winograd's algorithm is the fastest for the second.
fn two_layers() -> (Graph, Weights) {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels: 3 }, &[]);
    let stem = graph.add("stem", Op::conv(Conv2d::square(3, 32, 3)), &[input]);
    let body = graph.add("body", Op::conv(Conv2d::square(32, 32, 3)), &[stem]);
    graph.output("main", body);
    let weights = positive_weights(&graph, 1);
    (graph, weights)
}

#[test]
fn strict_uses_tiles_of_two() {
    let (graph, weights) = two_layers();
    let plan = Plan::new(&graph, &weights, Settings { accuracy: Accuracy::Strict, ..settings() }).unwrap();
    assert_eq!(tiles(&plan).into_iter().max(), Some(2));
}

#[test]
fn a_memory_limit_makes_tiles_smaller() {
    let (graph, weights) = two_layers();
    let free = Plan::new(&graph, &weights, settings()).unwrap();
    let direct = Settings { algorithm: Some(Algorithm::Direct), ..settings() };
    let least = Plan::new(&graph, &weights, direct).unwrap().packed_bytes();
    assert!(least < free.packed_bytes());
    for limit in [free.packed_bytes() - 1, (free.packed_bytes() + least) / 2, least] {
        let settings = Settings { memory_limit: Some(limit as u64), ..settings() };
        let plan = Plan::new(&graph, &weights, settings).unwrap();
        assert!(plan.packed_bytes() <= limit, "{} of {limit}", plan.packed_bytes());
        let reasons = plan.layers().iter().filter_map(|layer| Some(layer.choice.as_ref()?.reason));
        assert!(reasons.into_iter().any(|reason| reason == Reason::Memory));
        assert_matches_the_oracle(&graph, &weights, settings, &random_images(3, settings));
    }
    let error =
        Plan::new(&graph, &weights, Settings { memory_limit: Some(least as u64 - 1), ..settings() }).err().unwrap();
    let expected = format!("memory limit: expected at least {least} bytes for packed weights, found {}", least - 1);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn measured_choices_are_kept_and_used() {
    let (graph, weights) = two_layers();
    let mut tuning = Tuning::new();
    let mut heard = Vec::new();
    Plan::tune(&graph, &weights, settings(), &mut tuning, |done, of| heard.push((done, of))).unwrap();
    assert_eq!((heard, tuning.len()), (vec![(0, 2), (1, 2), (2, 2)], 2));

    let folder = tempfile::tempdir().unwrap();
    let path = Tuning::path(&folder.path().join("a.safetensors"));
    assert!(path.ends_with("a.safetensors.tune.json"));
    tuning.save(&path).unwrap();
    assert_eq!(Tuning::load(&path).unwrap(), tuning);
    let plan = Plan::tuned(&graph, &weights, settings(), &tuning).unwrap();
    assert!(plan.layers().iter().all(|layer| layer.choice.as_ref().unwrap().reason == Reason::Measured));
    // Choices for another size, or that the accuracy does not allow, are not used.
    let other = Settings { size: [20, 20], ..settings() };
    let plan = Plan::tuned(&graph, &weights, other, &tuning).unwrap();
    assert!(plan.layers().iter().all(|layer| layer.choice.as_ref().unwrap().reason == Reason::Estimated));
    let mut choices: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    choices.iter_mut().filter(|(key, _)| key.contains("32>32")).for_each(|(_, name)| *name = "winograd8".into());
    fs::write(&path, serde_json::to_vec(&choices).unwrap()).unwrap();
    let tuning = Tuning::load(&path).unwrap();
    let plan = Plan::tuned(&graph, &weights, settings(), &tuning).unwrap();
    assert_ne!(plan.layers()[1].choice.as_ref().unwrap().taken.algorithm, "winograd8".parse().unwrap());
    // What was measured for one accuracy is not used for another.
    let fast = Settings { accuracy: Accuracy::Fast, ..settings() };
    let plan = Plan::tuned(&graph, &weights, fast, &tuning).unwrap();
    assert_eq!(plan.layers()[1].choice.as_ref().unwrap().reason, Reason::Estimated);
}

#[test]
fn a_file_that_holds_no_choices_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tune.json");
    for (text, part) in [
        ("", "EOF while parsing"),
        ("[]", "expected a map"),
        ("{\"a\": 1}", "expected a string"),
        ("{\"a\": \"fft\"}", "expected one of direct, depthwise, winograd2"),
        ("{\"a\": \"direct\"", "EOF while parsing"),
        ("\u{0}\u{1}", "expected value"),
    ] {
        fs::write(&path, text).unwrap();
        let message = Tuning::load(&path).unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()) && message.contains(part), "{text:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert!(Tuning::load(&folder.path().join("missing")).is_err());
}

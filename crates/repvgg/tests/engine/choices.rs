//! The choice of algorithms for convolutions; every algorithm matches the oracle.

use std::fs;
use std::sync::Arc;

use repvgg::engine::{Accuracy, Algorithm, Level, Options, Prepared, Reason, Session, Tuning, thread_pool};
use repvgg::graph::Conv2d;
use repvgg::zoo::RepVgg;
use repvgg::{Graph, Op, Weights};
use repvgg_testing::available_levels;

use super::{Case, assert_matches_the_oracle, open, positive_weights, random_images};

fn network(groups: usize) -> (Graph, Weights) {
    let spec =
        RepVgg { depths: [1, 2, 2, 1], width: [0.5, 0.25, 0.125, 0.0625], groups, classes: 10, ..RepVgg::default() };
    let graph = spec.training_graph().unwrap();
    let weights = positive_weights(&graph, 11);
    (graph, weights)
}

fn case() -> Case {
    Case { batch: 2, size: [48, 40], threads: 2, ..Case::default() }
}

#[test]
fn every_algorithm_and_level_matches_the_oracle() {
    for groups in [1, 4] {
        let (graph, weights) = network(groups);
        for level in available_levels(Level::NAMES, Level::named) {
            for algorithm in Algorithm::ALL {
                let case = Case { algorithm: Some(algorithm), level, ..case() };
                assert_matches_the_oracle(&graph, &weights, case, &random_images(3, case));
            }
        }
    }
}

#[test]
fn every_accuracy_is_within_its_bound_and_bit_equal_for_any_threads() {
    let (graph, weights) = network(2);
    for accuracy in [Accuracy::Strict, Accuracy::Default, Accuracy::Fast] {
        for size in [[48, 40], [33, 65], [1, 1], [2, 90]] {
            let case = Case { accuracy, size, batch: 3, ..case() };
            let images = random_images(3, case);
            assert_matches_the_oracle(&graph, &weights, case, &images);
            let logits = |threads| {
                let mut session = open(&graph, &weights, Case { threads, ..case }).unwrap();
                let mut logits = vec![0.0; 3 * 10];
                session.run(images.data(), &mut logits).unwrap();
                logits
            };
            let one = logits(1);
            for threads in 2..=4 {
                assert!(logits(threads) == one, "{accuracy:?} {size:?}: {threads} threads differ from one");
            }
        }
    }
}

fn tiles(session: &Session) -> Vec<usize> {
    let choices = session.layers().iter().filter_map(|layer| layer.choice.as_ref());
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
    let session = open(&graph, &weights, Case { accuracy: Accuracy::Strict, ..case() }).unwrap();
    assert_eq!(tiles(&session).into_iter().max(), Some(2));
}

#[test]
fn a_memory_limit_makes_tiles_smaller() {
    let (graph, weights) = two_layers();
    let unlimited = open(&graph, &weights, case()).unwrap();
    let direct = Case { algorithm: Some(Algorithm::Direct), ..case() };
    let least = open(&graph, &weights, direct).unwrap().packed_bytes();
    assert!(least < unlimited.packed_bytes());
    for limit in [unlimited.packed_bytes() - 1, (unlimited.packed_bytes() + least) / 2, least] {
        let case = Case { memory_limit: Some(limit as u64), ..case() };
        let session = open(&graph, &weights, case).unwrap();
        assert!(session.packed_bytes() <= limit, "{} of {limit}", session.packed_bytes());
        let reasons = session.layers().iter().filter_map(|layer| Some(layer.choice.as_ref()?.reason));
        assert!(reasons.into_iter().any(|reason| reason == Reason::Memory));
        assert_matches_the_oracle(&graph, &weights, case, &random_images(3, case));
    }
    let error = open(&graph, &weights, Case { memory_limit: Some(least as u64 - 1), ..case() }).err().unwrap();
    let expected = format!("memory limit: expected at least {least} bytes for packed weights, found {}", least - 1);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn measured_choices_are_saved_and_used() {
    let (graph, weights) = two_layers();
    let mut tuning = Tuning::new();
    let mut reports = Vec::new();
    let prepared = Prepared::new(&graph, &weights, case().options()).unwrap();
    let pool = thread_pool(2).unwrap();
    prepared.tune(&pool, case().shape(), &mut tuning, |done, all| reports.push((done, all))).unwrap();
    assert_eq!((reports, tuning.len()), (vec![(0, 2), (1, 2), (2, 2)], 2));

    let tuned = |case: Case, tuning: &Tuning| {
        let options = Options { tuning: tuning.clone(), ..case.options() };
        let prepared = Arc::new(Prepared::new(&graph, &weights, options).unwrap());
        Session::new(&prepared, &pool, case.shape()).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = Tuning::path(&folder.path().join("a.safetensors"));
    assert!(path.ends_with("a.safetensors.tune.json"));
    tuning.save(&path).unwrap();
    assert_eq!(Tuning::load(&path).unwrap(), tuning);
    let session = tuned(case(), &tuning);
    assert!(session.layers().iter().all(|layer| layer.choice.as_ref().unwrap().reason == Reason::Measured));
    // Choices for another size are not used, nor those that the accuracy does not allow.
    let other = Case { size: [20, 20], ..case() };
    let session = tuned(other, &tuning);
    assert!(session.layers().iter().all(|layer| layer.choice.as_ref().unwrap().reason == Reason::Estimated));
    let mut choices: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    choices.iter_mut().filter(|(key, _)| key.contains("32>32")).for_each(|(_, name)| *name = "winograd8".into());
    fs::write(&path, serde_json::to_vec(&choices).unwrap()).unwrap();
    let tuning = Tuning::load(&path).unwrap();
    let session = tuned(case(), &tuning);
    assert_ne!(session.layers()[1].choice.as_ref().unwrap().taken.algorithm, "winograd8".parse().unwrap());
    // Choices measured for one accuracy are not used for another.
    let fast = Case { accuracy: Accuracy::Fast, ..case() };
    let session = tuned(fast, &tuning);
    assert_eq!(session.layers()[1].choice.as_ref().unwrap().reason, Reason::Estimated);
}

#[test]
fn a_file_without_choices_is_a_one_line_error() {
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

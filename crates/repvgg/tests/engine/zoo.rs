//! Every network of the zoo: shapes, cost, files, other classes, fusion, the engine, ONNX.
//!
//! These tests cover a new network as soon as it is in the zoo.

use repvgg::cost::{cost, parameters};
use repvgg::formats::onnx;
use repvgg::fuse::{self, fuse};
use repvgg::interpret::logits;
use repvgg::{Graph, Specification, Tensor, Weights};

use super::{Case, noise, open, positive_weights, random_images};

fn all_networks() -> impl Iterator<Item = Specification> {
    Specification::names().map(|name| Specification::named(name).unwrap())
}

#[test]
fn names_are_unique_and_contain_no_separators() {
    let mut names: Vec<String> = Specification::names().map(str::to_ascii_lowercase).collect();
    assert!(names.iter().all(|name| !name.contains([':', ' ', '/', '_'])));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_network_classifies_images_of_its_size() {
    for architecture in all_networks() {
        let (name, side) = (architecture.name().to_owned(), architecture.image_size());
        assert_eq!(architecture.classes(), 1000, "{name}");
        for classes in [1000, 7] {
            let other = architecture.clone().with_classes(classes).unwrap();
            let graph = other.training_graph().unwrap();
            let shapes = graph.shapes([side; 2]).unwrap_or_else(|error| panic!("{name}: {error}"));
            for output in graph.outputs() {
                assert_eq!(shapes[output.node.index()], [classes, 1, 1], "{name}: {}", output.name);
            }
        }
    }
}

#[test]
fn every_specification_survives_json_and_toml() {
    for architecture in all_networks() {
        let name = architecture.name();
        let json = serde_json::to_string(&architecture).unwrap();
        assert_eq!(serde_json::from_str::<Specification>(&json).unwrap(), architecture, "{name}: metadata");
        let text = toml::to_string(&architecture).unwrap();
        assert_eq!(toml::from_str::<Specification>(&text).unwrap(), architecture, "{name}: configuration");
    }
}

#[test]
fn fusing_never_increases_the_cost() {
    for architecture in all_networks() {
        let (name, size) = (architecture.name(), [architecture.image_size(); 2]);
        let training = architecture.training_graph().unwrap().inference();
        let plain = fuse::Fusion::new(&training).into_graph();
        let (before, after) = (cost(&training, size).unwrap(), cost(&plain, size).unwrap());
        assert!(after.macs <= before.macs && after.macs > 0, "{name}");
        assert!(after.parameters <= before.parameters && after.parameters == parameters(&plain), "{name}");
        assert!(after.winograd_multiplies <= after.macs, "{name}");
        assert!(fuse::Fusion::new(&plain).is_plain(), "{name}: nothing is left to fuse");
    }
}

/// The side of the smallest square images that a network takes, and its multiply-adds for one image.
fn smallest(graph: &Graph, own: usize) -> (usize, u64) {
    let side = [32, 64, 96, 128].into_iter().find(|&side| graph.shapes([side; 2]).is_ok()).unwrap_or(own);
    (side, cost(graph, [side; 2]).unwrap().macs)
}

/// The most multiply-adds that the oracle computes quickly.
const QUICK: u64 = 150_000_000;

/// Every network that the oracle computes quickly on its smallest images, and at least one per family.
#[test]
fn networks_of_every_family_run_fuse_and_export() {
    for (family, names) in Specification::families() {
        let networks = names.into_iter().map(|name| {
            let architecture = Specification::named(name).unwrap().with_classes(10).unwrap();
            let graph = architecture.training_graph().unwrap().inference();
            let (side, macs) = smallest(&graph, architecture.image_size());
            (name, graph, side, macs)
        });
        let mut networks: Vec<(&str, Graph, usize, u64)> = networks.collect();
        networks.sort_by_key(|network| network.3);
        let quick = networks.iter().filter(|network| network.3 <= QUICK).count().max(1);
        for (name, graph, side, _) in networks.into_iter().take(quick) {
            assert_forms_match(&format!("{family}: {name}"), &graph, side);
        }
    }
}

/// Runs the engine on the training form, the fused form, and the fused form read back from ONNX. Compares each with the
/// oracle's training form.
fn assert_forms_match(name: &str, training: &Graph, side: usize) {
    let weights = positive_weights(training, 3);
    let case = Case { size: [side; 2], threads: 2, ..Case::default() };
    let images = random_images(training.input_channels(), case);
    let expected = logits(training, &weights, &images.to_f64()).unwrap();
    let rounded = logits(training, &rounded(&weights), &images.to_f64()).unwrap();
    let fused = fuse(training, &weights).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    onnx::write(&path, &fused.graph, &fused.weights, &onnx::WriteOptions::default()).unwrap();
    let back = onnx::read(std::fs::read(&path).unwrap(), Some(folder.path())).unwrap();
    let differences = |found: &dyn Fn(usize) -> f64| {
        expected.data().iter().enumerate().map(|(i, expected)| (found(i) - expected).abs()).fold(0.0, f64::max)
    };
    let bound = AMPLIFICATION * differences(&|i| rounded.data()[i]);
    for (form, graph, weights) in [
        ("training form", training, &weights),
        ("fused", &fused.graph, &fused.weights),
        ("read from ONNX", &back.graph, &back.weights),
    ] {
        let found = run(graph, weights, case, &images);
        let error = differences(&|i| f64::from(found[i]));
        assert!(error <= bound, "{name}, {form}: expected logits within {bound:e}, found {error:e}");
    }
}

/// The allowed effect of the engine's rounding on the logits, in multiples of the effect of rounding every parameter once: each
/// term is rounded up to 8 times, and the transforms of tiles of up to 6 amplify rounding errors by up to 20.
const AMPLIFICATION: f64 = 8.0 * 20.0;

/// The parameters, each changed by a unit in the last place, up or down.
fn rounded(weights: &Weights) -> Weights {
    let mut rounded = weights.clone();
    for (number, (name, tensor)) in weights.iter().enumerate() {
        let target = rounded.get_mut(name).expect("the copy has the same names");
        for (i, (y, x)) in target.data_mut().iter_mut().zip(tensor.data()).enumerate() {
            *y = x * (1.0 + f32::EPSILON * noise(number as u64, i).signum());
        }
    }
    rounded
}

fn run(graph: &Graph, weights: &Weights, case: Case, images: &Tensor) -> Vec<f32> {
    let mut session = open(graph, weights, case).unwrap();
    let mut output = vec![f32::NAN; session.output_shape().iter().product()];
    session.run(images.data(), &mut output).unwrap();
    output
}

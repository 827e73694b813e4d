//! Compares five training steps with PyTorch's, which `tools/goldens_train.py` computes in double precision.

use crate::pool;
use crate::tiny::{self, Head, Shape};
use repvgg::{Graph, Tensor, Weights};
use repvgg_train::{Batch, Device, LossSettings, Network, Sgd, SgdSettings};
use safetensors::{Dtype, SafeTensors};

/// The rounding error of a value that passes through `depth` single-precision sums: `c · ε · depth · scale`.
fn tolerance(scale: f32) -> f32 {
    const C: f32 = 2.0;
    const DEPTH: f32 = 40.0;
    C * f32::EPSILON * DEPTH * scale.max(1.0)
}

struct Golden {
    graph: Graph,
    images: Vec<f32>,
    labels: Vec<usize>,
    losses: Vec<f32>,
    logits: Tensor,
    initial: Weights,
    last: Weights,
    gradient: Weights,
}

impl Golden {
    fn read(name: &str, shape: Shape) -> Self {
        let path = format!("{}/tests/data/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| {
            let view = file.tensor(name).unwrap();
            assert_eq!(view.dtype(), Dtype::F32);
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            Tensor::new(view.shape(), values.collect()).unwrap()
        };
        let set = |prefix: &str| -> Weights {
            let names = file.names().into_iter().filter_map(|name| Some((name, name.strip_prefix(prefix)?)));
            names.map(|(full, name)| (name.to_owned(), floats(full))).collect()
        };
        let labels = file.tensor("labels").unwrap().data().chunks_exact(8).map(|b| b[0] as usize).collect();
        Self {
            graph: tiny::network(shape),
            images: floats("images").into_data(),
            labels,
            losses: floats("losses").into_data(),
            logits: floats("logits"),
            initial: set("initial."),
            last: set("final."),
            gradient: set("gradient."),
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch { images: &self.images, size: [12, 12], labels: &self.labels }
    }
}

fn groups() -> Golden {
    Golden::read("groups", Shape { groups: 2, squeeze: None, head: Head::Main })
}

fn squeeze() -> Golden {
    Golden::read("squeeze", Shape { groups: 1, squeeze: Some(4), head: Head::MainAndAuxiliary })
}

const LOSS: LossSettings = LossSettings { label_smoothing: 0.1, auxiliary_weight: 0.1 };

fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let scale = expected.data().iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    for (index, (a, b)) in found.data().iter().zip(expected.data()).enumerate() {
        let bound = tolerance(scale);
        assert!((a - b).abs() <= bound, "{what}[{index}]: expected {b} within {bound}, found {a}");
    }
}

fn assert_trains_like_pytorch(golden: &Golden, nesterov: bool) {
    let mut network = Network::new(golden.graph.clone(), &golden.initial, Device::cpu(), &pool()).unwrap();
    let mut sgd = Sgd::new(SgdSettings { nesterov, ..SgdSettings::default() }, &golden.graph, Device::cpu());
    for (step, expected) in golden.losses.iter().enumerate() {
        let report = network.step(&golden.batch(), &LOSS, &mut sgd, 0.1).unwrap();
        assert!((report.loss as f32 - expected).abs() <= tolerance(*expected), "step {step}: {report:?}, {expected}");
    }
    let weights = network.weights();
    assert_eq!(weights.len(), golden.last.len());
    for (name, expected) in golden.last.iter() {
        assert_close(weights.get(name).unwrap(), expected, name);
    }
    assert_close(&network.logits(&golden.images, [12, 12]).unwrap(), &golden.logits, "logits");
}

fn assert_gradients_like_pytorch(golden: &Golden) {
    let settings = SgdSettings { momentum: 0.0, weight_decay: 0.0, ..SgdSettings::default() };
    let mut network = Network::new(golden.graph.clone(), &golden.initial, Device::cpu(), &pool()).unwrap();
    let mut sgd = Sgd::new(settings, &golden.graph, Device::cpu());
    network.step(&golden.batch(), &LOSS, &mut sgd, 0.1).unwrap();
    let velocities = sgd.state();
    assert_eq!(velocities.len(), golden.gradient.len());
    for (name, expected) in golden.gradient.iter() {
        assert_close(velocities.get(name).unwrap(), expected, name);
    }
}

#[test]
fn grouped_network_trains_like_pytorch() {
    assert_trains_like_pytorch(&groups(), false);
}

#[test]
fn squeeze_network_with_an_auxiliary_head_and_nesterov_momentum_trains_like_pytorch() {
    assert_trains_like_pytorch(&squeeze(), true);
}

#[test]
fn first_gradients_equal_pytorchs() {
    assert_gradients_like_pytorch(&groups());
    assert_gradients_like_pytorch(&squeeze());
}

//! Properties of training that hold for any weights.

use std::sync::Arc;

use repvgg::engine::thread_pool;
use repvgg::graph::{ActivationKind, Conv2d, Coordinates, Linear, Pool, Resize, ResizeTarget, Sampling};
use repvgg::interpret::{logits, magnitudes};
use repvgg::zoo::RepVgg;
use repvgg::{Graph, Op, Specification, Tensor, Weights};
use repvgg_kernels::ThreadPool;
use repvgg_testing::positive_weights;
use repvgg_train::{Batch, Decayed, Device, LossSettings, Network, Sgd, SgdSettings};

use crate::pool;
use crate::tiny::{self, CLASSES, Head, Shape};

const SIZE: [usize; 2] = [12, 12];
const SETTINGS: SgdSettings =
    SgdSettings { momentum: 0.9, nesterov: true, weight_decay: 1e-3, decayed: Decayed::KernelsAndIdentities };

/// `n` images with smooth, distinct patterns, and their labels.
fn images(n: usize) -> (Vec<f32>, Vec<usize>) {
    let pixels = (0..n * 3 * SIZE[0] * SIZE[1]).map(|i| ((i * i % 977) as f32 * 0.013).sin()).collect();
    (pixels, (0..n).map(|i| i * 7 % CLASSES).collect())
}

fn tiny_network() -> Graph {
    tiny::network(Shape { groups: 2, squeeze: Some(4), head: Head::MainAndAuxiliary })
}

fn start(graph: &Graph) -> (Network, Sgd) {
    start_on(&pool(), graph)
}

fn start_on(pool: &Arc<ThreadPool>, graph: &Graph) -> (Network, Sgd) {
    let network = Network::new(graph.clone(), &Weights::initialise(graph, 3), Device::cpu(), pool).unwrap();
    (network, Sgd::new(SETTINGS, graph, Device::cpu()))
}

fn train(network: &mut Network, sgd: &mut Sgd, steps: usize) -> Vec<f64> {
    let (images, labels) = images(8);
    let batch = Batch { images: &images, size: SIZE, labels: &labels };
    let loss = LossSettings { label_smoothing: 0.1, ..LossSettings::default() };
    (0..steps).map(|_| network.step(&batch, &loss, sgd, 0.05).unwrap().loss).collect()
}

#[test]
fn two_runs_are_equal_bit_for_bit() {
    let graph = tiny_network();
    let run = || {
        let (mut network, mut sgd) = start(&graph);
        (train(&mut network, &mut sgd, 4), network.weights(), sgd.state())
    };
    assert_eq!(run(), run());
}

#[test]
fn two_runs_of_a_network_large_enough_for_all_threads_are_equal_bit_for_bit() {
    let spec =
        RepVgg { depths: [1, 2, 2, 1], width: [0.5; 4], classes: 4, strides: [1, 1, 2, 2, 2], ..RepVgg::default() };
    let graph = spec.training_graph().unwrap();
    let run = |threads| {
        let (mut network, mut sgd) = start_on(&thread_pool(threads).unwrap(), &graph);
        (train(&mut network, &mut sgd, 3), network.weights())
    };
    assert_eq!(run(2), run(2));
    assert_eq!(run(3), run(1));
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let graph = tiny_network();
    let (mut uninterrupted, mut sgd) = start(&graph);
    train(&mut uninterrupted, &mut sgd, 4);

    let (mut first, mut first_sgd) = start(&graph);
    train(&mut first, &mut first_sgd, 2);
    let mut second = Network::new(graph.clone(), &first.weights(), Device::cpu(), &pool()).unwrap();
    let mut second_sgd = Sgd::new(SETTINGS, &graph, Device::cpu());
    second_sgd.load_state(&first_sgd.state()).unwrap();
    train(&mut second, &mut second_sgd, 2);
    assert_eq!(second.weights(), uninterrupted.weights());
    assert_eq!(second_sgd.state(), sgd.state());
}

#[test]
fn training_learns_the_batch() {
    let graph = tiny_network();
    let (mut network, mut sgd) = start(&graph);
    let losses = train(&mut network, &mut sgd, 60);
    assert!(losses[59] < 0.6 * losses[0], "{losses:?}");
}

#[test]
fn a_loss_that_is_not_finite_leaves_the_network_unchanged() {
    let graph = tiny_network();
    let (mut network, mut sgd) = start(&graph);
    let (mut images, labels) = images(8);
    images[5] = f32::NAN;
    let before = network.weights();
    let batch = Batch { images: &images, size: SIZE, labels: &labels };
    let error = network.step(&batch, &LossSettings::default(), &mut sgd, 0.1).unwrap_err();
    assert_eq!(error.to_string(), "loss: expected a finite number, found NaN");
    assert_eq!(network.weights(), before);
    assert!(sgd.state().is_empty());
}

#[test]
fn errors_name_the_input_that_does_not_fit() {
    let graph = tiny_network();
    let (mut network, mut sgd) = start(&graph);
    let (pixels, labels) = images(2);
    let mut refuse = |images: &[f32], labels: &[usize]| {
        let batch = Batch { images, size: SIZE, labels };
        network.step(&batch, &LossSettings::default(), &mut sgd, 0.1).unwrap_err().to_string()
    };
    assert_eq!(refuse(&pixels[1..], &labels), "images: expected a multiple of 3 x 12 x 12 values, found 863");
    assert_eq!(refuse(&pixels, &labels[1..]), "labels: expected 2, one per image, found 1");
    assert_eq!(refuse(&pixels, &[0, 4]), "labels: expected classes below 4, found 4");
}

#[test]
fn velocities_of_another_network_are_refused() {
    let graph = tiny_network();
    let (mut network, mut sgd) = start(&graph);
    train(&mut network, &mut sgd, 1);
    let plain = tiny::network(Shape { groups: 1, squeeze: None, head: Head::Main });
    let error = Sgd::new(SETTINGS, &plain, Device::cpu()).load_state(&sgd.state()).unwrap_err();
    assert!(error.to_string().starts_with("stage0.se.down.bias: unexpected"), "{error}");
}

/// A graph with every operation, so that every gradient is tested.
fn every_operation() -> Graph {
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 3 }, &[]);
    let conv = graph.add("conv", Op::conv(Conv2d::square(3, 4, 3).with_bias()), &[x]);
    let norm = graph.add("norm", Op::batch_norm(4), &[conv]);
    let scale = graph.add("scale", Op::scale(4), &[norm]);
    let relu = graph.add("relu", Op::relu(), &[scale]);
    let window = Pool { kernel: [3, 3], stride: [2, 2], dilation: [1; 2], padding: [[1; 2]; 2] };
    let largest = graph.add("largest", Op::MaxPool(window), &[relu]);
    let mean = graph.add("mean", Op::AvgPool(window), &[scale]);
    let sigmoid = graph.add("sigmoid", Op::Activation(ActivationKind::Sigmoid), &[mean]);
    let smooth = [
        ActivationKind::Tanh,
        ActivationKind::Erf,
        ActivationKind::Gelu,
        ActivationKind::GeluTanh,
        ActivationKind::Softplus,
        ActivationKind::Mish,
        ActivationKind::Elu { scale: 0.5 },
    ];
    let smooth = smooth.map(|kind| graph.add(format!("{kind:?}"), Op::Activation(kind), &[scale]));
    let smooth = graph.add("smooth", Op::Add, &smooth);
    let coordinates = Coordinates::HalfPixel;
    let target = ResizeTarget::Scale([1.5, 2.0]);
    let larger = graph.add("larger", Op::Resize(Resize { target, sampling: Sampling::Linear, coordinates }), &[smooth]);
    let dilated = Pool { kernel: [2, 2], stride: [2, 3], dilation: [2, 3], padding: [[1, 0], [0, 2]] };
    let apart = [Op::MaxPool(dilated), Op::AvgPool(dilated), Op::AvgPoolInside(dilated)];
    let apart = apart.map(|op| graph.add(op.kind().to_owned(), op, &[larger]));
    let apart = graph.add("apart", Op::Add, &apart);
    let apart = graph.add("mean.apart", Op::GlobalAvgPool, &[apart]);
    let product = graph.add("product", Op::Mul, &[largest, sigmoid]);
    let sum = graph.add("sum", Op::Add, &[product, largest, mean]);
    let sum = graph.add("scaled", Op::Mul, &[sum, apart]);
    let filters = Conv2d::square(4, 4, 3).with_bias();
    let normalised = graph.add("normalised", Op::NormalizedConv2d(filters), &[norm]);
    let silu = graph.add("silu", Op::Activation(ActivationKind::Silu), &[normalised]);
    let shuffled = graph.add("shuffled", Op::Shuffle { groups: 2 }, &[silu]);
    let slice = graph.add("slice", Op::Slice { start: 1, channels: 2 }, &[shuffled]);
    let padded = graph.add("padded", Op::Pad { padding: [[-1, 2], [3, -2]] }, &[slice]);
    let window = Pool { padding: [[0, 1], [1, 0]], ..window };
    let inside = graph.add("inside", Op::AvgPoolInside(window), &[padded]);
    let both = graph.add("both", Op::Concat, &[sum, largest, inside]);
    let pooled = graph.add(
        "pooled",
        Op::MaxPool(Pool { kernel: [3, 3], stride: [3, 3], dilation: [1; 2], padding: [[0; 2]; 2] }),
        &[both],
    );
    let flat = graph.add("flat", Op::Flatten, &[pooled]);
    let linear = Op::Linear(Linear { in_features: 40, out_features: CLASSES, bias: true });
    let linear = graph.add("linear", linear, &[flat]);
    graph.output("main", linear);
    graph
}

/// Central differences of the loss in single precision have a relative error of about `√ε`. Along a fixed direction, every
/// parameter's gradient must equal them within that error.
#[test]
fn gradients_of_every_operation_equal_central_differences() {
    let graph = every_operation();
    let weights = Weights::initialise(&graph, 5);
    let (images, labels) = images(8);
    let batch = Batch { images: &images, size: SIZE, labels: &labels };
    let plain = SgdSettings { momentum: 0.0, weight_decay: 0.0, ..SETTINGS };
    let step = |weights: &Weights| {
        let mut network = Network::new(graph.clone(), weights, Device::cpu(), &pool()).unwrap();
        let mut sgd = Sgd::new(plain, &graph, Device::cpu());
        let report = network.step(&batch, &LossSettings::default(), &mut sgd, 0.0).unwrap();
        (report.loss, sgd.state())
    };
    let (_, gradients) = step(&weights);
    for (name, gradient) in gradients.iter() {
        const DISTANCE: f32 = 4e-3;
        let loss_at = |sign: f32| {
            let mut weights = weights.clone();
            let parameter = weights.get_mut(name).unwrap().data_mut().iter_mut().zip(gradient.data());
            let norm = gradient.data().iter().map(|g| g * g).sum::<f32>().sqrt().max(1e-12);
            parameter.for_each(|(w, g)| *w += sign * DISTANCE * g / norm);
            step(&weights).0
        };
        let measured = (loss_at(1.0) - loss_at(-1.0)) / (2.0 * f64::from(DISTANCE));
        let expected = f64::from(gradient.data().iter().map(|g| g * g).sum::<f32>().sqrt());
        let bound = 2e-2 * expected + 10.0 * f64::from(f32::EPSILON) / f64::from(DISTANCE);
        assert!((measured - expected).abs() < bound, "{name}: {measured} by differences, {expected} by the gradient");
    }
}

/// The norm of a zero filter is a square root at zero, where it has no derivative.
#[test]
fn a_normalised_filter_of_zeros_trains() {
    let graph = every_operation();
    let mut weights = Weights::initialise(&graph, 5);
    weights.get_mut("normalised.weight").unwrap().data_mut()[..36].fill(0.0);
    let mut network = Network::new(graph.clone(), &weights, Device::cpu(), &pool()).unwrap();
    let mut sgd = Sgd::new(SETTINGS, &graph, Device::cpu());
    train(&mut network, &mut sgd, 2);
    let trained = network.weights();
    let filters = trained.get("normalised.weight").unwrap().data();
    assert!(filters.iter().all(|w| w.is_finite()), "{filters:?}");
}

/// With running statistics, the forward pass equals the reference interpreter within `c · nodes · ε · Σ|x||w|`.
#[test]
fn logits_equal_the_reference_interpreters() {
    let mut graphs = vec![every_operation(), tiny_network()];
    for text in [
        "family = \"mobilenet-v1\"\nwidth = 0.25",
        "family = \"mobileone\"\ndepths = [1, 2, 1, 1]\nwidth = [0.25, 0.125, 0.125, 0.125]\nexcited = [0, 1, 0, 1]",
        "family = \"nasnet-a\"\ncells = 1\nfeatures = 96\nstem = 8",
        "family = \"shufflenet-v1\"\ngroups = 4\nchannels = 48\nstem = 8\ndepths = [2, 1, 1]",
        "family = \"shufflenet-v2\"\ndepths = [2, 1, 1]\nchannels = [8, 20, 28, 36, 40]",
    ] {
        let network = Specification::from_toml(&format!("{text}\nclasses = 4\nsize = 40"), "small").unwrap();
        graphs.push(network.training_graph().unwrap());
    }
    for graph in graphs {
        let size = if graph.nodes().len() < 40 { SIZE } else { [40, 40] };
        let weights = positive_weights(&graph, 1);
        let images = Tensor::from_fn([2, 3, size[0], size[1]], |i| ((i * i % 977) as f32 * 0.013).sin());
        let network = Network::new(graph.clone(), &weights, Device::cpu(), &pool()).unwrap();
        let found = network.logits(images.data(), size).unwrap();
        let expected = logits(&graph, &weights, &images.to_f64()).unwrap();
        let magnitude =
            magnitudes(&graph, &weights, &images.to_f64()).unwrap().swap_remove(graph.main_output().index());
        let constant = 8.0 * graph.nodes().len() as f64 * f64::from(f32::EPSILON);
        for ((&found, expected), magnitude) in found.data().iter().zip(expected.data()).zip(magnitude.data()) {
            let error = (f64::from(found) - expected).abs();
            assert!(error <= constant * magnitude, "expected {expected}, found {found}, {} nodes", graph.nodes().len());
        }
    }
}

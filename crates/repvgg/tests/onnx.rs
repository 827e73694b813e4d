//! ONNX files: graphs survive a round trip, files from other programs match the reference runtime, and nothing panics.

use std::fs;
use std::path::{Path, PathBuf};

use repvgg::Precision;
use repvgg::formats::onnx::{Onnx, Pixels, WriteOptions, is_onnx, read, write};
use repvgg::fuse::fuse;
use repvgg::graph::{
    ActivationKind, BatchNorm, Conv2d, Coordinates, Linear, Pool, Resize, ResizeTarget, Rounding, Sampling, Softmax,
};
use repvgg::image::Preprocessing;
use repvgg::interpret::{interpret, magnitudes};
use repvgg::zoo::{RepVgg, SqueezeExcite};
use repvgg::{Graph, NodeId, Op, Tensor, Weights};
use repvgg_testing::random_weights;

/// Writes a graph and reads it back.
fn round_trip(graph: &Graph, weights: &Weights, options: &WriteOptions) -> Onnx {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write(&path, graph, weights, options).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert!(is_onnx(&bytes[..bytes.len().min(256)]));
    read(bytes, Some(folder.path())).unwrap()
}

/// A graph that grows one operation at a time.
struct Chain {
    graph: Graph,
    end: NodeId,
}

impl Chain {
    fn new(channels: usize) -> Self {
        let mut graph = Graph::new();
        let end = graph.add("input", Op::Input { channels }, &[]);
        Self { graph, end }
    }

    fn then(&mut self, name: &str, op: Op) -> NodeId {
        self.end = self.graph.add(name, op, &[self.end]);
        self.end
    }

    fn join(&mut self, name: &str, op: Op, others: &[NodeId]) -> NodeId {
        self.end = self.graph.add(name, op, &[&[self.end], others].concat());
        self.end
    }

    fn finish(mut self) -> Graph {
        self.graph.output("main", self.end);
        self.graph
    }
}

/// A graph of operations of every kind, on maps and on vectors.
fn every_operation() -> Graph {
    let mut chain = Chain::new(3);
    let mut geometry = Conv2d::square(3, 8, 3).geometry;
    (geometry.kernel, geometry.stride, geometry.padding, geometry.dilation) = ([3, 2], [2, 1], [2, 1], [2, 1]);
    chain.then("stem.conv", Op::Conv2d(Conv2d { geometry, bias: true }));
    let norm = chain.then("stem.bn", Op::BatchNorm(BatchNorm { channels: 8, eps: 1e-3 }));
    chain.then("relu", Op::relu());
    let leaky = chain.then("leaky", Op::Activation(ActivationKind::LeakyRelu { slope: 0.1 }));
    let conv = chain.then("conv", Op::conv(Conv2d::square(8, 8, 3).groups(4)));
    let scale = chain.then("scale", Op::scale(8));
    chain.join("sum", Op::Add, &[leaky, conv]);
    chain.join("add", Op::Add, &[norm]);
    chain.then("clip", Op::Activation(ActivationKind::Clip { low: -1.0, high: f32::MAX }));
    chain.then("relu6", Op::Activation(ActivationKind::RELU6));
    let body = chain.join("mul", Op::Mul, &[scale]);
    chain.then("se.pool", Op::GlobalAvgPool);
    chain.then("se.down", Op::conv(Conv2d::square(8, 2, 1).with_bias()));
    chain.then("se.act", Op::relu());
    chain.then("se.up", Op::conv(Conv2d::square(2, 8, 1)));
    let gate = chain.then("se.gate", Op::Activation(ActivationKind::HardSigmoid { slope: 0.2, offset: 0.5 }));
    chain.end = body;
    let excited = chain.join("se.mul", Op::Mul, &[gate]);
    let pool = Pool { kernel: [3, 2], stride: [2, 2], dilation: [1; 2], padding: [[1, 0], [0, 1]] };
    let largest = chain.then("largest", Op::MaxPool(pool));
    chain.end = excited;
    let mean = chain.then("mean", Op::AvgPool(pool));
    chain.end = excited;
    chain.then("inside", Op::AvgPoolInside(pool));
    chain.join("concat", Op::Concat, &[largest, mean]);
    chain.then("sigmoid", Op::Activation(ActivationKind::Sigmoid));
    chain.then("gap", Op::GlobalAvgPool);
    let hidden = chain.then("head.0", Op::Linear(Linear { in_features: 24, out_features: 6, bias: false }));
    chain.then("head.1", Op::scale(6));
    chain.then("head.2", Op::batch_norm(6));
    chain.join("head.3", Op::Concat, &[hidden]);
    chain.then("head.4", Op::Linear(Linear { in_features: 12, out_features: 5, bias: true }));
    chain.then("softmax", Op::Softmax(Softmax::Probabilities));
    chain.finish()
}

#[test]
fn every_operation_survives_a_round_trip() {
    let graph = every_operation();
    let weights = random_weights(&graph, 2);
    for opset in 7..=21 {
        let onnx = round_trip(&graph, &weights, &WriteOptions { opset, ..WriteOptions::default() });
        assert_eq!(onnx.graph, graph, "opset {opset}");
        assert_eq!(onnx.weights, weights, "opset {opset}");
        assert_eq!(onnx.size, None);
    }
}

/// Operators that came with later opsets, or that earlier ones express by several nodes.
#[test]
fn later_operations_survive_a_round_trip() {
    let dilated = Pool { kernel: [2, 3], stride: [1, 2], dilation: [2, 1], padding: [[1, 1], [0, 1]] };
    let linear = Resize {
        target: ResizeTarget::Size([5, 7]),
        sampling: Sampling::Linear,
        coordinates: Coordinates::HalfPixelOrOrigin,
    };
    let nearest = Resize {
        target: ResizeTarget::Scale([1.5, 2.0]),
        sampling: Sampling::Nearest(Rounding::HalfDown),
        coordinates: Coordinates::HalfPixel,
    };
    let operations: [(&str, Op, i64); 11] = [
        ("tanh", Op::Activation(ActivationKind::Tanh), 7),
        ("softplus", Op::Activation(ActivationKind::Softplus), 7),
        ("elu", Op::Activation(ActivationKind::Elu { scale: 0.5 }), 7),
        ("silu", Op::Activation(ActivationKind::Silu), 7),
        ("mish", Op::Activation(ActivationKind::Mish), 7),
        ("erf", Op::Activation(ActivationKind::Erf), 9),
        ("gelu", Op::Activation(ActivationKind::Gelu), 9),
        ("largest", Op::MaxPool(dilated), 10),
        ("linear", Op::Resize(linear), 11),
        ("nearest", Op::Resize(nearest), 11),
        ("mean", Op::AvgPool(dilated), 19),
    ];
    for opset in 7..=21 {
        for (name, op, first) in &operations {
            let mut chain = Chain::new(3);
            chain.then(name, op.clone());
            let graph = chain.finish();
            let options = WriteOptions { opset, ..WriteOptions::default() };
            if opset >= *first {
                assert_eq!(round_trip(&graph, &Weights::new(), &options).graph, graph, "{name} in opset {opset}");
            } else {
                let path = tempfile::tempdir().unwrap().path().join("model.onnx");
                let error = write(&path, &graph, &Weights::new(), &options).unwrap_err().to_string();
                assert!(error.starts_with(&format!("{name}: expected an opset of at least {first} for ")), "{error}");
            }
        }
    }
}

/// Before opset 20 it is several nodes, which compute the same.
#[test]
fn the_approximate_gelu_is_written_for_every_opset() {
    let mut chain = Chain::new(3);
    chain.then("gelu", Op::Activation(ActivationKind::GeluTanh));
    let graph = chain.finish();
    let image = Tensor::from_fn([1, 3, 4, 4], |index| index as f64 / 8.0 - 3.0);
    let expected = interpret(&graph, &Weights::new(), &image).unwrap().pop().unwrap();
    for opset in 7..=21 {
        let onnx = round_trip(&graph, &Weights::new(), &WriteOptions { opset, ..WriteOptions::default() });
        let found = interpret(&onnx.graph, &onnx.weights, &image).unwrap().pop().unwrap();
        for (found, expected) in found.data().iter().zip(expected.data()) {
            assert!((found - expected).abs() < 1e-6, "opset {opset}: expected {expected}, found {found}");
        }
    }
}

/// Bytes of any size in, the same network: the transform is recognised and left to the caller.
#[test]
fn a_file_with_its_transform_is_the_network_without_it() {
    let spec = RepVgg { depths: [1, 1, 1, 1], width: [0.0625; 4], classes: 10, ..RepVgg::default() };
    let graph = spec.training_graph().unwrap();
    let weights = random_weights(&graph, 2);
    let gray = Preprocessing { size: [64; 2], mean: vec![0.5], std: vec![0.25], ..Preprocessing::default() };
    for settings in
        [Preprocessing::default(), Preprocessing { size: [96; 2], crop_fraction: 1.0, ..Preprocessing::default() }]
    {
        let stated = |settings: &Preprocessing| {
            [("preprocessing".to_owned(), serde_json::to_string(settings).unwrap())].into_iter().collect()
        };
        let options = WriteOptions { opset: 18, preprocess: Some(settings.clone()), ..WriteOptions::default() };
        let onnx = round_trip(&graph, &weights, &WriteOptions { metadata: stated(&settings), ..options.clone() });
        assert_eq!((onnx.graph, onnx.weights), (graph.inference(), weights.clone()));
        assert_eq!((onnx.size, onnx.pixels), (Some(settings.size), Pixels::Prepared));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write(&path, &graph, &weights, &WriteOptions { metadata: stated(&gray), ..options }).unwrap();
        let error = read(fs::read(&path).unwrap(), None).unwrap_err().to_string();
        let what = "metadata preprocessing: expected the transform that the file begins with, found ";
        assert!(error.starts_with(what), "{error}");
    }
}

#[test]
fn maps_and_flattened_maps_survive_a_round_trip() {
    let pool = Pool { kernel: [2; 2], stride: [2; 2], dilation: [1; 2], padding: [[0; 2]; 2] };
    let endings: [&[(&str, Op)]; 4] = [
        &[("pool", Op::MaxPool(pool)), ("softmax", Op::Softmax(Softmax::Logarithms))],
        &[("flat", Op::Flatten), ("fc", Op::Linear(Linear { in_features: 8, out_features: 3, bias: true }))],
        &[("fc", Op::Linear(Linear { in_features: 2, out_features: 3, bias: true }))],
        &[],
    ];
    for ending in endings {
        let mut chain = Chain::new(2);
        for (name, op) in ending {
            chain.then(name, op.clone());
        }
        let graph = chain.finish();
        let weights = random_weights(&graph, 2);
        let onnx = round_trip(&graph, &weights, &WriteOptions::default());
        assert_eq!((onnx.graph, onnx.weights), (graph, weights));
    }
}

#[test]
fn repvgg_networks_survive_a_round_trip() {
    let small = RepVgg { depths: [1, 2, 2, 1], width: [0.0625; 4], classes: 10, ..RepVgg::default() };
    let kinds = [
        RepVgg { groups: 2, ..small.clone() },
        RepVgg { se: SqueezeExcite::AfterRelu, ..small.clone() },
        RepVgg { auxiliary_heads: true, ..small },
    ];
    for spec in kinds {
        let graph = spec.training_graph().unwrap();
        let weights = random_weights(&graph, 2);
        let onnx = round_trip(&graph, &weights, &WriteOptions::default());
        let main = graph.inference();
        assert_eq!(onnx.graph, main);
        assert!(main.parameters().all(|(name, _)| onnx.weights.get(&name) == weights.get(&name)));
        let fused = fuse(&onnx.graph, &onnx.weights).unwrap();
        let onnx = round_trip(&fused.graph, &fused.weights, &WriteOptions::default());
        assert_eq!((onnx.graph, onnx.weights), (fused.graph, fused.weights));
    }
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let graph = every_operation();
    let weights = random_weights(&graph, 2);
    let folder = tempfile::tempdir().unwrap();
    let metadata = [("labels".to_owned(), "cat,dog".to_owned())].into_iter().collect();
    let options = WriteOptions { metadata, ..WriteOptions::default() };
    let bytes = ["a", "b"].map(|name| {
        let path = folder.path().join(name);
        write(&path, &graph, &weights, &options).unwrap();
        fs::read(path).unwrap()
    });
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(read(bytes[0].clone(), None).unwrap().metadata, options.metadata);
}

#[test]
fn half_precision_rounds_each_parameter_once() {
    let graph = every_operation();
    let mut weights = random_weights(&graph, 2);
    let options = WriteOptions { precision: Precision::Half, ..WriteOptions::default() };
    let onnx = round_trip(&graph, &weights, &options);
    assert_eq!(onnx.graph, graph);
    for (name, tensor) in onnx.weights.iter() {
        for (half, single) in tensor.data().iter().zip(weights.get(name).unwrap().data()) {
            assert_eq!(*half, half::f16::from_f32(*single).to_f32(), "{name}");
        }
    }
    weights.get_mut("conv.weight").unwrap().data_mut()[7] = -65520.0;
    let error = write(Path::new("/nowhere/model.onnx"), &graph, &weights, &options).unwrap_err();
    let expected = "conv.weight: expected values of at most 65504 for half precision, found -65520";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn large_parameters_are_stored_in_a_separate_file() {
    let mut chain = Chain::new(3);
    chain.then("conv", Op::conv(Conv2d::square(3, 40, 3)));
    chain.then("norm", Op::batch_norm(40));
    chain.then("point", Op::conv(Conv2d::square(40, 40, 1).with_bias()));
    let graph = chain.finish();
    let weights = random_weights(&graph, 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write(&path, &graph, &weights, &WriteOptions { external_over: 1000, ..WriteOptions::default() }).unwrap();
    let bytes = fs::read(&path).unwrap();
    // `conv` has 4,320 bytes, so the 6,400 bytes of `point` start at the second multiple of 4,096.
    let data = folder.path().join("model.onnx.data");
    assert_eq!(fs::metadata(&data).unwrap().len(), 2 * 4096 + 6400);
    let onnx = read(bytes.clone(), Some(folder.path())).unwrap();
    assert_eq!((onnx.graph, onnx.weights), (graph, weights));

    let message = |folder: Option<&Path>| read(bytes.clone(), folder).unwrap_err().to_string();
    let place = "node conv (Conv): conv.weight:";
    let refused = format!("{place} expected all data inside the model, found external data in \"model.onnx.data\"");
    assert_eq!(message(None), refused);
    let shorter = &fs::read(&data).unwrap()[..4000];
    fs::write(&data, shorter).unwrap();
    let short = format!("{place} expected 4320 bytes at 0 of \"model.onnx.data\", found a file of 4000");
    assert_eq!(message(Some(folder.path())), short);
    #[cfg(unix)]
    {
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), vec![0; 20_000]).unwrap();
        fs::remove_file(&data).unwrap();
        std::os::unix::fs::symlink(outside.path(), &data).unwrap();
        let linked = "expected external data in a file inside the model's folder, found \"model.onnx.data\"";
        assert_eq!(message(Some(folder.path())), format!("{place} {linked}"));
    }
    fs::remove_file(&data).unwrap();
    assert!(message(Some(folder.path())).starts_with(&format!("{place} cannot open \"model.onnx.data\"")));
}

#[test]
fn impossible_options_are_refused() {
    let mut chain = Chain::new(3);
    chain.then("softmax", Op::Softmax(Softmax::Probabilities));
    let graph = chain.finish();
    let message = |options: WriteOptions| {
        write(Path::new("/nowhere/model.onnx"), &graph, &Weights::new(), &options).unwrap_err().to_string()
    };
    let opset = |opset| WriteOptions { opset, ..WriteOptions::default() };
    assert_eq!(message(opset(6)), "opset: expected 7 to 21, found 6");
    assert_eq!(message(opset(22)), "opset: expected 7 to 21, found 22");
    let map = "softmax: expected an opset of at least 13 for the softmax of a map, found 12";
    assert_eq!(message(opset(12)), map);
    let preprocess = Some(Preprocessing::default());
    let early = WriteOptions { preprocess: preprocess.clone(), ..opset(17) };
    assert_eq!(message(early), "opset: expected at least 18, which preprocessing needs, found 17");
    let grey = Preprocessing::default().for_channels(1);
    let channels = WriteOptions { preprocess: Some(grey), ..opset(18) };
    assert_eq!(message(channels), "preprocessing: expected means for the network's 3 channels, found 1");
    assert!(message(WriteOptions { preprocess, ..opset(18) }).starts_with("/nowhere/model.onnx: "));
}

/// A transform that the metadata does not state.
#[test]
fn an_unknown_transform_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let options = WriteOptions { opset: 18, preprocess: Some(Preprocessing::default()), ..WriteOptions::default() };
    write(&path, &Chain::new(3).finish(), &Weights::new(), &options).unwrap();
    let error = read(fs::read(path).unwrap(), None).unwrap_err().to_string();
    assert!(error.starts_with("node preprocess."), "{error}");
    let hint =
        "the file reads bytes: export the network without what prepares the image, which `repvgg` does outside it";
    assert!(error.ends_with(&format!("({hint})")), "{error}");
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/onnx");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    let named = |path: &PathBuf| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap());
    paths.iter().map(named).collect()
}

/// `tests/data/onnx` contains the output of ONNX Runtime for each seed file and the input `sin(0.37 · i)`.
#[test]
fn files_from_other_programs_match_the_reference_runtime() {
    let mut compared = 0;
    for (name, bytes) in seeds() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/onnx/{name}.f32"));
        let Ok(golden) = fs::read(golden) else { continue };
        let expected: Vec<f32> = golden.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
        let onnx = read(bytes, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let [height, width] = onnx.size.unwrap_or([7, 7]);
        let batch = if matches!(name.as_str(), "affine_constants" | "pad_chain_opset11") { 1 } else { 2 };
        let shape = [batch, onnx.graph.input_channels(), height, width];
        let images = Tensor::from_fn(shape, |i| f64::from((i as f64 * 0.37).sin() as f32));
        let main = onnx.graph.main_output().index();
        let found = interpret(&onnx.graph, &onnx.weights, &images).unwrap().swap_remove(main);
        let magnitude = magnitudes(&onnx.graph, &onnx.weights, &images).unwrap().swap_remove(main);
        assert_eq!(found.data().len(), expected.len(), "{name}");
        let constant = 4.0 * onnx.graph.nodes().len() as f64 * f64::from(f32::EPSILON);
        for (i, (found, expected)) in found.data().iter().zip(expected).enumerate() {
            let error = (found - f64::from(expected)).abs();
            assert!(error <= constant * magnitude.data()[i], "{name}: element {i}: expected {expected}, found {found}");
        }
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn damaged_files_are_refused_or_read() {
    for (_, bytes) in seeds() {
        for end in 0..bytes.len() {
            let _ = read(bytes[..end].to_vec(), None);
        }
        for index in 0..bytes.len() {
            for mask in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[index] ^= mask;
                let _ = read(damaged, None);
            }
        }
    }
}

#[test]
fn hostile_seeds_are_refused_with_the_reason() {
    let expected = [
        (
            "absurd_extents",
            "node y (Conv): w: expected a shape within the address space, found [1099511627776, 1099511627776]",
        ),
        ("cycle", "node a (Relu): expected inputs computed earlier, found a cycle"),
        (
            "external_outside",
            "node y (Conv): w: expected external data in a file inside the model's folder, found \"../secret\"",
        ),
        ("truncated", "onnx: expected a complete ONNX file, found malformed bytes"),
        (
            "unknown_operator",
            "node /features/0/Cos (Cos): expected an operator that the engine runs (Conv, BatchNormalization, Gemm, Add, Mul, Concat, pools, activations, Resize, shapes), found Cos; `repvgg fuse any.onnx -o fused.onnx` keeps such nodes and fuses the convolutions around them",
        ),
    ];
    let seeds = seeds();
    for (name, sentence) in expected {
        let (_, bytes) = seeds.iter().find(|(seed, _)| seed == name).unwrap();
        assert_eq!(read(bytes.clone(), None).unwrap_err().to_string(), sentence);
    }
}

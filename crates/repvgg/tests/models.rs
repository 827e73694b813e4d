//! Model files of every kind, opened by one function, and every seed of the fuzz targets.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use repvgg::check::{Parts, compare_parts};
use repvgg::engine::{BatchShape, Engine};
use repvgg::formats::{self, Container, Dialect, OpenOptions};
use repvgg::zoo::{BlockKind, RepVgg};
use repvgg::{Form, Model, Op, Precision, Specification, Tensor, Weights};

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds")
}

fn open(name: &str) -> (Model, formats::Origin) {
    open_file(&seeds().join("model").join(name))
}

fn open_file(path: &Path) -> (Model, formats::Origin) {
    let opened = formats::open(path, &OpenOptions::default()).unwrap();
    (opened.model, opened.origin)
}

fn from_bytes(bytes: Vec<u8>) -> repvgg::Result<Model> {
    formats::from_bytes(bytes, &OpenOptions::default()).map(|opened| opened.model)
}

fn logits(model: &Model) -> Vec<f32> {
    let (engine, shape) = (Engine::with_threads(1).unwrap(), BatchShape { batch: 2, size: [32, 32] });
    let mut session = engine.session(model.graph(), &model.weights, shape).unwrap();
    let input: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
    let mut logits = vec![0.0; 2 * 3];
    session.run(&input, &mut logits).unwrap();
    logits
}

fn assert_close(name: &str, expected: &[f32], found: &[f32], tolerance: f32) {
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    for (a, b) in expected.iter().zip(found) {
        assert!((a - b).abs() <= tolerance * largest, "{name}: expected {expected:?}, found {found:?}");
    }
}

/// One network in every kind of file, with the names of every code base, in both forms.
#[test]
fn one_network_is_the_same_in_every_file() {
    use Container::{Onnx, Safetensors};
    let (reference, _) = open("document.safetensors");
    let expected = logits(&reference);
    for (name, container, names, form, tolerance) in [
        ("document.safetensors", Safetensors, Some(Dialect::Official), Form::Training, 0.0),
        ("mmpretrain.safetensors", Safetensors, Some(Dialect::Mmpretrain), Form::Training, 0.0),
        ("wrapped-half.safetensors", Safetensors, Some(Dialect::Official), Form::Training, 2e-3),
        ("timm.safetensors", Safetensors, Some(Dialect::Timm), Form::Plain, 2e-3),
        ("graph-plain.safetensors", Safetensors, None, Form::Plain, 2e-6),
        ("plain.onnx", Onnx, Some(Dialect::Official), Form::Plain, 2e-6),
        ("branches.onnx", Onnx, None, Form::Training, 0.0),
    ] {
        let (model, origin) = open(name);
        assert_eq!((origin.container, origin.names, model.form()), (container, names, form), "{name}");
        assert_close(name, &expected, &logits(&model), tolerance);
        let fused = if form == Form::Training { model.fuse().unwrap() } else { model };
        assert_close(name, &expected, &logits(&fused), tolerance.max(2e-6));
    }
}

#[test]
fn models_survive_every_dialect_and_precision() {
    let (model, _) = open("document.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for dialect in Dialect::ALL {
        for model in [model.clone(), model.fuse().unwrap()] {
            formats::save(&model, &path, dialect, Precision::Single).unwrap();
            let (read, origin) = open_file(&path);
            assert_eq!(origin.names, Some(dialect));
            assert_eq!((read.form(), &read.weights), (model.form(), &model.weights));
        }
    }
    formats::save(&model, &path, Dialect::Timm, Precision::Half).unwrap();
    assert_close("half", &logits(&model), &logits(&Model::load(&path).unwrap()), 2e-3);
}

#[test]
fn a_custom_graph_cannot_be_written_in_other_dialects() {
    let (model, _) = open("branches.onnx");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let error = formats::save(&model, &path, Dialect::Timm, Precision::Single).unwrap_err();
    assert!(error.to_string().contains("timm has no name for this parameter"), "{error}");
    assert!(!path.exists());
}

#[test]
fn an_error_names_both_the_claimed_and_the_found_architecture() {
    let path = seeds().join("model/wrapped-half.safetensors");
    let named = Specification::named("repvgg-a0").unwrap();
    let error = formats::open(&path, &OpenOptions::expecting(&named)).unwrap_err().to_string();
    assert!(
        error.ends_with("expected repvgg-a0 with depths [2, 4, 14, 1], found custom with depths [1, 2, 1, 1]"),
        "{error}"
    );
}

/// Weights do not reveal strides, so the caller's specification decides.
#[test]
fn strides_of_the_claimed_specification_are_used() {
    let path = seeds().join("model/wrapped-half.safetensors");
    let (model, _) = open_file(&path);
    let spec = model.specification().and_then(Specification::repvgg).unwrap().clone();
    let named = Specification::from(RepVgg { strides: [1, 2, 2, 1, 2], ..spec });
    let claimed = formats::open(&path, &OpenOptions::expecting(&named)).unwrap().model;
    assert_eq!(claimed.specification(), Some(&named));
}

/// A document that contradicts the graph beside it is refused, as in safetensors.
#[test]
fn an_onnx_file_whose_document_states_other_layers_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, spec) = (folder.path().join("model.onnx"), RepVgg::default());
    let spec = RepVgg { depths: [2, 1, 1, 1], width: [0.1; 4], classes: 3, ..spec };
    let model = Model::initialise(spec.into(), 0).unwrap().fuse().unwrap();
    model.save_onnx(&path, &formats::onnx::WriteOptions::default()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    assert_eq!(from_bytes(bytes.clone()).unwrap().specification(), model.specification());
    let depths = b"\"depths\":[2,";
    let at = bytes.windows(depths.len()).position(|window| window == depths).unwrap();
    bytes[at + depths.len() - 2] = b'9';
    let error = from_bytes(bytes).unwrap_err();
    assert_eq!(error.to_string(), "repvgg.architecture: expected depths [2, 1, 1, 1], found depths [9, 1, 1, 1]");
    assert!(error.is_format());
}

/// What a caller's graph and settings can get wrong is an error, not a panic.
#[test]
fn models_that_cannot_run_are_refused() {
    let input = |graph: &mut repvgg::Graph, name: &str, channels| graph.add(name, Op::Input { channels }, &[]);
    let build = |graph| Model::from_graph("given", graph, Weights::new()).unwrap_err().to_string();
    let mut headless = repvgg::Graph::new();
    input(&mut headless, "input", 3);
    assert_eq!(build(headless), "outputs: expected at least one, found none");

    let mut twins = repvgg::Graph::new();
    let pair = [input(&mut twins, "a", 3), input(&mut twins, "b", 4)];
    let both = twins.add("both", Op::Concat, &pair);
    twins.output("main", both);
    assert_eq!(build(twins.clone()), "nodes: expected one input, found 2");
    let engine = Engine::with_threads(1).unwrap();
    let shape = BatchShape { batch: 1, size: [8, 8] };
    assert!(engine.session(&twins, &Weights::new(), shape).is_err());

    let mut grouped = repvgg::Graph::new();
    let image = input(&mut grouped, "input", 3);
    let conv = grouped.add("conv", Op::conv(repvgg::graph::Conv2d::square(3, 3, 3).groups(0)), &[image]);
    grouped.output("main", conv);
    assert!(build(grouped).starts_with("conv: "));

    let (mut model, _) = open("document.safetensors");
    model.preprocessing.std.clear();
    let error = repvgg::classify::Classifier::new(&model).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("preprocessing: expected 1 or 3 means"), "{error}");
}

/// Errors use the file's own names, and add the nearest one that would fit.
#[test]
fn every_key_is_accounted_for_in_the_spelling_of_the_file() {
    let (model, _) = open("document.safetensors");
    let error_after = |change: &dyn Fn(&mut Weights)| {
        let mut weights: Weights = model
            .weights
            .iter()
            .map(|(name, t)| (format!("module.{}", Dialect::Timm.spell(name).unwrap()), t.clone()))
            .collect();
        change(&mut weights);
        let bytes = formats::safetensors::write(&weights, Precision::Single, Default::default()).unwrap();
        from_bytes(bytes).map(|_| ()).unwrap_err().to_string()
    };
    let extra = |weights: &mut Weights| weights.insert("module.neck.weight", Tensor::full([1], 0.0));
    assert_eq!(error_after(&extra), "module.neck.weight: unexpected, the network has no such parameter");
    let missing = |weights: &mut Weights| {
        let tensor = weights.remove("module.stages.1.1.identity.bias").unwrap();
        weights.insert("module.stages.1.1.identity.bais", tensor);
    };
    assert_eq!(
        error_after(&missing),
        "module.stages.1.1.identity.bias: missing, expected [2] (the nearest name is module.stages.1.1.identity.bais); \
         module.stages.1.1.identity.bais: unexpected, the network has no such parameter (the nearest name is \
         module.stages.1.1.identity.bias)"
    );
    let twice = |weights: &mut Weights| weights.insert("head.fc.bias", Tensor::full([3], 0.0));
    assert_eq!(error_after(&twice), "module.head.fc.bias: head.fc.bias names the same parameter");
    let headless = |weights: &mut Weights| drop(weights.remove("module.head.fc.weight"));
    assert_eq!(error_after(&headless), "module.head.fc.weight: missing, expected [3, 4]");
}

#[test]
fn a_network_and_its_fusion_are_compared_block_by_block_under_any_names() {
    let (training, _) = open("branches.onnx");
    let (plain, _) = open("plain.onnx");
    let Parts::Regions(report) = compare_parts([&training, &plain], [32; 2], |_| ()).unwrap() else {
        panic!("expected blocks")
    };
    assert_eq!(report.regions.len(), 6);
    assert!(report.worst_error() <= 1.0, "{}", report.worst_error());
    let (other, _) = open("document.safetensors");
    let Parts::Layers(layers) = compare_parts([&training, &other], [32; 2], |_| ()).unwrap() else {
        panic!("expected layers")
    };
    assert!(layers.iter().all(|layer| layer.largest_difference == 0.0));
    assert!(matches!(compare_parts([&plain, &other.fuse().unwrap()], [32; 2], |_| ()).unwrap(), Parts::Layers(_)));
}

/// Truncating each seed gives an error. Flipping a bit gives an error or a model that can be written.
#[test]
fn damaged_files_are_refused_or_read() {
    for entry in fs::read_dir(seeds().join("model")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for length in (0..bytes.len()).step_by(bytes.len() / 64) {
            assert!(from_bytes(bytes[..length].to_vec()).is_err());
        }
        for bit in (0..8 * bytes.len()).step_by(8 * bytes.len() / 512) {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(model) = from_bytes(bytes) {
                model.to_bytes().unwrap();
            }
        }
    }
}

#[test]
fn the_readers_return_on_every_seed_of_the_fuzz_targets() {
    for folder in ["config", "model", "onnx", "pytorch"] {
        let mut count = 0;
        for entry in fs::read_dir(seeds().join(folder)).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let _ = formats::hub_config::read(&bytes);
            let _ = from_bytes(bytes);
            count += 1;
        }
        assert!(count > 0, "{folder}: expected seeds, found none");
    }
}

/// A training program's modules around the network, and tensors beside it.
fn wrapped(prefixes: &[&str], beside: &[&str]) -> Vec<u8> {
    let (model, _) = open("document.safetensors");
    let mut weights = Weights::new();
    for (index, prefix) in prefixes.iter().enumerate() {
        for (name, tensor) in model.weights.iter() {
            weights.insert(format!("{prefix}{name}"), tensor.map(|x| x * (index + 1) as f32));
        }
    }
    for name in beside {
        weights.insert(*name, Tensor::full([5], 1.0));
    }
    formats::safetensors::write(&weights, Precision::Single, HashMap::new()).unwrap()
}

#[test]
fn a_network_is_found_under_any_prefix() {
    let (model, _) = open("document.safetensors");
    for prefix in ["", "net.", "1.", "encoder.", "module._orig_mod.net.", "model.a.b."] {
        let opened = formats::from_bytes(wrapped(&[prefix], &[]), &OpenOptions::default()).unwrap();
        assert_eq!(opened.model.weights, model.weights, "{prefix}");
        assert!(opened.remarks.is_empty());
    }
    let beside = ["criterion.weight", "metrics.total", "n_averaged"];
    let opened = formats::from_bytes(wrapped(&["net."], &beside), &OpenOptions::default()).unwrap();
    assert_eq!(opened.model.weights, model.weights);
    assert_eq!(
        opened.remarks,
        ["read the network under net; not part of it: criterion.weight, metrics.total, n_averaged"]
    );
}

#[test]
fn two_networks_in_a_file_need_a_choice() {
    let (model, _) = open("document.safetensors");
    let bytes = wrapped(&["student.", "teacher."], &[]);
    let error = formats::from_bytes(bytes.clone(), &OpenOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "weights: ambiguous: 2 networks, under student, teacher");
    assert!(error.is_ambiguous());
    let choose = |weights: &str| {
        let options = OpenOptions { weights: Some(weights.to_owned()), ..OpenOptions::default() };
        formats::from_bytes(bytes.clone(), &options).map(|opened| opened.model.weights)
    };
    assert_eq!(choose("student").unwrap(), model.weights);
    assert_eq!(
        choose("teacher.").unwrap().get("linear.bias"),
        Some(&model.weights.get("linear.bias").unwrap().map(|x| 2.0 * x))
    );
    assert!(
        choose("ema")
            .unwrap_err()
            .to_string()
            .starts_with("weights: expected a prefix of the names in the file, found ema")
    );
    // The averaged weights of a library's file are what it is for.
    let averaged =
        formats::from_bytes(wrapped(&["ema_model.", "online_model."], &["initted", "step"]), &OpenOptions::default());
    assert_eq!(averaged.unwrap().model.weights, model.weights);
}

#[test]
fn epsilon_is_the_callers_where_the_file_does_not_state_it() {
    let options = |epsilon| OpenOptions { epsilon: Some(epsilon), ..OpenOptions::default() };
    let bytes = wrapped(&[""], &[]);
    let plain = formats::from_bytes(bytes.clone(), &OpenOptions::default()).unwrap().model;
    let model = formats::from_bytes(bytes.clone(), &options(1e-3)).unwrap().model;
    let epsilons = |model: &Model| -> Vec<f64> {
        let norms = model.graph().nodes().iter();
        norms.filter_map(|node| if let Op::BatchNorm(norm) = &node.op { Some(norm.eps) } else { None }).collect()
    };
    assert!(!epsilons(&model).is_empty() && epsilons(&model).iter().all(|&eps| eps == 1e-3));
    assert_ne!(logits(&model), logits(&plain));
    // The model file keeps it, and states it from then on.
    let saved = model.to_bytes().unwrap();
    assert_eq!(from_bytes(saved.clone()).unwrap().graph(), model.graph());
    let error = formats::from_bytes(saved, &options(1e-5)).unwrap_err().to_string();
    assert_eq!(error, "epsilon: expected nothing, because the file states it, found 0.00001");
    let error = formats::from_bytes(bytes, &options(-1.0)).unwrap_err().to_string();
    assert_eq!(error, "epsilon: expected a finite number of at least 0, found -1");
}

/// A RepVGG with other blocks is recognised where shapes decide between the kinds.
#[test]
fn the_kind_of_block_is_inferred_from_the_parameters() {
    let file = |name: &str| {
        let spec = RepVgg { depths: [2; 4], width: [0.25; 4], classes: 3, ..RepVgg::default() };
        let spec = RepVgg { block: BlockKind::named(name).unwrap(), ..spec };
        let weights = Weights::initialise(&spec.training_graph().unwrap(), 0);
        let bytes = formats::safetensors::write(&weights, Precision::Single, HashMap::new()).unwrap();
        (spec, weights, bytes)
    };
    let ambiguous = from_bytes(file("3x3+1x1").2).unwrap_err();
    assert!(ambiguous.is_ambiguous() && ambiguous.to_string().contains("3x3+1x1, identity-without-bn"), "{ambiguous}");
    for name in ["qarepvgg", "acb", "dbb", "post-addition-bn"] {
        let (spec, weights, bytes) = file(name);
        let model = from_bytes(bytes).unwrap();
        assert_eq!(model.specification().and_then(Specification::repvgg).unwrap().block, spec.block, "{name}");
        assert_eq!(model.weights, weights);
    }
}

/// MobileOne under the names of its authors' code.
#[test]
fn mobileone_is_recognised_under_its_authors_names() {
    let specification = Specification::named("mobileone-s1").unwrap();
    let weights = Weights::initialise(&specification.training_graph().unwrap(), 0);
    let own = |name: &str| {
        let name =
            name.replace("identity", "rbr_skip").replace("conv_kxk", "rbr_conv").replace("conv_scale", "rbr_scale");
        let name = name.replace("attn.fc1", "se.reduce").replace("attn.fc2", "se.expand").replace("head.fc", "linear");
        let stages = (0..4)
            .rev()
            .fold(name, |name, stage| name.replace(&format!("stages.{stage}."), &format!("stage{}.", stage + 1)));
        format!("model.{}", stages.replace("stem.", "stage0."))
    };
    let renamed: Weights = weights.iter().map(|(name, tensor)| (own(name), tensor.clone())).collect();
    assert!(
        renamed.get("model.stage1.0.rbr_skip.weight").is_some()
            || renamed.get("model.stage1.2.rbr_skip.weight").is_some()
    );
    let bytes = formats::safetensors::write(&renamed, Precision::Single, HashMap::new()).unwrap();
    let model = from_bytes(bytes).unwrap();
    assert_eq!(model.specification(), Some(&specification));
    assert_eq!(model.weights, weights);
}

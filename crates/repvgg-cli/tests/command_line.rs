//! The binary as a user calls it: the whole workflow on a small folder of images, interruption and resume, and errors.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use repvgg::formats::onnx;
use repvgg::graph::{Conv2d, Graph, Op};
use repvgg::{Specification, Weights, npy};
use repvgg_testing::Binary;
use repvgg_train::data::shapes::Part;
use repvgg_train::data::{Dataset, Shapes};
use serde_json::Value;
use tempfile::TempDir;

fn repvgg(folder: &Path, arguments: &[&str]) -> Output {
    Binary::new(env!("CARGO_BIN_EXE_repvgg")).run(folder, arguments)
}

/// The standard output of a call that must succeed.
fn done(folder: &Path, arguments: &[&str]) -> String {
    Binary::new(env!("CARGO_BIN_EXE_repvgg")).done(folder, arguments)
}

/// The exit code and the one-line message of a call that must fail.
fn refused(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = repvgg(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(!errors.contains("panicked"), "{errors}");
    assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    (output.status.code().unwrap(), errors.trim_end().to_owned())
}

/// Fills `part` of a data set, `train` or `val`, with drawn figures in class folders.
fn image_folder(folder: &Path, part: &str, count: usize) {
    let shapes =
        Shapes { part: if part == "train" { Part::Train } else { Part::Validation }, count, side: 24, seed: 5 };
    let labels = Shapes::labels();
    for index in 0..count {
        let class = folder.join(part).join(&labels[shapes.label(index)]);
        fs::create_dir_all(&class).unwrap();
        shapes.image(index).unwrap().save(class.join(format!("{index}.png"))).unwrap();
    }
}

const SPEC: &str =
    "depths = [1, 2, 2, 1]\nwidth = [0.25, 0.25, 0.125, 0.0625]\nstrides = [1, 2, 2, 2, 2]\ngroups = 2\n";

/// A folder with images, a specification and a trained run, `run`.
fn trained() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    image_folder(&folder.path().join("photos"), "train", 240);
    image_folder(&folder.path().join("photos"), "val", 48);
    fs::write(folder.path().join("spec.toml"), SPEC).unwrap();
    done(folder.path(), &train("run"));
    folder
}

fn train(output: &str) -> [&str; 17] {
    [
        "train",
        "photos",
        "--model",
        "spec.toml",
        "-o",
        output,
        "--epochs",
        "3",
        "--batch",
        "16",
        "--size",
        "24",
        "--seed",
        "3",
        "--threads",
        "2",
        "--device=cpu",
    ]
}

/// Logits of a model file on `input.npy`.
fn logits(folder: &Path, model: &str) -> Vec<f32> {
    done(folder, &["run", model, "--input", "input.npy", "--output", "logits.npy"]);
    npy::read(&folder.join("logits.npy")).unwrap().into_data()
}

fn assert_close(expected: &[f32], found: &[f32]) {
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    assert_eq!(expected.len(), found.len());
    for (a, b) in expected.iter().zip(found) {
        assert!((a - b).abs() <= 1e-5 * largest, "{a} and {b} differ by more than 1e-5 of {largest}");
    }
}

#[test]
fn the_workflow_on_a_folder_of_images() {
    let folder = trained();
    let path = folder.path();
    for file in
        ["config.toml", "metrics.jsonl", "curves.svg", "last.safetensors", "best.safetensors", "state.safetensors"]
    {
        assert!(path.join("run").join(file).is_file(), "{file} is missing");
    }
    let metrics = fs::read_to_string(path.join("run/metrics.jsonl")).unwrap();
    let epochs: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(epochs.iter().map(|epoch| epoch["epoch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(epochs[2]["train_loss"].as_f64() < epochs[0]["train_loss"].as_f64(), "{metrics}");

    let report = done(path, &["fuse", "run/best.safetensors", "-o", "plain.safetensors", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["blocks"].as_array().unwrap().len(), 7);
    assert!(report["worst_error"].as_f64().unwrap() <= 1.0);

    let input = repvgg::Tensor::from_fn([3, 3, 24, 24], |i| (i as f32 * 0.37).sin());
    npy::write(&path.join("input.npy"), &input).unwrap();
    assert_close(&logits(path, "run/best.safetensors"), &logits(path, "plain.safetensors"));

    let eval = |model: &str| serde_json::from_str::<Value>(&done(path, &["eval", model, "photos", "--json"])).unwrap();
    let (training, plain) = (eval("run/best.safetensors"), eval("plain.safetensors"));
    assert_eq!(training["images"], 48);
    assert_eq!((&training["top1"], &training["top5"]), (&plain["top1"], &plain["top5"]));

    let lines = done(path, &["predict", "plain.safetensors", "photos/val/star", "--top", "3", "--json"]);
    assert_eq!(lines.lines().count(), 4);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let probabilities: Vec<f64> =
            line["top"].as_array().unwrap().iter().map(|guess| guess["probability"].as_f64().unwrap()).collect();
        assert!(probabilities.len() == 3 && probabilities.is_sorted_by(|a, b| a >= b), "{line}");
    }
    let bench =
        done(path, &["bench", "plain.safetensors", "--batch", "2", "--threads", "1", "--iterations", "3", "--json"]);
    let bench: Value = serde_json::from_str(&bench).unwrap();
    assert_eq!(bench["times_ms"].as_array().unwrap().len(), 3);
    for field in ["images_per_second", "direct_roofline", "load_ms", "peak_bytes"] {
        assert!(bench[field].as_f64().unwrap() > 0.0, "{field}");
    }

    engine_options(path);

    let (code, message) = refused(path, &["fuse", "plain.safetensors", "-o", "again.safetensors"]);
    assert_eq!(code, 1);
    assert!(message.contains("already in plain form, there is nothing to fuse"), "{message}");
    assert!(!path.join("again.safetensors").exists());
    let (code, message) = refused(path, &["fuse", "run/best.safetensors", "-o", "./run/best.safetensors"]);
    assert_eq!(code, 2);
    assert!(message.contains("expected a file other than the model"), "{message}");
    fs::create_dir(path.join("empty")).unwrap();
    let (code, message) = refused(path, &["predict", "plain.safetensors", "empty"]);
    assert_eq!((code, message.as_str()), (1, "error: empty: expected images, found none"));
    let (code, message) = refused(path, &train("run"));
    assert_eq!(
        (code, message.as_str()),
        (1, "error: run: expected a new folder, found a run (resume it, or choose another folder)")
    );
}

/// The engine options do not change the results.
fn engine_options(path: &Path) {
    let expected = logits(path, "plain.safetensors");
    let run = |options: &[&str]| {
        let call = ["run", "plain.safetensors", "--input", "input.npy", "--output", "logits.npy"];
        done(path, &[&call, options].concat());
        npy::read(&path.join("logits.npy")).unwrap().into_data()
    };
    for algorithm in ["direct", "depthwise", "winograd2", "winograd5", "winograd6", "winograd2-raw", "winograd4-raw"] {
        assert_close(&expected, &run(&["--algorithm", algorithm]));
    }
    for options in [["--accuracy", "strict"], ["--accuracy", "fast"], ["--simd", "portable"], ["--memory-limit", "2M"]]
    {
        assert_close(&expected, &run(&options));
    }
    assert!(run(&["--threads", "1"]) == run(&["--threads", "3"]), "threads change the logits");

    let bench = |options: &[&str]| {
        let call = ["bench", "plain.safetensors", "--batch", "2", "--iterations", "2"];
        done(path, &[&call, options].concat())
    };
    let table = bench(&["--explain"]);
    assert!(table.contains("estimated fastest") && table.contains("chosen because"), "{table}");
    let tuned: Value = serde_json::from_str(&bench(&["--tune", "--json"])).unwrap();
    let layers = tuned["layers"].as_array().unwrap();
    let convolutions: Vec<&Value> = layers.iter().filter(|layer| layer["algorithm"].is_string()).collect();
    assert!(convolutions.len() >= 8);
    for layer in convolutions {
        assert_eq!(layer["reason"], "measured fastest", "{layer}");
        assert!(layer["estimate"]["multiplies"].as_u64().unwrap() > 0, "{layer}");
        assert!(layer["not_taken"].is_array(), "{layer}");
    }
    assert!(bench(&["--explain"]).contains("measured fastest"));
    // The stored choices are for another size, and `run` works with them nevertheless.
    assert_close(&expected, &run(&[]));
    fs::write(path.join("plain.safetensors.tune.json"), "{").unwrap();
    let (code, message) = refused(path, &["bench", "plain.safetensors"]);
    assert!(code == 1 && message.starts_with("error: plain.safetensors.tune.json: EOF"), "{message}");
    fs::remove_file(path.join("plain.safetensors.tune.json")).unwrap();
    let (code, message) = refused(path, &["bench", "plain.safetensors", "--memory-limit", "1K"]);
    assert!(code == 2 && message.starts_with("error: memory limit: expected at least "), "{message}");
    let (code, message) = refused(path, &["bench", "spec.toml", "--tune"]);
    let expected = "error: tune: expected a model file to store the choices next to, found spec.toml";
    assert_eq!((code, message.as_str()), (2, expected));
    for (option, value) in
        [("--algorithm", "fft"), ("--simd", "sse9"), ("--memory-limit", "lots"), ("--accuracy", "high")]
    {
        assert_eq!(repvgg(path, &["bench", "plain.safetensors", option, value]).status.code(), Some(2));
    }
}

/// A run that is killed after its first epoch and resumed ends with the same weights.
#[test]
fn a_killed_and_resumed_run_equals_an_uninterrupted_one() {
    let folder = trained();
    let path = folder.path();
    let mut child = Command::new(env!("CARGO_BIN_EXE_repvgg"))
        .args(train("killed"))
        .current_dir(path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&path.join("killed/metrics.jsonl"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        fs::read_to_string(path.join("killed/metrics.jsonl")).unwrap().lines().count() < 3,
        "the run ended before the kill"
    );
    done(path, &["train", "--resume", "killed"]);
    for file in ["last.safetensors", "best.safetensors"] {
        let [expected, found] = ["run", "killed"].map(|run| fs::read(path.join(run).join(file)).unwrap());
        assert!(expected == found, "{file} differs");
    }
}

fn wait_for(file: &Path) {
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "{} does not appear", file.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_interrupted_run_prints_how_to_resume() {
    let folder = trained();
    let path = folder.path();
    let child = Command::new(env!("CARGO_BIN_EXE_repvgg"))
        .args(train("interrupted"))
        .current_dir(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&path.join("interrupted/metrics.jsonl"));
    let (code, message) = refused(path, &["train", "--resume", "interrupted"]);
    assert_eq!((code, message.as_str()), (1, "error: interrupted: another process is writing to this run"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("repvgg train --resume interrupted"), "{text}");
    done(path, &["train", "--resume", "interrupted"]);
    let [expected, found] =
        ["run", "interrupted"].map(|run| fs::read(path.join(run).join("last.safetensors")).unwrap());
    assert!(expected == found, "the weights differ");
}

#[test]
fn models_have_the_published_figures() {
    let folder = tempfile::tempdir().unwrap();
    let models: Value = serde_json::from_str(&done(folder.path(), &["models", "--json"])).unwrap();
    let models = models.as_array().unwrap();
    assert_eq!(models.len(), Specification::names().count());
    let a0 = &models[0];
    assert_eq!(
        (&a0["name"], &a0["parameters"], &a0["training_parameters"]),
        (&"repvgg-a0".into(), &8_309_384.into(), &9_108_968.into())
    );
    let table = done(folder.path(), &["models"]);
    assert!(table.contains("8,309,384"), "{table}");
    let info = done(folder.path(), &["info", "repvgg-b1g4", "--size", "192x160"]);
    assert!(info.contains("stage1.1.rbr_reparam") && info.contains("conv 3x3 g4"), "{info}");
}

/// A network whose only convolution has a 7×7 kernel without padding.
fn large_window(path: &Path) {
    let mut conv = Conv2d::square(3, 4, 7);
    conv.geometry.padding = [0, 0];
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 3 }, &[]);
    let x = graph.add("window", Op::conv(conv), &[x]);
    let x = graph.add("pool", Op::GlobalAvgPool, &[x]);
    graph.output("main", x);
    onnx::write(path, &graph, &Weights::initialise(&graph, 0), &onnx::WriteOptions::default()).unwrap();
}

#[test]
fn errors_are_one_line_and_leave_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir_all(path.join("empty")).unwrap();
    fs::create_dir_all(path.join("holes/train/full")).unwrap();
    fs::create_dir_all(path.join("holes/train/void")).unwrap();
    fs::create_dir_all(path.join("holes/val/full")).unwrap();
    image::RgbImage::new(8, 8).save(path.join("holes/train/full/a.png")).unwrap();
    image::RgbImage::new(8, 8).save(path.join("holes/val/full/a.png")).unwrap();
    fs::write(path.join("text.safetensors"), "this is no model").unwrap();
    fs::write(path.join("zero.toml"), "depths = [0, 1, 1, 1]\n").unwrap();
    fs::write(path.join("groups.toml"), "groups = 7\n").unwrap();
    fs::write(path.join("four.toml"), "input_channels = 4\n").unwrap();
    fs::write(path.join("input.npy"), "no array").unwrap();
    large_window(&path.join("large.onnx"));
    for (arguments, code, part) in [
        (vec!["train", "missing", "-o", "out"], 1, "missing: "),
        (vec!["train", "empty", "-o", "out"], 1, "empty: "),
        (vec!["train", "holes", "-o", "out"], 1, "void"),
        (
            vec!["train", "shapes", "-o", "out", "--model", "zero.toml"],
            2,
            "expected 1 to 256 blocks in stage 1, found 0",
        ),
        (vec!["train", "shapes", "-o", "out", "--model", "groups.toml"], 2, "channels divisible by 7 groups, found 48"),
        (
            vec!["train", "shapes", "-o", "out", "--model", "resnet"],
            2,
            "expected an architecture's name or a specification file (*.toml), found resnet (the nearest names are resnet-",
        ),
        (
            vec!["train", "shapes", "-o", "out", "--preset", "slow"],
            2,
            "expected one of ablation, ablation-quick, cifar10",
        ),
        (vec!["train", "shapes", "-o", "out", "--device", "tpu"], 2, "expected one of cpu"),
        (vec!["train", "shapes", "-o", "out", "--batch", "0"], 2, "batch: expected 1 to"),
        (vec!["train", "shapes", "-o", "out", "--size", "9000"], 2, "expected a size of 1 to 8192, found 9000"),
        (vec!["train", "shapes", "-o", "out", "--threads", "2000"], 2, "threads: expected 1 to 1024, found 2000"),
        (
            vec!["train", "shapes", "-o", "out", "--model", "four.toml"],
            1,
            "expected means for the network's 4 channels, found 3",
        ),
        (vec!["bench", "repvgg-zz"], 2, "the nearest names are repvgg-"),
        (vec!["train", "--resume", "empty"], 1, "expected a run folder, found no config.toml"),
        (
            vec!["fuse", "text.safetensors", "-o", "out"],
            1,
            "text.safetensors: file: expected safetensors, a PyTorch checkpoint or ONNX, found text",
        ),
        (vec!["fuse", "missing.safetensors", "-o", "out"], 1, "missing.safetensors: "),
        (vec!["run", "text.safetensors", "--input", "input.npy", "--output", "out"], 1, "text.safetensors"),
        (vec!["info", "text.safetensors"], 1, "text.safetensors"),
        (vec!["bench", "missing.safetensors"], 1, "missing.safetensors"),
        (vec!["eval", "missing.safetensors", "shapes"], 1, "missing.safetensors"),
        (vec!["cost", "repvgg-zz"], 2, "the nearest names are repvgg-"),
        (vec!["cost", "repvgg-a0", "missing.toml"], 1, "missing.toml: "),
        (vec!["cost", "text.safetensors"], 1, "text.safetensors: file: expected safetensors"),
        (vec!["cost", "zero.toml"], 2, "expected 1 to 256 blocks in stage 1, found 0"),
        (
            vec!["cost", "large.onnx", "--size", "2"],
            1,
            "large.onnx: window: input 2x2: expected a padded height of at least 7, found 2",
        ),
        (vec!["cost", "repvgg-a0", "--plot", "missing/memory.svg"], 1, "missing/memory.svg: "),
        (vec!["cost", "four.toml", "--plot", "./four.toml"], 2, "expected a file other than the model"),
        (
            vec!["cost", "repvgg-a0", "--size", "9000", "--batch", "4096", "--measure"],
            2,
            "repvgg-a0, training form: measuring: batch 4096",
        ),
        (vec!["observe"], 1, "standard input: expected a graph, batch and size, found EOF"),
    ] {
        let (found, message) = refused(path, &arguments);
        assert!(message.contains(part), "{arguments:?}: {message}");
        assert_eq!(found, code, "{arguments:?}: {message}");
        assert!(!path.join("out").exists(), "{arguments:?} left files");
    }
    assert_eq!(repvgg(path, &["train"]).status.code(), Some(2));
}

#[test]
fn cost_counts_memory_and_operators() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("spec.toml"), SPEC).unwrap();
    let call = ["cost", "repvgg-a0", "spec.toml", "--size", "224", "--batch", "2", "--plot", "memory.svg", "--json"];
    let networks: Value = serde_json::from_str(&done(path, &call)).unwrap();
    assert_eq!((&networks[0]["name"], &networks[1]["name"]), (&"repvgg-a0".into(), &"spec".into()));
    let [training, plain] = [0, 1].map(|form| &networks[0]["forms"][form]);
    assert_eq!((&training["form"], &plain["form"]), (&"training".into(), &"plain".into()));
    let numbers = |form: &Value| {
        let fields = ["parameters", "peak_activation_bytes", "held_bytes", "nodes_while_held", "weight_bytes"];
        fields.map(|field| form[field].as_u64().unwrap())
    };
    // The map after the first block has 48 channels of 112×112. Branches hold a second one, and batch norms have two statistics.
    let (image, map) = (2 * 3 * 224 * 224 * 4, 2 * 48 * 112 * 112 * 4);
    let norms = 2 * 48 + 48 * (2 + 3) + 96 * (2 + 3 * 3) + 192 * (2 + 13 * 3) + 2 * 1280;
    assert_eq!(numbers(training)[4], 4 * (9_108_968 + 2 * norms));
    assert_eq!(numbers(plain), [8_309_384, image + map, 0, 0, 4 * 8_309_384]);
    assert_eq!(numbers(training)[..4], [9_108_968, image + 2 * map, map, 105]);
    assert_eq!(
        (&training["peak_at"], &plain["peak_at"]),
        (&"stage0.rbr_1x1.conv".into(), &"stage0.rbr_reparam".into())
    );
    let held = serde_json::json!({"name": "stage0.rbr_dense.bn", "bytes": map, "held_for": "stage0.add"});
    assert_eq!(training["alive_at_peak"][1], held);
    assert_eq!(training["longest_wait"]["value"]["held_for"], "stage1.1.add");
    assert_eq!(plain["longest_wait"], Value::Null);
    assert_eq!(training["operators_per_block"], serde_json::json!({"mean": 2.0, "max": 2}));
    assert_eq!(plain["operators_per_block"], serde_json::json!({"mean": 1.0, "max": 1}));
    for form in [training, plain] {
        let live = form["live_bytes"].as_array().unwrap();
        assert_eq!(
            live.iter().map(|node| node["bytes"].as_u64().unwrap()).max(),
            form["peak_activation_bytes"].as_u64()
        );
        let access = form["memory_access_bytes"].as_f64().unwrap();
        let intensity = 2.0 * form["macs"].as_f64().unwrap() / access;
        assert!((form["arithmetic_intensity"].as_f64().unwrap() - intensity).abs() < 1e-9);
        assert!(form["conv_memory_access_bytes"].as_f64().unwrap() < access);
        assert!(form["arena_bytes"].is_null() && form["process_peak_bytes"].is_null());
    }
    let picture = fs::read_to_string(path.join("memory.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("repvgg-a0, batch 2 of 224x224"), "{picture}");
    assert_eq!(picture.matches("fill-opacity").count(), 4);

    let text = done(path, &["cost", "repvgg-a0"]);
    for part in ["stage0.rbr_dense.bn (2.30 MiB) held for stage0.add", "at stage0.rbr_reparam: nothing held", "█"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn measured_memory_is_consistent_with_the_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let call = ["cost", "repvgg-a0", "--size", "64", "--batch", "32", "--measure"];
    let measured: Value = serde_json::from_str(&done(folder.path(), &[&call[..], &["--json"]].concat())).unwrap();
    let number = |form: usize, field: &str| measured[0]["forms"][form][field].as_u64().unwrap();
    let map = 32 * 48 * 32 * 32 * 4;
    for form in [0, 1] {
        let values = number(form, "arena_bytes") - number(form, "workspace_bytes");
        // The arena does not include the images, and batch norms, sums and ReLUs have no separate values.
        assert!((map..=number(form, "peak_activation_bytes")).contains(&values), "{values}");
        if cfg!(target_os = "linux") {
            let grown = number(form, "process_peak_bytes") - number(form, "process_base_bytes");
            assert!(grown >= number(form, "packed_bytes"), "{grown}");
        }
    }
    let values = |form| number(form, "arena_bytes") - number(form, "workspace_bytes");
    assert!(values(0) > values(1), "branches need more memory: {measured}");
    assert!(done(folder.path(), &call).contains("process peak"));
}

//! Models of every format through the binary: reading, comparison, export and download.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use repvgg_testing::Binary;
use repvgg_testing::loopback::{Hub, Reply, Server};

fn seed(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
    path.to_str().unwrap().to_owned()
}

fn repvgg(folder: &Path, arguments: &[&str]) -> Output {
    Binary::new(env!("CARGO_BIN_EXE_repvgg")).run(folder, arguments)
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = repvgg(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The exit code and the message of a call that must fail and leave no files.
fn refused(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let before = fs::read_dir(folder).unwrap().count();
    let output = repvgg(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.lines().count() == 1, "{arguments:?}: {errors}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), before, "{arguments:?} left files");
    (output.status.code(), errors)
}

#[test]
fn info_identifies_files() {
    let folder = tempfile::tempdir().unwrap();
    let info = json(folder.path(), &["info", &seed("model/timm.safetensors"), "--json"]);
    assert_eq!(info["file"], serde_json::json!({"container": "safetensors", "names": "timm"}));
    assert_eq!((info["form"].as_str(), info["classes"].as_u64()), (Some("plain"), Some(3)));
    let info = json(folder.path(), &["info", &seed("model/branches.onnx"), "--json"]);
    assert_eq!(info["file"], serde_json::json!({"container": "onnx", "names": null}));
    assert_eq!(info["form"], "training");
}

#[test]
fn cost_shows_both_forms_if_there_are_two() {
    let folder = tempfile::tempdir().unwrap();
    let files =
        ["timm.safetensors", "branches.onnx", "graph-plain.safetensors"].map(|name| seed(&format!("model/{name}")));
    let call = ["cost", &files[0], &files[1], &files[2], "--json", "--size", "32"];
    let networks = json(folder.path(), &call);
    let forms: Vec<Vec<&str>> = networks
        .as_array()
        .unwrap()
        .iter()
        .map(|network| network["forms"].as_array().unwrap().iter().map(|form| form["form"].as_str().unwrap()).collect())
        .collect();
    assert_eq!(forms, [vec!["training", "plain"], vec!["training", "plain"], vec!["plain"]]);
    // All three files hold the same network.
    let peaks =
        networks.as_array().unwrap().iter().map(|network| {
            network["forms"].as_array().unwrap().last().unwrap()["peak_activation_bytes"].as_u64().unwrap()
        });
    let peaks: Vec<u64> = peaks.collect();
    assert!(peaks[0] > 0 && peaks.iter().all(|peak| *peak == peaks[0]), "{peaks:?}");
}

#[test]
fn conversion_between_formats_preserves_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let original = seed("model/mmpretrain.safetensors");
    let exports: [(&str, &[&str]); 5] = [
        ("a.onnx", &["--form", "plain"]),
        ("b.onnx", &["--opset", "9", "--external-data"]),
        ("c.safetensors", &["--dialect", "timm", "--form", "plain"]),
        ("d.onnx", &["--with-preprocess"]),
        ("e.safetensors", &["--dtype", "f16"]),
    ];
    for (name, options) in exports {
        let exported = json(path, &[&["export", &original, "-o", name, "--json"], options].concat());
        assert_eq!(exported["form"].as_str(), Some(if options.contains(&"plain") { "plain" } else { "training" }));
        assert!(exported["bytes"].as_u64().unwrap() > 1000);
    }
    assert!(path.join("b.onnx.data").exists());
    for name in ["a.onnx", "b.onnx", "c.safetensors"] {
        let report = json(path, &["verify", &original, name, "--json", "--size", "32"]);
        assert_eq!((report["agree"].as_bool(), report["top1_agreement"].as_f64()), (Some(true), Some(1.0)), "{name}");
        assert!(!report["blocks"].as_array().unwrap().is_empty(), "{name}");
    }
    let report = repvgg(path, &["verify", &original, "e.safetensors", "--size", "32", "--json"]);
    assert_eq!(report.status.code(), Some(1), "half precision is less accurate than 1e-5");
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["compared"], "parameters");
    assert!(report["relative_difference"].as_f64().unwrap() < 1e-2);
    json(path, &["verify", &original, "e.safetensors", "--size", "32", "--tolerance", "0.01", "--json"]);
}

#[test]
fn hub_repositories_work_like_model_files() {
    const CONFIG: &[u8] = br#"{"num_classes": 3, "label_names": ["cat", "dog", "owl"], "pretrained_cfg":
        {"input_size": [3, 32, 32], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#;
    let folder = tempfile::tempdir().unwrap();
    let weights = fs::read(seed("model/wrapped-half.safetensors")).unwrap();
    let bytes = weights.clone();
    let storage = Server::start(move |asked| Reply::ranged(asked, &bytes));
    let hub = Hub {
        small: vec![("config.json".to_owned(), CONFIG.to_vec())],
        large: vec![("model.safetensors".to_owned(), weights)],
        storage: storage.address.clone(),
    };
    let hub = Server::start(move |asked| hub.answer(asked));
    let call = |arguments: &[&str], offline: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_repvgg"));
        command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
        command.env("HF_HOME", folder.path().join("cache")).env("HF_ENDPOINT", &hub.address);
        command.env("HF_HUB_OFFLINE", offline).env_remove("HF_HUB_CACHE").env_remove("HF_TOKEN").output().unwrap()
    };
    for offline in ["0", "1"] {
        let output = call(&["info", "hf:timm/x", "--json"], offline);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let info: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(info["labels"], serde_json::json!(["cat", "dog", "owl"]));
        assert_eq!((info["preprocessing"]["size"].as_u64(), info["form"].as_str()), (Some(32), Some("training")));
        assert!(call(&["fuse", "hf:timm/x", "-o", "plain.safetensors"], offline).status.success());
    }
    let output = call(&["info", "hf:timm/other"], "1");
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), message.lines().count()), (Some(1), 1), "{message}");
    assert!(message.contains("HF_HUB_OFFLINE"), "{message}");
}

#[test]
fn an_unfused_export_warns_and_names_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let output = repvgg(folder.path(), &["export", &seed("model/document.safetensors"), "-o", "x.onnx"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success());
    assert_eq!(
        errors,
        "warning: x.onnx holds the training form, which runs slower: 6 blocks are not fused; add --form plain to fuse them\n"
    );
    let output = repvgg(folder.path(), &["export", "x.onnx", "-o", "y.onnx", "--form", "plain"]);
    assert!(output.status.success() && output.stderr.is_empty());
}

/// Any ONNX network keeps what the graph does not know; `verify` is the proof where the engine runs both files.
#[test]
fn an_onnx_file_is_fused_into_an_onnx_file() {
    let folder = tempfile::tempdir().unwrap();
    let branches = seed("model/branches.onnx");
    let report = json(folder.path(), &["fuse", &branches, "-o", "fused.onnx", "--json"]);
    let before = report["convolutions"]["before"].as_u64().unwrap();
    let after = report["convolutions"]["after"].as_u64().unwrap();
    // The fully connected layer is a block, too, without a convolution.
    let blocks = report["blocks"].as_array().unwrap();
    let convolutions = blocks.iter().filter(|block| block["name"] != "linear").count() as u64;
    assert!(after < before && convolutions == after && blocks.len() as u64 == after + 1, "{report}");
    let verified = repvgg(folder.path(), &["verify", &branches, "fused.onnx", "--size", "32"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let (code, message) = refused(folder.path(), &["fuse", "fused.onnx", "-o", "again.onnx"]);
    assert_eq!((code, message.as_str()), (Some(1), "error: fused.onnx: onnx: nothing to fuse\n"));
    let (code, message) = refused(folder.path(), &["fuse", &branches, "-o", "x.onnx", "--check-size", "64"]);
    assert!(code == Some(2) && message.starts_with("error: --check-size: expected no such option"), "{message}");
    let (code, message) = refused(folder.path(), &["fuse", &branches, "-o", "x.onnx", "--mean", "0.5,0.5,0.5"]);
    assert!(code == Some(2) && message.starts_with("error: --mean: expected no such option"), "{message}");
    assert!(!folder.path().join("x.onnx").exists());
}

#[test]
fn errors_are_one_line_and_leave_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (training, plain) = (seed("model/document.safetensors"), seed("model/timm.safetensors"));
    let cases: [(Vec<&str>, i32, &str); 11] = [
        (vec!["export", &training, "-o", "x.txt"], 2, "x.txt: expected a file that ends in .onnx or .safetensors"),
        (
            vec!["export", &training, "-o", "x.safetensors", "--opset", "17"],
            2,
            "--opset requires a file that ends in .onnx",
        ),
        (
            vec!["export", &training, "-o", "x.onnx", "--dialect", "timm"],
            2,
            "--dialect requires a file that ends in .safetensors",
        ),
        (vec!["export", &training, "-o", "x.onnx", "--opset", "6"], 2, "opset: expected 7 to 21, found 6"),
        (vec!["export", &training, "-o", "x.onnx", "--opset", "17", "--with-preprocess"], 2, "expected at least 18"),
        (vec!["export", &plain, "-o", "x.safetensors", "--form", "training"], 1, "fusing cannot be undone"),
        (vec!["fuse", &training, "-o", "x.onnx"], 2, "`repvgg export --form plain` fuses and writes ONNX"),
        (vec!["export", &training, "-o", "missing/x.onnx"], 1, "missing/x.onnx: "),
        (vec!["verify", &training, "missing.pth"], 1, "missing.pth: No such file"),
        (vec!["verify", &training, &plain, "--tolerance", "nan"], 2, "tolerance: expected a number of at least 0"),
        (vec!["info", "hf:nobody"], 2, "hf:nobody"),
    ];
    for (arguments, code, part) in cases {
        let (found, message) = refused(path, &arguments);
        assert!(message.contains(part), "{arguments:?}: {message}");
        assert_eq!(found, Some(code), "{arguments:?}: {message}");
    }
}

//! `repvgg ablate` through the binary: a first call, a repeated call, and a call with other settings in the same folder.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn ablate(folder: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repvgg"));
    command.args(["ablate", "shapes", "--model", "small.toml", "-o", "out", "--seeds", "1", "--json"]).args(options);
    command.current_dir(folder).stdin(Stdio::null()).output().expect("the binary runs")
}

#[test]
fn rows_are_trained_once_and_never_mixed_with_other_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let network = "depths = [2, 2, 2, 1]\nwidth = [0.0625, 0.0625, 0.0625, 0.0625]\nstrides = [2, 2, 2, 2, 1]";
    std::fs::write(path.join("small.toml"), network).unwrap();
    let errors = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let invalid = ablate(path, &["--epochs", "1", "--blocks", "3x3", "--threads", "0"]);
    assert_eq!(invalid.status.code(), Some(2), "{}", errors(&invalid));
    assert!(errors(&invalid).contains("threads: expected 1 to 1024, found 0"), "{}", errors(&invalid));
    assert!(!path.join("out").exists(), "training started before all settings were checked");

    let settings = ["--epochs", "1", "--blocks", "3x3,relu-in-branch"];
    let first = ablate(path, &settings);
    assert!(first.status.success(), "{}", errors(&first));
    let rows: Value = serde_json::from_slice(&first.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["block"].as_str().unwrap()).collect::<Vec<_>>(), ["3x3", "relu-in-branch"]);
    assert_eq!(rows[0]["paper"]["top1"], 72.39);
    assert_eq!(rows[0]["not_fused"], Value::Null);
    assert!(rows[1]["not_fused"].as_str().unwrap().ends_with("ReLU inside a branch"), "{}", rows[1]);
    assert!(rows.iter().all(|row| row["top1"].as_array().unwrap().len() == 1));
    assert!(rows.iter().all(|row| row["images_per_second"].as_f64().unwrap() > 0.0));

    let again = ablate(path, &settings);
    assert!(errors(&again).contains("2/2  relu-in-branch, seed 0: already finished"), "{}", errors(&again));
    let repeated: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(repeated[0]["top1"], rows[0]["top1"]);
    let table = std::fs::read_to_string(path.join("out/table.md")).unwrap();
    assert!(table.contains("| relu-in-branch |"), "{table}");

    let other = ablate(path, &["--epochs", "2", "--blocks", "3x3"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(errors(&other).contains("found a run with another recipe"), "{}", errors(&other));
}

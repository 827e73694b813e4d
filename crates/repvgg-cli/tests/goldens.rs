//! Tests on checkpoints that PyTorch wrote from the public reference implementation. They are read from `../shared/goldens` next to the
//! repository, or from the folder that `REPVGG_GOLDENS` names, and the tests are skipped without them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use repvgg::{Model, Tensor, npy};
use repvgg_testing::goldens;

const NETWORKS: [&str; 3] = ["official-plain", "official-g4", "official-se"];

fn logits(folder: &Path, model: &Path, input: &Path) -> Tensor {
    let output = folder.join("logits.npy");
    let status = Command::new(env!("CARGO_BIN_EXE_repvgg"))
        .arg("run")
        .arg(model)
        .arg("--input")
        .arg(input)
        .arg("--output")
        .arg(&output)
        .status()
        .unwrap();
    assert!(status.success(), "{}", model.display());
    npy::read(&output).unwrap()
}

fn assert_close(what: &str, expected: &Tensor, found: &Tensor, tolerance: f32) {
    assert_eq!(expected.shape(), found.shape(), "{what}");
    let largest = expected.data().iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let difference = expected.data().iter().zip(found.data()).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(difference <= tolerance * largest, "{what}: differs by {:e} of the largest value", difference / largest);
}

#[test]
fn both_forms_reproduce_the_reference_logits() {
    let Some(goldens) = goldens() else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in NETWORKS {
        let network = goldens.join(name);
        let (model, input) = (network.join("train.safetensors"), network.join("input.npy"));
        let expected = npy::read(&network.join("logits.npy")).unwrap();
        assert_close(name, &expected, &logits(folder.path(), &model, &input), 1e-5);
        let plain = folder.path().join("plain.safetensors");
        let fuse =
            Command::new(env!("CARGO_BIN_EXE_repvgg")).arg("fuse").arg(&model).arg("-o").arg(&plain).output().unwrap();
        assert!(fuse.status.success(), "{name}: {}", String::from_utf8_lossy(&fuse.stderr));
        assert_close(name, &expected, &logits(folder.path(), &plain, &input), 1e-5);
    }
}

/// Checkpoints in every container format and with every naming scheme give PyTorch's logits.
#[test]
fn every_container_reproduces_the_reference_logits() {
    let Some(goldens) = goldens() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for network in ["official-plain", "official-g4", "official-se", "timm-plain"].map(|name| goldens.join(name)) {
        let expected = npy::read(&network.join("logits.npy")).unwrap();
        for entry in std::fs::read_dir(&network).unwrap() {
            let model = entry.unwrap().path();
            if model.extension().is_some_and(|extension| extension == "pth" || extension == "safetensors") {
                let found = logits(folder.path(), &model, &network.join("input.npy"));
                assert_close(&model.display().to_string(), &expected, &found, 1e-5);
                count += 1;
            }
        }
    }
    assert_eq!(count, 10, "checkpoints compared");
}

/// Both implementations fuse in f64 and round to f32, so at most the last bit differs.
#[test]
fn fused_kernels_equal_the_reference_kernels() {
    let Some(goldens) = goldens() else { return };
    for name in NETWORKS {
        let network = goldens.join(name);
        let fused = Model::load(&network.join("train.safetensors")).unwrap().fuse().unwrap();
        let expected = arrays(&network.join("deploy.npz"));
        let mut compared = 0;
        for (key, expected) in &expected {
            let found = fused.weights.require(key).unwrap();
            let pairs = expected.data().iter().zip(found.data());
            let largest = expected.data().iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let worst = pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert_eq!(expected.shape(), found.shape(), "{name}: {key}");
            assert!(worst <= f32::EPSILON * largest, "{name}: {key}: differs by {worst:e}");
            compared += 1;
        }
        assert_eq!(compared, fused.weights.len(), "{name}: parameters compared");
    }
}

/// Reads the arrays of an `.npz` file written by NumPy's `savez`: a zip archive of uncompressed entries, each after a local header
/// (APPNOTE.TXT, 4.3.7), with sizes in 32 bits or in the zip64 extra field.
fn arrays(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0usize, |number, &byte| number << 8 | usize::from(byte))
    };
    let folder = tempfile::tempdir().unwrap();
    let mut arrays = BTreeMap::new();
    let mut at = 0;
    while bytes[at..].starts_with(b"PK\x03\x04") {
        assert_eq!(number(at + 8, 2), 0, "{}: expected stored entries", path.display());
        let (name_length, extra_length) = (number(at + 26, 2), number(at + 28, 2));
        let name = String::from_utf8(bytes[at + 30..at + 30 + name_length].to_vec()).unwrap();
        let extra = at + 30 + name_length;
        let size = match number(at + 18, 4) {
            0xffff_ffff => number(extra + 12, 8),
            size => size,
        };
        let data = extra + extra_length;
        let file = folder.path().join("array.npy");
        std::fs::write(&file, &bytes[data..data + size]).unwrap();
        arrays.insert(name.strip_suffix(".npy").unwrap().to_owned(), npy::read(&file).unwrap());
        at = data + size;
    }
    arrays
}

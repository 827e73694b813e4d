//! Checkpoints written by PyTorch from the public reference implementation, where they are at hand: `../shared/goldens` beside the
//! repository, or the folder that `REPVGG_GOLDENS` names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use repvgg::{Model, Tensor, npy};

fn goldens() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let folder = std::env::var_os("REPVGG_GOLDENS").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no golden checkpoints at {}", folder.display());
    None
}

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
    assert!(difference <= tolerance * largest, "{what}: differs by {:e} of the largest", difference / largest);
}

#[test]
fn both_forms_give_the_reference_implementation_s_logits() {
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

/// Both implementations fuse in f64 and round to f32: at most the last bit may differ.
#[test]
fn fused_kernels_are_the_reference_implementation_s() {
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

/// The arrays of an `.npz` file.
fn arrays(path: &Path) -> BTreeMap<String, Tensor> {
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    (0..archive.len())
        .map(|index| {
            let mut entry = archive.by_index(index).unwrap();
            let name = entry.name().strip_suffix(".npy").unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let file = folder.path().join("array.npy");
            std::fs::write(&file, bytes).unwrap();
            (name, npy::read(&file).unwrap())
        })
        .collect()
}

//! Checkpoints that PyTorch wrote, compared tensor by tensor with its own reading, and every seed of the fuzz target.

use std::fs;
use std::path::{Path, PathBuf};

use repvgg::formats::{Stored, pytorch};
use repvgg_testing::goldens;
use safetensors::{Dtype, SafeTensors};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints")
}

/// Asserts that every tensor of `checkpoint` is bit-equal to the one in `expected` with the same name after `prefix`.
fn assert_equal(checkpoint: &Path, prefix: &str, expected: &Path) {
    let place = checkpoint.display();
    let found = pytorch::read(&fs::read(checkpoint).unwrap(), None).unwrap().tensors;
    let expected = fs::read(expected).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    assert_eq!(found.len(), expected.len(), "{place}");
    for (name, stored) in found {
        let name = name.strip_prefix(prefix).unwrap_or_else(|| panic!("{place}: {name}"));
        let view = expected.tensor(name).unwrap_or_else(|error| panic!("{place}: {name}: {error}"));
        match stored {
            Stored::Float(tensor) => {
                let bytes: Vec<u8> = tensor.data().iter().flat_map(|x| x.to_le_bytes()).collect();
                assert_eq!((view.dtype(), view.shape()), (Dtype::F32, tensor.shape()), "{place}: {name}");
                assert!(bytes == view.data(), "{place}: {name}: different elements");
            }
            Stored::Other { dtype, shape } => {
                let expected = match view.dtype() {
                    Dtype::I64 => "int64",
                    Dtype::BOOL => "bool",
                    Dtype::U16 => "uint16",
                    other => panic!("{place}: {name}: {other:?}"),
                };
                assert_eq!((dtype.as_str(), shape.as_slice()), (expected, view.shape()), "{place}: {name}");
            }
        }
    }
}

#[test]
fn views_of_every_kind_and_type_match_pytorch() {
    for name in ["views.pth", "views-legacy.pth"] {
        assert_equal(&data().join(name), "", &data().join("views.safetensors"));
    }
}

#[test]
fn checkpoints_of_training_programs_are_read_in_every_protocol() {
    for protocol in [1, 2, 5] {
        assert_equal(&data().join(format!("training-{protocol}.pth")), "", &data().join("training.safetensors"));
    }
}

#[test]
fn golden_checkpoints_equal_their_safetensors() {
    let Some(goldens) = goldens() else { return };
    for (folder, name, prefix) in [
        ("official-plain", "train.pth", ""),
        ("official-plain", "train-legacy.pth", ""),
        ("official-plain", "train-ddp.pth", "module."),
        ("official-g4", "train.pth", ""),
        ("official-se", "train.pth", ""),
    ] {
        let folder = goldens.join(folder);
        assert_equal(&folder.join(name), prefix, &folder.join("train.safetensors"));
    }
    let plain = pytorch::read(&fs::read(goldens.join("official-plain/deploy.pth")).unwrap(), None).unwrap().tensors;
    assert_eq!(plain.len(), 20);
}

/// The seeds are inputs that were once worth trying. A panic or a hang would fail the test.
#[test]
fn the_reader_returns_on_every_seed_of_its_fuzz_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/pytorch");
    let mut seeds = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let _ = pytorch::read(&fs::read(entry.unwrap().path()).unwrap(), None);
        seeds += 1;
    }
    assert!(seeds > 0);
}

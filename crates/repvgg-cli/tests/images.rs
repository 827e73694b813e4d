//! Photographs as people have them: turned, damaged, or no photographs at all.

use std::fs;
use std::path::Path;
use std::process::Output;

use repvgg::{Model, Specification};
use repvgg_testing::Binary;
use tempfile::TempDir;

const SPEC: &str =
    "depths = [1, 1, 1, 1]\nwidth = [0.125, 0.0625, 0.0625, 0.0625]\nstrides = [1, 2, 2, 2, 2]\nclasses = 2\n";

/// A folder with a model, and images of the library's tests in two class folders.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let mut model = Model::initialise(Specification::from_toml(SPEC, "tiny").unwrap(), 0).unwrap();
    model.preprocessing.size = [16; 2];
    model.labels = vec!["a".to_owned(), "b".to_owned()];
    model.fuse().unwrap().save(&place.path().join("model.safetensors")).unwrap();
    fs::write(place.path().join("spec.toml"), SPEC).unwrap();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../repvgg/tests/data/images");
    for (class, names) in [("a", ["oriented.jpg", "rgb.jpg"]), ("b", ["ended-early.jpg", "separate-420.jpg"])] {
        fs::create_dir_all(place.path().join("photos").join(class)).unwrap();
        for name in names {
            fs::copy(images.join(name), place.path().join("photos").join(class).join(name)).unwrap();
        }
    }
    place
}

fn run(place: &TempDir, call: &str) -> Output {
    let arguments: Vec<&str> = call.split_whitespace().collect();
    Binary::new(env!("CARGO_BIN_EXE_repvgg")).run(place.path(), &arguments)
}

/// The standard output and standard error of a call that must succeed.
fn done(place: &TempDir, call: &str) -> [String; 2] {
    let output = run(place, call);
    let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{call}: {}", texts[1]);
    texts
}

#[test]
fn guessed_pixels_are_reported_by_every_command() {
    let place = place();
    let what = "ended-early.jpg: the JPEG data are damaged, so pixels below row 14 of 27 are guessed";
    for call in [
        "predict model.safetensors photos",
        "eval model.safetensors photos",
        "train photos -o run --model spec.toml --epochs 1 --batch 2 --size 16 --threads 1",
    ] {
        let [_, stderr] = done(&place, call);
        let warnings: Vec<&str> = stderr.lines().filter(|line| line.contains("guessed")).collect();
        assert_eq!(warnings.len(), 1, "{call}: {stderr}");
        assert!(warnings[0].starts_with("warning: ") && warnings[0].ends_with(what), "{call}: {}", warnings[0]);
    }
}

/// A photograph that notes a turn is classified as the turned one, or with `--no-orient` as the one without the note.
#[test]
fn photographs_are_turned_unless_they_are_to_stay_as_stored() {
    let place = place();
    let folder = place.path().join("photos/a");
    let top = |call: &str| {
        let [stdout, _] = done(&place, &format!("predict model.safetensors photos/a/{call} --json"));
        serde_json::from_str::<serde_json::Value>(&stdout).unwrap()["top"].clone()
    };
    let mut plain = fs::read(folder.join("oriented.jpg")).unwrap();
    let exif = plain.windows(4).position(|four| four == b"Exif").unwrap();
    plain[exif..exif + 4].copy_from_slice(b"None");
    fs::write(folder.join("plain.jpg"), plain).unwrap();
    assert_eq!(top("oriented.jpg --no-orient"), top("plain.jpg"));
    assert_ne!(top("oriented.jpg"), top("plain.jpg"));
    let config = "train photos -o stored --model spec.toml --epochs 1 --batch 2 --size 16 --threads 1 --no-orient";
    done(&place, config);
    let config = fs::read_to_string(place.path().join("stored/config.toml")).unwrap();
    assert!(config.contains("orientation = \"stored\""), "{config}");
    for call in ["eval model.safetensors photos", "verify model.safetensors model.safetensors --data photos"] {
        done(&place, &format!("{call} --no-orient"));
    }
}

/// A TIFF whose tiles are cut: one sentence names the file, and the others are answered.
#[test]
fn an_unreadable_image_ends_nothing() {
    let place = place();
    let tiff = b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x10\0\0\0\0\0\0\0";
    fs::write(place.path().join("photos/b/scan.tif"), tiff).unwrap();
    let output = run(&place, "predict model.safetensors photos");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.starts_with("photos")).count(), 4);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("error: photos/b/scan.tif: expected "), "{stderr}");
    let train = "train photos -o run --model spec.toml --epochs 1 --batch 2 --size 16 --threads 1";
    assert_eq!(run(&place, train).status.code(), Some(1));
    fs::remove_dir_all(place.path().join("run")).ok();
    done(&place, &format!("{train} --skip-unreadable"));
}

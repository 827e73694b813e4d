use std::{collections::BTreeSet, fs};

use repvgg::image::RgbImage;

use super::*;
use crate::data::Dataset;

/// A temporary folder with a tiny image at each path, whose pixels hold the path's index.
pub(in crate::data) fn tree(paths: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (number, path) in paths.iter().enumerate() {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(2, 1, ::image::Rgb([number as u8; 3])).save(path).unwrap();
    }
    root
}

/// The message of the error that opening `root` returns, without the path of `root`.
fn error_in(root: &tempfile::TempDir) -> String {
    let message = open(root.path(), 0).err().expect("an error").to_string();
    message.strip_prefix(&root.path().display().to_string()).expect("the place comes first").to_owned()
}

#[test]
fn train_and_val_folders_are_the_two_parts() {
    for name in ["val", "valid", "validation", "test"] {
        let validation = format!("{name}/dog/deep/1.png");
        let root = tree(&["train/dog/1.png", "train/cat/2.png", "train/cat/1.png", &validation]);
        let data = open(root.path(), 0).unwrap();
        assert_eq!(data.labels, ["cat", "dog"]);
        assert_eq!((data.train.len(), data.validation.len()), (3, 1));
        let values = |data: &dyn Dataset| -> Vec<(usize, u8)> {
            (0..data.len()).map(|at| (data.label(at), data.image(at).unwrap().get_pixel(0, 0).0[0])).collect()
        };
        assert_eq!(values(&*data.train), [(0, 2), (0, 1), (1, 0)]);
        assert_eq!(values(&*data.validation), [(1, 3)]);
        assert!(data.validation.place(0).ends_with(&validation));
    }
}

#[test]
fn one_folder_is_split_by_class_and_seed() {
    let names: Vec<String> = (0..27).map(|k| format!("{}/{k:02}.png", if k < 25 { "many" } else { "two" })).collect();
    let root = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let held_out = |seed| -> BTreeSet<String> {
        let data = open(root.path(), seed).unwrap();
        let count = |part: &dyn Dataset, label| (0..part.len()).filter(|&at| part.label(at) == label).count();
        assert_eq!([count(&*data.train, 0), count(&*data.train, 1)], [20, 1]);
        assert_eq!([count(&*data.validation, 0), count(&*data.validation, 1)], [5, 1]);
        let places = |part: &dyn Dataset| (0..part.len()).map(|at| part.place(at)).collect::<BTreeSet<_>>();
        assert!(places(&*data.train).is_disjoint(&places(&*data.validation)));
        places(&*data.validation)
    };
    assert_eq!(held_out(1), held_out(1));
    assert_ne!(held_out(1), held_out(2));
}

#[test]
fn errors_name_the_missing_part() {
    assert_eq!(
        error_in(&tree(&["train/a/1.png", "train/b/1.png"])),
        ": expected one of val, valid, validation, test next to train, found none (to use train alone, give its own path)"
    );
    let unknown = tree(&["train/a/1.png", "train/b/1.png", "val/c/1.png"]);
    assert_eq!(error_in(&unknown), "/val/c: expected a class of the train folder, found a new one");
    let single = tree(&["only/1.png", "only/2.png"]);
    assert_eq!(error_in(&single), ": expected at least two classes, found only \"only\"");
    let few = tree(&["a/1.png", "b/1.png", "b/2.png"]);
    assert_eq!(error_in(&few), "/a: expected at least 2 images, one of them for validation, found 1");
    let empty = tree(&["a/1.png", "a/2.png"]);
    fs::create_dir(empty.path().join("b")).unwrap();
    fs::write(empty.path().join("b/notes.txt"), "no image").unwrap();
    assert_eq!(error_in(&empty), "/b: expected images of this class, found none (1 file was passed over: 1 .txt)");
    let untrained = tree(&["val/a/1.png"]);
    fs::create_dir(untrained.path().join("train")).unwrap();
    assert_eq!(error_in(&untrained), "/train: expected a folder for each class, found none");
}

#[test]
fn a_changed_folder_has_another_fingerprint() {
    let root = tree(&["a/1.png", "a/2.png", "b/1.png", "b/2.png"]);
    let fingerprint = || open(root.path(), 0).unwrap().fingerprint().unwrap();
    let before = fingerprint();
    assert_eq!(before, fingerprint());
    fs::rename(root.path().join("a/1.png"), root.path().join("a/3.png")).unwrap();
    assert_ne!(before, fingerprint());
    fs::rename(root.path().join("a/3.png"), root.path().join("a/1.png")).unwrap();
    assert_eq!(before, fingerprint());
    fs::write(root.path().join("a/1.png"), "shorter").unwrap();
    assert_ne!(before, fingerprint());
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_is_an_unreadable_image() {
    let root = tree(&["a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png"]);
    std::os::unix::fs::symlink("nowhere", root.path().join("a/9.png")).unwrap();
    let data = open(root.path(), 0).unwrap();
    assert_eq!(data.train.len() + data.validation.len(), 6);
    data.fingerprint().unwrap();
    let parts = [&data.train, &data.validation];
    let errors = parts.iter().flat_map(|part| (0..part.len()).filter_map(|at| part.image(at).err()));
    let errors: Vec<String> = errors.map(|error| error.to_string()).collect();
    assert!(errors.len() == 1 && errors[0].contains("/a/9.png: "), "{errors:?}");
}

#[test]
fn an_unreadable_image_is_named() {
    let root = tree(&["a/1.png", "a/2.png", "b/1.png", "b/2.png"]);
    for file in ["a/1.png", "a/2.png"] {
        fs::write(root.path().join(file), "text").unwrap();
    }
    let message = open(root.path(), 0).unwrap().train.image(0).unwrap_err().to_string();
    assert!(message.contains("/a/") && message.ends_with("not an image (first bytes 74 65 78 74)"), "{message}");
}

use std::{collections::BTreeSet, fs};

use repvgg::zoo::RepVgg;
use serde_json::json;

use super::*;
use crate::data::{self, folder::tests::tree};
use crate::record::Sample;

/// An untrained model with these labels.
fn model(labels: &[&str]) -> Model {
    let spec = RepVgg { depths: [1; 4], width: [0.1; 4], classes: labels.len(), ..RepVgg::default() };
    let mut model = Model::initialise(spec.into(), 0).unwrap();
    model.labels = labels.iter().map(|&label| label.to_owned()).collect();
    model
}

/// The model with the record of a training on `root`.
fn trained_on(root: &Path, seed: u64, mut model: Model) -> Model {
    let data = data::open(root, seed).unwrap();
    let record = json!({
        "seed": seed,
        "data_fingerprint": fingerprint(&data).unwrap(),
        "split": data.split,
        "training_images": Sample::of(&*data.train),
    });
    model.training = Some(record);
    model
}

fn without_labels(mut model: Model) -> Model {
    model.labels = Vec::new();
    model
}

fn places(images: &dyn Dataset) -> BTreeSet<String> {
    (0..images.len()).map(|index| images.place(index)).collect()
}

fn class_folders() -> tempfile::TempDir {
    let names: Vec<String> = (0..60).map(|k| format!("{}/{k:02}.png", ["cat", "dog"][k % 2])).collect();
    tree(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_test_folder_is_judged_whole_by_name() {
    let root = tree(&["owl/1.png", "owl/2.png", "cat/1.png"]);
    fs::write(root.path().join("notes.txt"), "notes").unwrap();
    let test = TestSet::open(root.path(), &model(&["cat", "dog", "owl"]), None).unwrap();
    let labels: Vec<usize> = (0..test.images.len()).map(|index| test.images.label(index)).collect();
    assert_eq!(labels, [0, 2, 2]);
    assert_eq!(test.remarks, ["1 file was passed over: 1 .txt", "the images are of 2 of the model's 3 classes"]);
    assert_eq!(
        test.warnings,
        ["the model does not say which images it learned from; the 3 images here may be among them"]
    );
}

#[test]
fn what_training_held_out_is_judged() {
    let root = class_folders();
    let model = trained_on(root.path(), 7, model(&["cat", "dog"]));
    let held_out = data::open(root.path(), 7).unwrap().validation;
    for seed in [None, Some(7)] {
        let test = TestSet::open(root.path(), &model, seed).unwrap();
        assert_eq!(places(&*test.images), places(&*held_out));
        assert_eq!(test.remarks, ["judged are the 12 images that training held out with seed 7"]);
        assert!(test.warnings.is_empty());
    }
    let error = TestSet::open(root.path(), &model, Some(0)).err().unwrap();
    assert_eq!(error.to_string(), "seed: expected 7, with which the model's training held images out, found 0");

    // The same images elsewhere, and a file more.
    let copy = class_folders();
    assert_eq!(TestSet::open(copy.path(), &model, None).unwrap().images.len(), 12);
    RgbImage::from_pixel(2, 1, ::image::Rgb([200; 3])).save(copy.path().join("cat/new.png")).unwrap();
    let test = TestSet::open(copy.path(), &model, None).unwrap();
    assert_eq!(test.images.len(), 61);
    let warning = "the images are not exactly those of the training, so what it held out is not known: \
                   the model learned from 48 of these 61 images; its accuracy on new images may be lower";
    assert_eq!(test.warnings, [warning]);
}

/// Earlier versions recorded no sample.
#[test]
fn a_record_without_a_sample_tells_what_was_held_out() {
    let root = class_folders();
    let mut model = trained_on(root.path(), 7, model(&["cat", "dog"]));
    let record = model.training.as_mut().and_then(serde_json::Value::as_object_mut).unwrap();
    record.retain(|key, _| matches!(key.as_str(), "seed" | "data_fingerprint"));
    assert_eq!(TestSet::open(root.path(), &model, None).unwrap().images.len(), 12);
    fs::remove_file(root.path().join("cat/00.png")).unwrap();
    let test = TestSet::open(root.path(), &model, None).unwrap();
    let warning = "the model does not say which images it learned from; the 59 images here may be among them";
    assert_eq!((test.images.len(), test.warnings), (59, vec![warning.to_owned()]));
}

/// What a fine-tuned model learned from before is not recorded.
#[test]
fn a_fine_tuned_model_leaves_a_doubt() {
    let root = tree(&["train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "test/dog/5.png"]);
    let mut model = trained_on(root.path(), 0, model(&["cat", "dog"]));
    model.training.as_mut().unwrap()["fine_tuned"] = true.into();
    let remarks = TestSet::open(root.path().join("test"), &model, None).unwrap().remarks;
    assert_eq!(remarks[0], "the model was fine-tuned; whether its first training saw these images is not known");
}

#[test]
fn a_seed_holds_out_a_fifth_of_unknown_images() {
    let root = class_folders();
    let test = TestSet::open(root.path(), &model(&["cat", "dog"]), Some(3)).unwrap();
    assert_eq!(places(&*test.images), places(&*data::open(root.path(), 3).unwrap().validation));
    assert_eq!(test.warnings.len(), 1);
}

#[test]
fn images_that_were_learned_from_are_reported() {
    let root = tree(&["train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png", "test/dog/5.png"]);
    let model = trained_on(root.path(), 0, model(&["cat", "dog"]));
    let open = |part: &str| TestSet::open(root.path().join(part), &model, None).unwrap();
    assert_eq!((open("").images.len(), open("").warnings.len()), (2, 0));
    assert_eq!((open("test").images.len(), open("test").warnings.len()), (1, 0));
    let warning = "the model learned from 2 of these 2 images; its accuracy on new images may be lower";
    assert_eq!(open("train").warnings, [warning]);
    fs::copy(root.path().join("train/cat/1.png"), root.path().join("val/cat/copy.png")).unwrap();
    let warning = "the model learned from 1 of these 3 images; its accuracy on new images may be lower";
    assert_eq!(open("").warnings, [warning]);
}

#[test]
fn a_part_may_lack_classes_of_a_model_without_labels() {
    let root = tree(&["train/a/1.png", "train/b/2.png", "train/c/3.png", "val/c/4.png"]);
    let model = without_labels(model(&["a", "b", "c"]));
    let test = TestSet::open(root.path(), &model, None).unwrap();
    assert_eq!((test.images.len(), test.images.label(0)), (1, 2));
    assert_eq!(test.labels, ["a", "b", "c"]);
    assert!(test.remarks[0].contains("in this order, a, b, c"), "{:?}", test.remarks);
    let root = tree(&[
        "seg_train/seg_train/a/1.png",
        "seg_train/seg_train/b/2.png",
        "seg_train/seg_train/c/3.png",
        "seg_test/seg_test/c/4.png",
    ]);
    let test = TestSet::open(root.path(), &model, None).unwrap();
    assert_eq!((test.images.len(), test.images.label(0)), (1, 2));
    let wrong = tree(&["test/wolf/1.png"]);
    let error = TestSet::open(wrong.path(), &self::model(&["cat", "dog"]), None).err().unwrap().to_string();
    assert!(error.ends_with(": expected classes of the model (cat, dog), found wolf"), "{error}");
}

#[test]
fn the_built_in_set_is_judged_on_its_validation_images() {
    let labels = data::Shapes::labels();
    let model = model(&labels.iter().map(String::as_str).collect::<Vec<_>>());
    let test = TestSet::open(data::BUILT_IN, &model, None).unwrap();
    assert_eq!((test.images.len(), test.remarks.len(), test.warnings.len()), (1200, 0, 0));
    assert_eq!(TestSet::open(data::BUILT_IN, &without_labels(model), None).unwrap().labels, labels);
}

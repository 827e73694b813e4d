//! Folders as people have them: parts under other names, test folders, files that are no images, and runs that are trained on.

use std::fs;
use std::path::Path;
use std::process::Output;

use image::{Rgb, RgbImage};
use repvgg_testing::Binary;
use serde_json::Value;
use tempfile::TempDir;

const SPEC: &str = "depths = [1, 1, 1, 1]\nwidth = [0.125, 0.0625, 0.0625, 0.0625]\nstrides = [1, 2, 2, 2, 2]\n";

const CLASSES: [&str; 3] = ["blue", "green", "red"];

/// Fills class folders with `count` images each. No two images are equal.
fn fill(folder: &Path, first: u8, count: u8) {
    for (channel, class) in CLASSES.into_iter().enumerate() {
        fs::create_dir_all(folder.join(class)).unwrap();
        for number in first..first + count {
            let mut pixel = [number; 3];
            pixel[2 - channel] = 200;
            RgbImage::from_pixel(24, 24, Rgb(pixel)).save(folder.join(class).join(format!("{number}.png"))).unwrap();
        }
    }
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path().join("spec.toml"), SPEC).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, call: &str) -> Output {
        let arguments: Vec<&str> = call.split_whitespace().collect();
        Binary::new(env!("CARGO_BIN_EXE_repvgg")).run(self.path(), &arguments)
    }

    /// The standard output and standard error of a call that must succeed, without the line that says how images are prepared.
    fn done(&self, call: &str) -> [String; 2] {
        let output = self.run(call);
        let [text, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{call}: {errors}");
        let (preparation, others): (Vec<&str>, Vec<&str>) =
            errors.split_inclusive('\n').partition(|line| line.starts_with("images: "));
        let prepares = call.starts_with("eval") || call.starts_with("predict");
        assert_eq!(preparation.len(), usize::from(prepares), "{call}: {errors}");
        [text, others.concat()]
    }

    fn train(&self, options: &str) -> [String; 2] {
        self.done(&format!(
            "train photos -o run --model spec.toml --epochs 1 --batch 8 --size 24 --threads 1 {options}"
        ))
    }

    /// The report of an evaluation, and its standard error.
    fn eval(&self, arguments: &str) -> (Value, String) {
        let [report, errors] = self.done(&format!("eval run/best.safetensors {arguments} --json"));
        (serde_json::from_str(&report).unwrap(), errors)
    }

    fn refused(&self, call: &str) -> String {
        let output = self.run(call);
        assert!(!output.status.success(), "{call} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn what_training_held_out_is_judged() {
    let place = Place::new();
    fill(&place.path().join("photos"), 0, 20);
    fs::write(place.path().join("photos/red/notes.txt"), "notes").unwrap();
    let [text, errors] = place.train("--seed 5");
    assert!(text.contains("48 training and 12 validation images"), "{text}");
    assert_eq!(errors, "note: 1 file was passed over: 1 .txt\n");

    let passed_over = "note: 1 file was passed over: 1 .txt\n";
    let (report, errors) = place.eval("photos");
    assert_eq!(report["images"], 12);
    let judged = "note: judged are the 12 images that training held out with seed 5\n";
    assert_eq!(errors, format!("{passed_over}{judged}"));
    place.done("fuse run/best.safetensors -o plain.safetensors");
    let [report, errors] = place.done("eval plain.safetensors photos");
    assert!(report.contains(" on 12 images") && errors.contains(judged), "{report}{errors}");
    let output = place.run("eval run/best.safetensors photos --seed 6");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        place.refused("eval run/best.safetensors photos --seed 6"),
        "error: seed: expected 5, with which the model's training held images out, found 6\n"
    );

    let [_, errors] = place.done("predict plain.safetensors photos --top 1");
    assert_eq!(errors, passed_over);
    RgbImage::from_pixel(24, 24, Rgb([1, 2, 3])).save(place.path().join("photos/red/new.png")).unwrap();
    let (report, errors) = place.eval("photos");
    assert_eq!(report["images"], 61);
    assert!(errors.contains(": the model learned from 48 of these 61 images; "), "{errors}");
}

#[test]
fn a_test_folder_is_judged_whole() {
    let place = Place::new();
    for (part, first, count) in [("Training", 0, 8), ("Validation", 20, 3), ("Testing", 40, 5)] {
        fill(&place.path().join("photos").join(part), first, count);
    }
    let [text, errors] = place.train("");
    assert!(text.contains("3 classes, 24 training and 9 validation images") && errors.is_empty(), "{text}{errors}");
    assert_eq!(place.eval("photos").0["images"], 9);
    let (report, errors) = place.eval("photos/Testing");
    assert_eq!((&report["images"], errors.as_str()), (&15.into(), ""));
    fs::remove_dir_all(place.path().join("photos/Testing/green")).unwrap();
    let (report, errors) = place.eval("photos/Testing");
    assert_eq!((&report["images"], &report["per_class"][2]["images"]), (&10.into(), &5.into()));
    assert_eq!(errors, "note: the images are of 2 of the model's 3 classes\n");
    fs::rename(place.path().join("photos/Testing/red"), place.path().join("photos/Testing/purple")).unwrap();
    assert_eq!(
        place.refused("eval run/best.safetensors photos/Testing"),
        "error: photos/Testing: expected classes of the model (blue, green, red), found purple\n"
    );
    fs::remove_dir_all(place.path().join("photos/Validation")).unwrap();
    fs::rename(place.path().join("photos/Testing"), place.path().join("photos/yellow")).unwrap();
    assert_eq!(
        place.refused("train photos -o out"),
        "error: photos: expected one of val, valid, validation, test next to Training, found yellow (if Training is a class, rename it)\n"
    );
}

#[test]
fn a_finished_run_says_so_and_trains_on() {
    let place = Place::new();
    fill(&place.path().join("photos"), 0, 10);
    place.train("");
    let [text, _] = place.done("train --resume run");
    assert!(text.starts_with("run is finished, epoch 1 of 1: best validation top-1 "), "{text}");
    assert!(text.contains("to train on: repvgg train --resume run --epochs N, with N greater than 1"), "{text}");
    let [text, _] = place.done("train --resume run --epochs 3");
    assert!(text.contains("training on to 3 epochs instead of 1"), "{text}");
    assert!(text.contains("\nepoch 2/3 ") && text.contains("\nepoch 3/3 "), "{text}");
    assert_eq!(
        place.refused("train --resume run --epochs 2"),
        "error: epochs: expected at least the run's 3 epochs, found 2\n"
    );
    assert_eq!(place.run("train --resume run --batch 4").status.code(), Some(2));
}

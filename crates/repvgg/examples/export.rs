//! Write a model for other runtimes and read it back: `export [MODEL FOLDER]`. Without arguments, a small network is written to
//! a temporary folder.

use std::path::{Path, PathBuf};

use repvgg::check::{Inputs, compare};
use repvgg::formats::{self, Dialect, OpenOptions, onnx};
use repvgg::{Model, Precision, Result, Specification};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let (model, folder) = match &arguments[..] {
        [model, folder] => (Model::load(model)?, folder.as_path()),
        _ => (small()?, temporary.path()),
    };

    // The ONNX model takes any batch and image size. Its metadata contains labels and preprocessing.
    model.save_onnx(&folder.join("model.onnx"), &onnx::WriteOptions::default())?;
    // With the preprocessing in the graph, its input is RGB images, uint8 [N, H, W, 3].
    let options = onnx::WriteOptions {
        opset: onnx::PREPROCESSING_OPSET,
        preprocess: Some(model.preprocessing.clone()),
        ..onnx::WriteOptions::default()
    };
    model.save_onnx(&folder.join("images.onnx"), &options)?;
    // This file has timm's parameter names, so timm loads it. Half precision halves its size.
    formats::save(&model, &folder.join("timm.safetensors"), Dialect::Timm, Precision::Half)?;

    for (name, tolerance) in [("model.onnx", 1e-6), ("timm.safetensors", 1e-2)] {
        let formats::Opened { model: found, origin, .. } = formats::open(&folder.join(name), &OpenOptions::default())?;
        let size = found.preprocessing.size;
        let logits = compare([&model, &found], &Inputs::Random { images: 2, size }, 2, |_| ())?.logits;
        println!("{name:<17} {:>9} bytes, {origin}", bytes(&folder.join(name)));
        println!("{:17} logits differ by {:.1e} of the largest", "", logits.relative_difference());
        assert!(logits.relative_difference() <= tolerance);
        assert_eq!(found.labels, model.labels);
    }
    println!("{:<17} {:>9} bytes, its input is images", "images.onnx", bytes(&folder.join("images.onnx")));
    Ok(())
}

fn small() -> Result<Model> {
    let spec = "depths = [1, 1, 1, 1]\nwidth = [0.25, 0.25, 0.25, 0.25]\nclasses = 3";
    let mut model = Model::initialise(Specification::from_toml(spec, "small")?, 0)?;
    model.labels = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
    model.preprocessing.size = [64; 2];
    model.fuse()
}

fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

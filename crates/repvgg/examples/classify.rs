//! Classify image files: `classify [MODEL IMAGE...]`. Without arguments, a small untrained network classifies generated images.

use std::path::{Path, PathBuf};

use repvgg::classify::Classifier;
use repvgg::image::RgbImage;
use repvgg::{Model, Result, Specification};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, images) = match &arguments[..] {
        [model, images @ ..] => (model.clone(), images.to_vec()),
        [] => write_inputs(folder.path())?,
    };

    let mut classifier = Classifier::new(&Model::load(&model)?)?;
    let mut unreadable = 0;
    for path in &images {
        println!("{}", path.display());
        match classifier.classify_file(path, 3) {
            Ok(predictions) => {
                for prediction in &predictions {
                    println!("  {:6.2} %  {}", 100.0 * prediction.probability, prediction.label);
                }
                assert!(predictions.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
            }
            // One bad file does not stop the others.
            Err(error) => {
                unreadable += 1;
                println!("  {error}");
            }
        }
    }
    assert!(!arguments.is_empty() || unreadable == 1, "only the last generated file is not an image");
    Ok(())
}

/// Writes a model, two images, and a file that is not an image.
fn write_inputs(folder: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let spec = "depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]\nclasses = 3";
    let mut model = Model::initialise(Specification::from_toml(spec, "small")?, 0)?;
    model.labels = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
    model.preprocessing.size = [64; 2];
    let file = folder.join("plain.safetensors");
    model.fuse()?.save(&file)?;

    let images = ["red.png", "blue.bmp", "text.png"].map(|name| folder.join(name));
    let gradient = |x: u32, y: u32| [(x * 2) as u8, 40, (y * 2) as u8];
    RgbImage::from_fn(120, 90, |x, y| gradient(x, y).into()).save(&images[0]).expect("red.png");
    RgbImage::from_fn(90, 120, |x, y| gradient(y, x).into()).save(&images[1]).expect("blue.bmp");
    std::fs::write(&images[2], "not an image").expect("text.png");
    Ok((file, images.to_vec()))
}

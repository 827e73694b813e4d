//! From an image to ranked class names.
//!
//! ```
//! use repvgg::classify::Classifier;
//! use repvgg::image::RgbImage;
//! use repvgg::{Model, Specification};
//!
//! # fn main() -> repvgg::Result<()> {
//! // A real program calls `Model::load("plain.safetensors".as_ref())?`.
//! let spec = "depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]\nclasses = 2";
//! let mut model = Model::initialise(Specification::from_toml(spec, "tiny")?, 0)?;
//! model.labels = vec!["cat".to_owned(), "dog".to_owned()];
//!
//! let mut classifier = Classifier::new(&model)?;
//! for prediction in classifier.classify(&RgbImage::new(320, 240), 5)? {
//!     println!("{:6.2} %  {}", 100.0 * prediction.probability, prediction.label);
//! }
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use crate::engine::{BatchShape, Engine, Session};
use crate::error::expected;
use crate::image::{self, Preprocessing, RgbImage};
use crate::{Error, Form, Model, Result};

/// A class and its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The class, as an index into the logits.
    pub class: usize,
    /// Its name, or `class 7` if the model has no labels.
    pub label: String,
    /// The softmax of the logits, 0 to 1.
    pub probability: f32,
}

/// A model ready to classify images.
pub struct Classifier {
    session: Session,
    preprocessing: Preprocessing,
    labels: Vec<String>,
    input: Vec<f32>,
    logits: Vec<f32>,
}

impl Classifier {
    /// Prepares `model` for single images on all processor cores; a training form is fused first.
    ///
    /// # Errors
    /// When the model does not fuse, does not read images of one or three channels, or cannot be prepared.
    pub fn new(model: &Model) -> Result<Self> {
        Self::with_engine(model, &Engine::on_all_cores(), 1)
    }

    /// Prepares `model` on an engine for batches of up to `batch` images; a training form is fused first.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the engine's options cannot be met.
    pub fn with_engine(model: &Model, engine: &Engine, batch: usize) -> Result<Self> {
        model.check_images()?;
        let fused;
        let model = match model.form() {
            Form::Plain => model,
            Form::Training => {
                fused = model.fuse()?;
                &fused
            }
        };
        let size = [model.preprocessing.size; 2];
        let session = engine.session(model.graph(), &model.weights, BatchShape { batch, size })?;
        let elements = |shape: [usize; 3]| batch * shape.iter().product::<usize>();
        Ok(Self {
            input: vec![0.0; elements(session.input_shape())],
            logits: vec![0.0; elements(session.output_shape())],
            preprocessing: model.preprocessing.clone(),
            labels: model.labels.clone(),
            session,
        })
    }

    /// The `top` most likely classes of an image, the most likely first.
    ///
    /// # Errors
    /// When the image has no pixel.
    pub fn classify(&mut self, image: &RgbImage, top: usize) -> Result<Vec<Prediction>> {
        let mut predictions = self.classify_batch(std::slice::from_ref(image), top)?;
        Ok(predictions.pop().unwrap_or_default())
    }

    /// The `top` most likely classes of the image in a file, the most likely first.
    ///
    /// # Errors
    /// When the file cannot be read or is not an image. The classifier remains usable.
    pub fn classify_file(&mut self, path: impl AsRef<Path>, top: usize) -> Result<Vec<Prediction>> {
        self.classify(&image::decode(path)?, top)
    }

    /// The `top` most likely classes of each image, the most likely first. Images beyond one batch run in further batches.
    ///
    /// # Errors
    /// When an image has no pixel.
    pub fn classify_batch(&mut self, images: &[RgbImage], top: usize) -> Result<Vec<Vec<Prediction>>> {
        if let Some(index) = images.iter().position(|image| image.as_raw().is_empty()) {
            let (width, height) = images[index].dimensions();
            let what = expected("at least one pixel").found(format_args!("{height}x{width}"));
            return Err(Error::shape(format!("image {index}"), what));
        }
        let (batch, elements) = (self.session.shape().batch, self.preprocessing.elements());
        let classes = self.logits.len() / batch;
        let mut predictions = Vec::with_capacity(images.len());
        for images in images.chunks(batch) {
            for (image, input) in images.iter().zip(self.input.chunks_exact_mut(elements)) {
                self.preprocessing.apply_into(image, input);
            }
            let logits = &mut self.logits[..images.len() * classes];
            self.session.run(&self.input[..images.len() * elements], logits)?;
            predictions.extend(logits.chunks_exact(classes).map(|logits| rank(logits, &self.labels, top)));
        }
        Ok(predictions)
    }
}

/// The `top` largest logits as predictions; ties are in class order.
fn rank(logits: &[f32], labels: &[String], top: usize) -> Vec<Prediction> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|x| (x - largest).exp()).sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(top);
    let prediction = |class: usize| Prediction {
        class,
        label: labels.get(class).cloned().unwrap_or_else(|| format!("class {class}")),
        probability: (logits[class] - largest).exp() / sum,
    };
    order.into_iter().map(prediction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Specification;

    fn model() -> Model {
        let spec = "depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]\nclasses = 3";
        let mut model = Model::initialise(Specification::from_toml(spec, "tiny").unwrap(), 3).unwrap();
        model.preprocessing.size = 32;
        model
    }

    fn image(seed: usize) -> RgbImage {
        RgbImage::from_fn(40, 30, |x, y| {
            ::image::Rgb([0, 1, 2].map(|channel: usize| (x as usize * 7 + y as usize * seed + channel * 31) as u8))
        })
    }

    #[test]
    fn classes_are_ranked_by_the_softmax_of_their_logits() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let found = rank(&[0.0, 2.0f32.ln(), 0.0], &labels, 2);
        assert_eq!(found.iter().map(|prediction| &*prediction.label).collect::<Vec<_>>(), ["b", "a"]);
        assert!((found[0].probability - 0.5).abs() < 1e-6 && (found[1].probability - 0.25).abs() < 1e-6, "{found:?}");
        assert_eq!(rank(&[1.0], &[], 5)[0].label, "class 0");
    }

    #[test]
    fn a_batch_is_classified_as_its_images_are() {
        let model = model();
        let mut single = Classifier::new(&model).unwrap();
        let mut batched =
            Classifier::with_engine(&model.fuse().unwrap(), &Engine::with_threads(1).unwrap(), 2).unwrap();
        let images: Vec<RgbImage> = (0..5).map(image).collect();
        let expected: Vec<_> = images.iter().map(|image| single.classify(image, 3).unwrap()).collect();
        let found = batched.classify_batch(&images, 3).unwrap();
        for (expected, found) in expected.iter().flatten().zip(found.iter().flatten()) {
            assert_eq!(expected.class, found.class);
            assert!((expected.probability - found.probability).abs() < 1e-5);
        }
    }

    #[test]
    fn an_image_that_cannot_be_read_is_an_error_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("good.png"), folder.path().join("bad.png"));
        image(1).save(&good).unwrap();
        std::fs::write(&bad, "no image").unwrap();
        let mut classifier = Classifier::new(&model()).unwrap();
        let results = [&good, &bad, &good].map(|path| classifier.classify_file(path, 1));
        assert!(results[0].is_ok() && results[2].is_ok());
        assert!(results[1].as_ref().unwrap_err().to_string().contains("bad.png"));
        let error = classifier.classify(&RgbImage::new(0, 4), 1).unwrap_err();
        assert_eq!(error.to_string(), "image 0: expected at least one pixel, found 4x0");
    }
}

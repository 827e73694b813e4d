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

mod outputs;

pub use outputs::Outputs;

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
    /// Its probability, 0 to 1 ([`Outputs::probabilities`]).
    pub probability: f32,
}

/// A model ready to classify images.
pub struct Classifier {
    session: Session,
    preprocessing: Preprocessing,
    labels: Vec<String>,
    outputs: Outputs,
    input: Vec<f32>,
    values: Vec<f32>,
}

impl Classifier {
    /// Prepares `model` for single images on all processor cores; a training form is fused first.
    ///
    /// # Errors
    /// When the model does not fuse, reads neither one nor three channels, or cannot be prepared.
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
        let size = model.preprocessing.size;
        let session = engine.session(model.graph(), &model.weights, BatchShape { batch, size })?;
        let elements = |shape: [usize; 3]| batch * shape.iter().product::<usize>();
        Ok(Self {
            input: vec![0.0; elements(session.input_shape())],
            values: vec![0.0; elements(session.output_shape())],
            outputs: Outputs::of(model.graph()),
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
        let classes = self.values.len() / batch;
        let mut predictions = Vec::with_capacity(images.len());
        for images in images.chunks(batch) {
            for (image, input) in images.iter().zip(self.input.chunks_exact_mut(elements)) {
                self.preprocessing.apply_into(image, input);
            }
            let values = &mut self.values[..images.len() * classes];
            self.session.run(&self.input[..images.len() * elements], values)?;
            let probabilities = values.chunks_exact(classes).map(|row| self.outputs.probabilities(row));
            predictions.extend(probabilities.map(|row| rank(&row, &self.labels, top)));
        }
        Ok(predictions)
    }
}

/// The `top` largest probabilities as predictions; ties are in class order.
fn rank(probabilities: &[f32], labels: &[String], top: usize) -> Vec<Prediction> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]).then(a.cmp(&b)));
    order.truncate(top);
    let prediction = |class: usize| Prediction {
        class,
        label: labels.get(class).cloned().unwrap_or_else(|| format!("class {class}")),
        probability: probabilities[class],
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
        model.preprocessing.size = [32; 2];
        model
    }

    fn image(seed: usize) -> RgbImage {
        RgbImage::from_fn(40, 30, |x, y| {
            ::image::Rgb([0, 1, 2].map(|channel: usize| (x as usize * 7 + y as usize * seed + channel * 31) as u8))
        })
    }

    #[test]
    fn classes_are_ranked_by_their_probabilities() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let found = rank(&Outputs::Logits.probabilities(&[0.0, 2.0f32.ln(), 0.0]), &labels, 2);
        assert_eq!(found.iter().map(|prediction| &*prediction.label).collect::<Vec<_>>(), ["b", "a"]);
        assert!((found[0].probability - 0.5).abs() < 1e-6 && (found[1].probability - 0.25).abs() < 1e-6, "{found:?}");
        assert_eq!(rank(&[1.0], &[], 5)[0].label, "class 0");
    }

    /// A network that ends in a softmax is not given another one.
    #[test]
    fn the_last_operation_decides_how_outputs_become_probabilities() {
        use crate::graph::{ActivationKind, Graph, Op, Softmax};

        let ends_in = |op: Option<Op>| {
            let mut graph = Graph::new();
            let mut end = graph.add("input", Op::Input { channels: 3 }, &[]);
            for (index, op) in op.into_iter().chain([Op::Flatten]).enumerate() {
                end = graph.add(format!("{index}"), op, &[end]);
            }
            graph.output("main", end);
            Outputs::of(&graph)
        };
        let (softmax, logarithms) = (Op::Softmax(Softmax::Probabilities), Op::Softmax(Softmax::Logarithms));
        for (op, expected, values) in [
            (None, Outputs::Logits, [0.0, 3.0f32.ln()]),
            (Some(softmax), Outputs::Probabilities, [0.25, 0.75]),
            (Some(logarithms), Outputs::LogProbabilities, [0.25f32.ln(), 0.75f32.ln()]),
            (Some(Op::Activation(ActivationKind::Sigmoid)), Outputs::Independent, [0.25, 0.75]),
        ] {
            assert_eq!(ends_in(op), expected);
            let close = |found: &[f32]| (found[0] - 0.25).abs() < 1e-6 && (found[1] - 0.75).abs() < 1e-6;
            assert!(close(&expected.probabilities(&values)), "{expected:?}");
            assert!(close(&Outputs::Logits.probabilities(&expected.logits(&values))), "{expected:?}");
        }
        assert!((Outputs::Logits.probabilities(&[3.0f32.ln()])[0] - 0.75).abs() < 1e-6);
        assert_eq!(Outputs::Logits.logits(&[2.0]), [0.0, 2.0]);
        assert_eq!(Outputs::Independent.logits(&[0.75]), [0.25f32.ln(), 0.75f32.ln()]);
    }

    #[test]
    fn a_batch_gives_the_predictions_of_its_images() {
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
    fn an_unreadable_image_does_not_affect_the_others() {
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

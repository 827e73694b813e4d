//! The images that a model is judged on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use repvgg::error::expected;
use repvgg::image::RgbImage;
use repvgg::{Error, Model, Result};

use super::{
    Beside, Dataset, Fingerprint, Place, Split,
    classes::Classes,
    folder::split,
    layout::{Found, class_names},
    matching::Matching,
    parts::Layout,
};
use crate::record::TrainingData;
use crate::run::fingerprint;

/// The images that a model is judged on, labelled by the model's own classes.
#[derive(Clone)]
pub struct TestSet {
    /// The name of each class of the model.
    pub labels: Vec<String>,
    /// The images.
    pub images: Arc<dyn Dataset>,
    /// The side in pixels of all images, if they are known to be squares of one size.
    pub side: Option<usize>,
    /// What was found and assumed, in sentences.
    pub remarks: Vec<String>,
    /// Reasons why the accuracy may not be that on new images, in sentences.
    pub warnings: Vec<String>,
}

impl TestSet {
    /// Chooses the images to judge `model` on at `place`, a data set as [`open`](super::open) takes it, or a test set: class
    /// folders of only some of the model's classes, with any number of images.
    ///
    /// * Of a data set with parts, the validation part is judged, or else the test part.
    /// * Of class folders that `model` was trained on, the images that its training held out are judged. The record of the
    ///   training in the model tells.
    /// * Of other class folders, all images are judged; with a `seed`, the fifth of each class that it chooses.
    ///
    /// Classes are matched by name. For a model without labels, folders called by numbers are matched by number, other folders
    /// in the order of their names.
    ///
    /// # Errors
    /// When there are no such images, the model lacks one of their classes, or `seed` is not that of the training that held out
    /// some of them.
    pub fn open(place: impl AsRef<Path>, model: &Model, seed: Option<u64>) -> Result<Self> {
        let place = place.as_ref();
        let judged = Judged::find(place, model, seed)?;
        let Matching { classes, labels, assumption } = Matching::of(model, &judged.names, &judged.order, place)?;
        let mut remarks: Vec<String> = judged.beside.sentences().chain(assumption).collect();
        if classes.len() < labels.len() {
            remarks.push(format!("the images are of {} of the model's {} classes", classes.len(), labels.len()));
        }
        let images = Arc::new(Relabelled { dataset: judged.images, classes });
        Ok(Self { labels, images, side: judged.side, remarks, warnings: judged.warnings })
    }
}

/// Images to judge a model on, labelled by their own classes.
struct Judged {
    images: Arc<dyn Dataset>,
    side: Option<usize>,
    /// The names of their classes.
    names: Vec<String>,
    /// The names of all classes of the data set, in order.
    order: Vec<String>,
    beside: Beside,
    warnings: Vec<String>,
}

impl Judged {
    fn find(place: &Path, model: &Model, seed: Option<u64>) -> Result<Self> {
        let root = match Place::find(place)? {
            Place::Complete(data) => {
                return Ok(Self {
                    images: data.validation,
                    side: data.side,
                    names: data.labels.clone(),
                    order: data.labels,
                    beside: data.beside,
                    warnings: Vec::new(),
                });
            }
            Place::Folder(root) => root,
        };
        let is_class = |name: &str| model.labels.iter().any(|label| label == name);
        let Found { root, layout, mut beside } = Found::at(root, &is_class)?;
        let part = match &layout {
            Layout::Classes => root.clone(),
            Layout::Parts(parts) => root.join(parts.for_evaluation(&root)?),
        };
        let classes = beside.classes(&part, &is_class)?;
        let Layout::Parts(parts) = layout else { return Self::of_classes(classes, beside, model, seed) };
        let order = match parts.train() {
            Some(train) => class_names(&root.join(train), &is_class)?,
            None => classes.names(),
        };
        Ok(Self::of_part(classes, order, beside, model))
    }

    /// The validation or test part of a data set with all the classes in `order`.
    fn of_part(classes: Classes, order: Vec<String>, beside: Beside, model: &Model) -> Self {
        let names = classes.names();
        let images = classes.dataset();
        let known = TrainingData::of(model);
        let warnings = known.and_then(|known| known.warning(&*images)).into_iter().collect();
        Self { images, side: None, names, order, beside, warnings }
    }

    /// Class folders: the images that the model's training held out, those that `seed` holds out, or all.
    fn of_classes(classes: Classes, mut beside: Beside, model: &Model, seed: Option<u64>) -> Result<Self> {
        let names = classes.names();
        let known = TrainingData::of(model);
        if let Some((images, trained)) = known.as_ref().and_then(|known| known.held_out(&classes)) {
            if let Some(seed) = seed.filter(|&seed| seed != trained) {
                let problem = expected(format_args!("{trained}, with which the model's training held images out"));
                return Err(Error::spec("seed", problem.found(seed)));
            }
            let count = images.len();
            beside.remarks.push(format!("judged are the {count} images that training held out with seed {trained}"));
            return Ok(Self { images, side: None, order: names.clone(), names, beside, warnings: Vec::new() });
        }
        let images = match seed {
            Some(seed) => split(classes, seed)?.validation,
            None => classes.dataset(),
        };
        let warning = match known {
            Some(known) if known.has_sample() => {
                if known.fine_tuned {
                    let remark = "the model was fine-tuned; whether its first training saw these images is not known";
                    beside.remarks.push(remark.to_owned());
                }
                let changed = "the images are not exactly those of the training, so what it held out is not known";
                let held_out = matches!(known.split, Some(Split::HeldOut { .. }));
                let warning = known.warning(&*images);
                warning.map(|warning| if held_out { format!("{changed}: {warning}") } else { warning })
            }
            _ => Some(format!(
                "the model does not say which images it learned from; the {} images here may be among them",
                images.len()
            )),
        };
        let warnings = warning.into_iter().collect();
        Ok(Self { images, side: None, order: names.clone(), names, beside, warnings })
    }
}

impl TrainingData {
    /// The images of `classes` that the training held out, and its seed, if the training was on exactly these images.
    fn held_out(&self, classes: &Classes) -> Option<(Arc<dyn Dataset>, u64)> {
        let data = split(classes.clone(), self.seed).ok()?;
        let is_same = fingerprint(&data).is_ok_and(|found| found == self.data_fingerprint);
        is_same.then_some((data.validation, self.seed))
    }

    fn has_sample(&self) -> bool {
        self.training_images.as_ref().is_some_and(|sample| !sample.files.is_empty())
    }

    /// The warning that some of the `images` are among those that the model learned from.
    fn warning(&self, images: &dyn Dataset) -> Option<String> {
        let sample = self.training_images.as_ref()?;
        let copies = sample.copies_in(images);
        let at_least = if sample.is_complete() { "" } else { "at least " };
        (copies > 0).then(|| {
            format!(
                "the model learned from {at_least}{copies} of these {} images; its accuracy on new images may be lower",
                images.len()
            )
        })
    }
}

/// A data set with other labels.
struct Relabelled {
    dataset: Arc<dyn Dataset>,
    /// The label for each label of the data set.
    classes: Vec<usize>,
}

impl Dataset for Relabelled {
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn label(&self, index: usize) -> usize {
        self.classes[self.dataset.label(index)]
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        self.dataset.image(index)
    }

    fn place(&self, index: usize) -> String {
        self.dataset.place(index)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        self.dataset.file(index)
    }

    fn identify(&self, fingerprint: &mut Fingerprint) -> Result<()> {
        self.dataset.identify(fingerprint)
    }
}

#[cfg(test)]
mod tests;

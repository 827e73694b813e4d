//! The record of its training that a model file keeps: recipe, data, and which images the model learned from.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use repvgg::Model;
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Fingerprint, Split};
use crate::recipe::Recipe;

/// The most images that a [`Sample`] keeps.
const SAMPLED: usize = 128;

/// The bytes at the start of an image file that its hash covers.
const HASHED: u64 = 1 << 20;

/// The record of a training run in a model file, as JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Record<'a> {
    /// The program that trained the model, with its version.
    pub program: &'static str,
    /// Finished epochs.
    pub epochs: usize,
    /// The share of correctly classified validation images after the last epoch, 0 to 1.
    pub validation_top1: Option<f64>,
    /// The seed of the run.
    pub seed: u64,
    /// The fingerprint of the data set in hexadecimal.
    pub data_fingerprint: &'a str,
    /// How the data set was divided into training and validation images.
    pub split: &'a Split,
    /// A sample of the training images.
    pub training_images: &'a Sample,
    /// Whether the run started from the weights of another model.
    pub fine_tuned: bool,
    /// The recipe.
    pub recipe: &'a Recipe,
}

/// What a model file says about the data of its training. Files of earlier versions say less.
#[derive(Debug, Clone, Deserialize)]
pub struct TrainingData {
    /// The seed of the run.
    pub seed: u64,
    /// The fingerprint of the data set in hexadecimal.
    pub data_fingerprint: String,
    /// How the data set was divided into training and validation images.
    pub split: Option<Split>,
    /// A sample of the training images.
    pub training_images: Option<Sample>,
    /// Whether the run started from the weights of another model.
    #[serde(default)]
    pub fine_tuned: bool,
}

impl TrainingData {
    /// Reads the record of `model`; `None` if it has none, or one of another program.
    pub fn of(model: &Model) -> Option<Self> {
        Self::deserialize(model.training.as_ref()?).ok()
    }
}

/// Some of the images of a data set, identified by the size and a hash of their files. Copies are found under any name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The number of images that the sample stands for.
    pub count: usize,
    /// The size in bytes and the hash of each file, as `1234-0123456789abcdef`.
    pub files: Vec<String>,
}

impl Sample {
    /// A sample of up to 128 images, evenly spaced. It has no files if the images of `dataset` have no files of their own.
    pub fn of(dataset: &dyn Dataset) -> Self {
        let (count, kept) = (dataset.len(), dataset.len().min(SAMPLED));
        let files = (0..kept).filter_map(|at| dataset.file(at * count / kept));
        // A file that cannot be read is not learned from.
        let files = files.filter_map(|file| identity(&file).ok()).collect();
        Self { count, files }
    }

    /// Whether every image is in the sample.
    pub fn is_complete(&self) -> bool {
        self.files.len() == self.count
    }

    /// The number of images of `dataset` that are copies of images in this sample. A file that cannot be read is none.
    pub fn copies_in(&self, dataset: &dyn Dataset) -> usize {
        let files: HashSet<&str> = self.files.iter().map(String::as_str).collect();
        let sizes: HashSet<u64> = files.iter().filter_map(|file| file.split_once('-')?.0.parse().ok()).collect();
        // Only files of a known size are read.
        let is_candidate = |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| sizes.contains(&metadata.len()));
        let is_copy = |path: &PathBuf| identity(path).is_ok_and(|identity| files.contains(identity.as_str()));
        let paths = (0..dataset.len()).filter_map(|index| dataset.file(index));
        paths.filter(is_candidate).filter(is_copy).count()
    }
}

/// The size of a file and the hash of its first [`HASHED`] bytes.
fn identity(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(HASHED).read_to_end(&mut bytes)?;
    let mut fingerprint = Fingerprint::default();
    fingerprint.bytes(&bytes);
    Ok(format!("{size}-{:016x}", fingerprint.value()))
}

#[cfg(test)]
mod tests {
    use repvgg::Result;
    use repvgg::image::RgbImage;

    use super::*;

    /// Files of one class, never decoded.
    struct Files(Vec<PathBuf>);

    impl Dataset for Files {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn label(&self, _: usize) -> usize {
            0
        }

        fn image(&self, _: usize) -> Result<RgbImage> {
            unreachable!("images are identified by their files")
        }

        fn place(&self, index: usize) -> String {
            self.0[index].display().to_string()
        }

        fn file(&self, index: usize) -> Option<PathBuf> {
            Some(self.0[index].clone())
        }

        fn identify(&self, _: &mut Fingerprint) -> Result<()> {
            Ok(())
        }
    }

    /// Files that hold the given numbers.
    fn files(folder: &tempfile::TempDir, part: &str, numbers: std::ops::Range<usize>) -> Files {
        let paths = numbers.map(|number| {
            let path = folder.path().join(format!("{part}{number}"));
            fs::write(&path, format!("{number:09}")).unwrap();
            path
        });
        Files(paths.collect())
    }

    #[test]
    fn copies_are_found_under_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let few = Sample::of(&files(&folder, "few", 0..100));
        assert!(few.is_complete());
        assert_eq!(few.copies_in(&files(&folder, "other", 90..120)), 10);
        assert_eq!(few.copies_in(&files(&folder, "other", 100..120)), 0);
        // FNV-1a of the text 000000000, computed with Python.
        assert_eq!(few.files[0], "9-c762732f17bb99cf");
        let many = Sample::of(&files(&folder, "many", 0..1000));
        assert_eq!((many.count, many.files.len()), (1000, 128));
        assert_eq!(many.copies_in(&files(&folder, "copy", 0..1000)), 128);
        assert_eq!(many.copies_in(&files(&folder, "copy", 500..1000)), 64);
    }

    #[test]
    fn images_without_files_have_no_sample() {
        let sample = Sample::of(&*crate::data::open("shapes", 0).unwrap().train);
        assert_eq!(sample, Sample { count: 6000, files: Vec::new() });
        assert!(!sample.is_complete());
    }
}

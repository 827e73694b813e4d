//! Data sets with one folder per class.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::seq::SliceRandom;
use repvgg::error::expected;
use repvgg::{
    Error, Result,
    image::{self, RgbImage},
};

use super::{
    Data, Dataset, Fingerprint,
    random::{Purpose, stream},
};

/// Accepted names of the validation folder, in order of precedence.
const VALIDATION: [&str; 4] = ["val", "valid", "validation", "test"];

/// Without a validation folder, one image in this many of each class is held out.
const VALIDATION_SHARE: usize = 5;

/// Image files, decoded on each access.
struct ImageFolder {
    root: PathBuf,
    /// The path under `root` and the label of each image.
    files: Vec<(PathBuf, usize)>,
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn label(&self, index: usize) -> usize {
        self.files[index].1
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        image::decode(self.root.join(&self.files[index].0))
    }

    fn place(&self, index: usize) -> String {
        self.root.join(&self.files[index].0).display().to_string()
    }

    fn identify(&self, fingerprint: &mut Fingerprint) -> Result<()> {
        for (file, label) in &self.files {
            let path = self.root.join(file);
            let metadata = fs::metadata(&path).map_err(|error| Error::io(path.display(), error))?;
            fingerprint.text(&file.to_string_lossy());
            fingerprint.number(metadata.len());
            fingerprint.number(*label as u64);
        }
        Ok(())
    }
}

/// A class folder.
struct Class {
    name: String,
    /// Sorted paths under the root.
    files: Vec<PathBuf>,
}

/// Opens a folder of class folders, or one with `train` and `val` folders that have class folders.
pub(super) fn open(root: &Path, seed: u64) -> Result<Data> {
    let train = root.join("train");
    if !train.is_dir() {
        return split(root, seed);
    }
    let Some(validation) = VALIDATION.iter().map(|name| root.join(name)).find(|folder| folder.is_dir()) else {
        let names = VALIDATION.join(", ");
        return Err(Error::format(
            root.display(),
            expected(format_args!("one of {names} next to train")).found("none"),
        ));
    };
    let (training_classes, validation_classes) = (classes(&train)?, classes(&validation)?);
    let labels = labels(&train, &training_classes)?;
    let label = |name: &String| labels.binary_search(name).ok();
    if let Some(class) = validation_classes.iter().find(|class| label(&class.name).is_none()) {
        let place = validation.join(&class.name);
        return Err(Error::format(place.display(), expected("a class of the train folder").found("a new one")));
    }
    let validation_files =
        validation_classes.into_iter().map(|class| (label(&class.name).expect("checked above"), class.files));
    Ok(Data {
        train: dataset(&train, training_classes.into_iter().map(|class| class.files).enumerate()),
        validation: dataset(&validation, validation_files),
        labels,
        side: None,
    })
}

/// Holds out a fifth of each class for validation, rounded to at least one image. At least one image remains for training.
fn split(root: &Path, seed: u64) -> Result<Data> {
    let classes = classes(root)?;
    let labels = labels(root, &classes)?;
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for (label, mut class) in classes.into_iter().enumerate() {
        let count = class.files.len();
        if count < 2 {
            let place = root.join(&class.name);
            let problem = expected("at least 2 images, one of them for validation").found(count);
            return Err(Error::format(place.display(), problem));
        }
        class.files.shuffle(&mut stream(seed, Purpose::Split, label as u64, 0));
        let held_out = ((count + VALIDATION_SHARE / 2) / VALIDATION_SHARE).max(1);
        let mut training_files = class.files.split_off(held_out);
        class.files.sort();
        training_files.sort();
        validation.push((label, class.files));
        training.push((label, training_files));
    }
    Ok(Data { train: dataset(root, training), validation: dataset(root, validation), labels, side: None })
}

fn dataset(root: &Path, classes: impl IntoIterator<Item = (usize, Vec<PathBuf>)>) -> Arc<dyn Dataset> {
    let files = classes.into_iter().flat_map(|(label, files)| files.into_iter().map(move |file| (file, label)));
    Arc::new(ImageFolder { root: root.to_owned(), files: files.collect() })
}

/// The names of the classes, of which there must be at least two.
fn labels(root: &Path, classes: &[Class]) -> Result<Vec<String>> {
    match classes {
        [] => Err(Error::format(root.display(), expected("a folder for each class").found("none"))),
        [class] => Err(Error::format(
            root.display(),
            expected("at least two classes").found(format_args!("only {:?}", class.name)),
        )),
        classes => Ok(classes.iter().map(|class| class.name.clone()).collect()),
    }
}

/// The class folders of `root`, sorted by name, each with at least one image.
fn classes(root: &Path) -> Result<Vec<Class>> {
    let refuse = |error| Error::io(root.display(), error);
    let mut classes = Vec::new();
    for entry in fs::read_dir(root).map_err(refuse)? {
        let path = entry.map_err(refuse)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::format(path.display(), expected("a UTF-8 name").found("other bytes")));
        };
        if name.starts_with('.') || !path.is_dir() {
            continue;
        }
        let mut files = image::list(&path)?;
        if files.is_empty() {
            return Err(Error::format(path.display(), expected("images of this class").found("none")));
        }
        for file in &mut files {
            *file = file.strip_prefix(root).expect("listed under the root").to_owned();
        }
        classes.push(Class { name: name.to_owned(), files });
    }
    classes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(classes)
}

#[cfg(test)]
mod tests;

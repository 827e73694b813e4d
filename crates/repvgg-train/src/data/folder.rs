//! A folder for each class.

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

/// The names a validation folder goes by, the usual one first.
const VALIDATION: [&str; 4] = ["val", "valid", "validation", "test"];

/// One image in this many of each class is held out where there is no validation folder.
const VALIDATION_SHARE: usize = 5;

/// Image files, decoded at each visit.
struct Folder {
    root: PathBuf,
    /// The path under `root` and the label of each image.
    files: Vec<(PathBuf, usize)>,
}

impl Dataset for Folder {
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

    fn identify(&self, print: &mut Fingerprint) -> Result<()> {
        for (file, label) in &self.files {
            let path = self.root.join(file);
            let metadata = fs::metadata(&path).map_err(|error| Error::io(path.display(), error))?;
            print.text(&file.to_string_lossy());
            print.number(metadata.len());
            print.number(*label as u64);
        }
        Ok(())
    }
}

/// A class: its name and its files, sorted.
struct Class {
    name: String,
    files: Vec<PathBuf>,
}

/// Opens a folder of class folders, or of `train` and `val` with class folders in each.
pub(super) fn open(root: &Path, seed: u64) -> Result<Data> {
    let train = root.join("train");
    if !train.is_dir() {
        return split(root, seed);
    }
    let Some(validation) = VALIDATION.iter().map(|name| root.join(name)).find(|folder| folder.is_dir()) else {
        let names = VALIDATION.join(", ");
        return Err(Error::format(root.display(), expected(format_args!("one of {names} beside train")).found("none")));
    };
    let (learned, judged) = (classes(&train)?, classes(&validation)?);
    let labels = labels(&train, &learned)?;
    let known = |name: &String| labels.binary_search(name).ok();
    if let Some(class) = judged.iter().find(|class| known(&class.name).is_none()) {
        let place = validation.join(&class.name);
        return Err(Error::format(place.display(), expected("a class that train has too").found("a new one")));
    }
    let judged = judged.into_iter().map(|class| (known(&class.name).expect("checked above"), class.files));
    Ok(Data {
        train: dataset(&train, learned.into_iter().map(|class| class.files).enumerate()),
        validation: dataset(&validation, judged),
        labels,
        side: None,
    })
}

/// Holds out a fifth of each class, rounded, at least one image, and keeps at least one.
fn split(root: &Path, seed: u64) -> Result<Data> {
    let classes = classes(root)?;
    let labels = labels(root, &classes)?;
    let (mut learned, mut judged) = (Vec::new(), Vec::new());
    for (label, mut class) in classes.into_iter().enumerate() {
        let count = class.files.len();
        if count < 2 {
            let place = root.join(&class.name);
            return Err(Error::format(place.display(), expected("at least 2 images to hold one out").found("1")));
        }
        class.files.shuffle(&mut stream(seed, Purpose::Split, label as u64, 0));
        let held_out = ((count + VALIDATION_SHARE / 2) / VALIDATION_SHARE).max(1);
        let mut kept = class.files.split_off(held_out);
        class.files.sort();
        kept.sort();
        judged.push((label, class.files));
        learned.push((label, kept));
    }
    Ok(Data { train: dataset(root, learned), validation: dataset(root, judged), labels, side: None })
}

fn dataset(root: &Path, classes: impl IntoIterator<Item = (usize, Vec<PathBuf>)>) -> Arc<dyn Dataset> {
    let files = classes.into_iter().flat_map(|(label, files)| files.into_iter().map(move |file| (file, label)));
    Arc::new(Folder { root: root.to_owned(), files: files.collect() })
}

/// The names of at least two classes.
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
            return Err(Error::format(path.display(), expected("a name in UTF-8").found("other bytes")));
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

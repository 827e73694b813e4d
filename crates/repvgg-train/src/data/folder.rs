//! Data sets in folders: the parts of one, or class folders to split.

use std::path::Path;

use rand::seq::SliceRandom;
use repvgg::error::expected;
use repvgg::{Error, Result};

use super::{
    Beside, Data, Split,
    classes::{Classes, dataset},
    layout::Found,
    listed,
    parts::{Layout, Parts},
    random::{Purpose, stream},
};

/// Of class folders, one image in this many of each class is held out.
const VALIDATION_SHARE: usize = 5;

/// Opens a folder of class folders, or one with parts, such as `train` and `val`, that have class folders.
pub(super) fn open(root: &Path, seed: u64) -> Result<Data> {
    let Found { root, layout, mut beside } = Found::at(root, &|_| false)?;
    match layout {
        Layout::Classes => {
            let classes = beside.classes(&root, &|_| false)?;
            Ok(Data { beside, ..split(classes, seed)? })
        }
        Layout::Parts(parts) => join(&root, &parts, beside),
    }
}

/// The training part and the part that validates it.
fn join(root: &Path, parts: &Parts, mut beside: Beside) -> Result<Data> {
    let [train, validation] = parts.for_training(root)?;
    let [training, validating] = [train, validation].map(|part| beside.classes(&root.join(part), &|_| false));
    let (training, validating) = (training?, validating?);
    let labels = training.labels()?;
    let label = |name: &String| labels.binary_search(name).ok();
    if let Some(class) = validating.classes.iter().find(|class| label(&class.name).is_none()) {
        let place = validating.root.join(&class.name);
        let problem = expected(format_args!("a class of the {train} folder")).found("a new one");
        return Err(Error::format(place.display(), problem));
    }
    if !parts.has_validation() {
        beside.remarks.push(format!("there is no validation part; {validation} chooses the best epoch"));
    }
    let missing: Vec<String> =
        labels.iter().filter(|&name| !validating.classes.iter().any(|class| class.name == *name)).cloned().collect();
    if !missing.is_empty() {
        beside.remarks.push(format!("{validation} has no images of {}", listed(&missing)));
    }
    let files = validating.classes.into_iter().map(|class| (label(&class.name).expect("checked above"), class.files));
    Ok(Data {
        validation: dataset(&validating.root, files),
        split: Split::Parts { train: train.to_owned(), validation: validation.to_owned() },
        train: training.dataset(),
        labels,
        side: None,
        beside,
    })
}

/// Holds out a fifth of each class for validation, rounded to at least one image. At least one image remains for training.
pub(super) fn split(classes: Classes, seed: u64) -> Result<Data> {
    let labels = classes.labels()?;
    let Classes { root, classes, .. } = classes;
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
    Ok(Data {
        train: dataset(&root, training),
        validation: dataset(&root, validation),
        labels,
        side: None,
        split: Split::HeldOut { one_in: VALIDATION_SHARE, seed },
        beside: Beside::default(),
    })
}

#[cfg(test)]
pub(super) mod tests;

//! What a folder holds: the parts of a data set, or classes; also within a folder that only wraps them, as archives do.

use std::path::{Path, PathBuf};

use repvgg::Result;

use super::{
    Beside,
    classes::{Classes, Entries},
    listed,
    parts::{Layout, Parts, speaks_of_a_part},
};

/// The most folders around a data set that are looked through.
const DEPTH: usize = 4;

/// A data set in a folder.
pub(super) struct Found {
    pub(super) root: PathBuf,
    pub(super) layout: Layout,
    /// What lies around the classes or parts. [`Beside::classes`] adds what lies within.
    pub(super) beside: Beside,
}

impl Found {
    /// Finds the data set in `root`. A folder is not looked through if it `is_class`.
    pub(super) fn at(root: &Path, is_class: &dyn Fn(&str) -> bool) -> Result<Self> {
        let entries = Entries::read(root)?;
        let layout = Layout::of(root, &entries.folders)?;
        if layout == Layout::Classes
            && let Some(inner) = wrapped(root, is_class)?
        {
            let mut found = Self::at(&inner, is_class)?;
            found.beside.passed_over.merge(entries.passed_over);
            found.beside.remarks.push(format!("the data set is that in {}", inner.display()));
            return Ok(found);
        }
        let mut beside = Beside::default();
        if let Layout::Parts(Parts { others, .. }) = &layout {
            beside.passed_over = entries.passed_over;
            if !others.is_empty() {
                beside.remarks.push(format!("folders beside the parts are not read: {}", listed(others)));
            }
        }
        Ok(Self { root: root.to_owned(), layout, beside })
    }
}

impl Beside {
    /// The class folders of `root`, or of the one folder in it that wraps them. Adds what lies beside their images.
    pub(super) fn classes(&mut self, root: &Path, is_class: &dyn Fn(&str) -> bool) -> Result<Classes> {
        let inner = wrapped(root, is_class)?;
        if inner.is_some() {
            self.passed_over.merge(Entries::read(root)?.passed_over);
        }
        let classes = Classes::read(inner.as_deref().unwrap_or(root))?;
        self.passed_over.merge(classes.passed_over.clone());
        self.remarks.extend(inner.map(|inner| format!("the classes are the folders in {}", inner.display())));
        let common = classes.common_folders();
        if !common.is_empty() {
            let remark = format!("every class has folders called {}, whose images are read together", listed(&common));
            self.remarks.push(remark);
        }
        Ok(classes)
    }
}

/// The names of the class folders that [`Beside::classes`] reads.
pub(super) fn class_names(root: &Path, is_class: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let inner = wrapped(root, is_class)?;
    Ok(Entries::read(inner.as_deref().unwrap_or(root))?.folders)
}

/// The folder that alone fills `root`, itself or through others like it, and that has several folders, or any if it only repeats
/// a name, and no images.
///
/// A name that speaks of a part says more than that, unless it is only repeated, as in `seg_train/seg_train`.
fn wrapped(root: &Path, is_class: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let mut root = root.to_owned();
    for _ in 0..DEPTH {
        let entries = Entries::read(&root)?;
        let [only] = entries.folders.as_slice() else { return Ok(None) };
        let is_repeated = root.file_name().is_some_and(|name| name == only.as_str());
        if entries.images > 0 || is_class(only) || (speaks_of_a_part(only) && !is_repeated) {
            return Ok(None);
        }
        root.push(only);
        let inner = Entries::read(&root)?;
        if inner.images == 0 && inner.folders.len() > usize::from(!is_repeated) {
            return Ok(Some(root));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Split, folder::tests::tree};

    fn remarks(root: &Path) -> Vec<String> {
        data::open(root, 0).unwrap().beside.remarks
    }

    #[test]
    fn folders_around_a_data_set_are_looked_through() {
        let root = tree(&["archive/set/a/1.png", "archive/set/a/2.png", "archive/set/b/3.png", "archive/set/b/4.png"]);
        std::fs::write(root.path().join("readme.md"), "").unwrap();
        let data = data::open(root.path(), 0).unwrap();
        assert_eq!(data.labels, ["a", "b"]);
        let inner = root.path().join("archive/set");
        assert_eq!(data.fingerprint().unwrap(), data::open(&inner, 0).unwrap().fingerprint().unwrap());
        let sentences: Vec<String> = data.beside.sentences().collect();
        assert_eq!(
            sentences,
            ["1 file was passed over: 1 .md".to_owned(), format!("the data set is that in {}", inner.display())]
        );

        let root = tree(&["x/Train/a/1.png", "x/Train/b/2.png", "x/Valid/a/3.png"]);
        let data = data::open(root.path(), 0).unwrap();
        assert_eq!(data.split, Split::Parts { train: "Train".to_owned(), validation: "Valid".to_owned() });

        let root = tree(&[
            "seg_train/seg_train/a/1.png",
            "seg_train/seg_train/b/2.png",
            "seg_test/seg_test/a/3.png",
            "seg_test/seg_test/b/4.png",
        ]);
        let data = data::open(root.path(), 0).unwrap();
        assert_eq!((data.labels.as_slice(), data.validation.len()), (["a".to_owned(), "b".to_owned()].as_slice(), 2));
    }

    #[test]
    fn one_class_or_one_part_is_not_looked_through() {
        let error = |paths: &[&str]| data::open(tree(paths).path(), 0).err().unwrap().to_string();
        assert!(error(&["only/a.png", "only/b.png"]).ends_with(": expected at least two classes, found only \"only\""));
        assert!(error(&["old_train/a/1.png", "old_train/b/1.png"]).contains("found only \"old_train\""));
        assert!(error(&["test/a/1.png", "test/b/1.png"]).contains("expected one of train, training next to test"));
        assert!(error(&["cat/old/1.png"]).contains("found only \"cat\""));
    }

    #[test]
    fn folders_that_every_class_has_are_reported() {
        let root = tree(&["a/test/1.png", "a/train/2.png", "b/test/3.png", "b/train/4.png", "b/other/5.png"]);
        assert_eq!(
            remarks(root.path()),
            ["every class has folders called test, train, whose images are read together"]
        );
        let root = tree(&["a/one/1.png", "a/2.png", "b/two/3.png", "b/4.png"]);
        assert!(remarks(root.path()).is_empty());
    }
}

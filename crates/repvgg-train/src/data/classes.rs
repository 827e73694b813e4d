//! Folders of images, one for each class.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use repvgg::error::expected;
use repvgg::image::{self, Listing, PassedOver, RgbImage};
use repvgg::{Error, Result};

use super::{Dataset, Fingerprint};

/// The class folders under a root, sorted by name, each with at least one image.
#[derive(Debug, Clone)]
pub(super) struct Classes {
    pub(super) root: PathBuf,
    pub(super) classes: Vec<Class>,
    /// Files that are no images, and images outside the class folders.
    pub(super) passed_over: PassedOver,
}

/// A class folder.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) name: String,
    /// Sorted paths under the root.
    pub(super) files: Vec<PathBuf>,
}

/// The entries of a folder, without those whose names begin with a dot.
pub(super) struct Entries {
    /// The names of the folders, sorted.
    pub(super) folders: Vec<String>,
    /// The number of images outside the folders.
    pub(super) images: usize,
    /// All files, as kinds that are not read.
    pub(super) passed_over: PassedOver,
}

impl Entries {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let refuse = |error| Error::io(root.display(), error);
        let mut entries = Self { folders: Vec::new(), images: 0, passed_over: PassedOver::default() };
        for entry in fs::read_dir(root).map_err(refuse)? {
            let path = entry.map_err(refuse)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(Error::format(path.display(), expected("a UTF-8 name").found("other bytes")));
            };
            if image::is_hidden(name) {
                continue;
            }
            if path.is_dir() {
                entries.folders.push(name.to_owned());
            } else {
                let kind = PassedOver::kind(&path);
                let is_image = image::is_image(&path);
                entries.images += usize::from(is_image);
                entries.passed_over.add(if is_image { format!("{kind} outside the class folders") } else { kind });
            }
        }
        entries.folders.sort();
        Ok(entries)
    }
}

impl Classes {
    /// Reads the class folders of `root`.
    ///
    /// # Errors
    /// When there is none, or one of them has no image.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let Entries { folders, mut passed_over, .. } = Entries::read(root)?;
        if folders.is_empty() {
            let problem = expected("a folder for each class").found("none");
            let problem = if passed_over.is_empty() { problem } else { problem.with_hint(&passed_over) };
            return Err(Error::format(root.display(), problem));
        }
        let mut classes = Vec::with_capacity(folders.len());
        for name in folders {
            let folder = root.join(&name);
            let listing = image::list(&folder)?;
            if listing.files.is_empty() {
                return Err(Error::format(folder.display(), listing.no_images("images of this class")));
            }
            let Listing { mut files, passed_over: others } = listing;
            for file in &mut files {
                *file = file.strip_prefix(root).expect("listed under the root").to_owned();
            }
            passed_over.merge(others);
            classes.push(Class { name, files });
        }
        Ok(Self { root: root.to_owned(), classes, passed_over })
    }

    /// The names of the classes.
    pub(super) fn names(&self) -> Vec<String> {
        self.classes.iter().map(|class| class.name.clone()).collect()
    }

    /// The names of folders that every class folder has, if there are several classes.
    pub(super) fn common_folders(&self) -> Vec<String> {
        let folders = |class: &Class| -> BTreeSet<String> {
            // The class, a folder and more.
            let deep = class.files.iter().filter(|file| file.components().count() > 2);
            deep.filter_map(|file| Some(file.components().nth(1)?.as_os_str().to_string_lossy().into_owned())).collect()
        };
        let [first, others @ ..] = self.classes.as_slice() else { return Vec::new() };
        let mut common = if others.is_empty() { BTreeSet::new() } else { folders(first) };
        for class in others {
            if common.is_empty() {
                break;
            }
            let found = folders(class);
            common.retain(|name| found.contains(name));
        }
        common.into_iter().collect()
    }

    /// The names of the classes, of which training needs at least two.
    pub(super) fn labels(&self) -> Result<Vec<String>> {
        match self.classes.as_slice() {
            [class] => {
                let problem = expected("at least two classes").found(format_args!("only {:?}", class.name));
                Err(Error::format(self.root.display(), problem))
            }
            _ => Ok(self.names()),
        }
    }

    /// All images, labelled by the index of their class.
    pub(super) fn dataset(self) -> Arc<dyn Dataset> {
        dataset(&self.root, self.classes.into_iter().map(|class| class.files).enumerate())
    }
}

/// The `files` of each label, as paths under `root`.
pub(super) fn dataset(root: &Path, classes: impl IntoIterator<Item = (usize, Vec<PathBuf>)>) -> Arc<dyn Dataset> {
    let files = classes.into_iter().flat_map(|(label, files)| files.into_iter().map(move |file| (file, label)));
    Arc::new(ImageFolder { root: root.to_owned(), files: files.collect() })
}

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

    fn file(&self, index: usize) -> Option<PathBuf> {
        Some(self.root.join(&self.files[index].0))
    }

    fn identify(&self, fingerprint: &mut Fingerprint) -> Result<()> {
        for (file, label) in &self.files {
            let path = self.root.join(file);
            // Decoding reports a file that cannot be read, such as a link to nothing, unless unreadable images are skipped.
            let size = fs::metadata(&path).map_or(u64::MAX, |metadata| metadata.len());
            fingerprint.text(&file.to_string_lossy());
            fingerprint.number(size);
            fingerprint.number(*label as u64);
        }
        Ok(())
    }
}

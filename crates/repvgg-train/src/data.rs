//! Labelled images: data sets, and the loader that feeds them to the network.
//!
//! ```text
//! open ──► Data { train, validation: Dataset } ──Loader──► LoadedBatch { images [N, C, S, S], labels [N] }
//!            folder · CIFAR-10 · shapes            (decode, augment, normalise on worker threads)
//! ```
//!
//! ```
//! use repvgg_train::data;
//!
//! let data = data::open("shapes", 0)?;
//! let image = data.train.image(7)?;
//! println!("{}: {}x{} pixels", data.labels[data.train.label(7)], image.width(), image.height());
//! assert_eq!(data.side, Some(32));
//! # Ok::<(), repvgg::Error>(())
//! ```

mod cached;
mod cifar;
mod classes;
mod folder;
mod layout;
mod loader;
mod matching;
mod oriented;
mod parts;
pub(crate) mod random;
pub mod shapes;
mod test_set;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use repvgg::error::expected;
use repvgg::{
    Error, Result,
    image::{Orientation, PassedOver, RgbImage},
};
use serde::{Deserialize, Serialize};

pub use cached::Cached;
pub use loader::{LoadedBatch, Loader, LoaderSettings, Unreadable};
pub use oriented::Oriented;
pub use shapes::Shapes;
pub use test_set::TestSet;

/// The name by which [`open`] opens the built-in images.
pub const BUILT_IN: &str = "shapes";

/// Labelled images, accessed by index.
pub trait Dataset: Send + Sync {
    /// The number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of image `index`, as an index into [`Data::labels`].
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len). The same holds for the other methods.
    fn label(&self, index: usize) -> usize;

    /// Image `index`. Every call returns the same pixels.
    ///
    /// # Errors
    /// When the file cannot be read or decoded. The error names it.
    fn image(&self, index: usize) -> Result<RgbImage>;

    /// The place of image `index`, for messages.
    fn place(&self, index: usize) -> String;

    /// The file of image `index`, if it has one of its own.
    fn file(&self, _index: usize) -> Option<PathBuf> {
        None
    }

    /// A sentence about the damaged images that were read so far; none if there are none.
    fn warning(&self) -> Option<String> {
        None
    }

    /// Adds the identity of all images and labels to `fingerprint`, without decoding the images of files.
    ///
    /// # Errors
    /// When an image without a file of its own cannot be made.
    fn identify(&self, fingerprint: &mut Fingerprint) -> Result<()>;
}

/// A labelled data set, split into training and validation images.
#[derive(Clone)]
pub struct Data {
    /// The name of each class.
    pub labels: Vec<String>,
    /// The training images.
    pub train: Arc<dyn Dataset>,
    /// The validation images.
    pub validation: Arc<dyn Dataset>,
    /// The side of the images in pixels, if all of them are squares of one size.
    pub side: Option<usize>,
    /// How the images are divided into training and validation images.
    pub split: Split,
    /// What lies beside the images.
    pub beside: Beside,
}

/// How a data set is divided into training and validation images. Model files keep it in the record of their training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub enum Split {
    /// The data set has two parts, with these names.
    Parts {
        /// The part to train on.
        train: String,
        /// The part to validate on.
        validation: String,
    },
    /// Some images of each class, at least one, are held out for validation.
    HeldOut {
        /// One image in this many is held out.
        one_in: usize,
        /// The seed that chooses them.
        seed: u64,
    },
}

/// What a folder holds beside the images of a data set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// Files that are no images, and images outside the class folders.
    pub passed_over: PassedOver,
    /// Sentences about folders that are not read, and about parts that lack classes.
    pub remarks: Vec<String>,
}

impl Beside {
    /// All of it in sentences.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let passed_over = (!self.passed_over.is_empty()).then(|| self.passed_over.to_string());
        passed_over.into_iter().chain(self.remarks.iter().cloned())
    }
}

impl Data {
    /// The same data set, whose image files are read with this orientation. Its parts tell of damaged images
    /// ([`Dataset::warning`]).
    #[must_use]
    pub fn with_orientation(self, orientation: Orientation) -> Self {
        let [train, validation] = [self.train, self.validation]
            .map(|part| -> Arc<dyn Dataset> { Arc::new(Oriented::new(part, orientation)) });
        Self { train, validation, ..self }
    }

    /// A hash that changes with the classes and with every image's name, size in bytes and label. A resumed run compares it.
    ///
    /// # Errors
    /// When an image without a file of its own cannot be made.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut fingerprint = Fingerprint::default();
        for label in &self.labels {
            fingerprint.text(label);
        }
        for part in [&self.train, &self.validation] {
            fingerprint.number(part.len() as u64);
            part.identify(&mut fingerprint)?;
        }
        Ok(fingerprint.value())
    }
}

/// A 64-bit FNV-1a hasher (Fowler, Noll, Vo). Unlike the standard library's, its hashes are the same on every machine and release.
#[derive(Debug, Clone)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Hashes bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Hashes a number as eight bytes in little-endian order.
    pub fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Hashes a text after its length, so that neighbouring texts do not run together.
    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    /// The hash of everything so far.
    pub fn value(&self) -> u64 {
        self.0
    }
}

/// Opens the data set at `place`.
///
/// * `shapes`: the built-in images ([`Shapes`]). Write `./shapes` for a folder of that name.
/// * A folder with the CIFAR-10 binary batches, or with a subfolder `cifar-10-batches-bin` that has them.
/// * A folder with `train/<class>/…` and `val/<class>/…`. Other names of these parts are recognised in any case: `training`,
///   `train_set`, `seg_train`; `valid`, `validation`, and, if there is none of these, `test` or `testing`.
/// * A folder of class folders. A fifth of each class, at least one image, is held out for validation, chosen by `seed`.
///
/// A class folder may have subfolders. Classes are sorted by name.
///
/// # Errors
/// When there is no such data set, a part of it is missing, or a class folder has the name of a part. The error names the part
/// and its place.
pub fn open(place: impl AsRef<Path>, seed: u64) -> Result<Data> {
    match Place::find(place.as_ref())? {
        Place::Complete(data) => Ok(*data),
        Place::Folder(path) => folder::open(path, seed),
    }
}

/// A place where a data set may be.
enum Place<'a> {
    /// A data set of known classes and parts.
    Complete(Box<Data>),
    /// A folder of images.
    Folder(&'a Path),
}

impl<'a> Place<'a> {
    fn find(path: &'a Path) -> Result<Self> {
        if path == Path::new(BUILT_IN) {
            return Ok(Self::Complete(Box::new(shapes::built_in())));
        }
        let metadata = std::fs::metadata(path).map_err(|error| Error::io(path.display(), error))?;
        if !metadata.is_dir() {
            let problem = expected(format_args!("a folder of images or `{BUILT_IN}`")).found("a file");
            return Err(Error::format(path.display(), problem));
        }
        let cifar = cifar::open(path)?;
        Ok(cifar.map_or(Self::Folder(path), |data| Self::Complete(Box::new(data))))
    }
}

/// The most names that a sentence lists.
const LISTED: usize = 4;

/// The first names of a list and the number of the others.
fn listed(names: &[String]) -> String {
    let first = names[..names.len().min(LISTED)].join(", ");
    match names.len().saturating_sub(LISTED) {
        0 if names.is_empty() => "none".to_owned(),
        0 => first,
        1 => format!("{first} and 1 other"),
        others => format!("{first} and {others} others"),
    }
}

#[cfg(test)]
mod tests;

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
mod folder;
mod loader;
pub(crate) mod random;
pub mod shapes;

use std::{path::Path, sync::Arc};

use repvgg::classify::Outputs;
use repvgg::error::expected;
use repvgg::{Error, Model, Result, image::RgbImage};

pub use cached::Cached;
pub use loader::{LoadedBatch, Loader, LoaderSettings, Unreadable};
pub use shapes::Shapes;

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

    /// Adds the identity of all images and labels to `fingerprint`, without decoding the images.
    ///
    /// # Errors
    /// When a file's size cannot be read.
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
}

impl Data {
    /// A hash that changes with the classes and with every image's name, size in bytes and label. A resumed run compares it.
    ///
    /// # Errors
    /// When a file's size cannot be read.
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

    /// Checks that the data set has the classes of `model`: the same number and, if the model has labels, the same names.
    ///
    /// # Errors
    /// When they differ.
    pub fn check_labels(&self, model: &Model) -> Result<()> {
        let (classes, labels) = (Outputs::of(model.graph()).classes(model.classes()), &self.labels);
        if labels.len() != classes {
            let problem = expected(format_args!("the model's {classes} classes")).found(labels.len());
            return Err(Error::shape("labels", problem));
        }
        match model.labels.iter().zip(labels).find(|(known, found)| known != found) {
            Some((known, found)) => {
                Err(Error::format("labels", expected(format_args!("the model's class {known}")).found(found)))
            }
            None => Ok(()),
        }
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
/// * A folder with `train/<class>/…` and `val/<class>/…` (or `valid`, `validation`, `test`).
/// * A folder of class folders. A fifth of each class, at least one image, is held out for validation, chosen by `seed`.
///
/// A class folder may have subfolders. Classes are sorted by name.
///
/// # Errors
/// When there is no such data set or a part of it is missing. The error names the missing part and its place.
pub fn open(place: impl AsRef<Path>, seed: u64) -> Result<Data> {
    let path = place.as_ref();
    if path == Path::new(BUILT_IN) {
        return Ok(shapes::built_in());
    }
    let metadata = std::fs::metadata(path).map_err(|error| Error::io(path.display(), error))?;
    if !metadata.is_dir() {
        return Err(Error::format(
            path.display(),
            expected(format_args!("a folder of images or `{BUILT_IN}`")).found("a file"),
        ));
    }
    match cifar::open(path)? {
        Some(data) => Ok(data),
        None => folder::open(path, seed),
    }
}

#[cfg(test)]
mod tests;

//! Labelled images: where they come from, and their way to the network.
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

use repvgg::error::expected;
use repvgg::{Error, Model, Result, image::RgbImage};

pub use cached::Cached;
pub use loader::{LoadedBatch, Loader, LoaderSettings, Unreadable};
pub use shapes::Shapes;

/// The name under which [`open`] knows the built-in images.
pub const BUILT_IN: &str = "shapes";

/// Labelled images by index.
pub trait Dataset: Send + Sync {
    /// The number of images.
    fn len(&self) -> usize;

    /// Whether there is no image.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of image `index`, as an index into [`Data::labels`].
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len); so for the others.
    fn label(&self, index: usize) -> usize;

    /// Image `index`, the same at every call.
    ///
    /// # Errors
    /// When the file cannot be read or decoded; the error names it.
    fn image(&self, index: usize) -> Result<RgbImage>;

    /// Where image `index` is, for people.
    fn place(&self, index: usize) -> String;

    /// Feeds what identifies the images and their labels to `print`, without decoding them.
    ///
    /// # Errors
    /// When a file's size cannot be read.
    fn identify(&self, print: &mut Fingerprint) -> Result<()>;
}

/// A labelled data set in two parts.
#[derive(Clone)]
pub struct Data {
    /// The name of each class.
    pub labels: Vec<String>,
    /// What the network learns from.
    pub train: Arc<dyn Dataset>,
    /// What it is judged on.
    pub validation: Arc<dyn Dataset>,
    /// The side in pixels, where all images are squares of one size.
    pub side: Option<usize>,
}

impl Data {
    /// A number that changes when a class, an image's name, its size in bytes or its label does: a resumed run compares it.
    ///
    /// # Errors
    /// When a file's size cannot be read.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut print = Fingerprint::default();
        for label in &self.labels {
            print.text(label);
        }
        for part in [&self.train, &self.validation] {
            print.number(part.len() as u64);
            part.identify(&mut print)?;
        }
        Ok(print.value())
    }

    /// Checks that the classes are those of `model`: as many, and of the same names where the model has labels.
    ///
    /// # Errors
    /// When they differ.
    pub fn check_labels(&self, model: &Model) -> Result<()> {
        let (classes, labels) = (model.classes(), &self.labels);
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

/// The 64-bit FNV-1a hash of what was fed to it (Fowler, Noll, Vo; the same on every machine and release).
#[derive(Debug, Clone)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Feeds bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Feeds a number as eight bytes, the least first.
    pub fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Feeds a text and its length, so that neighbours do not run together.
    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    /// The hash of all that was fed.
    pub fn value(&self) -> u64 {
        self.0
    }
}

/// Opens the data set at `place`.
///
/// * `shapes`: the built-in images ([`Shapes`]); a folder of that name is `./shapes`.
/// * A folder with the CIFAR-10 binary batches, or with their `cifar-10-batches-bin` in it.
/// * A folder with `train/<class>/…` and `val/<class>/…` (or `valid`, `validation`, `test`).
/// * A folder of class folders: a fifth of each class, at least one image, chosen by `seed`, is for validation.
///
/// Images of a class may lie in folders of their own; classes are sorted by name.
///
/// # Errors
/// When there is no such data set, or it is not whole; the sentence says what is missing where.
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

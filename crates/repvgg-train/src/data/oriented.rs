//! Image files read with a chosen orientation, and a list of those that are damaged.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use repvgg::{
    Result,
    image::{self, Orientation, RgbImage},
};

use super::{Dataset, Fingerprint};

/// A data set whose images are read from their files with the given orientation. It remembers what was guessed in damaged files.
pub struct Oriented {
    dataset: Arc<dyn Dataset>,
    orientation: Orientation,
    damaged: Mutex<BTreeMap<usize, String>>,
}

impl Oriented {
    /// Reads the files of `dataset` with this orientation. Images without files stay as they are.
    pub fn new(dataset: Arc<dyn Dataset>, orientation: Orientation) -> Self {
        Self { dataset, orientation, damaged: Mutex::default() }
    }
}

impl Dataset for Oriented {
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn label(&self, index: usize) -> usize {
        self.dataset.label(index)
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        let Some(path) = self.dataset.file(index) else { return self.dataset.image(index) };
        let decoded = image::read(path, self.orientation)?;
        if let Some(warning) = decoded.warning {
            self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(index, warning);
        }
        Ok(decoded.image)
    }

    fn place(&self, index: usize) -> String {
        self.dataset.place(index)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        self.dataset.file(index)
    }

    fn warning(&self) -> Option<String> {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, what) = damaged.first_key_value()?;
        let others = match damaged.len() - 1 {
            0 => String::new(),
            1 => " (and 1 other image)".to_owned(),
            others => format!(" (and {others} other images)"),
        };
        Some(format!("{}: {what}{others}", self.dataset.place(*index)))
    }

    fn identify(&self, fingerprint: &mut Fingerprint) -> Result<()> {
        self.dataset.identify(fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// `oriented.png` is stored as 16 × 12 pixels and upright as 12 × 16.
    #[test]
    fn files_are_read_upright_or_as_stored_and_damage_is_remembered() {
        let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/../repvgg/tests/data/images");
        let root = tempfile::tempdir().unwrap();
        for (class, name) in [("a", "oriented.png"), ("a", "ended-early.jpg"), ("b", "rgb.png"), ("b", "rgb.jpg")] {
            fs::create_dir_all(root.path().join(class)).unwrap();
            fs::copy(format!("{stored}/{name}"), root.path().join(class).join(name)).unwrap();
        }
        let data = super::super::open(root.path(), 0).unwrap();
        let mut sides = Vec::new();
        let mut warnings = Vec::new();
        for part in [data.train, data.validation] {
            for (orientation, expected) in [(Orientation::Upright, (12, 16)), (Orientation::Stored, (16, 12))] {
                let oriented = Oriented::new(part.clone(), orientation);
                for index in 0..oriented.len() {
                    let image = oriented.image(index).unwrap();
                    if oriented.place(index).ends_with("oriented.png") {
                        assert_eq!(image.dimensions(), expected);
                        sides.push(expected);
                    }
                }
                warnings.extend(oriented.warning());
            }
        }
        assert_eq!(sides, [(12, 16), (16, 12)]);
        assert_eq!(warnings.len(), 2);
        let place = root.path().join("a/ended-early.jpg");
        let what = "the JPEG data are damaged, so pixels below row 14 of 27 are guessed";
        assert_eq!(warnings[0], format!("{}: {what}", place.display()));
    }
}

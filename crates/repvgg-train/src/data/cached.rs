//! Decoded images kept in memory.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use repvgg::{
    Result,
    image::{Interpolation, PixelRect, RgbImage, resize},
};

use super::{Dataset, Fingerprint};

/// A data set that decodes each image once, shrinks it, and caches it within a memory budget.
///
/// Every image is shrunk, cached or not, so the network's input depends on neither the budget nor the order of access. Use it for
/// training only: evaluation must resize once, as prediction does.
pub struct Cached {
    dataset: Arc<dyn Dataset>,
    images: Vec<OnceLock<RgbImage>>,
    short_side: u32,
    /// The part of the budget that is left, in bytes.
    remaining: AtomicUsize,
}

impl Cached {
    /// Caches up to `budget` bytes of the images of `dataset`, each shrunk to a short side of at most `short_side` pixels.
    ///
    /// Twice the side of the network's input is a good short side: a random view then rarely has to be enlarged.
    ///
    /// # Panics
    /// When `short_side` is zero.
    pub fn new(dataset: Arc<dyn Dataset>, short_side: u32, budget: usize) -> Self {
        assert!(short_side > 0, "expected a short side of at least one pixel, found 0");
        let images = (0..dataset.len()).map(|_| OnceLock::new()).collect();
        Self { dataset, images, short_side, remaining: AtomicUsize::new(budget) }
    }

    /// Takes `bytes` from the remaining budget; false if it is too small.
    fn reserve(&self, bytes: usize) -> bool {
        let take = |remaining: usize| remaining.checked_sub(bytes);
        self.remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

impl Dataset for Cached {
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn label(&self, index: usize) -> usize {
        self.dataset.label(index)
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        if let Some(image) = self.images[index].get() {
            return Ok(image.clone());
        }
        let image = shrink(self.dataset.image(index)?, self.short_side);
        if self.reserve(image.as_raw().len()) {
            // An error means that another thread has stored the same pixels first.
            let _ = self.images[index].set(image.clone());
        }
        Ok(image)
    }

    fn place(&self, index: usize) -> String {
        self.dataset.place(index)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        self.dataset.file(index)
    }

    fn identify(&self, fingerprint: &mut Fingerprint) -> Result<()> {
        self.dataset.identify(fingerprint)
    }
}

/// Shrinks a larger image to the given short side.
fn shrink(image: RgbImage, short_side: u32) -> RgbImage {
    let (width, height) = image.dimensions();
    let short = width.min(height);
    if short <= short_side {
        return image;
    }
    let scaled = |length: u32| (u64::from(length) * u64::from(short_side) / u64::from(short)) as u32;
    resize(&image, PixelRect::whole(&image), [scaled(width), scaled(height)], Interpolation::Bilinear)
}

#[cfg(test)]
mod tests {
    use super::{super::Shapes, *};
    use crate::data::shapes::Part;

    #[test]
    fn the_budget_does_not_change_the_images() {
        let shapes = Arc::new(Shapes { part: Part::Train, count: 6, side: 40, seed: 1 });
        let none = Cached::new(shapes.clone(), 20, 0);
        let some = Cached::new(shapes.clone(), 20, 2 * 20 * 20 * 3);
        for index in [3, 1, 2, 3, 1, 2] {
            let image = none.image(index).unwrap();
            assert_eq!(image.dimensions(), (20, 20));
            assert_eq!(image, some.image(index).unwrap());
        }
        assert_eq!(some.images.iter().filter(|image| image.get().is_some()).count(), 2);
        assert!(none.images.iter().all(|image| image.get().is_none()));
        let large = Cached::new(shapes.clone(), 64, usize::MAX);
        assert_eq!(large.image(0).unwrap(), shapes.image(0).unwrap());
    }

    #[test]
    fn shrinking_preserves_the_aspect_ratio() {
        assert_eq!(shrink(RgbImage::new(100, 50), 25).dimensions(), (50, 25));
        assert_eq!(shrink(RgbImage::new(3, 1000), 2).dimensions(), (2, 666));
    }
}

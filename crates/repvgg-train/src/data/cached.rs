//! Decoded images kept in memory.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use repvgg::{
    Result,
    image::{Interpolation, PixelRect, RgbImage, resize},
};

use super::{Dataset, Fingerprint};

/// A data set whose images are decoded once, shrunk to a short side, and kept while there is room.
///
/// Every image is shrunk, kept or not, so what the network sees depends on neither the room nor the order of visits. It is for training
/// only: evaluation must resize once, as prediction does.
pub struct Cached {
    dataset: Arc<dyn Dataset>,
    images: Vec<OnceLock<RgbImage>>,
    short_side: u32,
    room: AtomicUsize,
}

impl Cached {
    /// Keeps up to `room` bytes of the images of `dataset`, none with a short side above `short_side` pixels.
    ///
    /// Twice the network's input is a good short side: a random view then seldom has to be enlarged.
    ///
    /// # Panics
    /// When `short_side` is zero.
    pub fn new(dataset: Arc<dyn Dataset>, short_side: u32, room: usize) -> Self {
        assert!(short_side > 0, "a short side of at least one pixel");
        let images = (0..dataset.len()).map(|_| OnceLock::new()).collect();
        Self { dataset, images, short_side, room: AtomicUsize::new(room) }
    }

    /// Takes `bytes` of the room, if there are as many.
    fn reserve(&self, bytes: usize) -> bool {
        let take = |room: usize| room.checked_sub(bytes);
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
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
            // Another thread may have been first with the same pixels.
            let _ = self.images[index].set(image.clone());
        }
        Ok(image)
    }

    fn place(&self, index: usize) -> String {
        self.dataset.place(index)
    }

    fn identify(&self, print: &mut Fingerprint) -> Result<()> {
        self.dataset.identify(print)
    }
}

/// The image itself, or smaller with the given short side.
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
    fn the_room_changes_nothing_but_speed() {
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
    fn the_long_side_keeps_its_proportion() {
        assert_eq!(shrink(RgbImage::new(100, 50), 25).dimensions(), (50, 25));
        assert_eq!(shrink(RgbImage::new(3, 1000), 2).dimensions(), (2, 666));
    }
}

//! The evaluation transform, from an image to the network's input.

use ::image::RgbImage;
use serde::{Deserialize, Serialize};

use super::resize::{Interpolation, resize_crop};
use crate::error::{Problem, expected};
use crate::{Error, Result, Tensor};

/// The transform from an image to a network's input `[C, H, W]`. It resizes the image, in proportion, to the least size that covers
/// `⌊size / crop_fraction⌋`, crops the centre of `size`, and normalises each channel to `(value / 255 − mean) / std`.
///
/// Equal to timm's evaluation transform, and to torchvision's `Resize`, `CenterCrop`, `ToTensor`, `Normalize` on Pillow images.
/// `mean` and `std` have three entries (RGB) or one (the Rec. 601 luma of the cropped image).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// `[H, W]` of the network's input, in pixels. Serialised as one number if they are equal.
    #[serde(with = "sides")]
    pub size: [usize; 2],
    /// The side of the crop divided by the short side of the resized image, in (0, 1].
    pub crop_fraction: f32,
    /// The resampling filter.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// The mean of each channel, for values from 0 to 1.
    pub mean: Vec<f32>,
    /// The standard deviation of each channel, for values from 0 to 1.
    pub std: Vec<f32>,
}

/// The usual preprocessing for ImageNet: 224 pixels out of 256, bilinear, ImageNet's mean and deviation.
impl Default for Preprocessing {
    fn default() -> Self {
        Self {
            size: [224; 2],
            crop_fraction: 0.875,
            interpolation: Interpolation::Bilinear,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        }
    }
}

/// The largest side of an input: no allowed setting makes an allocation overflow.
const MAX_SIZE: usize = 1 << 13;

impl Preprocessing {
    /// The usual preprocessing for inputs of `size`: ImageNet's mean and deviation, and its crop for inputs of at least 128 pixels.
    /// Networks for smaller images are trained on whole images.
    pub fn usual(size: [usize; 2]) -> Self {
        const SMALL: usize = 128;
        let usual = Self::default();
        let crop_fraction = if size.iter().any(|&side| side < SMALL) { 1.0 } else { usual.crop_fraction };
        Self { size, crop_fraction, ..usual }
    }

    /// The same preprocessing for a network that reads `channels`: for one channel, three entries become their mean.
    #[must_use]
    pub fn for_channels(mut self, channels: usize) -> Self {
        if channels == 1 && self.mean.len() == 3 {
            let average = |values: &[f32]| vec![values.iter().sum::<f32>() / 3.0];
            (self.mean, self.std) = (average(&self.mean), average(&self.std));
        }
        self
    }

    /// Checks that the transform produces the `channels` that a network reads.
    ///
    /// # Errors
    /// When the numbers of channels differ.
    pub fn check_channels(&self, channels: usize) -> Result<()> {
        if self.channels() == channels {
            return Ok(());
        }
        let what = expected(format_args!("means for the network's {channels} channels"))
            .found(format_args!("{}", self.channels()));
        Err(Error::shape("preprocessing", what))
    }

    /// Checks that the settings are valid; call this once on settings from a file.
    ///
    /// # Errors
    /// When the size is zero or above 8192, the crop fraction is outside (0, 1], or `mean` and `std` do not have one or three
    /// finite entries each, with deviations above zero.
    pub fn check(&self) -> Result<()> {
        let refuse = |problem: Problem| Err(Error::spec("preprocessing", problem));
        if let Some(side) = self.size.iter().find(|side| !(1..=MAX_SIZE).contains(*side)) {
            return refuse(expected(format_args!("a size of 1 to {MAX_SIZE}")).found(side));
        }
        if !(self.crop_fraction > 0.0 && self.crop_fraction <= 1.0) {
            return refuse(expected("a crop fraction above 0 and at most 1").found(self.crop_fraction));
        }
        if !matches!(self.mean.len(), 1 | 3) || self.mean.len() != self.std.len() {
            let (mean, std) = (self.mean.len(), self.std.len());
            return refuse(
                expected("1 or 3 means and the same number of deviations").found(format_args!("{mean} and {std}")),
            );
        }
        let finite = self.mean.iter().all(|mean| mean.is_finite());
        if !finite || !self.std.iter().all(|&std| std.is_finite() && std > 0.0) {
            return refuse(
                expected("finite means and positive deviations")
                    .found(format_args!("{:?} and {:?}", self.mean, self.std)),
            );
        }
        Ok(())
    }

    /// The number of channels C that the network reads.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// The number of values of one input, `C · H · W`.
    pub fn elements(&self) -> usize {
        self.channels() * self.size[0] * self.size[1]
    }

    /// The size `⌊size / crop_fraction⌋` that the resized image covers, `[H, W]`.
    pub(crate) fn covered(&self) -> [u64; 2] {
        // timm floors the quotient. In `f32`, because 0.8 as `f32`, widened, is above 0.8 and would lose a pixel.
        self.size.map(|side| ((side as f32 / self.crop_fraction) as u64).max(side as u64))
    }

    /// The size of the whole resized image, `[H, W]`, for an image of `size`.
    fn resized(&self, [height, width]: [u64; 2]) -> [u64; 2] {
        let [rows, columns] = self.covered();
        // Equal sides are torchvision's and timm's case, where the short side is exact and the long side rounded down.
        if rows == columns {
            let short = height.min(width);
            return [rows * height / short, rows * width / short];
        }
        // timm's `ResizeKeepRatio`: the axis that needs the larger factor is exact, the other rounded.
        let factor = (rows as f64 / height as f64).max(columns as f64 / width as f64);
        let scaled = |extent: u64, least: u64| ((extent as f64 * factor).round_ties_even() as u64).max(least);
        [scaled(height, rows), scaled(width, columns)]
    }

    /// Resizes and crops an image to `[H, W, 3]`.
    ///
    /// # Panics
    /// When [`check`](Self::check) would refuse the settings, or the image has no pixel.
    pub fn crop(&self, image: &RgbImage) -> RgbImage {
        let [height, width] = [image.height(), image.width()].map(u64::from);
        assert!(width > 0 && height > 0, "the image has at least one pixel");
        let [rows, columns] = self.resized([height, width]);
        let start = |full: u64, side: usize| ((full - side as u64) as f64 / 2.0).round_ties_even() as u64;
        let origin = [start(columns, self.size[1]), start(rows, self.size[0])];
        let size = [self.size[1], self.size[0]].map(|side| side as u32);
        resize_crop(image, [columns, rows], origin, size, self.interpolation)
    }

    /// The network input `[C, H, W]` of an image.
    ///
    /// # Panics
    /// When [`check`](Self::check) would refuse the settings, or the image has no pixel.
    pub fn apply(&self, image: &RgbImage) -> Tensor {
        let mut input = Tensor::full([self.channels(), self.size[0], self.size[1]], 0.0);
        self.apply_into(image, input.data_mut());
        input
    }

    /// Writes the network input `[C, H, W]` of an image to `out`, for example a slot of a batch.
    ///
    /// # Panics
    /// As [`apply`](Self::apply), and when `out` does not hold [`elements`](Self::elements) values.
    pub fn apply_into(&self, image: &RgbImage, out: &mut [f32]) {
        normalise(&self.crop(image), &self.mean, &self.std, out);
    }

    /// The network inputs `[N, C, H, W]` of `images`.
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    pub fn batch(&self, images: &[RgbImage]) -> Tensor {
        let mut inputs = Tensor::full([images.len(), self.channels(), self.size[0], self.size[1]], 0.0);
        for (image, slot) in images.iter().zip(inputs.data_mut().chunks_exact_mut(self.elements())) {
            self.apply_into(image, slot);
        }
        inputs
    }
}

/// The serialised form of `[H, W]`: one number if they are equal.
mod sides {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Sides {
        Square(usize),
        Rectangle([usize; 2]),
    }

    pub(super) fn serialize<S: Serializer>(size: &[usize; 2], serializer: S) -> Result<S::Ok, S::Error> {
        let sides = if size[0] == size[1] { Sides::Square(size[0]) } else { Sides::Rectangle(*size) };
        sides.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[usize; 2], D::Error> {
        Ok(match Sides::deserialize(deserializer)? {
            Sides::Square(side) => [side; 2],
            Sides::Rectangle(size) => size,
        })
    }
}

/// Writes `(value / 255 − mean) / std` of `[H, W, 3]` bytes as `[C, H, W]`; with one mean, the luma is the only channel.
///
/// # Panics
/// When there are not one or three means and the same number of deviations, or `out` does not hold `C · H · W` values.
pub fn normalise(image: &RgbImage, mean: &[f32], std: &[f32], out: &mut [f32]) {
    let pixels = image.as_raw().as_chunks::<3>().0;
    assert!(matches!(mean.len(), 1 | 3) && mean.len() == std.len(), "one or three channels");
    assert_eq!(out.len(), mean.len() * pixels.len(), "room for [C, H, W]");
    for (channel, plane) in out.chunks_exact_mut(pixels.len().max(1)).enumerate() {
        let table: [f32; 256] = std::array::from_fn(|value| (value as f32 / 255.0 - mean[channel]) / std[channel]);
        for (out, pixel) in plane.iter_mut().zip(pixels) {
            let value = if mean.len() == 1 { luma(*pixel) } else { pixel[channel] };
            *out = table[usize::from(value)];
        }
    }
}

/// The Rec. 601 luma in 16-bit fixed point, bit-equal to Pillow's `convert("L")`.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests;

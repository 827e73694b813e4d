//! Decoded samples of 8 bits.

use ::image::RgbImage;

/// The meaning of the samples of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Grey,
    Rgb,
}

/// An image `[H, W, C]` of 8-bit samples, one or three for each pixel.
#[derive(Debug)]
pub(super) struct Raster {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) channels: Channels,
    pub(super) samples: Vec<u8>,
}

impl Raster {
    /// The image in RGB; grey becomes three equal channels.
    ///
    /// # Panics
    /// When there are fewer samples than pixels.
    pub(super) fn into_rgb(self) -> RgbImage {
        let samples = match self.channels {
            Channels::Rgb => self.samples,
            Channels::Grey => self.samples.iter().flat_map(|&grey| [grey; 3]).collect(),
        };
        RgbImage::from_raw(self.width, self.height, samples).expect("a sample for each channel of each pixel")
    }
}

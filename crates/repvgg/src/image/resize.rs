//! Resampling as in Pillow.

use ::image::RgbImage;
use fast_image_resize::{
    FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{CroppedImage, Image, ImageRef},
};
use serde::{Deserialize, Serialize};

/// The filter that resamples an image. It widens with the scale when the image shrinks (*antialias*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Interpolation {
    /// The triangle of radius 1, which torchvision and the RepVGG authors use.
    #[default]
    Bilinear,
    /// The cubic of radius 2 with a = −1/2 (Keys 1981).
    Bicubic,
}

impl Interpolation {
    /// Every filter.
    pub const ALL: [Self; 2] = [Self::Bilinear, Self::Bicubic];

    /// The filter's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
        }
    }
}

/// A rectangle of an image in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelRect {
    /// Columns to its left.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl PixelRect {
    /// All of `image`.
    pub fn whole(image: &RgbImage) -> Self {
        Self { left: 0, top: 0, width: image.width(), height: image.height() }
    }
}

/// Crops `region` from `image`, then resamples it to `size`, `[width, height]`. Values from 0 to 255 are within 1 of Pillow's.
///
/// Pixels outside the region do not contribute.
///
/// # Panics
/// When the region is empty or not inside the image, or `size` has a zero.
pub fn resize(
    image: &RgbImage,
    region: PixelRect,
    [width, height]: [u32; 2],
    interpolation: Interpolation,
) -> RgbImage {
    let source = view(image);
    let cropped = CroppedImage::new(&source, region.left, region.top, region.width, region.height)
        .expect("the region is inside the image");
    let columns = Span { start: 0.0, length: f64::from(region.width), out: width };
    let rows = Span { start: 0.0, length: f64::from(region.height), out: height };
    resample(&cropped, columns, rows, interpolation)
}

/// The rectangle of `size`, `[width, height]`, at `start`, `[left, top]`, of the image [resized](resize) to `full`, `[width, height]`.
///
/// Computes only that rectangle: a strip of 1 × 60,000 pixels resized to a short side of 256 would have four billion pixels.
pub(super) fn resize_crop(
    image: &RgbImage,
    full: [u64; 2],
    start: [u64; 2],
    size: [u32; 2],
    interpolation: Interpolation,
) -> RgbImage {
    let span = |length: u32, full: u64, start: u64, side: u32| {
        let scale = f64::from(length) / full as f64;
        let start = start as f64 * scale;
        Span { start, length: (f64::from(side) * scale).min(f64::from(length) - start), out: side }
    };
    let columns = span(image.width(), full[0], start[0], size[0]);
    let rows = span(image.height(), full[1], start[1], size[1]);
    resample(&view(image), columns, rows, interpolation)
}

/// An interval of one axis of the source that becomes `out` pixels.
#[derive(Clone, Copy)]
struct Span {
    start: f64,
    length: f64,
    out: u32,
}

impl Span {
    /// The first of the `available` source pixels that a filter of `radius` reads, and their number.
    fn support(self, radius: f64, available: u32) -> (u32, u32) {
        let reach = radius * (self.length / f64::from(self.out)).max(1.0);
        let first = (self.start - reach).floor().max(0.0) as u32;
        let end = (self.start + self.length + reach).ceil().min(f64::from(available)) as u32;
        (first, end - first)
    }
}

fn view(image: &RgbImage) -> ImageRef<'_> {
    ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3).expect("three bytes per pixel")
}

/// Resamples columns, then rows, as Pillow does. Values are rounded and clipped to a byte between the passes, so the order
/// matters.
fn resample(source: &impl IntoImageView, columns: Span, rows: Span, interpolation: Interpolation) -> RgbImage {
    let (filter, radius) = match interpolation {
        Interpolation::Bilinear => (FilterType::Bilinear, 1.0),
        Interpolation::Bicubic => (FilterType::CatmullRom, 2.0),
    };
    assert!(columns.out > 0 && rows.out > 0, "the size has no zero");
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    let mut resizer = Resizer::new();

    let (first, count) = rows.support(radius, source.height());
    let mut narrow = Image::new(columns.out, count, PixelType::U8x3);
    let horizontal = options.crop(columns.start, f64::from(first), columns.length, f64::from(count));
    resizer.resize(source, &mut narrow, &horizontal).expect("the columns are inside the image");

    let mut target = Image::new(columns.out, rows.out, PixelType::U8x3);
    let vertical = options.crop(0.0, rows.start - f64::from(first), f64::from(columns.out), rows.length);
    resizer.resize(&narrow, &mut target, &vertical).expect("the rows are inside the image");
    RgbImage::from_raw(columns.out, rows.out, target.into_vec()).expect("three bytes per pixel")
}

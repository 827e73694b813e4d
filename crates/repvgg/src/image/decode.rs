//! Decoding of image files to 8-bit RGB.

mod cmyk;
mod jpeg;
mod library;
mod orientation;
mod png_notes;
mod raster;
mod refusal;
mod tiff;

use std::{fmt, fs::File, io::Read, path::Path};

use ::image::{DynamicImage, ImageFormat, RgbImage, guess_format};

use crate::error::{Problem, expected};
use crate::{Error, Result};
pub use orientation::Orientation;

/// The most bytes of a file that is read, and the most memory that decoding it takes: 2 GiB.
pub const MAX_BYTES: u64 = 1 << 31;

/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decoded {
    /// The pixels, `[H, W, 3]`.
    pub image: RgbImage,
    /// What was damaged in the file, if pixels had to be guessed.
    pub warning: Option<String>,
}

/// Decodes the image file at `path` to 8-bit RGB, turned upright; see [`read_bytes`]. A damaged image is accepted without the warning
/// that [`read`] gives.
///
/// # Errors
/// As [`read`].
pub fn decode(path: impl AsRef<Path>) -> Result<RgbImage> {
    read(path, Orientation::Upright).map(|decoded| decoded.image)
}

/// Decodes an image in memory to 8-bit RGB, turned upright; see [`read_bytes`]. `place` names it in errors.
///
/// # Errors
/// As [`read_bytes`].
pub fn decode_bytes(bytes: &[u8], place: impl fmt::Display) -> Result<RgbImage> {
    read_bytes(bytes, place, Orientation::Upright).map(|decoded| decoded.image)
}

/// Decodes the image file at `path` to 8-bit RGB; see [`read_bytes`].
///
/// # Errors
/// When the file cannot be read, and as [`read_bytes`].
pub fn read(path: impl AsRef<Path>, orientation: Orientation) -> Result<Decoded> {
    let place = path.as_ref().display();
    let mut bytes = Vec::new();
    let read = File::open(path.as_ref()).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(Error::io(place, error)),
        Ok(length) if length as u64 > MAX_BYTES => {
            Err(Error::format(place, expected(format_args!("at most {MAX_BYTES} bytes")).found("more")))
        }
        Ok(_) => read_bytes(&bytes, place, orientation),
    }
}

/// Decodes an image in memory to 8-bit RGB; `place` names it in errors.
///
/// The format is detected by content: PNG, JPEG, GIF, WebP, BMP, TIFF or PNM. Grey becomes three equal channels, a palette is looked
/// up, CMYK is converted, and 16 bits are rounded to 8. Alpha is dropped as by Pillow's `convert("RGB")`: the colour beneath
/// transparency shows. An animation gives its first frame. A JPEG with damaged data is decoded as far as it goes, with a warning.
///
/// # Errors
/// When the format is none of these, the bytes are truncated or corrupt, the decoder fails on them, or the image has no pixel or
/// needs more than [`MAX_BYTES`] of memory.
pub fn read_bytes(bytes: &[u8], place: impl fmt::Display, orientation: Orientation) -> Result<Decoded> {
    let outcome = outcome(bytes).map_err(|problem| Error::format(place, problem))?;
    let turn = orientation::noted(outcome.exif.as_deref(), outcome.xmp.as_deref());
    let image = match orientation {
        Orientation::Upright => {
            let mut image = DynamicImage::ImageRgb8(outcome.image);
            image.apply_orientation(turn);
            image.into_rgb8()
        }
        Orientation::Stored => outcome.image,
    };
    Ok(Decoded { image, warning: outcome.warning })
}

/// What a decoder gives: an image as stored, and the notes beside it.
struct Outcome {
    image: RgbImage,
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
    warning: Option<String>,
}

fn outcome(bytes: &[u8]) -> Result<Outcome, Problem> {
    if tiff::BIG.iter().any(|start| bytes.starts_with(start.as_slice())) {
        return tiff::decode(bytes);
    }
    let Ok(format) = guess_format(bytes) else {
        return Err(refusal::not_an_image(bytes));
    };
    match format {
        ImageFormat::Jpeg => jpeg::decode(bytes),
        ImageFormat::Tiff => tiff::decode(bytes),
        format if format.reading_enabled() => library::decode(bytes, format),
        format => Err(expected(refusal::FORMATS).found(format_args!("{format:?}"))),
    }
}

#[cfg(test)]
mod tests;

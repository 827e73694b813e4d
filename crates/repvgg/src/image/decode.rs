//! Decoding of image files to 8-bit RGB.

use std::{error::Error as _, fmt, fs::File, io::Cursor, io::Read, path::Path};

use ::image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage, guess_format};

use crate::error::{Problem, expected};
use crate::{Error, Result};

/// The most pixels of an image that is decoded: 8192 × 8192.
pub const MAX_PIXELS: u64 = 1 << 26;

/// The most bytes of a file that is read, and the most that a decoder may allocate: four `f32` channels per pixel.
const MAX_BYTES: u64 = 16 * MAX_PIXELS;

/// Decodes the image file at `path` to 8-bit RGB; see [`decode_bytes`].
///
/// # Errors
/// When the file cannot be read, and as [`decode_bytes`].
pub fn decode(path: impl AsRef<Path>) -> Result<RgbImage> {
    let place = path.as_ref().display();
    let mut bytes = Vec::new();
    let read = File::open(path.as_ref()).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(Error::io(place, error)),
        Ok(length) if length as u64 > MAX_BYTES => {
            Err(Error::format(place, expected(format_args!("at most {MAX_BYTES} bytes")).found("more")))
        }
        Ok(_) => decode_bytes(&bytes, place),
    }
}

/// Decodes an image in memory to 8-bit RGB; `place` names it in errors.
///
/// The format is detected by content: PNG, JPEG, GIF, WebP, BMP or TIFF. Grey becomes three equal channels, a palette is looked
/// up, CMYK is converted, and 16 bits are rounded to 8. Alpha is dropped as by Pillow's `convert("RGB")`: the colour beneath
/// transparency shows. An animation gives its first frame. The EXIF orientation is applied.
///
/// # Errors
/// When the format is none of these, the bytes are truncated or corrupt, or the image has no pixel or more than
/// [`MAX_PIXELS`].
pub fn decode_bytes(bytes: &[u8], place: impl fmt::Display) -> Result<RgbImage> {
    let Ok(format) = guess_format(bytes) else {
        return Err(Error::format(place, not_an_image(bytes)));
    };
    if !format.reading_enabled() {
        return Err(Error::format(
            place,
            expected("PNG, JPEG, GIF, WebP, BMP or TIFF").found(format_args!("{format:?}")),
        ));
    }
    if format == ImageFormat::Jpeg && !has_jpeg_end(bytes) {
        return Err(Error::format(place, truncated(format)));
    }
    let refuse = |error: ImageError| Error::format(&place, describe(format, &error));

    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refuse)?;

    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        let bound = if pixels == 0 { "at least one pixel".into() } else { format!("at most {MAX_PIXELS} pixels") };
        return Err(Error::format(&place, expected(bound).found(format_args!("{width} x {height}"))));
    }
    let orientation = decoder.orientation().map_err(refuse)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(refuse)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// The problem with bytes of no known image format.
fn not_an_image(bytes: &[u8]) -> Problem {
    if bytes.is_empty() {
        return expected("an image").found("an empty file");
    }
    let first: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("not an image (first bytes {})", first.join(" ")).into()
}

fn truncated(format: ImageFormat) -> Problem {
    expected(format_args!("a complete {} image", name(format))).found("a truncated one")
}

/// The problem that a decoder's error states.
fn describe(format: ImageFormat, error: &ImageError) -> Problem {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => truncated(format),
        error => {
            // The source is the cause itself; the outer error repeats the name of the format.
            let cause = error.source().map_or_else(|| error.to_string(), |source| source.to_string());
            let cause = cause.replace(['\n', '\r'], " ");
            if cause.to_lowercase().contains("unexpected end of file") {
                return truncated(format);
            }
            expected(format_args!("a readable {} image", name(format))).found(cause.trim_end_matches('.'))
        }
    }
}

fn name(format: ImageFormat) -> String {
    format!("{format:?}").to_uppercase().replace("WEBP", "WebP")
}

/// Whether the end-of-image marker occurs at the top level of a JPEG stream (ITU-T T.81, B.1.1).
///
/// The decoder silently fills the missing part of a truncated file with grey. Pillow refuses the file, and so does this
/// library. Segments are skipped by their length, because an embedded thumbnail has its own end marker.
fn has_jpeg_end(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[at + 1..];
        rest = match rest {
            [0xd9, ..] => return true,
            [0xff, ..] => rest,
            // A stuffed zero, a restart marker or another marker without a segment.
            [0x00 | 0x01 | 0xd0..=0xd8, after @ ..] => after,
            [_, high, low, ..] => rest.get(1 + usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default(),
            _ => return false,
        };
    }
    false
}

#[cfg(test)]
mod tests;

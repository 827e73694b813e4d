//! The formats that the library of decoders reads as Pillow does: PNG, GIF, WebP, BMP and PNM.

use std::io::Cursor;

use ::image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::png_notes::{Notes, notes};
use super::refusal::{describe, oversized};
use super::{MAX_BYTES, Outcome};
use crate::error::{Problem, expected};
use crate::fence::fenced;

/// Decodes an image of `format`, in the orientation in which it is stored.
pub(super) fn decode(bytes: &[u8], format: ImageFormat) -> Result<Outcome, Problem> {
    let name = name(format);
    let refused = |_| Err(expected(format_args!("a readable {name} image")).found("data that the decoder fails on"));
    fenced(|| decode_fenced(bytes, format, name)).unwrap_or_else(refused)
}

fn decode_fenced(bytes: &[u8], format: ImageFormat, name: &str) -> Result<Outcome, Problem> {
    let refuse = |error: ImageError| describe(name, &error);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refuse)?;

    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || decoder.total_bytes().saturating_add(3 * pixels) > MAX_BYTES {
        return Err(oversized(width, height));
    }
    let Notes { exif, xmp } = match format {
        ImageFormat::Png => notes(bytes),
        _ => Notes { exif: decoder.exif_metadata().ok().flatten(), xmp: decoder.xmp_metadata().ok().flatten() },
    };
    let image = DynamicImage::from_decoder(decoder).map_err(refuse)?.into_rgb8();
    Ok(Outcome { image, exif, xmp, warning: None })
}

/// The name of a format in messages.
fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Gif => "GIF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Pnm => "PNM",
        _ => "known",
    }
}

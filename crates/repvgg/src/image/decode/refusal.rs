//! Sentences for images that are not decoded, in our words.

use std::error::Error as _;
use std::io::ErrorKind;

use ::image::ImageError;

use super::MAX_BYTES;
use crate::error::{Problem, expected};

/// The formats that are decoded, for messages.
pub(super) const FORMATS: &str = "PNG, JPEG, GIF, WebP, BMP, TIFF or PNM";

/// The problem with bytes of no known image format.
pub(super) fn not_an_image(bytes: &[u8]) -> Problem {
    if bytes.is_empty() {
        return expected("an image").found("an empty file");
    }
    let first: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("not an image (first bytes {})", first.join(" ")).into()
}

/// The problem with a file that ends before its image does.
pub(super) fn truncated(format: &str) -> Problem {
    expected(format_args!("a complete {format} image")).found("a truncated one")
}

/// The problem with a size of no pixel, or of too many to decode in memory.
pub(super) fn oversized(width: u32, height: u32) -> Problem {
    let bound = match u64::from(width) * u64::from(height) {
        0 => "at least one pixel".to_owned(),
        _ => format!("an image that is decoded within {} GiB", MAX_BYTES >> 30),
    };
    expected(bound).found(format_args!("{width} x {height} pixels"))
}

/// The problem that a decoder's error states.
pub(super) fn describe(format: &str, error: &ImageError) -> Problem {
    let cause = error.source().map_or_else(|| error.to_string(), |source| source.to_string());
    let ended = matches!(error, ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof);
    if ended || cause.to_lowercase().contains("unexpected end of file") {
        return truncated(format);
    }
    expected(format_args!("a readable {format} image")).found(plain(&cause))
}

/// A decoder's cause as part of a sentence. Text that was written for programmers becomes "damaged data".
fn plain(cause: &str) -> String {
    let text = cause.trim().trim_end_matches('.');
    let programmers = |letter: char| !(letter.is_ascii_alphanumeric() || " ,.-/:'%".contains(letter));
    let name_of_code =
        text.as_bytes().windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
    if text.is_empty() || text.len() > 120 || name_of_code || text.contains("::") || text.contains(programmers) {
        return "damaged data".to_owned();
    }
    let mut letters = text.chars();
    let first = letters.next().unwrap_or_default();
    match letters.clone().next() {
        Some(second) if second.is_ascii_uppercase() => text.to_owned(),
        _ => format!("{}{}", first.to_ascii_lowercase(), letters.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_programmers_is_not_shown() {
        assert_eq!(plain("Unknown filter method 7."), "unknown filter method 7");
        assert_eq!(plain("CRC mismatch"), "CRC mismatch");
        for text in ["Corrupt deflate stream. BadCodeLength", "Unknown(7)", "`x` is wrong", "png::Error", ""] {
            assert_eq!(plain(text), "damaged data", "{text}");
        }
    }
}

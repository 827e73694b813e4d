//! How a camera was held: noted beside the pixels, in EXIF or XMP.

use ::image::metadata::Orientation as Transform;
use serde::{Deserialize, Serialize};

/// What is done about the orientation that a camera notes beside the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Orientation {
    /// The image is turned upright, as by Pillow's `exif_transpose`.
    #[default]
    Upright,
    /// The pixels stay as stored, as in the loaders of timm and torchvision. TIFF is the exception: Pillow turns it while it reads, and
    /// so does this library.
    Stored,
}

/// The turn that EXIF data note or, where EXIF notes none, XMP.
pub(super) fn noted(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Transform {
    let exif = exif.and_then(|exif| Transform::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)));
    exif.or_else(|| xmp.and_then(in_xmp)).unwrap_or(Transform::NoTransforms)
}

/// The value of `tiff:Orientation`, an attribute or an element. Pillow searches the text for the same two forms.
fn in_xmp(xmp: &[u8]) -> Option<Transform> {
    const KEY: &[u8] = b"tiff:Orientation";
    xmp.windows(KEY.len()).enumerate().filter(|(_, window)| *window == KEY).find_map(|(at, _)| {
        let value = &xmp[at + KEY.len()..];
        let digit = value.strip_prefix(b"=\"").or_else(|| value.strip_prefix(b">"))?.first()?;
        Transform::from_exif(digit.checked_sub(b'0')?)
    })
}

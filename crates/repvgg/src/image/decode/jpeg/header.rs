//! The segments of a JPEG before its first scan (ITU-T T.81, B.2).

use crate::error::{Problem, expected};
use crate::image::decode::refusal::truncated;

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// What the segments before the first scan state.
pub(super) struct Header {
    /// The marker of the frame, 0xc0 to 0xcf, which is the kind of coding.
    pub(super) kind: u8,
    /// Bits per sample.
    pub(super) precision: u8,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: usize,
    /// Rows of pixels in a row of coded units.
    pub(super) block_rows: usize,
    /// Whether one scan holds the whole image, so that its rows are decoded in order.
    pub(super) single_scan: bool,
    pub(super) exif: Option<Vec<u8>>,
    pub(super) xmp: Option<Vec<u8>>,
}

impl Header {
    /// Reads the segments up to the first scan.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Problem> {
        let (mut exif, mut xmp, mut frame) = (None, None, None);
        let mut rest = bytes.get(2..).unwrap_or_default();
        while let Some((marker, body, after)) = segment(rest) {
            rest = after;
            match marker {
                0xe1 if body.starts_with(EXIF) => exif = exif.or_else(|| Some(body[EXIF.len()..].to_vec())),
                0xe1 if body.starts_with(XMP) => xmp = xmp.or_else(|| Some(body[XMP.len()..].to_vec())),
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf if frame.is_none() => {
                    frame = Some((marker, body))
                }
                0xda => {
                    let Some((kind, frame)) = frame else { return Err(without("a frame before the first scan")) };
                    let in_scan = usize::from(body.first().copied().unwrap_or(0));
                    return Self::from_frame(kind, frame, in_scan).map(|header| Self { exif, xmp, ..header });
                }
                0xd9 => return Err(without("an image before the end marker")),
                _ => {}
            }
        }
        Err(truncated("JPEG"))
    }

    fn from_frame(kind: u8, body: &[u8], in_scan: usize) -> Result<Self, Problem> {
        let [precision, h1, h0, w1, w0, components, factors @ ..] = body else {
            return Err(without("a complete frame header"));
        };
        let components = usize::from(*components);
        let heights = factors.chunks_exact(3).take(components).map(|component| usize::from(component[1] & 15));
        Ok(Self {
            kind,
            precision: *precision,
            width: u16::from_be_bytes([*w1, *w0]).into(),
            height: u16::from_be_bytes([*h1, *h0]).into(),
            components,
            block_rows: 8 * heights.max().unwrap_or(1),
            single_scan: matches!(kind, 0xc0 | 0xc1 | 0xc9) && in_scan == components,
            exif: None,
            xmp: None,
        })
    }

    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

fn without(what: &str) -> Problem {
    expected(what).found("none")
}

/// The next marker, its segment, and what follows. Bytes before the marker are skipped, as by the decoder.
fn segment(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let mut rest = bytes;
    loop {
        rest = &rest[rest.iter().position(|&byte| byte == 0xff)?..];
        match rest {
            [0xff, 0xff, ..] => rest = &rest[1..],
            [0xff, 0x00, ..] => rest = &rest[2..],
            [0xff, marker @ (0x01 | 0xd0..=0xd9), after @ ..] => return Some((*marker, &[], after)),
            [0xff, marker, high, low, after @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low])).checked_sub(2)?;
                let (body, after) = after.split_at_checked(length)?;
                return Some((*marker, body, after));
            }
            _ => return None,
        }
    }
}

//! From the samples of a strip or tile to RGB.

use super::directory::{Directory, Order};
use super::layout::{Layout, Photometric, Predictor, SampleKind};
use crate::error::{Problem, expected};
use crate::image::decode::cmyk;

/// Undoes the predictor in the rows of a chunk; `samples` are interleaved in a row.
pub(super) fn undo_predictor(bytes: &mut [u8], layout: &Layout, order: Order, samples: usize) {
    let row = (layout.chunk[0] * samples * layout.bits).div_ceil(8);
    for row in bytes.chunks_exact_mut(row) {
        match (layout.predictor, layout.bits) {
            (Predictor::None, _) => {}
            (Predictor::Float, _) => join_float_bytes(row, order, samples),
            (Predictor::Horizontal, bits) => add_previous(row, order, samples, bits / 8),
        }
    }
}

/// Adds to each sample that of the pixel before, modulo its size.
fn add_previous(row: &mut [u8], order: Order, samples: usize, size: usize) {
    for at in (samples * size..row.len()).step_by(size) {
        let before = order.number(&row[at - samples * size..][..size]);
        let sum = order.number(&row[at..][..size]).wrapping_add(before);
        for (place, byte) in row[at..][..size].iter_mut().enumerate() {
            let shift = if order == Order::Little { place } else { size - 1 - place };
            *byte = (sum >> (8 * shift)) as u8;
        }
    }
}

/// Floating-point prediction: differences of bytes, the highest bytes of all samples first.
fn join_float_bytes(row: &mut [u8], order: Order, samples: usize) {
    for at in samples..row.len() {
        row[at] = row[at].wrapping_add(row[at - samples]);
    }
    let (planes, count) = (row.to_vec(), row.len() / 4);
    for (at, value) in row.chunks_exact_mut(4).enumerate() {
        for (place, byte) in value.iter_mut().enumerate() {
            let plane = if order == Order::Big { place } else { 3 - place };
            *byte = planes[plane * count + at];
        }
    }
}

/// Samples of 8 bits from the rows of a chunk with `samples` interleaved; those of a palette stay indices.
pub(super) fn to_bytes(bytes: Vec<u8>, layout: &Layout, order: Order, samples: usize) -> Vec<u8> {
    let (bits, count) = (layout.bits, layout.chunk[0] * samples);
    match (layout.kind, bits) {
        (SampleKind::Float, _) => bytes.chunks_exact(4).map(|value| unit(order.number(value) as u32)).collect(),
        (_, 8) => bytes,
        (_, 16) => bytes.chunks_exact(2).map(|value| ((order.number(value) * 255 + 32767) / 65535) as u8).collect(),
        _ => {
            let scale = if layout.photometric == Photometric::Palette { 1 } else { 255 / ((1 << bits) - 1) };
            let row = (count * bits).div_ceil(8);
            let sample = |row: &[u8], at: usize| {
                let shift = 8 - bits - at * bits % 8;
                (row[at * bits / 8] >> shift & ((1 << bits) - 1) as u8) * scale as u8
            };
            bytes.chunks_exact(row).flat_map(|row| (0..count).map(move |at| sample(row, at))).collect()
        }
    }
}

/// A number from 0 to 1 as a byte.
fn unit(bits: u32) -> u8 {
    (f32::from_bits(bits).clamp(0.0, 1.0) * 255.0).round() as u8
}

/// The pixels of subsampled YCbCr, `[H, W, 3]`: units of luma for each pair of chroma (TIFF 6.0, section 21).
pub(super) fn spread_chroma(bytes: &[u8], layout: &Layout, height: usize) -> Vec<u8> {
    let (width, [across, down]) = (layout.chunk[0], layout.subsampling);
    let (columns, unit) = (width.div_ceil(across), across * down + 2);
    let mut pixels = vec![0; width * height * 3];
    for (y, row) in pixels.chunks_exact_mut(width * 3).enumerate() {
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let unit = &bytes[(y / down * columns + x / across) * unit..][..unit];
            let luma = unit[y % down * across + x % across];
            *pixel = [luma, unit[across * down], unit[across * down + 1]];
        }
    }
    pixels
}

/// The bytes of `height` rows of subsampled YCbCr.
pub(super) fn subsampled_length(layout: &Layout, height: usize) -> usize {
    let (width, [across, down]) = (layout.chunk[0], layout.subsampling);
    width.div_ceil(across) * height.div_ceil(down) * (across * down + 2)
}

/// The conversion of pixels to RGB.
pub(super) enum Colour {
    Grey { inverted: bool },
    Rgb,
    Palette(Vec<[u8; 3]>),
    Cmyk,
    YCbCr,
}

impl Colour {
    /// The conversion that a directory states.
    pub(super) fn read(directory: &Directory<'_>, layout: &Layout) -> Result<Self, Problem> {
        Ok(match layout.photometric {
            Photometric::WhiteIsZero => Self::Grey { inverted: true },
            Photometric::BlackIsZero => Self::Grey { inverted: false },
            Photometric::Rgb => Self::Rgb,
            Photometric::Cmyk => Self::Cmyk,
            Photometric::YCbCr => Self::YCbCr,
            Photometric::Palette => {
                let (map, count) = (directory.numbers(320), 1 << layout.bits);
                if map.len() < 3 * count {
                    let needed = format!("a TIFF palette of {} values", 3 * count);
                    return Err(expected(needed).found(map.len()));
                }
                // Pillow keeps the high byte of the 16 bits.
                let entry = |index: usize| [0, 1, 2].map(|channel| (map[channel * count + index] >> 8) as u8);
                Self::Palette((0..count).map(entry).collect())
            }
        })
    }

    /// The RGB of a pixel; `alpha` is by what its colour is multiplied.
    pub(super) fn rgb(&self, pixel: &[u8], alpha: Option<u8>) -> [u8; 3] {
        let straight = |value: u8| alpha.map_or(value, |alpha| divided(value, alpha));
        match (self, pixel) {
            (Self::Grey { inverted }, &[grey, ..]) => [straight(if *inverted { 255 - grey } else { grey }); 3],
            (Self::Palette(colours), &[index, ..]) => colours[usize::from(index)],
            (Self::Rgb, &[red, green, blue, ..]) => [red, green, blue].map(straight),
            (Self::Cmyk, &[cyan, magenta, yellow, black, ..]) => cmyk::rgb([cyan, magenta, yellow, black]),
            (Self::YCbCr, &[luma, blue, red, ..]) => from_ycbcr(luma, blue, red),
            _ => [0; 3],
        }
    }
}

/// A colour without its alpha, as Pillow divides: rounded down, and black where nothing is opaque.
fn divided(value: u8, alpha: u8) -> u8 {
    match alpha {
        0 => 0,
        255 => value,
        alpha => (u32::from(value) * 255 / u32::from(alpha)).min(255) as u8,
    }
}

/// Rec. 601 with the full range, as in JPEG; rounded down, as by Pillow.
fn from_ycbcr(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    let [luma, blue, red] = [f64::from(luma), f64::from(blue) - 128.0, f64::from(red) - 128.0];
    let channels = [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue];
    channels.map(|value| value.clamp(0.0, 255.0) as u8)
}

//! How the samples of a TIFF lie in its file.

use super::directory::Directory;
use crate::error::{Problem, expected};
use crate::image::decode::MAX_BYTES;
use crate::image::decode::refusal::oversized;

/// The most samples of a pixel; Pillow reads six.
const MAX_SAMPLES: usize = 8;

/// What the samples of a pixel mean (tag 262).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Photometric {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
}

/// How samples are numbers (tag 339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SampleKind {
    Unsigned,
    Float,
}

/// The transform before compression (tag 317).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    Horizontal,
    Float,
}

/// The layout that the tags of a directory state.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Bits of a sample; all samples have the same.
    pub(super) bits: usize,
    pub(super) samples: usize,
    pub(super) kind: SampleKind,
    pub(super) photometric: Photometric,
    pub(super) compression: u64,
    pub(super) predictor: Predictor,
    /// Whether the colour is multiplied by alpha, which is the first sample after it.
    pub(super) premultiplied: bool,
    /// Whether each sample has strips or tiles of its own.
    pub(super) planar: bool,
    /// Whether the lowest bit of a byte comes first.
    pub(super) reversed: bool,
    /// The width and height of a strip or tile.
    pub(super) chunk: [usize; 2],
    pub(super) tiled: bool,
    /// The pixels that share a chroma sample, across and down.
    pub(super) subsampling: [usize; 2],
    pub(super) offsets: Vec<u64>,
    pub(super) lengths: Vec<u64>,
}

impl Layout {
    pub(super) fn read(directory: &Directory<'_>) -> Result<Self, Problem> {
        let tag = |tag, otherwise| directory.number(tag).unwrap_or(otherwise);
        let size = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let [width, height] = [256, 257].map(|side| size(tag(side, 0)));
        let compression = tag(259, 1);
        let photometric = photometric(directory, compression)?;
        let jpeg_colour = compression == 7 && matches!(photometric, Photometric::Rgb | Photometric::YCbCr);
        let samples = tag(277, if jpeg_colour { 3 } else { 1 }) as usize;
        let tiled = directory.number(322).is_some();
        let chunk = match tiled {
            true => [322, 323].map(|side| size(tag(side, 0))),
            false => [width, size(tag(278, u64::from(height))).min(height)],
        };
        let pixels = u64::from(width) * u64::from(height);
        let chunk_pixels = u64::from(chunk[0]) * u64::from(chunk[1]);
        let bits = bits(directory, samples)?;
        if pixels == 0 || pixels.max(chunk_pixels).saturating_mul(3 + (samples * bits).div_ceil(8) as u64) > MAX_BYTES {
            return Err(oversized(width, height));
        }
        if chunk_pixels == 0 {
            return Err(expected("TIFF strips or tiles of at least one pixel").found("none"));
        }
        let [offsets, lengths] = if tiled { [324, 325] } else { [273, 279] }.map(|tag| directory.numbers(tag));
        let extra = directory.numbers(338);
        Self {
            width: width as usize,
            height: height as usize,
            bits,
            samples,
            kind: kind(directory, bits)?,
            photometric,
            compression,
            predictor: predictor(directory, bits)?,
            premultiplied: extra.first() == Some(&1),
            planar: tag(284, 1) == 2 && samples > 1,
            reversed: tag(266, 1) == 2,
            chunk: chunk.map(|side| side as usize),
            tiled,
            subsampling: subsampling(directory, photometric)?,
            offsets,
            lengths,
        }
        .checked()
    }

    /// Refuses layouts whose parts do not fit each other.
    fn checked(self) -> Result<Self, Problem> {
        let needed = self.photometric.channels();
        if self.samples < needed {
            return Err(expected(format_args!("a TIFF with {needed} samples per pixel")).found(self.samples));
        }
        let chunks = self.columns() * self.rows() * if self.planar { self.samples } else { 1 };
        // Without compression, lengths follow from the size.
        let known = if self.compression == 1 { usize::MAX } else { self.lengths.len() };
        let found = self.offsets.len().min(known);
        if found < chunks {
            return Err(expected(format_args!("a TIFF with {chunks} strips or tiles")).found(found));
        }
        let depths: &[usize] = match self.photometric {
            Photometric::WhiteIsZero | Photometric::BlackIsZero => &[1, 2, 4, 8, 16],
            Photometric::Palette => &[1, 2, 4, 8],
            Photometric::YCbCr => &[8],
            Photometric::Rgb if self.kind == SampleKind::Float => &[32],
            Photometric::Rgb | Photometric::Cmyk => &[8, 16],
        };
        let subsampled = self.subsampling != [1, 1] && self.compression != 7;
        if !depths.contains(&self.bits) || (self.kind == SampleKind::Float) != (self.bits == 32) {
            let found = format!("{} of {} bits", self.photometric.name(), self.bits);
            return Err(expected("a TIFF with 1 to 16 bits per sample").found(found));
        }
        if subsampled && (self.planar || self.samples != 3) {
            return Err(expected("subsampled YCbCr in one plane").found("several"));
        }
        Ok(self)
    }

    /// The number of strips or tiles in a row.
    pub(super) fn columns(&self) -> usize {
        self.width.div_ceil(self.chunk[0])
    }

    /// The number of rows of strips or tiles.
    pub(super) fn rows(&self) -> usize {
        self.height.div_ceil(self.chunk[1])
    }
}

impl Photometric {
    /// The samples of a pixel that are colour.
    pub(super) fn channels(self) -> usize {
        match self {
            Self::WhiteIsZero | Self::BlackIsZero | Self::Palette => 1,
            Self::Rgb | Self::YCbCr => 3,
            Self::Cmyk => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::WhiteIsZero | Self::BlackIsZero => "grey",
            Self::Rgb => "RGB",
            Self::Palette => "a palette",
            Self::Cmyk => "CMYK",
            Self::YCbCr => "YCbCr",
        }
    }
}

fn photometric(directory: &Directory<'_>, compression: u64) -> Result<Photometric, Problem> {
    let found = match directory.number(262) {
        // Fax strips without the tag are black on white.
        None if matches!(compression, 2..=4) => return Ok(Photometric::WhiteIsZero),
        None | Some(0) => return Ok(Photometric::WhiteIsZero),
        Some(1) => return Ok(Photometric::BlackIsZero),
        Some(2) => return Ok(Photometric::Rgb),
        Some(3) => return Ok(Photometric::Palette),
        Some(5) => return Ok(Photometric::Cmyk),
        Some(6) => return Ok(Photometric::YCbCr),
        Some(4) => "a transparency mask".to_owned(),
        Some(8..=10) => "CIE Lab".to_owned(),
        Some(32803) => "the raw data of a sensor".to_owned(),
        Some(32844 | 32845) => "CIE Luv of high dynamic range".to_owned(),
        Some(other) => format!("colour of kind {other}"),
    };
    Err(expected("a TIFF in grey, RGB, CMYK, YCbCr or with a palette").found(found))
}

fn bits(directory: &Directory<'_>, samples: usize) -> Result<usize, Problem> {
    if !(1..=MAX_SAMPLES).contains(&samples) {
        return Err(expected(format_args!("a TIFF with 1 to {MAX_SAMPLES} samples per pixel")).found(samples));
    }
    let bits = directory.numbers(258);
    let first = bits.first().copied().unwrap_or(1);
    match bits.iter().take(samples).find(|&&other| other != first) {
        Some(other) => Err(expected("a TIFF whose samples have equal bits").found(format_args!("{first} and {other}"))),
        None if (1..=64).contains(&first) => Ok(first as usize),
        None => Err(expected("a TIFF with 1 to 16 bits per sample").found(first)),
    }
}

fn kind(directory: &Directory<'_>, bits: usize) -> Result<SampleKind, Problem> {
    let found = match directory.number(339).unwrap_or(1) {
        1 | 4 => return Ok(SampleKind::Unsigned),
        3 if bits == 32 => return Ok(SampleKind::Float),
        3 => format!("floating point of {bits} bits"),
        2 => format!("signed numbers of {bits} bits"),
        _ => "complex numbers".to_owned(),
    };
    Err(expected("a TIFF of unsigned samples").found(found))
}

fn predictor(directory: &Directory<'_>, bits: usize) -> Result<Predictor, Problem> {
    match directory.number(317).unwrap_or(1) {
        1 => Ok(Predictor::None),
        2 if matches!(bits, 8 | 16 | 32) => Ok(Predictor::Horizontal),
        3 if bits == 32 => Ok(Predictor::Float),
        other => {
            let found = format!("predictor {other} with {bits} bits");
            Err(expected("a TIFF without a predictor or with a horizontal one").found(found))
        }
    }
}

fn subsampling(directory: &Directory<'_>, photometric: Photometric) -> Result<[usize; 2], Problem> {
    if photometric != Photometric::YCbCr {
        return Ok([1, 1]);
    }
    match directory.numbers(530).as_slice() {
        [] => Ok([2, 2]),
        &[across @ (1 | 2 | 4), down @ (1 | 2 | 4)] => Ok([across as usize, down as usize]),
        other => Err(expected("YCbCr subsampled by 1, 2 or 4").found(format_args!("{other:?}"))),
    }
}

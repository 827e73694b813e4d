//! TIFF and BigTIFF, in the layouts that Pillow reads: strips and tiles, together or in planes.

mod colour;
mod compression;
mod directory;
mod layout;

use ::image::{DynamicImage, RgbImage, metadata::Orientation};

use super::refusal::truncated;
use super::{Outcome, jpeg};
use crate::error::{Problem, expected};
use crate::fence::fenced;
use colour::Colour;
use directory::Directory;
use layout::{Layout, Photometric};

/// How a BigTIFF begins, in either byte order.
pub(super) const BIG: [&[u8; 4]; 2] = [b"II+\0", b"MM\0+"];

const JPEG: u64 = 7;

/// Decodes the first image of a TIFF. It is turned as its orientation states, which is part of how a TIFF stores pixels.
pub(super) fn decode(bytes: &[u8]) -> Result<Outcome, Problem> {
    let refused = |_| Err(expected("a readable TIFF image").found("data that the decoder fails on"));
    let image = fenced(|| Tiff::read(bytes)?.image()).unwrap_or_else(refused)?;
    Ok(Outcome { image, exif: None, xmp: None, warning: None })
}

struct Tiff<'a> {
    directory: Directory<'a>,
    layout: Layout,
    colour: Colour,
}

impl<'a> Tiff<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Problem> {
        let directory = Directory::read(bytes)?;
        let layout = Layout::read(&directory)?;
        let colour = Colour::read(&directory, &layout)?;
        // The JPEG decoder converts YCbCr itself where it has all of it.
        let converted = layout.compression == JPEG && layout.photometric == Photometric::YCbCr && !layout.planar;
        Ok(Self { directory, colour: if converted { Colour::Rgb } else { colour }, layout })
    }

    fn image(&self) -> Result<RgbImage, Problem> {
        let layout = &self.layout;
        let mut pixels = vec![0; layout.width * layout.height * 3];
        for row in 0..layout.rows() {
            for column in 0..layout.columns() {
                let samples = self.chunk(row, column)?;
                self.place(&samples, [column, row], &mut pixels);
            }
        }
        let image = RgbImage::from_raw(layout.width as u32, layout.height as u32, pixels);
        let mut image = DynamicImage::ImageRgb8(image.expect("three bytes for each pixel"));
        let turn = self.directory.number(274).and_then(|turn| Orientation::from_exif(u8::try_from(turn).ok()?));
        image.apply_orientation(turn.unwrap_or(Orientation::NoTransforms));
        Ok(image.into_rgb8())
    }

    /// The height of the strips or tiles of a row: the last strip ends with the image, a tile never.
    fn chunk_height(&self, row: usize) -> usize {
        let [_, height] = self.layout.chunk;
        if self.layout.tiled { height } else { height.min(self.layout.height - row * height) }
    }

    /// The 8-bit samples of a strip or tile, interleaved.
    fn chunk(&self, row: usize, column: usize) -> Result<Vec<u8>, Problem> {
        let (layout, height) = (&self.layout, self.chunk_height(row));
        let place = row * layout.columns() + column;
        if !layout.planar {
            return self.samples(place, height, layout.samples);
        }
        let mut pixels = vec![0; layout.chunk[0] * height * layout.samples];
        for sample in 0..layout.samples {
            let plane = self.samples(place + sample * layout.rows() * layout.columns(), height, 1)?;
            for (pixel, value) in pixels.chunks_exact_mut(layout.samples).zip(plane) {
                pixel[sample] = value;
            }
        }
        Ok(pixels)
    }

    /// The 8-bit samples of the strip or tile at an index, of which `samples` are interleaved.
    fn samples(&self, index: usize, height: usize, samples: usize) -> Result<Vec<u8>, Problem> {
        let (layout, order) = (&self.layout, self.directory.order);
        let width = layout.chunk[0];
        let subsampled = layout.subsampling != [1, 1] && layout.compression != JPEG;
        let length = match subsampled {
            true => colour::subsampled_length(layout, height),
            false => (width * samples * layout.bits).div_ceil(8) * height,
        };
        let stored = if layout.compression == 1 { length as u64 } else { layout.lengths[index] };
        let data = self.directory.data(layout.offsets[index], stored)?;
        if layout.compression == JPEG {
            return self.jpeg(data, [width, height], samples);
        }
        let reversed: Vec<u8>;
        let data = match layout.reversed {
            true => {
                reversed = data.iter().map(|byte| byte.reverse_bits()).collect();
                &reversed
            }
            false => data,
        };
        let mut bytes = compression::decompress(data, layout.compression, length, width)?;
        if subsampled {
            return Ok(colour::spread_chroma(&bytes, layout, height));
        }
        colour::undo_predictor(&mut bytes, layout, order, samples);
        Ok(colour::to_bytes(bytes, layout, order, samples))
    }

    /// The samples of a JPEG strip or tile, whose tables may be stored once for all.
    fn jpeg(&self, data: &[u8], size: [usize; 2], samples: usize) -> Result<Vec<u8>, Problem> {
        if self.layout.bits != 8 {
            return Err(expected("JPEG of 8 bits in a TIFF").found(self.layout.bits));
        }
        let start = [0xff, 0xd8];
        let tables = self.directory.bytes(347);
        let tables = tables.strip_prefix(&start).unwrap_or_default();
        let tables = tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(tables);
        let data = data.strip_prefix(&start).ok_or_else(|| truncated("TIFF"))?;
        // The TIFF states the colour; inside the JPEG, Adobe's segment does.
        let transform = u8::from(self.layout.photometric == Photometric::YCbCr);
        let adobe = [b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat();
        let adobe = if samples == 1 { &[] } else { adobe.as_slice() };
        jpeg::embedded(&[&start, tables, adobe, data].concat(), size, samples)
    }

    /// Converts the pixels of a strip or tile to RGB, at their place in the image.
    fn place(&self, samples: &[u8], [column, row]: [usize; 2], pixels: &mut [u8]) {
        let layout = &self.layout;
        let [left, top] = [column * layout.chunk[0], row * layout.chunk[1]];
        let alpha = layout.photometric.channels();
        let multiplied = layout.premultiplied && layout.samples > alpha;
        let width = layout.chunk[0].min(layout.width - left);
        let rows = samples.chunks_exact(layout.chunk[0] * layout.samples).take(layout.height - top);
        for (y, line) in rows.enumerate() {
            let start = ((top + y) * layout.width + left) * 3;
            let out = pixels[start..][..width * 3].as_chunks_mut::<3>().0;
            for (out, pixel) in out.iter_mut().zip(line.chunks_exact(layout.samples)) {
                *out = self.colour.rgb(pixel, multiplied.then(|| pixel[alpha]));
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! JPEG, decoded by libjpeg-turbo's own code: the pixels are those of Pillow, bit for bit.

mod header;
mod input;

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;

use mozjpeg::{ColorSpace, Decompress, decompress::DecompressStarted};
use mozjpeg_sys::{jpeg_common_struct, jpeg_error_mgr};

use super::cmyk;
use super::raster::{Channels, Raster};
use super::refusal::{oversized, truncated};
use super::{MAX_BYTES, Outcome};
use crate::error::{Problem, expected};
use crate::fence::fenced;
use header::Header;
use input::Input;

const FORMAT: &str = "JPEG";

/// The share of rows, at the bottom, that a truncated file may lack: photographs whose last bytes are lost are read, with a warning.
const LOST_SHARE: usize = 16;

thread_local! {
    /// The warnings of the decoder that runs in this thread: each stands for pixels that it had to guess.
    static WARNINGS: Cell<usize> = const { Cell::new(0) };
}

/// Decodes a JPEG, in the orientation in which it is stored.
pub(super) fn decode(bytes: &[u8]) -> Result<Outcome, Problem> {
    let (header, rows) = read(bytes)?;
    let warning = rows.warning(&header)?;
    let channels = if header.components == 1 { Channels::Grey } else { Channels::Rgb };
    let samples = if header.components == 4 { cmyk::inverted_to_rgb(&rows.samples) } else { rows.samples };
    let raster = Raster { width: header.width, height: header.height, channels, samples };
    Ok(Outcome { image: raster.into_rgb(), exif: header.exif, xmp: header.xmp, warning })
}

/// The samples `[H, W, components]` of a JPEG inside another file: grey, RGB or CMYK as stored. Damaged data are refused.
pub(super) fn embedded(bytes: &[u8], size: [usize; 2], components: usize) -> Result<Vec<u8>, Problem> {
    let (header, rows) = read(bytes)?;
    let found = [header.width as usize, header.height as usize];
    if found[0] != size[0] || found[1] < size[1] || header.components != components {
        let form =
            |[width, height]: [usize; 2], components| format!("{width} x {height} pixels of {components} samples");
        return Err(
            expected(format_args!("a JPEG of {}", form(size, components))).found(form(found, header.components))
        );
    }
    match rows.good {
        Some(_) => Err(damaged()),
        None => Ok(rows.samples),
    }
}

fn read(bytes: &[u8]) -> Result<(Header, Rows), Problem> {
    let header = Header::read(bytes)?;
    header.check(bytes)?;
    if header.pixels() == 0 {
        return Err(oversized(header.width, header.height));
    }
    let ends = Cell::new(0);
    let refused = |_| Err(if ends.get() > 0 { truncated(FORMAT) } else { damaged() });
    let rows = fenced(|| rows(bytes, &header, &ends)).unwrap_or_else(refused)?;
    Ok((header, rows))
}

/// The decoded rows, and where the decoder began to guess.
struct Rows {
    samples: Vec<u8>,
    /// The number of rows that had been decoded before the first warning.
    good: Option<usize>,
    /// Whether the file ended before the image did.
    ended: bool,
}

impl Rows {
    /// The warning for guessed pixels. A file that ends early lacks more than that and is refused, but for the last rows.
    fn warning(&self, header: &Header) -> Result<Option<String>, Problem> {
        if self.ended && !header.single_scan {
            return Err(truncated(FORMAT));
        }
        let Some(good) = self.good else { return Ok(None) };
        let height = header.height as usize;
        let lost = height - good;
        if self.ended && lost > (2 * header.block_rows).min(height / LOST_SHARE) {
            return Err(truncated(FORMAT));
        }
        let place = if header.single_scan { format!("below row {good} of {height}") } else { "in places".to_owned() };
        Ok(Some(format!("the JPEG data are damaged, so pixels {place} are guessed")))
    }
}

/// Decodes all rows. Errors of the decoder unwind; the caller fences them.
///
/// `ends` counts the reads after the last byte.
fn rows(bytes: &[u8], header: &Header, ends: &Cell<usize>) -> Result<Rows, Problem> {
    WARNINGS.set(0);
    let guesses = || WARNINGS.get() > ends.get();
    let decoder = Decompress::with_err(error_manager()).from_reader(Input::new(bytes, ends)).map_err(|_| damaged())?;
    if decoder.size() != (header.width as usize, header.height as usize) {
        return Err(damaged());
    }
    let colour = match header.components {
        1 => ColorSpace::JCS_GRAYSCALE,
        3 => ColorSpace::JCS_RGB,
        _ => ColorSpace::JCS_CMYK,
    };
    let mut decoder: DecompressStarted<_> = decoder.to_colorspace(colour).map_err(|_| damaged())?;
    let mut good = guesses().then_some(0);
    let mut samples = vec![0; decoder.min_flat_buffer_size()];
    for (number, row) in samples.chunks_exact_mut(header.width as usize * header.components).enumerate() {
        decoder.read_scanlines_into(row).map_err(|_| truncated(FORMAT))?;
        if good.is_none() && guesses() {
            good = Some(number);
        }
    }
    Ok(Rows { samples, good, ended: ends.get() > 0 })
}

/// A handler that counts warnings and unwinds on errors. It prints nothing, so it needs no table of messages.
fn error_manager() -> jpeg_error_mgr {
    extern "C-unwind" fn unwind(_: &mut jpeg_common_struct) {
        std::panic::resume_unwind(Box::new("the JPEG decoder refused the data"));
    }
    extern "C-unwind" fn count(_: &mut jpeg_common_struct, level: c_int) {
        if level < 0 {
            WARNINGS.set(WARNINGS.get() + 1);
        }
    }
    extern "C-unwind" fn nothing(_: &mut jpeg_common_struct) {}
    jpeg_error_mgr {
        error_exit: Some(unwind),
        emit_message: Some(count),
        output_message: Some(nothing),
        format_message: None,
        reset_error_mgr: Some(nothing),
        msg_code: 0,
        msg_parm: Default::default(),
        trace_level: 0,
        num_warnings: 0,
        jpeg_message_table: ptr::null(),
        last_jpeg_message: 0,
        addon_message_table: ptr::null(),
        first_addon_message: 0,
        last_addon_message: 0,
    }
}

fn damaged() -> Problem {
    expected("a readable JPEG image").found("damaged data")
}

impl Header {
    /// Refuses kinds that are not decoded, and sizes beyond the bound on memory.
    fn check(&self, bytes: &[u8]) -> Result<(), Problem> {
        let kind = match (self.kind, self.precision, self.components) {
            (0xc3 | 0xcb, ..) => "a lossless JPEG".to_owned(),
            (0xc5..=0xc7 | 0xcd..=0xcf, ..) => "a hierarchical JPEG".to_owned(),
            (_, 8, 1 | 3 | 4) => String::new(),
            (_, 8, components) => format!("a JPEG of {components} components"),
            (_, precision, _) => format!("a JPEG of {precision} bits per sample"),
        };
        if !kind.is_empty() {
            return Err(expected("a JPEG of 8 bits with 1, 3 or 4 components, sequential or progressive").found(kind));
        }
        let coefficients = if self.single_scan { 0 } else { 2 * self.components as u64 };
        let memory = self.pixels() * (self.components as u64 + 3 + coefficients);
        if memory > MAX_BYTES {
            return Err(oversized(self.width, self.height));
        }
        // Each scan of a progressive image costs a pass over all coefficients, also a scan without data.
        let scans = bytes.windows(2).filter(|pair| *pair == [0xff, 0xda]).count() as u64;
        match scans > 64.max((1 << 33) / self.pixels().max(1)) {
            true => Err(expected("a JPEG with at most 64 scans").found(scans)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

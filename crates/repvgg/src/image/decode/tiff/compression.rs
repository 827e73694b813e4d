//! From the bytes of a strip or tile to its samples as stored.

use std::io::Read;

use flate2::read::ZlibDecoder;
use weezl::{BitOrder, decode::Configuration};

use crate::error::{Problem, expected};
use crate::image::decode::refusal::truncated;

/// Decompresses `data` to `length` bytes; `width` is the number of pixels in a row.
///
/// A chunk that holds fewer bytes is cut; what it holds beyond is left, as by Pillow.
pub(super) fn decompress(data: &[u8], compression: u64, length: usize, width: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = match compression {
        1 => data.to_vec(),
        4 => fax(data, width, length)?,
        5 => lzw(data, length),
        8 | 32946 => {
            let mut bytes = Vec::new();
            // A damaged end still leaves the bytes before it, and whether they suffice is asked below.
            let _ = ZlibDecoder::new(data).take(length as u64).read_to_end(&mut bytes);
            bytes
        }
        32773 => pack_bits(data, length),
        other => return Err(unsupported(other)),
    };
    if bytes.len() < length {
        return Err(truncated("TIFF"));
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn unsupported(compression: u64) -> Problem {
    let found = match compression {
        2 | 3 => "fax coding in one dimension".to_owned(),
        6 => "JPEG of the old style".to_owned(),
        9 | 10 => "JBIG".to_owned(),
        33003 | 33005 | 34712 => "JPEG 2000".to_owned(),
        34676 | 34677 => "the coding of high dynamic range".to_owned(),
        34887 => "LERC".to_owned(),
        34925 => "LZMA".to_owned(),
        50000 => "Zstandard".to_owned(),
        50001 => "WebP".to_owned(),
        50002 | 52546 => "JPEG XL".to_owned(),
        other => format!("compression {other}"),
    };
    expected("a TIFF without compression, or with LZW, Deflate, PackBits, JPEG or fax group 4").found(found)
}

/// LZW with the highest bit first, or, from old writers, the lowest.
fn lzw(data: &[u8], length: usize) -> Vec<u8> {
    let old = data.len() > 1 && data[0] == 0 && data[1] & 1 == 1;
    let mut decoder = match old {
        true => Configuration::new(BitOrder::Lsb, 8).build(),
        false => Configuration::with_tiff_size_switch(BitOrder::Msb, 8).build(),
    };
    let mut bytes = vec![0; length];
    let mut written = 0;
    let mut rest = data;
    while written < length {
        let step = decoder.decode_bytes(rest, &mut bytes[written..]);
        rest = &rest[step.consumed_in..];
        written += step.consumed_out;
        if step.status.is_err() || (step.consumed_in == 0 && step.consumed_out == 0) {
            break;
        }
    }
    bytes.truncate(written);
    bytes
}

/// Runs of bytes (TIFF 6.0, section 9).
fn pack_bits(data: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    let mut rest = data;
    while let [head, after @ ..] = rest {
        if bytes.len() >= length {
            break;
        }
        rest = match *head {
            0..=127 => {
                let (literal, after) = after.split_at((usize::from(*head) + 1).min(after.len()));
                bytes.extend_from_slice(literal);
                after
            }
            128 => after,
            129.. => {
                let Some((byte, after)) = after.split_first() else { break };
                bytes.extend(std::iter::repeat_n(*byte, 257 - usize::from(*head)));
                after
            }
        };
    }
    bytes
}

/// Fax coding of group 4 (ITU-T T.6): white runs are zeros.
fn fax(data: &[u8], width: usize, length: usize) -> Result<Vec<u8>, Problem> {
    let row = width.div_ceil(8);
    let rows = length / row.max(1);
    let [Ok(columns), Ok(height)] = [width, rows].map(u16::try_from) else {
        return Err(expected("fax coding of at most 65535 pixels in a row").found(width.max(rows)));
    };
    let mut bytes = Vec::with_capacity(length);
    let _ = fax::decoder::decode_g4(data.iter().copied(), columns, Some(height), |transitions| {
        let start = bytes.len();
        bytes.resize(start + row, 0);
        for (x, colour) in fax::decoder::pels(transitions, columns).enumerate() {
            if colour == fax::Color::Black {
                bytes[start + x / 8] |= 0x80 >> (x % 8);
            }
        }
    });
    Ok(bytes)
}

//! The notes in the chunks of a PNG (PNG 3rd edition, 11.3), also those after the pixels.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// The most bytes of a note that are decompressed.
const MAX_NOTE: u64 = 1 << 20;

/// The EXIF and XMP data of a PNG.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) exif: Option<Vec<u8>>,
    pub(super) xmp: Option<Vec<u8>>,
}

/// Reads the notes. A chunk that is cut or malformed holds none: whether the image is whole is the decoder's question.
pub(super) fn notes(png: &[u8]) -> Notes {
    let mut notes = Notes::default();
    let mut rest = png.get(8..).unwrap_or_default();
    while let Some((kind, data, after)) = chunk(rest) {
        rest = after;
        match kind {
            b"eXIf" => notes.exif = Some(data.to_vec()),
            b"iTXt" => notes.xmp = notes.xmp.or_else(|| xmp(data)),
            b"tEXt" | b"zTXt" => notes.exif = notes.exif.or_else(|| raw_exif(kind, data)),
            _ => {}
        }
    }
    notes
}

/// The kind of the first chunk, its data, and what follows its checksum.
fn chunk(bytes: &[u8]) -> Option<(&[u8; 4], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let (data, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((kind, data, rest.get(4..).unwrap_or_default()))
}

/// The XMP packet of an `iTXt` chunk: keyword, 0, compression flag and method, language, 0, translated keyword, 0, text.
fn xmp(data: &[u8]) -> Option<Vec<u8>> {
    let rest = data.strip_prefix(b"XML:com.adobe.xmp\0")?;
    let (&compressed, rest) = rest.split_first()?;
    let mut parts = rest.get(1..)?.splitn(3, |&byte| byte == 0).skip(2);
    let text = parts.next()?;
    if compressed == 0 { Some(text.to_vec()) } else { inflate(text) }
}

/// EXIF data as ImageMagick wrote them before `eXIf` existed: lines of a name and a length, then hexadecimal digits.
fn raw_exif(kind: &[u8; 4], data: &[u8]) -> Option<Vec<u8>> {
    let rest = data.strip_prefix(b"Raw profile type exif\0")?;
    let text = if kind == b"zTXt" { inflate(rest.get(1..)?)? } else { rest.to_vec() };
    let lines = text.splitn(4, |&byte| byte == b'\n').nth(3)?;
    let digits: Vec<u8> =
        lines.iter().filter_map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8)).collect();
    Some(digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect())
}

fn inflate(data: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(data).take(MAX_NOTE).read_to_end(&mut text).ok()?;
    Some(text)
}

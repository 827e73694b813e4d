use std::{fs, io::Cursor, path::PathBuf};

use ::image::{ImageBuffer, ImageFormat, Rgb, RgbImage};

use super::*;
use crate::image::list;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/images"))
}

/// The files to decode, without the expected images.
fn files() -> Vec<PathBuf> {
    let mut files = list(folder()).unwrap().files;
    files.retain(|file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        !name.contains("expected") && !name.starts_with("crop")
    });
    files
}

/// The formula of `tools/golden_images.py`.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|c| ((x * x * 3 + y * 29 + x * y * 5 + c * 91) % 256) as u8))
    })
}

fn encode(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn refusal(bytes: &[u8]) -> String {
    decode_bytes(bytes, "photo").unwrap_err().to_string()
}

/// JPEG matches to the bit because the decoder is Pillow's. Lossy WebP rounds the conversion to RGB otherwise.
#[test]
fn every_format_decodes_as_in_pillow() {
    let files = files();
    assert_eq!(files.len(), 31);
    for file in files {
        let found = decode(&file).unwrap();
        let expected = PathBuf::from(format!("{}.expected.png", file.display()));
        let expected = if expected.exists() { decode(expected).unwrap() } else { picture(16, 12) };
        let name = file.file_name().unwrap().to_str().unwrap();
        let bound = if name == "lossy.webp" { 3 } else { 0 };
        assert_eq!(found.dimensions(), expected.dimensions(), "{name}");
        let difference = found.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(difference <= bound, "{name}: {difference}");
    }
}

#[test]
fn sixteen_bits_are_rounded() {
    let values = [0u16, 128, 129, 257, 32768, 65535];
    let image: ImageBuffer<Rgb<u16>, _> = ImageBuffer::from_raw(2, 1, values.to_vec()).unwrap();
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let found = decode_bytes(bytes.get_ref(), "sixteen.png").unwrap();
    assert_eq!(found.as_raw(), &values.map(|value| (f64::from(value) / 257.0).round() as u8));
}

#[test]
fn a_format_is_recognised_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really-png.jpg");
    fs::write(&path, encode(&picture(5, 4), ImageFormat::Png)).unwrap();
    assert_eq!(decode(path).unwrap(), picture(5, 4));
}

#[test]
fn bytes_that_are_not_an_image_are_refused() {
    assert_eq!(refusal(b"this is text"), "photo: not an image (first bytes 74 68 69 73)");
    assert_eq!(refusal(b""), "photo: expected an image, found an empty file");
    assert_eq!(refusal(b"qoif\0\0\0\x01"), "photo: expected PNG, JPEG, GIF, WebP, BMP, TIFF or PNM, found Qoi");
    let missing = decode(folder().join("missing.png")).unwrap_err();
    assert_eq!(missing.kind(), crate::ErrorKind::Io);
    assert!(decode(folder()).is_err(), "a folder");
}

/// Headers that state a size, with no pixels after them.
#[test]
fn huge_and_empty_images_are_refused_before_allocation() {
    let refused =
        |side: u32| format!("photo: expected an image that is decoded within 2 GiB, found {side} x {side} pixels");
    let headers: [fn(u32, u32) -> Vec<u8>; 3] = [png_header, bmp_header, tiff_header];
    for header in headers {
        assert_eq!(refusal(&header(30_000, 30_000)), refused(30_000));
        let empty = refusal(&header(0, 5));
        assert!(empty.starts_with("photo: expected "), "{empty}");
    }
    assert_eq!(refusal(&png_header(100_000, 100_000)), refused(100_000));
    assert_eq!(refusal(&tiff_header(100_000, 100_000)), refused(100_000));
    let mut gif = fs::read(folder().join("animated.gif")).unwrap();
    gif[6..10].fill(0xff);
    assert_eq!(refusal(&gif), refused(65535));
    let mut jpeg = fs::read(folder().join("rgb.jpg")).unwrap();
    let frame = jpeg.windows(4).position(|four| four == [0xff, 0xc0, 0, 17]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    assert_eq!(refusal(&jpeg), refused(65535));
}

/// 200 megapixels, as phones take them, as the smallest file: a PNG of one bit per pixel whose rows are zero.
#[test]
fn a_photograph_of_200_megapixels_is_decoded() {
    let image = ::image::GrayImage::new(16_384, 12_288);
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    assert_eq!(decode_bytes(bytes.get_ref(), "photo").unwrap().dimensions(), (16_384, 12_288));
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [kind.as_slice(), data].concat();
        [&(data.len() as u32).to_be_bytes(), body.as_slice(), &crc32(&body).to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes(), &height.to_be_bytes(), [8u8, 2, 0, 0, 0].as_slice()].concat();
    [b"\x89PNG\r\n\x1a\n".as_slice(), &chunk(b"IHDR", &header), &chunk(b"IDAT", &[0; 8])].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn bmp_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encode(&picture(2, 2), ImageFormat::Bmp);
    bytes[18..22].copy_from_slice(&width.to_le_bytes());
    bytes[22..26].copy_from_slice(&height.to_le_bytes());
    bytes
}

fn tiff_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = fs::read(folder().join("lzw.tiff")).unwrap();
    let directory = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    for (entry, value) in [(0, width), (1, height)] {
        let at = directory + 2 + 12 * entry;
        assert_eq!(u16::from_le_bytes([bytes[at], bytes[at + 1]]), 256 + entry as u16, "the tags are sorted");
        bytes[at + 2] = 4; // A number of 32 bits.
        bytes[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Pillow raises "image file is truncated" for these too: nine tenths of a file are never an image.
#[test]
fn truncated_images_are_refused() {
    // These hold all of their image before other bytes, or less than all of it.
    let odd = ["trailer-instead-of-the-end.jpg", "ended-early.jpg"];
    for file in files().into_iter().filter(|file| !odd.iter().any(|odd| file.ends_with(odd))) {
        let bytes = fs::read(&file).unwrap();
        // Animations contain more than the frame that is read.
        let tenths = if file.to_str().unwrap().contains("animated") { 4 } else { 9 };
        for length in 0..bytes.len() * tenths / 10 {
            let found = decode_bytes(&bytes[..length], "photo");
            assert!(found.is_err(), "{} cut to {length} of {}", file.display(), bytes.len());
        }
    }
    let jpeg = fs::read(folder().join("progressive.jpg")).unwrap();
    assert_eq!(refusal(&jpeg[..jpeg.len() - 1]), "photo: expected a complete JPEG image, found a truncated one");
}

#[test]
fn a_thumbnail_does_not_end_a_jpeg() {
    let inner = fs::read(folder().join("grey.jpg")).unwrap();
    let complete = fs::read(folder().join("rgb.jpg")).unwrap();
    let segment = [&[0xff, 0xe2], &(inner.len() as u16 + 2).to_be_bytes(), inner.as_slice()].concat();
    let file = [&complete[..2], &segment, &complete[2..]].concat();
    assert_eq!(decode_bytes(&file, "photo").unwrap(), decode_bytes(&complete, "photo").unwrap());
    assert!(decode_bytes(&file[..file.len() - 16], "photo").is_err(), "the thumbnail's end marker is not the image's");
    let trailing = [complete.as_slice(), b"trailing"].concat();
    assert!(decode_bytes(&trailing, "photo").is_ok());
}

/// Each flipped bit of each file gives an image or a one-line error, never a panic.
#[test]
fn flipped_bits_never_panic() {
    for file in files() {
        let mut bytes = fs::read(&file).unwrap();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Err(error) = decode_bytes(&bytes, "photo") {
                let message = error.to_string();
                assert!(message.starts_with("photo: ") && !message.contains('\n'), "{message}");
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

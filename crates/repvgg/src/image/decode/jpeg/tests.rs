use std::fs;
use std::path::PathBuf;

use crate::image::{Decoded, Orientation, read_bytes};

fn file(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/images"));
    fs::read(folder.join(name)).unwrap()
}

fn read(bytes: &[u8]) -> Result<Decoded, String> {
    read_bytes(bytes, "photo", Orientation::Upright).map_err(|error| error.to_string())
}

/// The end marker comes 60 bytes early: Pillow shows grey there without a word.
#[test]
fn guessed_pixels_are_reported() {
    let decoded = read(&file("ended-early.jpg")).unwrap();
    let warning = "the JPEG data are damaged, so pixels below row 14 of 27 are guessed";
    assert_eq!(decoded.warning.as_deref(), Some(warning));
    for whole in ["rgb.jpg", "progressive.jpg", "separate-420.jpg", "restart-each-unit.jpg", "no-huffman-tables.jpg"] {
        assert_eq!(read(&file(whole)).unwrap().warning, None, "{whole}");
    }
    assert_eq!(read(&file("trailer-instead-of-the-end.jpg")).unwrap().warning, None);
}

/// 400 rows in units of 16: the decoder says where the data end, to one unit.
#[test]
fn a_cut_photograph_is_read_if_only_its_last_rows_are_lost() {
    let whole = file("tall.jpg");
    let end = [0xff, 0xd9];
    assert_eq!(read(&whole).unwrap().warning, None);
    assert_eq!(read(&whole[..whole.len() - 2]).unwrap(), read(&whole).unwrap(), "only the end marker is lost");

    let pixels = read(&whole).unwrap().image;
    let cut = read(&whole[..whole.len() - 8]).unwrap();
    let row = |warning: &str| warning.split(' ').nth(9).unwrap().parse::<usize>().unwrap();
    let good = row(cut.warning.as_deref().unwrap());
    assert!((368..400).contains(&good), "{good}");
    assert_eq!(cut.image.as_raw()[..good * 48], pixels.as_raw()[..good * 48]);

    let half = &whole[..whole.len() / 2];
    assert_eq!(read(half).unwrap_err(), "photo: expected a complete JPEG image, found a truncated one");
    let closed = read(&[half, &end].concat()).unwrap();
    let good = row(closed.warning.as_deref().unwrap());
    assert!((16..300).contains(&good), "{good}");
    assert_eq!(closed.image.as_raw()[..good * 48], pixels.as_raw()[..good * 48]);
}

#[test]
fn kinds_that_are_not_decoded_are_named() {
    let bytes = file("rgb.jpg");
    let frame = bytes.windows(4).position(|four| four == [0xff, 0xc0, 0, 17]).unwrap();
    let changed = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[frame + at] = value;
        read(&bytes).unwrap_err()
    };
    let expected = "photo: expected a JPEG of 8 bits with 1, 3 or 4 components, sequential or progressive, found ";
    assert_eq!(changed(1, 0xc3), format!("{expected}a lossless JPEG"));
    assert_eq!(changed(1, 0xc5), format!("{expected}a hierarchical JPEG"));
    assert_eq!(changed(4, 12), format!("{expected}a JPEG of 12 bits per sample"));
    assert_eq!(changed(9, 2), format!("{expected}a JPEG of 2 components"));
    assert_eq!(changed(6, 0), "photo: expected at least one pixel, found 16 x 0 pixels");
    assert_eq!(read(&bytes[..40]).unwrap_err(), "photo: expected a complete JPEG image, found a truncated one");
    assert_eq!(read(b"\xff\xd8\xff\xd9").unwrap_err(), "photo: expected an image before the end marker, found none");
}

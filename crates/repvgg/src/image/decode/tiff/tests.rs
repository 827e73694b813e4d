use std::fs;
use std::path::PathBuf;

use ::image::{Rgb, RgbImage};

use crate::image::{decode, decode_bytes};

const SHORT: u16 = 3;
const LONG: u16 = 4;

/// The sides of the pictures, no multiple of a tile's.
const SIDES: [usize; 2] = [21, 13];

#[derive(Clone, Copy, PartialEq)]
enum Header {
    Little,
    Big,
    /// BigTIFF, little end first.
    Eight,
}

/// A tag, its type, and its values.
type Tag = (u16, u16, Vec<u64>);

/// A TIFF of the given tags, sorted here, and strips or tiles.
fn tiff(header: Header, tags: &[Tag], chunks: &[Vec<u8>]) -> Vec<u8> {
    let number = |value: u64, size: usize| match header {
        Header::Big => value.to_be_bytes()[8 - size..].to_vec(),
        _ => value.to_le_bytes()[..size].to_vec(),
    };
    let (counter, word) = if header == Header::Eight { (8, 8) } else { (2, 4) };
    let mut file = match header {
        Header::Little => b"II*\0\0\0\0\0".to_vec(),
        Header::Big => b"MM\0*\0\0\0\0".to_vec(),
        Header::Eight => b"II+\0\x08\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
    };
    let tiled = tags.iter().any(|tag| tag.0 == 322);
    let mut tags = tags.to_vec();
    let places = chunks.iter().map(|chunk| {
        file.extend_from_slice(chunk);
        (file.len() - chunk.len()) as u64
    });
    tags.push((if tiled { 324 } else { 273 }, LONG, places.collect()));
    tags.push((if tiled { 325 } else { 279 }, LONG, chunks.iter().map(|chunk| chunk.len() as u64).collect()));
    tags.sort();
    let mut entries = number(tags.len() as u64, counter);
    for (tag, kind, values) in &tags {
        let size = match *kind {
            SHORT => 2,
            LONG => 4,
            _ => 1,
        };
        let mut bytes: Vec<u8> = values.iter().flat_map(|&value| number(value, size)).collect();
        if bytes.len() > word {
            file.extend_from_slice(&bytes);
            bytes = number((file.len() - bytes.len()) as u64, word);
        }
        bytes.resize(word, 0);
        let head =
            [number(u64::from(*tag), 2), number(u64::from(*kind), 2), number(values.len() as u64, word)].concat();
        entries.extend([head, bytes].concat());
    }
    let place = number(file.len() as u64, word);
    file.extend(entries);
    let at = if header == Header::Eight { 8 } else { 4 };
    file[at..at + word].copy_from_slice(&place);
    file
}

/// The tags that every image has.
fn tags(bits: u64, samples: usize, photometric: u64) -> Vec<Tag> {
    vec![
        (256, SHORT, vec![SIDES[0] as u64]),
        (257, SHORT, vec![SIDES[1] as u64]),
        (258, SHORT, vec![bits; samples]),
        (262, SHORT, vec![photometric]),
        (277, SHORT, vec![samples as u64]),
    ]
}

fn with(mut tags: Vec<Tag>, more: &[(u16, u64)]) -> Vec<Tag> {
    tags.retain(|tag| more.iter().all(|(number, _)| *number != tag.0));
    tags.extend(more.iter().map(|&(tag, value)| (tag, SHORT, vec![value])));
    tags
}

fn picture() -> RgbImage {
    RgbImage::from_fn(SIDES[0] as u32, SIDES[1] as u32, |x, y| {
        Rgb([0, 1, 2].map(|c| ((x * x * 3 + y * 29 + x * y * 5 + c * 91) % 256) as u8))
    })
}

/// The bytes of the rectangle of `size` at a place, zero outside the image, for the given channels.
fn rectangle([left, top]: [usize; 2], [width, height]: [usize; 2], channels: &[usize]) -> Vec<u8> {
    let image = picture();
    let mut bytes = Vec::new();
    for (y, x) in (top..top + height).flat_map(|y| (left..left + width).map(move |x| (y, x))) {
        let pixel = image.get_pixel_checked(x as u32, y as u32).copied().unwrap_or(Rgb([0; 3]));
        bytes.extend(channels.iter().map(|&channel| pixel[channel]));
    }
    bytes
}

/// Tiles of 16 × 16 or strips of 5 rows, together or in planes.
fn chunks(tiled: bool, planar: bool) -> Vec<Vec<u8>> {
    let together: &[&[usize]] = &[&[0, 1, 2]];
    let planes: &[&[usize]] = if planar { &[&[0], &[1], &[2]] } else { together };
    let places: &[[usize; 4]] = match tiled {
        true => &[[0, 0, 16, 16], [16, 0, 16, 16]],
        false => &[[0, 0, 21, 5], [0, 5, 21, 5], [0, 10, 21, 3]],
    };
    let chunk = |channels: &&[usize], [x, y, w, h]: [usize; 4]| rectangle([x, y], [w, h], channels);
    planes.iter().flat_map(|channels| places.iter().map(move |&place| chunk(channels, place))).collect()
}

fn rgb(tiled: bool, planar: bool) -> Vec<Tag> {
    let size: &[(u16, u64)] = if tiled { &[(322, 16), (323, 16)] } else { &[(278, 5)] };
    with(with(tags(8, 3, 2), size), &[(284, if planar { 2 } else { 1 })])
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn lzw(bytes: &[u8]) -> Vec<u8> {
    weezl::encode::Encoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8).encode(bytes).unwrap()
}

/// Literal runs of up to 128 bytes, and a repeated run where bytes are equal.
fn pack_bits(bytes: &[u8]) -> Vec<u8> {
    let runs = bytes.chunk_by(|a, b| a == b).flat_map(|run| run.chunks(128));
    runs.flat_map(|run| if run.len() == 1 { vec![0, run[0]] } else { vec![(257 - run.len()) as u8, run[0]] }).collect()
}

#[test]
fn strips_and_tiles_decode_together_and_in_planes() {
    type Encode = fn(&[u8]) -> Vec<u8>;

    for header in [Header::Little, Header::Big, Header::Eight] {
        for (tiled, planar) in [(false, false), (false, true), (true, false), (true, true)] {
            let plain = chunks(tiled, planar);
            let codings: [(u64, Encode); 5] =
                [(1, <[u8]>::to_vec), (5, lzw), (8, zlib), (32946, zlib), (32773, pack_bits)];
            for (compression, encode) in codings {
                let coded: Vec<Vec<u8>> = plain.iter().map(|chunk| encode(chunk)).collect();
                let file = tiff(header, &with(rgb(tiled, planar), &[(259, compression)]), &coded);
                let found = decode_bytes(&file, "scan.tif").unwrap();
                assert!(found == picture(), "tiled {tiled}, planar {planar}, compression {compression}");
            }
        }
    }
}

#[test]
fn a_horizontal_predictor_is_undone() {
    let image = picture();
    let mut rows = image.as_raw().clone();
    for row in rows.chunks_exact_mut(63) {
        for at in (3..63).rev() {
            row[at] = row[at].wrapping_sub(row[at - 3]);
        }
    }
    let file = tiff(Header::Little, &with(tags(8, 3, 2), &[(259, 8), (317, 2)]), &[zlib(&rows)]);
    assert_eq!(decode_bytes(&file, "scan.tif").unwrap(), image);
}

/// The bits of values, each row padded to bytes.
fn packed(values: &[u8], bits: usize) -> Vec<u8> {
    let row = |row: &[u8]| {
        let text: String = row.iter().map(|value| format!("{value:0bits$b}")).collect();
        let bytes = text.as_bytes().chunks(8).map(|byte| format!("{:0<8}", std::str::from_utf8(byte).unwrap()));
        bytes.map(|byte| u8::from_str_radix(&byte, 2).unwrap()).collect::<Vec<u8>>()
    };
    values.chunks(SIDES[0]).flat_map(row).collect()
}

#[test]
fn grey_and_palettes_of_few_bits_decode() {
    for bits in [1, 2, 4, 8] {
        let most = (1u32 << bits) - 1;
        let values: Vec<u8> = (0..273u32).map(|at| (at * 37 % (most + 1)) as u8).collect();
        let grey = |value: u8, inverted: bool| {
            let level = u32::from(value) * 255 / most;
            [(if inverted { 255 - level } else { level }) as u8; 3]
        };
        for (photometric, inverted) in [(0, true), (1, false)] {
            let file = tiff(Header::Big, &tags(bits, 1, photometric), &[packed(&values, bits as usize)]);
            let expected: Vec<u8> = values.iter().flat_map(|&value| grey(value, inverted)).collect();
            assert_eq!(decode_bytes(&file, "scan.tif").unwrap().as_raw(), &expected, "{bits} bits");
        }
        let map = (0..3 << bits).map(|at| (at * 4099 + 77) % 65536).collect::<Vec<u64>>();
        let colour = |value: u8| [0, 1, 2].map(|channel| (map[(channel << bits) + usize::from(value)] / 256) as u8);
        let expected: Vec<u8> = values.iter().flat_map(|&value| colour(value)).collect();
        let palette = [tags(bits, 1, 3), vec![(320, SHORT, map.clone())]].concat();
        let file = tiff(Header::Little, &palette, &[packed(&values, bits as usize)]);
        assert_eq!(decode_bytes(&file, "scan.tif").unwrap().as_raw(), &expected, "{bits} bits");
        let swapped = packed(&values, bits as usize).iter().map(|byte| byte.reverse_bits()).collect();
        let file = tiff(Header::Little, &with(palette, &[(266, 2)]), &[swapped]);
        assert_eq!(decode_bytes(&file, "scan.tif").unwrap().as_raw(), &expected, "{bits} bits, the lowest first");
    }
}

/// A file of equal pixels, and the first decoded one.
fn pixel(tags: &[Tag], bytes: &[u8]) -> [u8; 3] {
    decode_bytes(&tiff(Header::Little, tags, &[bytes.repeat(273)]), "scan.tif").unwrap().get_pixel(20, 12).0
}

/// Pillow 13.0.0 gives these numbers for the same files.
#[test]
fn alpha_inks_and_luma_become_rgb() {
    let associated = with(tags(8, 4, 2), &[(338, 1)]);
    assert_eq!(pixel(&associated, &[100, 50, 0, 128]), [199, 99, 0]);
    assert_eq!(pixel(&associated, &[100, 50, 7, 0]), [0, 0, 0]);
    assert_eq!(pixel(&associated, &[100, 50, 7, 255]), [100, 50, 7]);
    assert_eq!(pixel(&with(tags(8, 4, 2), &[(338, 2)]), &[100, 50, 7, 0]), [100, 50, 7]);
    assert_eq!(pixel(&with(tags(8, 2, 1), &[(338, 1)]), &[60, 120]), [127; 3]);
    assert_eq!(pixel(&tags(8, 4, 5), &[10, 100, 200, 50]), [197, 125, 44]);
    assert_eq!(pixel(&tags(16, 3, 2), &[0, 0, 0, 128, 255, 255]), [0, 128, 255]);
    let float = with(tags(32, 3, 2), &[(339, 3)]);
    assert_eq!(pixel(&float, &[0.0f32, 0.5, 2.0].map(f32::to_le_bytes).concat()), [0, 128, 255]);
    assert_eq!(pixel(&[tags(8, 3, 6), vec![(530, SHORT, vec![1, 1])]].concat(), &[120, 90, 200]), [220, 81, 52]);
}

/// Units of four luma values and a pair of chroma, 11 × 7 of them, the last ones half outside the image.
#[test]
fn subsampled_chroma_is_spread() {
    let unit = |x: usize, y: usize| [10, 20, 30, 40, 128, if x == 10 && y == 6 { 228 } else { 128 }];
    let bytes: Vec<u8> = (0..77).flat_map(|at| unit(at % 11, at / 11)).collect();
    let found = decode_bytes(&tiff(Header::Little, &tags(8, 3, 6), &[bytes]), "scan.tif").unwrap();
    assert_eq!([(0, 0), (1, 0), (0, 1), (1, 1)].map(|(x, y)| found.get_pixel(x, y)[0]), [10, 20, 30, 40]);
    assert_eq!(found.get_pixel(20, 12).0, [150, 0, 10]);
}

fn stored(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/images")).join(name)
}

#[test]
fn jpeg_inside_decodes_with_and_without_shared_tables() {
    let jpeg = fs::read(stored("rgb.jpg")).unwrap();
    let size = [(256, 16), (257, 12), (259, 7)];
    let expected = decode(stored("rgb.jpg")).unwrap();
    let file = tiff(Header::Little, &with(tags(8, 3, 6), &size), std::slice::from_ref(&jpeg));
    assert_eq!(decode_bytes(&file, "scan.tif").unwrap(), expected);

    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let tables: Vec<u64> = [&jpeg[..frame], &[0xff, 0xd9]].concat().iter().map(|&byte| byte.into()).collect();
    let rest = [&[0xff, 0xd8], &jpeg[frame..]].concat();
    let shared = [with(tags(8, 3, 6), &size), vec![(347, 7, tables)]].concat();
    assert_eq!(decode_bytes(&tiff(Header::Little, &shared, &[rest]), "scan.tif").unwrap(), expected);
}

#[test]
fn an_orientation_turns_the_image() {
    let file = tiff(Header::Little, &with(rgb(true, false), &[(274, 6)]), &chunks(true, false));
    assert_eq!(decode_bytes(&file, "scan.tif").unwrap(), ::image::imageops::rotate90(&picture()));
}

#[test]
fn kinds_that_are_not_decoded_are_named() {
    let refusal = |tags: Vec<Tag>| {
        let bytes = tiff(Header::Little, &tags, &[vec![0; 4096]]);
        decode_bytes(&bytes, "scan.tif").unwrap_err().to_string()
    };
    let lab = "scan.tif: expected a TIFF in grey, RGB, CMYK, YCbCr or with a palette, found CIE Lab";
    assert_eq!(refusal(tags(8, 3, 8)), lab);
    let coding = refusal(with(tags(8, 3, 2), &[(259, 50000)]));
    let known = "scan.tif: expected a TIFF without compression, or with LZW, Deflate, PackBits, JPEG or fax group 4";
    assert_eq!(coding, format!("{known}, found Zstandard"));
    let bits = refusal(tags(12, 1, 1));
    assert_eq!(bits, "scan.tif: expected a TIFF with 1 to 16 bits per sample, found grey of 12 bits");
    let signed = refusal(with(tags(8, 1, 1), &[(339, 2)]));
    assert_eq!(signed, "scan.tif: expected a TIFF of unsigned samples, found signed numbers of 8 bits");
    let strips = refusal(with(tags(8, 3, 2), &[(278, 5)]));
    assert_eq!(strips, "scan.tif: expected a TIFF with 3 strips or tiles, found 1");
    let cut = refusal(tags(16, 8, 2));
    assert_eq!(cut, "scan.tif: expected a complete TIFF image, found a truncated one");
}

/// Each cut and each flipped bit gives an image or a sentence.
#[test]
fn damaged_files_never_panic() {
    for (tiled, planar) in [(false, true), (true, false)] {
        let coded: Vec<Vec<u8>> = chunks(tiled, planar).iter().map(|chunk| lzw(chunk)).collect();
        let file = tiff(Header::Eight, &with(rgb(tiled, planar), &[(259, 5)]), &coded);
        for length in 0..file.len() {
            assert!(decode_bytes(&file[..length], "scan.tif").is_err(), "cut to {length}");
        }
        let mut bytes = file;
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Err(error) = decode_bytes(&bytes, "scan.tif") {
                let message = error.to_string();
                assert!(message.starts_with("scan.tif: ") && !message.contains("decoder fails"), "{message}");
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

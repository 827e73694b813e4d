use std::fs;

use proptest::prelude::*;

use super::*;

/// Reads a file with these bytes; errors come without the leading path.
fn read_bytes(bytes: &[u8]) -> Result<Tensor, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    fs::write(&path, bytes).unwrap();
    read(&path).map_err(|error| error.to_string().strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned())
}

/// A file of version `major` with this header text and these bytes of elements.
fn file(major: u8, header: &str, elements: &[u8]) -> Vec<u8> {
    let length = match major {
        1 => (header.len() as u16).to_le_bytes().to_vec(),
        _ => (header.len() as u32).to_le_bytes().to_vec(),
    };
    [b"\x93NUMPY", &[major, 0][..], &length, header.as_bytes(), elements].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn written_bytes_match_numpy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    write(&path, &Tensor::new([3], vec![1.0, 2.0, 3.0]).unwrap()).unwrap();
    let mut header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }".to_vec();
    header.resize(127, b' ');
    header.push(b'\n');
    assert_eq!(fs::read(&path).unwrap(), [header, floats(&[1.0, 2.0, 3.0])].concat());
}

#[test]
fn every_version_and_both_types_are_read() {
    let header = r#"{"shape": (2, 1), 'fortran_order': False,'descr': '<f4'}"#;
    for major in 1..=3 {
        let tensor = read_bytes(&file(major, header, &floats(&[0.5, -2.0]))).unwrap();
        assert_eq!(tensor, Tensor::new([2, 1], vec![0.5, -2.0]).unwrap());
    }
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (), }  \n";
    let tensor = read_bytes(&file(1, header, &0.1f64.to_le_bytes())).unwrap();
    assert_eq!(tensor, Tensor::new([], vec![0.1f32]).unwrap());
}

#[test]
fn fortran_order_becomes_row_major() {
    let header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3, 2), }";
    // Element [i, j, k] is 100 i + 10 j + k; the first index is fastest in the file.
    let value = |i: usize, j: usize, k: usize| (100 * i + 10 * j + k) as f32;
    let stored: Vec<f32> = (0..12).map(|at| value(at % 2, at / 2 % 3, at / 6)).collect();
    let expected = Tensor::from_fn([2, 3, 2], |at| value(at / 6, at / 2 % 3, at % 2));
    assert_eq!(read_bytes(&file(1, header, &floats(&stored))).unwrap(), expected);
}

#[test]
fn empty_arrays_are_read() {
    for order in ["True", "False"] {
        let header = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': (0, 3), }}");
        assert_eq!(read_bytes(&file(1, &header, &[])).unwrap().shape(), [0, 3]);
    }
}

#[test]
fn hostile_files_are_refused() {
    let header = |descr: &str, shape: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "ends within the .npy header"),
        (b"PK\x03\x04....".to_vec(), "expected a .npy file, found other magic bytes"),
        (file(4, "{}", &[]), "expected .npy version 1, 2 or 3, found 4.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "expected a header of at most 65536 bytes, found 4294967295"),
        (file(1, "{", &[]), "expected ''' in the .npy header, found the end"),
        (file(1, "{'descr': '<f4'}", &[]), "expected a header with exactly the keys descr, fortran_order and shape"),
        (file(1, &header("'>f4'", "(1,)"), &[]), "expected elements of type '<f4' or '<f8', found '>f4'"),
        (file(1, &header("'|O'", "(1,)"), &[]), "expected elements of type '<f4' or '<f8', found '|O'"),
        (file(1, &header("'<f4'", "(-1,)"), &[]), "expected an extent in shape, found \"\""),
        (
            file(1, &header("'<f4'", "(99999999999999999999,)"), &[]),
            "expected an extent in shape, found \"99999999999999999999\"",
        ),
        (
            file(1, &header("'<f4'", "(4294967296, 4294967296)"), &[]),
            "expected an array that fits into memory, found shape [4294967296, 4294967296]",
        ),
        (file(1, &header("'<f4'", "(1000000000000,)"), &[0; 7]), "expected 4000000000000 bytes of elements, found 7"),
        (file(1, &header("'<f4'", "(1,)"), &[0; 9]), "expected 4 bytes of elements, found more"),
        (file(1, "{'shape': (1,), 'shape': (1,)}", &[]), "expected each key once, found \"shape\" again"),
        (
            file(1, "{'descr': '<f4', 'fortran_order': 1, 'shape': ()}", &[]),
            "expected fortran_order True or False, found \"\"",
        ),
    ];
    for (bytes, sentence) in cases {
        assert_eq!(read_bytes(&bytes).unwrap_err(), sentence);
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = read(Path::new("no/such.npy")).unwrap_err();
    assert!(error.to_string().starts_with("no/such.npy: "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arrays_survive_a_round_trip(shape in prop::collection::vec(0usize..5, 0..5), seed in any::<u32>()) {
        let tensor = Tensor::from_fn(shape, |i| f32::from_bits(seed.wrapping_mul(2_654_435_761).wrapping_add(i as u32) >> 2));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("array.npy");
        write(&path, &tensor).unwrap();
        prop_assert_eq!(read(&path).unwrap(), tensor);
    }

    #[test]
    fn damaged_bytes_never_panic(at in 0usize..80, value in any::<u8>(), length in 0usize..90) {
        let mut bytes = file(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }", &floats(&[1.0, 2.0]));
        bytes.truncate(length);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        let _ = read_bytes(&bytes);
    }
}

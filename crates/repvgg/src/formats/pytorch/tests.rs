use zip::CompressionMethod::{Deflated, Stored as Plain};

use super::assembler::{
    archive, call, dict, file, floats, int, ints, name, pickle, replaced, storage, stream, tensor, text, tuple,
};
use super::*;
use crate::Tensor;

fn tensor_of(shape: &[usize], data: &[f32]) -> Stored {
    Stored::Float(Tensor::new(shape, data.to_vec()).unwrap())
}

/// A tensor over all of a storage `0` of `count` floats.
fn flat(count: i64) -> Vec<u8> {
    tensor(storage("FloatStorage", "0", count), 0, &[count], &[1])
}

fn read(bytes: &[u8]) -> Result<Vec<(String, Stored)>> {
    super::read(bytes, None).map(|state| state.tensors)
}

fn sentence(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

const SIX: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

#[test]
fn archives_and_streams_give_the_same_tensors() {
    let value = dict(&[("a", flat(6)), ("b", tensor(storage("FloatStorage", "0", 6), 1, &[2, 2], &[3, 1]))]);
    let expected =
        [("a".to_owned(), tensor_of(&[6], &SIX)), ("b".to_owned(), tensor_of(&[2, 2], &[2.0, 3.0, 5.0, 6.0]))];
    let entries = [("any/folder/data.pkl", &pickle(&value)[..]), ("any/folder/data/0", &floats(&SIX))];
    for bytes in [archive(&entries, Plain), archive(&entries, Deflated), stream(&value, 6, &floats(&SIX))] {
        assert!(is_pytorch(&bytes));
        assert_eq!(read(&bytes).unwrap(), expected);
    }
}

#[test]
fn every_type_of_float_is_read_in_both_byte_orders() {
    let cases: [(&str, &[u8]); 4] = [
        ("DoubleStorage", &(-1.5f64).to_be_bytes()),
        ("FloatStorage", &(-1.5f32).to_be_bytes()),
        ("HalfStorage", &[0xbe, 0x00]),
        ("BFloat16Storage", &[0xbf, 0xc0]),
    ];
    for (class, big) in cases {
        let value = pickle(&dict(&[("a", tensor(storage(class, "0", 1), 0, &[1], &[1]))]));
        let little: Vec<u8> = big.iter().rev().copied().collect();
        for (order, elements) in [(&b"big"[..], big), (b"little", &little)] {
            let entries = [("x/data.pkl", &value[..]), ("x/byteorder", order), ("x/data/0", elements)];
            let read = read(&archive(&entries, Plain)).unwrap();
            assert_eq!(read, [("a".to_owned(), tensor_of(&[1], &[-1.5]))], "{class}");
        }
    }
    let entries = [("x/data.pkl", &pickle(b"}")[..]), ("x/byteorder", b"middle")];
    assert_eq!(sentence(&archive(&entries, Plain)), "byteorder: expected little or big, found neither");
}

#[test]
fn other_types_are_named_with_their_shape() {
    let value = dict(&[("a", flat(1)), ("n", tensor(storage("LongStorage", "1", 6), 0, &[2, 3], &[3, 1]))]);
    let read = read(&file(&value, &floats(&[0.0]))).unwrap();
    assert_eq!(read[1], ("n".to_owned(), Stored::Other { dtype: "int64".to_owned(), shape: vec![2, 3] }));
}

#[test]
fn a_part_of_a_storage_starts_at_its_offset() {
    let part = tuple(&[text("0p"), int(2), int(3)]);
    let class = name("torch", "FloatStorage");
    let whole = tuple(&[text("storage"), class, text("0"), text("cpu"), int(6), part]);
    let view = |shape| dict(&[("a", tensor([&whole[..], b"Q"].concat(), 1, shape, &[1]))]);
    assert_eq!(read(&stream(&view(&[2]), 6, &floats(&SIX))).unwrap(), [("a".to_owned(), tensor_of(&[2], &[4.0, 5.0]))]);
    let error = sentence(&stream(&view(&[3]), 6, &floats(&SIX)));
    assert_eq!(error, "a: tensor: expected to lie within 3 elements, found one of 4");
}

#[test]
fn python_2_wrote_ordered_dictionaries_as_lists_of_pairs() {
    let pair = [b"](", &text("a")[..], &flat(6), b"e"].concat();
    let value = call("collections.OrderedDict", &[[b"](", &pair[..], b"e"].concat()]);
    assert_eq!(read(&file(&value, &floats(&SIX))).unwrap(), [("a".to_owned(), tensor_of(&[6], &SIX))]);
}

#[test]
fn the_state_dict_is_found_under_the_first_known_key() {
    let one = |at: i64| dict(&[("w", tensor(storage("FloatStorage", "0", 6), at, &[1], &[1]))]);
    let found = |value: Vec<u8>| match &read(&file(&value, &floats(&SIX))).unwrap()[..] {
        [(name, Stored::Float(tensor))] if name == "w" => tensor.data()[0],
        other => panic!("{other:?}"),
    };
    assert_eq!(found(one(0)), 1.0);
    assert_eq!(found(dict(&[("model_ema", one(0)), ("model", one(1)), ("epoch", int(3))])), 2.0);
    assert_eq!(found(dict(&[("ema", one(0)), ("model", one(1)), ("state_dict", one(2))])), 3.0);
    assert_eq!(found(dict(&[("model", text("repvgg_a0")), ("ema", one(0))])), 1.0);
    assert_eq!(found(dict(&[("loss", flat(6)), ("optimizer", one(3)), ("net", one(1))])), 2.0);
    let settings = [b"](", &int(1)[..], b"e"].concat();
    let state_dict = [("settings", settings), ("w", tensor(storage("FloatStorage", "0", 6), 5, &[1], &[1]))];
    assert_eq!(found(dict(&state_dict)), 6.0);
}

#[test]
fn errors_describe_contents_without_a_state_dict() {
    let generator = dict(&[("w", flat(6))]);
    let cases = [
        (
            dict(&[("generator", generator.clone()), ("epoch", int(1))]),
            "pickle: expected a dictionary of tensors, bare or under a key such as state_dict, found the keys generator, epoch",
        ),
        (
            b"}".to_vec(),
            "pickle: expected a dictionary of tensors, bare or under a key such as state_dict, found an empty one",
        ),
        (flat(6), "pickle: expected a dictionary of tensors, found a tensor"),
        (
            dict(&[("w", flat(6)), ("extra", [b"](", &generator[..], b"e"].concat())]),
            "state dict: extra: expected a tensor, found a list that holds tensors",
        ),
        (dict(&[("w", flat(6)), ("w", flat(6))]), "w: duplicate name"),
        ([b"}", &int(1)[..], &flat(6), b"s"].concat(), "state dict: names: expected text, found an integer"),
    ];
    for (value, expected) in cases {
        assert_eq!(sentence(&file(&value, &floats(&SIX))), expected);
    }
}

#[test]
fn a_tensor_must_lie_within_its_storage() {
    let within = |offset, shape: &[i64], strides: &[i64]| {
        let value = dict(&[("w", tensor(storage("FloatStorage", "0", 6), offset, shape, strides))]);
        read(&file(&value, &floats(&SIX))).map_err(|error| error.to_string())
    };
    assert!(within(5, &[1], &[i64::MAX]).is_ok());
    assert!(within(i64::MAX, &[0, 3], &[1, 1]).is_ok());
    assert_eq!(within(5, &[2], &[1]).unwrap_err(), "w: tensor: expected to lie within 6 elements, found one of 7");
    let layouts: [(i64, &[i64], &[i64]); 7] = [
        (0, &[2, 2], &[5, 1]),
        (0, &[3], &[i64::MAX]),
        (i64::MAX, &[1], &[1]),
        (0, &[1 << 40, 1 << 40], &[0, 0]),
        (-1, &[1], &[1]),
        (0, &[2], &[-1]),
        (0, &[2, 2], &[1]),
    ];
    for (offset, shape, strides) in layouts {
        assert!(within(offset, shape, strides).is_err(), "{offset} {shape:?} {strides:?}");
    }
}

#[test]
fn expanded_tensors_cannot_exhaust_memory() {
    let expanded = |count| dict(&[("w", tensor(storage("FloatStorage", "0", 1), 0, &[count], &[0]))]);
    let read_some = read(&file(&expanded(100), &floats(&[7.0]))).unwrap();
    assert_eq!(read_some, [("w".to_owned(), tensor_of(&[100], &[7.0; 100]))]);
    let limit =
        "w: tensor: expected at most 2 elements for each byte of the file, found more: many tensors share few elements";
    assert_eq!(sentence(&file(&expanded(1 << 40), &floats(&[7.0]))), limit);
    let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    let shared = |names: &[String]| {
        let entries: Vec<_> = names.iter().map(|name| (name.as_str(), flat(4000))).collect();
        read(&file(&dict(&entries), &floats(&[1.0; 4000])))
    };
    assert_eq!(shared(&names[..4]).unwrap().len(), 4);
    assert!(shared(&names).is_err());
}

#[test]
fn many_axes_cannot_exhaust_memory() {
    let wide = tensor(storage("LongStorage", "0", 1), 0, &[1; 64], &[1; 64]);
    let shared = |count: usize| {
        let again: Vec<u8> = (1..count).flat_map(|i| [&text(&i.to_string())[..], b"h\x00"].concat()).collect();
        let value = [b"}(", &text("0")[..], &wide, b"q\x00", &again, b"u"].concat();
        read(&file(&value, &[0; 8]))
    };
    assert_eq!(shared(50).unwrap().len(), 50);
    assert!(shared(5000).is_err());
}

#[test]
fn a_storage_of_the_wrong_size_is_refused() {
    let value = dict(&[("w", flat(6))]);
    assert_eq!(sentence(&file(&value, &floats(&SIX[1..]))), "w: storage: expected 24 bytes, found 20");
    let missing = archive(&[("x/data.pkl", &pickle(&value))], Plain);
    assert_eq!(sentence(&missing), "w: data/0: missing from the archive");
    let huge = dict(&[("w", flat(i64::MAX))]);
    assert!(sentence(&file(&huge, &[])).starts_with("w: storage: expected fewer elements"));
    assert!(sentence(&stream(&huge, i64::MAX, &[])).starts_with("storage: expected fewer elements"));
    let short = stream(&value, 5, &floats(&SIX));
    assert_eq!(sentence(&short), "stream: expected a storage of 6 elements, found 5");
}

#[test]
fn unreadable_tensors_are_refused_only_in_the_state_dict() {
    let complex = tensor(storage("ComplexFloatStorage", "0", 3), 0, &[3], &[1]);
    let cases = [
        (complex, "real numbers, found complex64"),
        (call("torch._utils._rebuild_qtensor", &[]), "a plain tensor, found a quantized tensor"),
        (call("torch._utils._rebuild_sparse_tensor", &[]), "a plain tensor, found a sparse tensor"),
        (call("torch._utils._rebuild_nested_tensor", &[]), "a plain tensor, found a nested tensor"),
        (
            call("torch._utils._rebuild_meta_tensor_no_storage", &[]),
            "a plain tensor, found a meta tensor, which has no elements",
        ),
    ];
    for (odd, expected) in cases {
        let error = sentence(&file(&dict(&[("w", odd.clone())]), &floats(&SIX)));
        assert_eq!(error, format!("w: tensor: expected {expected}"));
        let beside = dict(&[("odd", odd), ("model", dict(&[("w", flat(6))]))]);
        assert_eq!(read(&file(&beside, &floats(&SIX))).unwrap().len(), 1);
    }
    let wrapped = (0..9).fold(flat(6), |inner, _| call("torch._utils._rebuild_parameter", &[inner]));
    assert!(sentence(&file(&dict(&[("w", wrapped)]), &floats(&SIX))).contains("arguments of a tensor"));
    let shape = ints(&[6]);
    let bare =
        call("torch._utils._rebuild_tensor", &[storage("FloatStorage", "0", 6), int(0), shape.clone(), ints(&[1])]);
    assert_eq!(read(&file(&dict(&[("w", bare)]), &floats(&SIX))).unwrap(), [("w".to_owned(), tensor_of(&[6], &SIX))]);
    let strings = call("torch._utils._rebuild_tensor", &[text("storage"), text("0"), shape.clone(), shape]);
    assert!(sentence(&file(&dict(&[("w", strings)]), &[])).starts_with("w: tensor: expected storage, offset"));
}

/// Settings of any class beside the weights are skipped; only a weight inside such an object is refused.
#[test]
fn objects_of_unknown_classes_are_skipped() {
    let object = |state: Vec<u8>| [&name("yacs.config", "CfgNode")[..], b")\x81", &state, b"b"].concat();
    let settings = object(dict(&[("lr", int(1)), ("nested", object(dict(&[("depth", int(2))])))]));
    let applied = [&call("omegaconf.make", &[])[..], &tuple(&[int(3)]), b"R"].concat();
    let state = dict(&[("w", flat(6)), ("settings", settings.clone())]);
    let checkpoint = dict(&[("config", settings), ("made", applied), ("model", state)]);
    assert_eq!(read(&file(&checkpoint, &floats(&SIX))).unwrap(), [("w".to_owned(), tensor_of(&[6], &SIX))]);
    let inside = dict(&[("w", flat(6)), ("settings", object(dict(&[("teacher", flat(6))])))]);
    let error = sentence(&file(&inside, &floats(&SIX)));
    assert_eq!(error, "state dict: settings: expected a tensor, found an object that holds tensors");
}

#[test]
fn a_pickled_model_is_reported_as_one() {
    let model =
        [&name("__main__", "RepVGG")[..], b")\x81", &dict(&[("_parameters", dict(&[("w", flat(6))]))]), b"b"].concat();
    let expected =
        "pickle: expected a state dict, found a pickled model of class __main__.RepVGG: save its state_dict() instead";
    assert_eq!(sentence(&file(&model, &floats(&SIX))), expected);
    assert_eq!(sentence(&file(&dict(&[("epoch", int(3)), ("model", model)]), &floats(&SIX))), expected);
}

#[test]
fn one_of_several_state_dicts_is_chosen() {
    let weights = |name: &str| dict(&[(name, flat(6))]);
    let ema = dict(&[("decay", int(1)), ("module", weights("averaged"))]);
    let bytes = file(&dict(&[("ema", ema), ("state_dict", weights("w")), ("generator", weights("g"))]), &floats(&SIX));
    let chosen =
        |wanted: Option<&str>| super::read(&bytes, wanted).map(|state| (state.key, state.tensors[0].0.clone()));
    let pair = |key: &str, name: &str| (key.to_owned(), name.to_owned());
    assert_eq!(chosen(None).unwrap(), pair("state_dict", "w"));
    assert_eq!(super::read(&bytes, None).unwrap().others, ["ema.module"]);
    for wanted in ["ema", "ema.module"] {
        assert_eq!(chosen(Some(wanted)).unwrap(), pair("ema.module", "averaged"));
    }
    assert_eq!(chosen(Some("generator")).unwrap(), pair("generator", "g"));
    let error = chosen(Some("teacher")).unwrap_err();
    assert_eq!(error.to_string(), "weights: expected one of state_dict, ema.module, found teacher");
    assert!(error.is_spec());
}

#[test]
fn errors_describe_other_archives() {
    let (value, elements) = (pickle(&dict(&[("w", flat(6))])), floats(&SIX));
    let whole: [(&str, &[u8]); 2] = [("x/data.pkl", &value), ("x/data/0", &elements)];
    let with = |name: &'static str| archive(&[&whole[..], &[(name, b"")]].concat(), Plain);
    assert_eq!(sentence(&with("x/constants.pkl")), "archive: expected a state dict, found a TorchScript archive");
    assert_eq!(sentence(&with("x/code/net.py")), "archive: expected a state dict, found a TorchScript archive");
    assert_eq!(sentence(&with("y/data.pkl")), "archive: expected one entry data.pkl, found two");
    assert_eq!(read(&with("../../etc/passwd")).unwrap().len(), 1);
    let names = ["inner.pth", "b", "c", "d", "e"].map(|name| (name, &b""[..]));
    let found = "archive: expected an entry data.pkl, found inner.pth, b, c, d and 1 more";
    assert_eq!(sentence(&archive(&names, Plain)), found);
    let twice = replaced(&with("x/data.pkX"), b"x/data.pkX", b"x/data.pkl");
    assert_eq!(sentence(&twice), "archive: duplicate entry name");
    assert!(!is_pytorch(b"PK\x05\x06") && !is_pytorch(b"") && !is_pytorch(b"\x80\x02}."));
    assert!(sentence(b"GIF89a").starts_with("checkpoint: expected a file that torch.save wrote"));
}

#[test]
fn an_encrypted_or_damaged_entry_is_refused() {
    let bytes = file(&dict(&[("w", flat(6))]), &floats(&SIX));
    let mut encrypted = bytes.clone();
    for start in 0..bytes.len() - 10 {
        match &bytes[start..start + 4] {
            b"PK\x03\x04" => encrypted[start + 6] |= 1,
            b"PK\x01\x02" => encrypted[start + 8] |= 1,
            _ => {}
        }
    }
    assert_eq!(sentence(&encrypted), "data.pkl: encrypted entries are not supported");
    let damaged = replaced(&bytes, &5f32.to_le_bytes(), &5.5f32.to_le_bytes());
    assert_eq!(sentence(&damaged), "w: data/0: checksum mismatch");
}

#[test]
fn a_small_archive_cannot_unpack_into_a_large_one() {
    let zeros = vec![0; 1 << 22];
    let long = [b"B", &(zeros.len() as u32).to_le_bytes()[..], &zeros].concat();
    let value = pickle(&dict(&[("padding", long), ("w", flat(6))]));
    let entries = [("x/data.pkl", &value[..]), ("x/data/0", &floats(&SIX))];
    assert_eq!(read(&archive(&entries, Plain)).unwrap().len(), 1);
    let bomb = archive(&entries, Deflated);
    assert!(bomb.len() < 10_000);
    let error = sentence(&bomb);
    assert!(
        error.starts_with("data.pkl: expected at most ") && error.contains(" bytes when unpacked, found 4194"),
        "{error}"
    );
    let size = (value.len() as u32).to_le_bytes();
    let understated = replaced(&bomb, &size, &100u32.to_le_bytes());
    assert!(read(&understated).is_err());
}

/// A state dict small enough to try every prefix and every flipped bit, with every part of a tensor.
fn small() -> Vec<u8> {
    dict(&[("w", tensor(storage("FloatStorage", "0", 6), 1, &[2, 2], &[2, 1])), ("n", int(3))])
}

#[test]
fn a_file_truncated_anywhere_is_refused() {
    for bytes in [file(&small(), &floats(&SIX)), stream(&small(), 6, &floats(&SIX))] {
        assert!(read(&bytes).is_ok());
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
    }
}

/// An archive's checksums reveal every changed weight. A stream has none: a flipped bit may change a number, but no more.
#[test]
fn a_flipped_bit_gives_an_error_or_the_right_tensor() {
    let entries = [("x/data.pkl", &pickle(&small())[..]), ("x/data/0", &floats(&SIX))];
    let right = read(&archive(&entries, Plain)).unwrap();
    let flip = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        read(&bytes)
    };
    for bytes in [archive(&entries, Plain), archive(&entries, Deflated)] {
        for bit in 0..8 * bytes.len() {
            if let Ok(found) = flip(&bytes, bit) {
                assert_eq!(found, right, "bit {bit}");
            }
        }
    }
    let bytes = stream(&small(), 6, &floats(&SIX));
    let read = (0..8 * bytes.len()).filter(|&bit| flip(&bytes, bit).is_ok()).count();
    assert!(read < 8 * bytes.len() / 2, "{read} of {} changes go unnoticed", 8 * bytes.len());
}

//! Pickles and files assembled by hand, for tests.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Wraps the instructions that build a value in a pickle of protocol 2.
pub(super) fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(super) fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08", &number.to_le_bytes()[..]].concat()
}

pub(super) fn name(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub(super) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub(super) fn ints(numbers: &[i64]) -> Vec<u8> {
    tuple(&numbers.iter().map(|&number| int(number)).collect::<Vec<_>>())
}

pub(super) fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", &entries[..], b"u"].concat()
}

/// `function(*arguments)`.
pub(super) fn call(function: &str, arguments: &[Vec<u8>]) -> Vec<u8> {
    let (module, function) = function.rsplit_once('.').unwrap();
    [name(module, function), tuple(arguments), b"R".to_vec()].concat()
}

/// A reference to `count` elements of the storage class `class` under `key`.
pub(super) fn storage(class: &str, key: &str, count: i64) -> Vec<u8> {
    let class = name("torch", class);
    [tuple(&[text("storage"), class, text(key), text("cpu"), int(count)]), b"Q".to_vec()].concat()
}

pub(super) fn tensor(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let hooks = call("collections.OrderedDict", &[]);
    let arguments = [storage, int(offset), ints(shape), ints(strides), b"\x89".to_vec(), hooks];
    call("torch._utils._rebuild_tensor_v2", &arguments)
}

pub(super) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub(super) fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A file with the state dict `value` and a storage `0` that holds `elements`.
pub(super) fn file(value: &[u8], elements: &[u8]) -> Vec<u8> {
    let entries = [("net/data.pkl", &pickle(value)[..]), ("net/data/0", elements)];
    archive(&entries, CompressionMethod::Stored)
}

/// Like [`file`], in the stream format of PyTorch before 1.6, with `count` elements.
pub(super) fn stream(value: &[u8], count: i64, elements: &[u8]) -> Vec<u8> {
    let keys = pickle(&[b"](", &text("0")[..], b"e"].concat());
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    [magic, pickle(&int(1001)), pickle(b"}"), pickle(value), keys, count.to_le_bytes().to_vec(), elements.to_vec()]
        .concat()
}

/// Replaces every `from` with `to`, which has the same length.
pub(super) fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut replacements = 0;
    for start in 0..=bytes.len() - from.len() {
        if bytes[start..].starts_with(from) {
            bytes[start..start + to.len()].copy_from_slice(to);
            replacements += 1;
        }
    }
    assert!(replacements > 0, "the text to replace occurs");
    bytes
}

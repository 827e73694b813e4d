//! The stream format of PyTorch before 1.6, which later versions still write on request.
//!
//! A stream holds five pickles (a magic number, the protocol version, facts about the machine, the object, the keys of its
//! storages), then each storage as an element count (i64) and its elements. Both are little-endian on every machine. The
//! format has no checksums: a flipped bit is a changed weight.

use std::collections::HashMap;

use super::input::Input;
use super::pickle::{self, Pickle};
use super::tensor::Storage;
use super::value::PickleValue;
use crate::error::expected;
use crate::{Error, Result};

/// The magic number 0x1950a86a20f9469cfc6c, in protocol 1, and in later protocols after their prefix.
const MAGIC_TEXT: &[u8] = b"L119547037146038801333356L\n.";
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The only version of the protocol that exists.
const VERSION: usize = 1001;

/// Returns the bytes after the magic number, if `bytes` begin such a stream.
pub(super) fn after_magic(bytes: &[u8]) -> Option<&[u8]> {
    let binary = |bytes| {
        let (&[0x80, 2..=5], rest) = <[u8]>::split_first_chunk(bytes)? else { return None };
        // Protocols 4 and 5 add a frame: an instruction and a length.
        let rest = if rest.first() == Some(&0x95) { rest.get(9..)? } else { rest };
        rest.strip_prefix(MAGIC)
    };
    bytes.strip_prefix(MAGIC_TEXT).or_else(|| binary(bytes))
}

/// The object of a stream, and the bytes of its storages by key.
pub(super) type Stream<'a> = (Pickle<'a>, HashMap<&'a str, &'a [u8]>);

/// Reads a stream from the bytes after its magic number.
///
/// # Errors
/// When the stream is truncated, has another version, or its storages are not those that the object refers to.
pub(super) fn read(bytes: &[u8]) -> Result<Stream<'_>> {
    let (version, rest) = pickle::read(bytes)?;
    if version.values.count(version.root) != Some(VERSION) {
        return Err(Error::format(
            "stream",
            expected(format_args!("protocol version {VERSION}")).found("another value"),
        ));
    }
    let (_machine, rest) = pickle::read(rest)?;
    let (object, rest) = pickle::read(rest)?;
    let (keys, rest) = pickle::read(rest)?;
    let sizes = sizes(&object)?;
    let storages = storages(&keys, &sizes, Input(rest))?;
    Ok((object, storages))
}

/// The element count and byte count of every storage that the object refers to.
fn sizes<'a>(object: &Pickle<'a>) -> Result<HashMap<&'a str, (usize, usize)>> {
    let mut sizes = HashMap::new();
    for value in object.values.iter() {
        let &PickleValue::Persistent(reference) = value else { continue };
        let storage = Storage::read(&object.values, reference)?;
        let size = (storage.count, storage.byte_count()?);
        if *sizes.entry(storage.key).or_insert(size) != size {
            return Err(Error::format("stream", "a storage has two different sizes"));
        }
    }
    Ok(sizes)
}

fn storages<'a>(
    keys: &Pickle<'a>,
    sizes: &HashMap<&str, (usize, usize)>,
    mut input: Input<'a>,
) -> Result<HashMap<&'a str, &'a [u8]>> {
    let PickleValue::List(listed) = keys.values.get(keys.root) else {
        let found = keys.values.get(keys.root).describe();
        return Err(Error::format("stream", expected("a list of storages").found(found)));
    };
    let mut storages = HashMap::new();
    for &key in listed {
        let known = keys.values.text(key).and_then(|key| Some((key, *sizes.get(key)?)));
        let (key, (count, byte_count)) = known.ok_or_else(|| Error::format("stream", "unknown storage key"))?;
        let found = i64::from_le_bytes(input.array().map_err(|error| error.within("stream"))?);
        if usize::try_from(found) != Ok(count) {
            return Err(Error::format("stream", expected(format_args!("a storage of {count} elements")).found(found)));
        }
        let elements = input.take(byte_count as u64).map_err(|error| error.within("stream"))?;
        if storages.insert(key, elements).is_some() {
            return Err(Error::format("stream", "duplicate storage"));
        }
    }
    Ok(storages)
}

//! The stream format of PyTorch before 1.6, which later versions write on request: five pickles (a magic number, the protocol
//! version, facts about the machine, the object, the keys of its storages), then each storage as an element count (i64) and
//! its elements. Both are little-endian on every machine. The format has no checksums: a flipped bit is a changed weight.

use std::collections::HashMap;

use super::input::Input;
use super::pickle::{self, Pickle};
use super::tensor::Storage;
use super::value::Value;
use crate::error::expected;
use crate::{Error, Result};

/// The magic number 0x1950a86a20f9469cfc6c, as protocol 1 writes it and as later ones do after their prefix.
const MAGIC_TEXT: &[u8] = b"L119547037146038801333356L\n.";
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The only version of the protocol that exists.
const VERSION: usize = 1001;

/// What follows the magic number, if these are the first bytes of such a stream.
pub(super) fn after_magic(bytes: &[u8]) -> Option<&[u8]> {
    let binary = |bytes| {
        let (&[0x80, 2..=5], rest) = <[u8]>::split_first_chunk(bytes)? else { return None };
        // From protocol 4 on there is a frame: its instruction and its length.
        let rest = if rest.first() == Some(&0x95) { rest.get(9..)? } else { rest };
        rest.strip_prefix(MAGIC)
    };
    bytes.strip_prefix(MAGIC_TEXT).or_else(|| binary(bytes))
}

/// The object of a stream, and the bytes of every storage by its key.
pub(super) type Stream<'a> = (Pickle<'a>, HashMap<&'a str, &'a [u8]>);

/// Reads what follows the magic number.
///
/// # Errors
/// When it is truncated, has another version, or its storages are not those that the object refers to.
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

/// The number and the bytes of the elements of every storage that the object refers to.
fn sizes<'a>(object: &Pickle<'a>) -> Result<HashMap<&'a str, (usize, usize)>> {
    let mut sizes = HashMap::new();
    for value in object.values.iter() {
        let &Value::Outside(reference) = value else { continue };
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
    let Value::List(listed) = keys.values.get(keys.root) else {
        let found = keys.values.get(keys.root).words();
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

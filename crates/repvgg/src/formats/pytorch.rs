//! PyTorch checkpoints, written by `torch.save`: `.pth`, `.pt`, `.th`, `.bin`.
//!
//! A checkpoint consists of a pickle, which is a program that builds objects, and the raw elements of its tensors. Here the
//! program only builds data: it may mention only names on a list, and the functions it would call are recorded, never called.
//! From that data the reader takes the state dict: the dictionary of tensors under the first conventional key, `state_dict`
//! and `model` before averaged weights, or the root. Everything else, such as the optimizer and settings, is skipped.
//!
//! ```
//! use repvgg::formats::pytorch;
//!
//! assert!(!pytorch::is_pytorch(b"GGUF"));
//! let error = pytorch::read(b"GGUF").unwrap_err();
//! assert!(error.is_format());
//! ```

mod archive;
#[cfg(test)]
mod assembler;
mod element;
mod elements;
mod input;
mod legacy;
mod names;
mod pickle;
mod state_dict;
mod tensor;
mod value;

use std::borrow::Cow;

use crate::error::expected;
use crate::formats::Stored;
use crate::{Error, Result};
use archive::Archive;
use elements::ByteOrder;
use pickle::Pickle;
use tensor::Reader;

/// Whether a file that begins with `bytes` is a checkpoint: a zip archive, or a stream with PyTorch's magic number.
pub fn is_pytorch(bytes: &[u8]) -> bool {
    archive::is_archive(bytes) || legacy::after_magic(bytes).is_some()
}

/// Reads all tensors of a checkpoint's state dict by name, in the file's order.
///
/// Floats of 16, 32 and 64 bits become `f32`; tensors of other types are listed with their shapes. Strides, offsets and shared
/// storages are supported. Beyond `bytes`, reading needs memory for the elements, at most eight times the file's size, and a
/// fixed amount for the pickle.
///
/// # Errors
/// When the file is truncated, corrupt or not a checkpoint, mentions a name that is not allowed, has no state dict, or has a
/// tensor that is not a plain array of real numbers.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Stored)>> {
    if let Some(rest) = legacy::after_magic(bytes) {
        let (pickle, storages) = legacy::read(rest)?;
        let fetch = |key: &str| {
            let storage = storages.get(key).copied().map(Cow::Borrowed);
            storage.ok_or_else(|| Error::format("stream", expected("the storage of a tensor").found("none")))
        };
        return tensors(&pickle, Reader::new(ByteOrder::Little, bytes.len(), fetch));
    }
    if !archive::is_archive(bytes) {
        return Err(Error::format("checkpoint", expected("a file that torch.save wrote").found("other first bytes")));
    }
    let mut archive = Archive::open(bytes)?;
    let order = archive.byte_order()?;
    let text = archive.pickle()?;
    let (pickle, _) = pickle::read(&text)?;
    tensors(&pickle, Reader::new(order, bytes.len(), |key: &str| archive.storage(key)))
}

fn tensors<'v>(
    pickle: &Pickle<'v>,
    mut reader: Reader<'v, impl FnMut(&'v str) -> Result<Cow<'v, [u8]>>>,
) -> Result<Vec<(String, Stored)>> {
    let entries = state_dict::find(pickle)?;
    let tensor = |(name, id): (&str, _)| match reader.tensor(&pickle.values, id) {
        Ok(tensor) => Ok((name.to_owned(), tensor)),
        Err(error) => Err(error.within(name.escape_debug())),
    };
    entries.into_iter().map(tensor).collect()
}

#[cfg(test)]
mod tests;

//! PyTorch checkpoints, written by `torch.save`: `.pth`, `.pt`, `.th`, `.bin`.
//!
//! A checkpoint consists of a pickle, which is a program that builds objects, and the raw elements of its tensors. Here the
//! program only builds data: the functions it would call are recorded, never called, and those that no data need are refused.
//! From that data the reader takes one state dict: the dictionary of tensors that the caller names, or that under the first
//! conventional key, `state_dict` and `model` before averaged weights, or the root. Everything else, such as the optimizer and
//! settings of any class, is opaque data and skipped.
//!
//! ```
//! use repvgg::formats::pytorch;
//!
//! assert!(!pytorch::is_pytorch(b"GGUF"));
//! let error = pytorch::read(b"GGUF", None).unwrap_err();
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

/// A state dict of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct StateDict {
    /// The keys that lead to it, joined by dots, such as `ema.module`; empty for the file's root.
    pub key: String,
    /// The keys of the file's other state dicts.
    pub others: Vec<String>,
    /// Its tensors by name, in the file's order.
    pub tensors: Vec<(String, Stored)>,
}

/// Reads all tensors of a checkpoint's state dict: the one under the key `wanted`, or else the first.
///
/// Floats of 16, 32 and 64 bits become `f32`; tensors of other types are listed with their shapes. Strides, offsets and shared
/// storages are supported. Beyond `bytes`, reading needs memory for the elements, at most eight times the file's size, and a
/// fixed amount for the pickle.
///
/// # Errors
/// When the file is truncated, corrupt or not a checkpoint, mentions a function that runs code, has no (such) state dict, or has
/// a tensor that is not a plain array of real numbers.
pub fn read(bytes: &[u8], wanted: Option<&str>) -> Result<StateDict> {
    if let Some(rest) = legacy::after_magic(bytes) {
        let (pickle, storages) = legacy::read(rest)?;
        let fetch = |key: &str| {
            let storage = storages.get(key).copied().map(Cow::Borrowed);
            storage.ok_or_else(|| Error::format("stream", expected("the storage of a tensor").found("none")))
        };
        return read_tensors(&pickle, wanted, Reader::new(ByteOrder::Little, bytes.len(), fetch));
    }
    if !archive::is_archive(bytes) {
        return Err(Error::format("checkpoint", expected("a file that torch.save wrote").found("other first bytes")));
    }
    let mut archive = Archive::open(bytes)?;
    let order = archive.byte_order()?;
    let text = archive.pickle()?;
    let (pickle, _) = pickle::read(&text)?;
    read_tensors(&pickle, wanted, Reader::new(order, bytes.len(), |key: &str| archive.storage(key)))
}

fn read_tensors<'v>(
    pickle: &Pickle<'v>,
    wanted: Option<&str>,
    mut reader: Reader<'v, impl FnMut(&'v str) -> Result<Cow<'v, [u8]>>>,
) -> Result<StateDict> {
    let chosen = state_dict::find(pickle, wanted)?;
    let tensor = |(name, id): (&str, _)| match reader.tensor(&pickle.values, id) {
        Ok(tensor) => Ok((name.to_owned(), tensor)),
        Err(error) => Err(error.within(name.escape_debug())),
    };
    let tensors = chosen.tensors.into_iter().map(tensor).collect::<Result<_>>()?;
    Ok(StateDict { key: chosen.path, others: chosen.others, tensors })
}

#[cfg(test)]
mod tests;

//! The container of PyTorch 1.6 and later: a zip archive with all entries in one folder of any name.
//!
//! PyTorch stores entries uncompressed, so they are borrowed from the file. Deflated entries, from repacked archives, are
//! unpacked up to a limit. Reading an entry verifies its checksum.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::elements::ByteOrder;
use crate::error::expected;
use crate::{Error, Result};

/// The first bytes of an archive.
const MAGIC: &[u8] = b"PK\x03\x04";

/// The entry that describes the others.
const PICKLE: &str = "data.pkl";

/// Deflated entries may unpack to this many times the file's size plus this many bytes.
const UNPACKED_RATIO: usize = 4;
const UNPACKED_EXTRA: usize = 1 << 20;

/// The most names that an error lists.
const LISTED: usize = 4;

/// Whether these are the first bytes of an archive.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// An open archive.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// The path before `data.pkl`.
    root: String,
    /// The number of bytes that may still be unpacked.
    allowance: usize,
}

impl<'a> Archive<'a> {
    /// Opens an archive.
    ///
    /// # Errors
    /// When the archive is truncated or not a checkpoint: no `data.pkl` or several, duplicate names, a TorchScript program.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, Cursor::new(bytes)).map_err(|error| zip_error("archive", &error))?;
        if zip.has_duplicate_names() {
            return Err(Error::format("archive", "duplicate entry name"));
        }
        let names: Vec<_> = zip.file_names().collect::<Result<_, _>>().map_err(|error| zip_error("archive", &error))?;
        let is_folder = |root: &str| root.is_empty() || root.ends_with('/');
        let mut roots = names.iter().filter_map(|name| name.strip_suffix(PICKLE)).filter(|root| is_folder(root));
        let root = match (roots.next(), roots.next()) {
            (Some(root), None) => root.to_owned(),
            (None, _) => {
                return Err(Error::format(
                    "archive",
                    expected(format_args!("an entry {PICKLE}")).found(first_names(&names)),
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Error::format("archive", expected(format_args!("one entry {PICKLE}")).found("two")));
            }
        };
        let is_program = |name: &str| name == "constants.pkl" || name.starts_with("code/");
        if names.iter().any(|name| name.strip_prefix(&root).is_some_and(is_program)) {
            return Err(Error::format("archive", expected("a state dict").found("a TorchScript archive")));
        }
        let allowance = bytes.len().saturating_mul(UNPACKED_RATIO).saturating_add(UNPACKED_EXTRA);
        Ok(Self { bytes, zip, root, allowance })
    }

    /// The pickle that describes the checkpoint.
    pub(super) fn pickle(&mut self) -> Result<Cow<'a, [u8]>> {
        self.read(PICKLE)
    }

    /// The elements of a storage.
    pub(super) fn storage(&mut self, key: &str) -> Result<Cow<'a, [u8]>> {
        self.read(&format!("data/{key}"))
    }

    /// The byte order of the elements; files from before PyTorch 2.1 do not record it and are little-endian.
    pub(super) fn byte_order(&mut self) -> Result<ByteOrder> {
        const ENTRY: &str = "byteorder";
        if self.index(ENTRY).is_none() {
            return Ok(ByteOrder::Little);
        }
        match &*self.read(ENTRY)? {
            b"little" => Ok(ByteOrder::Little),
            b"big" => Ok(ByteOrder::Big),
            _ => Err(Error::format(ENTRY, expected("little or big").found("neither"))),
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.zip.index_for_name(&format!("{}{name}", self.root))
    }

    fn read(&mut self, name: &str) -> Result<Cow<'a, [u8]>> {
        let place = || name.escape_debug();
        let index = self.index(name).ok_or_else(|| Error::format(place(), "missing from the archive"))?;
        let entry = self.zip.by_index_raw(index).map_err(|error| zip_error(place(), &error))?;
        if entry.encrypted() {
            return Err(Error::format(place(), "encrypted entries are not supported"));
        }
        let (method, checksum, start) = (entry.compression(), entry.crc32(), entry.data_start());
        let (packed, size) = (entry.compressed_size(), entry.size());
        drop(entry);
        match method {
            CompressionMethod::Stored => {
                let stored = start.and_then(|start| slice(self.bytes, start, packed)).filter(|_| packed == size);
                let stored = stored.ok_or_else(|| Error::format(place(), "truncated"))?;
                if crc32fast::hash(stored) != checksum {
                    return Err(Error::format(place(), "checksum mismatch"));
                }
                Ok(Cow::Borrowed(stored))
            }
            CompressionMethod::Deflated => self.unpack(index, name, size).map(Cow::Owned),
            other => Err(Error::format(place(), expected("stored or deflated data").found(other))),
        }
    }

    fn unpack(&mut self, index: usize, name: &str, size: u64) -> Result<Vec<u8>> {
        let place = || name.escape_debug();
        let allowed = usize::try_from(size).ok().filter(|&size| size <= self.allowance);
        let size = allowed.ok_or_else(|| {
            Error::format(place(), expected(format_args!("at most {} bytes when unpacked", self.allowance)).found(size))
        })?;
        self.allowance -= size;
        let entry = self.zip.by_index(index).map_err(|error| zip_error(place(), &error))?;
        let mut unpacked = Vec::with_capacity(size);
        // One byte more than declared: it reveals a longer entry, and makes the reader reach the end of a correct one.
        let read = entry.take(size as u64 + 1).read_to_end(&mut unpacked);
        read.map_err(|error| Error::format(place(), expected("deflated bytes").found(error)))?;
        if unpacked.len() != size {
            return Err(Error::format(
                place(),
                expected(format_args!("{size} bytes when unpacked")).found("another number"),
            ));
        }
        Ok(unpacked)
    }
}

fn slice(bytes: &[u8], start: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}

fn zip_error(place: impl std::fmt::Display, error: &ZipError) -> Error {
    Error::format(place, expected("a complete zip archive").found(error))
}

/// The first few `names`, as an error lists them.
fn first_names(names: &[Cow<'_, str>]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED).map(|name| name.escape_debug().take(40).collect()).collect();
    match names.len() {
        0 => "an empty archive".to_owned(),
        1..=LISTED => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), more - LISTED),
    }
}

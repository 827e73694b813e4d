//! The first directory of a TIFF or BigTIFF: tags and their values (TIFF 6.0, section 2).

use crate::error::{Problem, expected};
use crate::image::decode::refusal::truncated;

/// The most entries of a directory, and the most values of an entry, that are read.
const MAX_ENTRIES: u64 = 4096;
const MAX_VALUES: u64 = 1 << 24;

/// The byte order of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// The number in up to eight bytes.
    pub(super) fn number(self, bytes: &[u8]) -> u64 {
        let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self {
            Self::Little => bytes.iter().rev().fold(0, join),
            Self::Big => bytes.iter().fold(0, join),
        }
    }
}

/// The entries of a directory.
pub(super) struct Directory<'a> {
    file: &'a [u8],
    pub(super) order: Order,
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    tag: u16,
    /// The bytes of a value.
    size: usize,
    values: &'a [u8],
}

impl<'a> Directory<'a> {
    /// Reads the first directory of a file.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, Problem> {
        let order = if file.starts_with(b"MM") { Order::Big } else { Order::Little };
        let big = order.number(part(file, 2, 2)?) == 43;
        let (place, word) = if big { (part(file, 8, 8)?, 8) } else { (part(file, 4, 4)?, 4) };
        let start = order.number(place);
        let (counter, entry) = if big { (8, 20) } else { (2, 12) };
        let count = order.number(part(file, start, counter)?);
        if count > MAX_ENTRIES {
            return Err(expected(format_args!("a TIFF directory of at most {MAX_ENTRIES} entries")).found(count));
        }
        let mut directory = Self { file, order, entries: Vec::new() };
        for number in 0..count {
            let entry = part(file, start + counter + number * entry, entry)?;
            directory.entries.extend(directory.entry(entry, word)?);
        }
        Ok(directory)
    }

    /// An entry with a type of whole numbers or bytes; other types hold nothing that decoding needs.
    fn entry(&self, bytes: &'a [u8], word: usize) -> Result<Option<Entry<'a>>, Problem> {
        let number = |range: std::ops::Range<usize>| self.order.number(&bytes[range]);
        let size = match number(2..4) {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 13 => 4,
            5 | 10 | 16 | 17 | 18 => 8,
            _ => return Ok(None),
        };
        let count = number(4..4 + word);
        let length = count.min(MAX_VALUES) * size;
        let inside = &bytes[4 + word..];
        let values = match length <= word as u64 {
            true => &inside[..length as usize],
            false => match part(self.file, self.order.number(inside), length) {
                Ok(values) => values,
                // Notes at the end of a cut file do not matter; a missing list of strips is refused where it is needed.
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(Entry { tag: number(0..2) as u16, size: size as usize, values }))
    }

    /// The values of a tag; none if the directory lacks it.
    pub(super) fn numbers(&self, tag: u16) -> Vec<u64> {
        let entry = self.entries.iter().find(|entry| entry.tag == tag);
        entry.map_or_else(Vec::new, |entry| {
            entry.values.chunks_exact(entry.size).map(|value| self.order.number(value)).collect()
        })
    }

    /// The first value of a tag.
    pub(super) fn number(&self, tag: u16) -> Option<u64> {
        let entry = self.entries.iter().find(|entry| entry.tag == tag)?;
        Some(self.order.number(entry.values.get(..entry.size)?))
    }

    /// The bytes of a tag.
    pub(super) fn bytes(&self, tag: u16) -> &'a [u8] {
        self.entries.iter().find(|entry| entry.tag == tag).map_or(&[], |entry| entry.values)
    }

    /// The bytes of the file at `start`, at most `length`.
    pub(super) fn data(&self, start: u64, length: u64) -> Result<&'a [u8], Problem> {
        part(self.file, start, length)
    }
}

/// `length` bytes at `start`.
fn part(file: &[u8], start: u64, length: u64) -> Result<&[u8], Problem> {
    let range = usize::try_from(start).ok().zip(start.checked_add(length).and_then(|end| usize::try_from(end).ok()));
    range.and_then(|(start, end)| file.get(start..end)).ok_or_else(|| truncated("TIFF"))
}

//! A cursor over the bytes of a pickle.

use crate::error::expected;
use crate::{Error, Result};

/// The bytes not yet read.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let split = usize::try_from(count).ok().and_then(|count| self.0.split_at_checked(count));
        let (taken, rest) = split.ok_or_else(|| {
            Error::format(
                "pickle",
                expected(format_args!("{count} more bytes"))
                    .found(format_args!("{}: the file is cut short", self.0.len())),
            )
        })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N as u64)?.try_into().expect("`take` returns the requested number of bytes"))
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// The text up to the next line feed.
    pub(super) fn line(&mut self) -> Result<&'a str> {
        let length = self.0.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| Error::format("pickle", "unterminated line"))?;
        let line = self.take(length as u64)?;
        self.byte()?;
        std::str::from_utf8(line).map_err(|_| Error::format("pickle", expected("a line of text").found("other bytes")))
    }
}

//! The bytes of a JPEG as the decoder reads them.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

/// A reader of bytes in memory that counts how often it is asked for bytes after the last one.
pub(super) struct Input<'a> {
    rest: &'a [u8],
    ends: &'a Cell<usize>,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8], ends: &'a Cell<usize>) -> Self {
        Self { rest: bytes, ends }
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ends.set(self.ends.get() + 1);
        }
        Ok(self.rest)
    }

    fn consume(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }
}

impl Read for Input<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.rest.read(out)?;
        Ok(count)
    }
}

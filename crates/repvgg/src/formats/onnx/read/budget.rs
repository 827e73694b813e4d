//! A bound on what a file can make its reader allocate.

use super::Found;
use crate::error::expected;

/// The elements that may still be made of a file: a few times as many as it has bytes.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    /// What is granted beyond the bytes: small files may repeat small constants.
    const FREE: usize = 1 << 20;

    pub(super) fn new(bytes: usize) -> Self {
        Self(bytes.saturating_add(Self::FREE))
    }

    /// More bytes were found.
    pub(super) fn extend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
    }

    /// Pays for elements before they are allocated.
    pub(super) fn take(&mut self, elements: usize) -> Found<()> {
        match self.0.checked_sub(elements) {
            Some(left) => self.0 = left,
            None => return Err(expected("constants in proportion to the file").found("far more").into()),
        }
        Ok(())
    }
}

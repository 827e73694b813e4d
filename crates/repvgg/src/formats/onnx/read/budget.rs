//! A limit on the memory that reading a file can allocate.

use super::ReadResult;

/// The elements that may still be allocated for a file: a few times its size in bytes.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    /// The allowance beyond the file's size: small files may repeat small constants.
    const FREE: usize = 1 << 20;

    pub(super) fn new(bytes: usize) -> Self {
        Self(bytes.saturating_add(Self::FREE))
    }

    /// Extends the budget by the bytes of another file.
    pub(super) fn extend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
    }

    /// Charges for elements before they are allocated.
    pub(super) fn take(&mut self, elements: usize) -> ReadResult<()> {
        match self.0.checked_sub(elements) {
            Some(left) => self.0 = left,
            None => return Err("constants are out of proportion to the file".into()),
        }
        Ok(())
    }
}

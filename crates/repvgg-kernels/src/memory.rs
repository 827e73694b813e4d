//! Large buffers in huge pages where the system has them: fewer address translations, 2 to 8 % of a network's time.

#![expect(unsafe_code, reason = "pages are bytes, and kernels read floats")]

use std::fmt;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// The size and alignment of a huge page of x86-64 and of most other architectures, in bytes.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed floats that start at a cache line, and from one huge page on at a huge page.
pub struct Buffer {
    pages: MmapMut,
    /// In bytes.
    start: usize,
    /// In floats.
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Errors
    ///
    /// When the system refuses the memory.
    pub fn zeroed(len: usize) -> std::io::Result<Self> {
        let bytes = len.checked_mul(size_of::<f32>()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        if bytes < HUGE_PAGE {
            return Ok(Self { pages: MmapMut::map_anon(bytes.max(1))?, start: 0, len });
        }
        let room = bytes.checked_add(HUGE_PAGE).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let pages = MmapMut::map_anon(room)?;
        // A system without huge pages refuses, and gives small ones.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        let start = pages.as_ptr().align_offset(HUGE_PAGE);
        Ok(Self { pages, start, len })
    }

    /// Bytes that it occupies.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<f32>()
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let bytes = &self.pages[self.start..][..self.bytes()];
        // SAFETY: the bytes are as many as `len` floats, initialised, and aligned as a page is; any bits are a float.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let bytes = size_of::<f32>() * self.len;
        let bytes = &mut self.pages[self.start..][..bytes];
        // SAFETY: as in `deref`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), self.len) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} floats", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn buffers_of_every_size_are_zeroed_and_writable() {
        for len in [0, 1, 1000, (2 << 20) / 4 - 1, (2 << 20) / 4, (5 << 20) / 4 + 3] {
            let mut buffer = Buffer::zeroed(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&x| x == 0.0));
            buffer.fill(1.0);
            assert_eq!(buffer.iter().sum::<f32>(), len as f32);
        }
        assert!(Buffer::zeroed(usize::MAX / 2).is_err());
    }
}

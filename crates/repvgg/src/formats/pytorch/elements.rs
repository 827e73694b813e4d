//! Decodes elements of any float type and any strides into `f32` in row-major order.

use half::{bf16, f16};

use super::element::Kind;
use crate::element_count;

/// The order of an element's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

/// The position of a tensor's elements in its storage.
#[derive(Debug)]
pub(super) struct StridedLayout {
    /// The index of the first element.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Elements between neighbours along each axis; 0 if an axis repeats its elements.
    pub(super) strides: Vec<usize>,
}

impl StridedLayout {
    /// The number of elements, and the index after the last; `None` if either overflows, or axes and strides differ in number.
    pub(super) fn extent(&self) -> Option<(usize, usize)> {
        let count = element_count(&self.shape).filter(|_| self.shape.len() == self.strides.len())?;
        if count == 0 {
            return Some((0, 0));
        }
        let mut axes = self.shape.iter().zip(&self.strides);
        let last =
            axes.try_fold(self.offset, |last, (extent, stride)| last.checked_add((extent - 1).checked_mul(*stride)?))?;
        Some((count, last.checked_add(1)?))
    }
}

/// Decodes the elements of a storage that `layout` selects, in row-major order.
///
/// # Panics
/// When the elements are not floats or lie outside the storage.
pub(super) fn read(kind: Kind, order: ByteOrder, storage: &[u8], layout: &StridedLayout) -> Vec<f32> {
    match (kind, order) {
        (Kind::F64, ByteOrder::Little) => gather(storage, layout, |bytes| f64::from_le_bytes(bytes) as f32),
        (Kind::F64, ByteOrder::Big) => gather(storage, layout, |bytes| f64::from_be_bytes(bytes) as f32),
        (Kind::F32, ByteOrder::Little) => gather(storage, layout, f32::from_le_bytes),
        (Kind::F32, ByteOrder::Big) => gather(storage, layout, f32::from_be_bytes),
        (Kind::F16, ByteOrder::Little) => gather(storage, layout, |bytes| f16::from_le_bytes(bytes).to_f32()),
        (Kind::F16, ByteOrder::Big) => gather(storage, layout, |bytes| f16::from_be_bytes(bytes).to_f32()),
        (Kind::Bf16, ByteOrder::Little) => gather(storage, layout, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        (Kind::Bf16, ByteOrder::Big) => gather(storage, layout, |bytes| bf16::from_be_bytes(bytes).to_f32()),
        (Kind::Other | Kind::Complex | Kind::Quantized, _) => panic!("{kind:?} elements cannot be decoded"),
    }
}

fn gather<const N: usize>(storage: &[u8], layout: &StridedLayout, element: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let Some(count @ 1..) = element_count(&layout.shape) else { return Vec::new() };
    let (storage, _) = storage.as_chunks::<N>();
    // The stride of an axis with one element is irrelevant.
    let axes = layout.shape.iter().copied().zip(layout.strides.iter().copied());
    let mut outer: Vec<(usize, usize)> = axes.filter(|&(extent, _)| extent != 1).collect();
    // The innermost contiguous axes form one run.
    let mut run = 1;
    while let Some((extent, _)) = outer.pop_if(|&mut (_, stride)| stride == run) {
        run *= extent;
    }
    let mut elements = Vec::with_capacity(count);
    let mut offset = layout.offset;
    let mut index = vec![0; outer.len()];
    loop {
        elements.extend(storage[offset..offset + run].iter().map(|&bytes| element(bytes)));
        // The next index in row-major order: advance the last axis that is not at its end and rewind those after it.
        let mut axes = index.iter_mut().zip(&outer).rev();
        loop {
            let Some((index, (extent, stride))) = axes.next() else { return elements };
            *index += 1;
            offset += stride;
            if *index < *extent {
                break;
            }
            offset -= *index * stride;
            *index = 0;
        }
    }
}

#[cfg(test)]
mod tests;

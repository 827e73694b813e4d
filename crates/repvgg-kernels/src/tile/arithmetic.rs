//! The numbers that a tile multiplies.

#![expect(unsafe_code, reason = "sums are written through the pointers of the tile, which has checked them")]

use super::Sum;
use crate::Element;
use crate::isa::{Places, Simd};

/// The numbers of a product, and how they are multiplied.
pub(crate) trait Arithmetic {
    /// An element of a panel.
    type Panel: Element;
    /// An element of a column.
    type Column: Element;
    /// An element of the result.
    type Sum: Element;
    /// A register of sums.
    type Register<S: Simd>: Copy;

    /// A register of zeros.
    fn zero<S: Simd>(simd: S) -> Self::Register<S>;

    /// Adds some steps to the sums: [`Simd::multiply_steps`] at the rows from `panel` on and the columns from `column` on,
    /// `step` elements apart.
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn multiply_steps<S: Simd, const V: usize, const N: usize, const BLOCKS: bool>(
        simd: S,
        sums: &mut [[Self::Register<S>; V]; N],
        panel: *const Self::Panel,
        column: *const Self::Column,
        step: usize,
    );

    /// Writes a register of sums.
    ///
    /// # Safety
    ///
    /// A register at `target` must be readable and writable, and borrowed by nobody else.
    unsafe fn store<S: Simd>(simd: S, sums: Self::Register<S>, sum: Sum, target: *mut Self::Sum);
}

/// Single precision throughout.
pub(crate) struct F32;

impl Arithmetic for F32 {
    type Panel = f32;
    type Column = f32;
    type Sum = f32;
    type Register<S: Simd> = S::Vector;

    #[inline(always)]
    fn zero<S: Simd>(simd: S) -> S::Vector {
        simd.splat(0.0)
    }

    #[inline(always)]
    unsafe fn multiply_steps<S: Simd, const V: usize, const N: usize, const BLOCKS: bool>(
        simd: S,
        sums: &mut [[S::Vector; V]; N],
        panel: *const f32,
        column: *const f32,
        step: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { simd.multiply_steps::<V, N, BLOCKS>(sums, Places::new(panel, column, step * size_of::<f32>())) };
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, sums: S::Vector, sum: Sum, target: *mut f32) {
        // SAFETY: the caller's promise.
        let block = unsafe { &mut *target.cast::<S::Block>() };
        // Sums start from zero and are added at the end, which is also the more accurate order.
        let sums = if sum == Sum::Continue { simd.add(sums, simd.load(block)) } else { sums };
        simd.store(sums, block);
    }
}

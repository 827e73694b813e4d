//! The arithmetic of a tile: its element types and how they are multiplied.

#![expect(unsafe_code, reason = "sums are written through pointers that the tile has checked")]

use super::Accumulate;
use crate::Element;
use crate::isa::{Simd, StepOperands};

/// The element types of a product and their multiplication.
pub(crate) trait Arithmetic {
    /// An element of a panel.
    type Panel: Element;
    /// An element of a column.
    type Column: Element;
    /// An element of the result.
    type Output: Element;
    /// A register of sums.
    type Register<S: Simd>: Copy;

    /// A register of zeros.
    fn zero<S: Simd>(simd: S) -> Self::Register<S>;

    /// Adds consecutive steps to the sums, as [`Simd::multiply_steps`] does. The rows of the panel start at `panel`; the
    /// columns start at `column`, `step` elements apart.
    ///
    /// # Safety
    ///
    /// As for [`Simd::multiply_steps`].
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
    /// A register at `target` must be readable and writable, and nothing else may borrow it.
    unsafe fn store<S: Simd>(simd: S, sums: Self::Register<S>, accumulate: Accumulate, target: *mut Self::Output);
}

/// Single precision throughout.
pub(crate) struct F32;

impl Arithmetic for F32 {
    type Panel = f32;
    type Column = f32;
    type Output = f32;
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
        // SAFETY: guaranteed by the caller.
        unsafe { simd.multiply_steps::<V, N, BLOCKS>(sums, StepOperands::new(panel, column, step * size_of::<f32>())) };
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, sums: S::Vector, accumulate: Accumulate, target: *mut f32) {
        // SAFETY: guaranteed by the caller.
        let block = unsafe { &mut *target.cast::<S::Block>() };
        // Sums start at zero and are added to the output at the end, which is also the more accurate order.
        let sums = if accumulate == Accumulate::Add { simd.add(sums, simd.load(block)) } else { sums };
        simd.store(sums, block);
    }
}

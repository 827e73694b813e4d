//! Arrays of eight floats, compiled to the vector registers of the target's baseline.

use super::{Kernel, Simd};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portable(());

impl Portable {
    /// Always available.
    pub(crate) fn detect() -> Option<Self> {
        Some(Self(()))
    }
}

impl Simd for Portable {
    const LANES: usize = 8;
    /// Baseline x86-64 has 16 registers of 4 lanes, two for each array: 4 · 2 sums, 2 of the panel, 1 broadcast, products.
    const COLUMNS: &'static [usize] = &[4];
    type Vector = [f32; 8];
    type Block = [f32; 8];

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }

    #[inline(always)]
    fn load(self, block: &[f32; 8]) -> [f32; 8] {
        *block
    }

    #[inline(always)]
    fn store(self, x: [f32; 8], block: &mut [f32; 8]) {
        *block = x;
    }

    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn max(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if b[i] > a[i] || b[i].is_nan() { b[i] } else { a[i] })
    }

    #[inline(always)]
    fn at_least(self, floor: [f32; 8], x: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if x[i] < floor[i] { floor[i] } else { x[i] })
    }

    /// Does nothing: there is no portable prefetch.
    #[inline(always)]
    fn prefetch(self, _address: *const f32) {}

    /// Not fused: without the instruction, `f32::mul_add` is a library call.
    #[inline(always)]
    fn mul_add(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn interleave(self, a: [f32; 8], b: [f32; 8]) -> ([f32; 8], [f32; 8]) {
        ([a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]], [a[4], b[4], a[5], b[5], a[6], b[6], a[7], b[7]])
    }

    #[inline(always)]
    fn blocks(slice: &[f32]) -> &[[f32; 8]] {
        slice.as_chunks().0
    }

    #[inline(always)]
    fn blocks_mut(slice: &mut [f32]) -> &mut [[f32; 8]] {
        slice.as_chunks_mut().0
    }
}

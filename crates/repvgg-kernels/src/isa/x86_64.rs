//! AVX2 with FMA (Haswell and Zen onwards) and AVX-512F (Skylake-X and Zen 4 onwards).

mod steps;

use std::arch::x86_64::*;

use super::{Kernel, Simd, StepOperands};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && Avx2::detect().is_some()).then_some(Self(()))
    }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    /// 12 sums in 16 registers.
    const COLUMNS: &'static [usize] = &[12, 6];
    type Vector = __m256;
    type Block = [f32; 8];

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: self proves AVX2 and FMA.
        unsafe { compiled(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, block: &[f32; 8]) -> __m256 {
        // SAFETY: self proves AVX2; the block is exactly one register of floats.
        unsafe { _mm256_loadu_ps(block.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn multiply_steps<const V: usize, const N: usize, const BLOCKS: bool>(
        self,
        sums: &mut [[Self::Vector; V]; N],
        operands: StepOperands,
    ) {
        // SAFETY: self proves the instructions; the rest is the caller's promise.
        unsafe { steps::avx2::<V, N, BLOCKS>(sums, operands) };
    }

    #[inline(always)]
    fn store(self, x: __m256, block: &mut [f32; 8]) {
        // SAFETY: self proves AVX2; the block is exactly one register of floats.
        unsafe { _mm256_storeu_ps(block.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_div_ps(a, b) }
    }

    /// The instruction returns its second operand when the two are equal or either is NaN.
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        let (max, unordered) = unsafe { (_mm256_max_ps(b, a), _mm256_cmp_ps::<_CMP_UNORD_Q>(b, b)) };
        // SAFETY: self proves AVX2.
        unsafe { _mm256_blendv_ps(max, b, unordered) }
    }

    /// The instruction returns its second operand when either is NaN.
    #[inline(always)]
    fn at_least(self, floor: __m256, x: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_max_ps(floor, x) }
    }

    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        // SAFETY: a hint; no address makes it fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: self proves FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn interleave(self, a: __m256, b: __m256) -> (__m256, __m256) {
        // SAFETY: self proves AVX2.
        let (low, high) = unsafe { (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)) };
        // SAFETY: self proves AVX2.
        unsafe { (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)) }
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

impl Simd for Avx512 {
    const LANES: usize = 16;
    /// 24 sums in 32 registers; 12 for a panel of a single register, where broadcasts are the limit.
    const COLUMNS: &'static [usize] = &[12, 12, 8, 6];
    type Vector = __m512;
    type Block = [f32; 16];

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn compiled<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: self proves AVX-512F, AVX2 and FMA.
        unsafe { compiled(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, block: &[f32; 16]) -> __m512 {
        // SAFETY: self proves AVX-512F; the block is exactly one register of floats.
        unsafe { _mm512_loadu_ps(block.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn multiply_steps<const V: usize, const N: usize, const BLOCKS: bool>(
        self,
        sums: &mut [[Self::Vector; V]; N],
        operands: StepOperands,
    ) {
        // SAFETY: self proves the instructions; the rest is the caller's promise.
        unsafe { steps::avx512::<V, N, BLOCKS>(sums, operands) };
    }

    #[inline(always)]
    fn store(self, x: __m512, block: &mut [f32; 16]) {
        // SAFETY: self proves AVX-512F; the block is exactly one register of floats.
        unsafe { _mm512_storeu_ps(block.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_div_ps(a, b) }
    }

    /// The instruction returns its second operand when the two are equal or either is NaN.
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        let (max, unordered) = unsafe { (_mm512_max_ps(b, a), _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(b, b)) };
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_mask_blend_ps(unordered, max, b) }
    }

    /// The instruction returns its second operand when either is NaN.
    #[inline(always)]
    fn at_least(self, floor: __m512, x: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_max_ps(floor, x) }
    }

    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        // SAFETY: a hint; no address makes it fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn interleave(self, a: __m512, b: __m512) -> (__m512, __m512) {
        // SAFETY: self proves AVX-512F.
        let low = unsafe { _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23) };
        // SAFETY: self proves AVX-512F.
        let high = unsafe { _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31) };
        // SAFETY: self proves AVX-512F.
        unsafe { (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b)) }
    }

    #[inline(always)]
    fn blocks(slice: &[f32]) -> &[[f32; 16]] {
        slice.as_chunks().0
    }

    #[inline(always)]
    fn blocks_mut(slice: &mut [f32]) -> &mut [[f32; 16]] {
        slice.as_chunks_mut().0
    }
}

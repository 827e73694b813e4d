//! The innermost loop of inference in assembly.
//!
//! When the sums fill the register file, the compiler loads ahead and spills sums to make room: 37 of 67 GMAC/s for 6 columns by
//! 2 registers of AVX2, where this loop reaches 63 (Sapphire Rapids at 4.2 GHz). The assembly fixes the order of a step: load a
//! row of weights, then broadcast and multiply the element of each column. The processor renames the single broadcast register,
//! so it causes no stalls.
//!
//! Column `n` is addressed from the nearest of three pointers, four columns apart, plus 0 to 3 strides `s`.

use std::arch::asm;
use std::arch::x86_64::{__m256, __m512};

use crate::isa::StepOperands;

/// Steps of 1 register of weights.
macro_rules! steps1 {
    ($class:ident $bytes:literal $lanes:literal $sums:ident $at:ident; $(($n:literal $x:literal $c0:ident))*) => {
        asm!(
            concat!(".irp l,", $lanes),
            concat!("vmovups {w0}, [{w} + ", $bytes, "*(\\l*1+0)]"),
            $(
                concat!("vbroadcastss {b}, dword ptr [", $x, " + 4*\\l]"),
                concat!("vfmadd231ps {", stringify!($c0), "}, {b}, {w0}"),
            )*
            ".endr",
            "/* {x0} {x4} {x8} {s} {s3} */",
            w = in(reg) $at.weights,
            x0 = in(reg) $at.columns[0],
            x4 = in(reg) $at.columns[1],
            x8 = in(reg) $at.columns[2],
            s = in(reg) $at.step,
            s3 = in(reg) 3 * $at.step,
            b = out($class) _,
            w0 = out($class) _,
            $(
                $c0 = inout($class) $sums[$n][0],
            )*
            options(readonly, nostack),
        )
    };
}

/// Steps of 2 registers of weights.
macro_rules! steps2 {
    ($class:ident $bytes:literal $lanes:literal $sums:ident $at:ident; $(($n:literal $x:literal $c0:ident $c1:ident))*) => {
        asm!(
            concat!(".irp l,", $lanes),
            concat!("vmovups {w0}, [{w} + ", $bytes, "*(\\l*2+0)]"),
            concat!("vmovups {w1}, [{w} + ", $bytes, "*(\\l*2+1)]"),
            $(
                concat!("vbroadcastss {b}, dword ptr [", $x, " + 4*\\l]"),
                concat!("vfmadd231ps {", stringify!($c0), "}, {b}, {w0}"),
                concat!("vfmadd231ps {", stringify!($c1), "}, {b}, {w1}"),
            )*
            ".endr",
            "/* {x0} {x4} {x8} {s} {s3} */",
            w = in(reg) $at.weights,
            x0 = in(reg) $at.columns[0],
            x4 = in(reg) $at.columns[1],
            x8 = in(reg) $at.columns[2],
            s = in(reg) $at.step,
            s3 = in(reg) 3 * $at.step,
            b = out($class) _,
            w0 = out($class) _,
            w1 = out($class) _,
            $(
                $c0 = inout($class) $sums[$n][0],
                $c1 = inout($class) $sums[$n][1],
            )*
            options(readonly, nostack),
        )
    };
}

/// Steps of 3 registers of weights.
macro_rules! steps3 {
    ($class:ident $bytes:literal $lanes:literal $sums:ident $at:ident; $(($n:literal $x:literal $c0:ident $c1:ident $c2:ident))*) => {
        asm!(
            concat!(".irp l,", $lanes),
            concat!("vmovups {w0}, [{w} + ", $bytes, "*(\\l*3+0)]"),
            concat!("vmovups {w1}, [{w} + ", $bytes, "*(\\l*3+1)]"),
            concat!("vmovups {w2}, [{w} + ", $bytes, "*(\\l*3+2)]"),
            $(
                concat!("vbroadcastss {b}, dword ptr [", $x, " + 4*\\l]"),
                concat!("vfmadd231ps {", stringify!($c0), "}, {b}, {w0}"),
                concat!("vfmadd231ps {", stringify!($c1), "}, {b}, {w1}"),
                concat!("vfmadd231ps {", stringify!($c2), "}, {b}, {w2}"),
            )*
            ".endr",
            "/* {x0} {x4} {x8} {s} {s3} */",
            w = in(reg) $at.weights,
            x0 = in(reg) $at.columns[0],
            x4 = in(reg) $at.columns[1],
            x8 = in(reg) $at.columns[2],
            s = in(reg) $at.step,
            s3 = in(reg) 3 * $at.step,
            b = out($class) _,
            w0 = out($class) _,
            w1 = out($class) _,
            w2 = out($class) _,
            $(
                $c0 = inout($class) $sums[$n][0],
                $c1 = inout($class) $sums[$n][1],
                $c2 = inout($class) $sums[$n][2],
            )*
            options(readonly, nostack),
        )
    };
}

/// Steps of 4 registers of weights.
macro_rules! steps4 {
    ($class:ident $bytes:literal $lanes:literal $sums:ident $at:ident; $(($n:literal $x:literal $c0:ident $c1:ident $c2:ident $c3:ident))*) => {
        asm!(
            concat!(".irp l,", $lanes),
            concat!("vmovups {w0}, [{w} + ", $bytes, "*(\\l*4+0)]"),
            concat!("vmovups {w1}, [{w} + ", $bytes, "*(\\l*4+1)]"),
            concat!("vmovups {w2}, [{w} + ", $bytes, "*(\\l*4+2)]"),
            concat!("vmovups {w3}, [{w} + ", $bytes, "*(\\l*4+3)]"),
            $(
                concat!("vbroadcastss {b}, dword ptr [", $x, " + 4*\\l]"),
                concat!("vfmadd231ps {", stringify!($c0), "}, {b}, {w0}"),
                concat!("vfmadd231ps {", stringify!($c1), "}, {b}, {w1}"),
                concat!("vfmadd231ps {", stringify!($c2), "}, {b}, {w2}"),
                concat!("vfmadd231ps {", stringify!($c3), "}, {b}, {w3}"),
            )*
            ".endr",
            "/* {x0} {x4} {x8} {s} {s3} */",
            w = in(reg) $at.weights,
            x0 = in(reg) $at.columns[0],
            x4 = in(reg) $at.columns[1],
            x8 = in(reg) $at.columns[2],
            s = in(reg) $at.step,
            s3 = in(reg) 3 * $at.step,
            b = out($class) _,
            w0 = out($class) _,
            w1 = out($class) _,
            w2 = out($class) _,
            w3 = out($class) _,
            $(
                $c0 = inout($class) $sums[$n][0],
                $c1 = inout($class) $sums[$n][1],
                $c2 = inout($class) $sums[$n][2],
                $c3 = inout($class) $sums[$n][3],
            )*
            options(readonly, nostack),
        )
    };
}

/// Calls the macro `$steps` with the first `N` rows `(column address sums)`.
macro_rules! for_count {
    ($steps:ident ($($operand:tt)*) [$($done:tt)*]) => { unreachable!("no tile of {N} columns") };
    ($steps:ident ($($operand:tt)*) [$($done:tt)*] $row:tt $($rest:tt)*) => {
        if N == const { 1 $(+ one!($done))* } {
            // SAFETY: the caller of the function guarantees that the operands are readable.
            unsafe { $steps!($($operand)*; $($done)* $row) }
        } else {
            for_count!($steps ($($operand)*) [$($done)* $row] $($rest)*)
        }
    };
}

macro_rules! one {
    ($row:tt) => {
        1
    };
}

/// [`super::Simd::multiply_steps`] of AVX2.
///
/// # Safety
///
/// As there.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn avx2<const V: usize, const N: usize, const BLOCKS: bool>(
    sums: &mut [[__m256; V]; N],
    at: StepOperands,
) {
    match (V, BLOCKS) {
        (1, true) => {
            for_count!(steps1 (ymm_reg 32 "0,1,2,3,4,5,6,7" sums at) [] (0 "{x0}" c0_0) (1 "{x0} + {s}" c1_0) (2 "{x0} + 2*{s}" c2_0) (3 "{x0} + {s3}" c3_0) (4 "{x4}" c4_0) (5 "{x4} + {s}" c5_0) (6 "{x4} + 2*{s}" c6_0) (7 "{x4} + {s3}" c7_0) (8 "{x8}" c8_0) (9 "{x8} + {s}" c9_0) (10 "{x8} + 2*{s}" c10_0) (11 "{x8} + {s3}" c11_0))
        }
        (1, false) => {
            for_count!(steps1 (ymm_reg 32 "0" sums at) [] (0 "{x0}" c0_0) (1 "{x0} + {s}" c1_0) (2 "{x0} + 2*{s}" c2_0) (3 "{x0} + {s3}" c3_0) (4 "{x4}" c4_0) (5 "{x4} + {s}" c5_0) (6 "{x4} + 2*{s}" c6_0) (7 "{x4} + {s3}" c7_0) (8 "{x8}" c8_0) (9 "{x8} + {s}" c9_0) (10 "{x8} + 2*{s}" c10_0) (11 "{x8} + {s3}" c11_0))
        }
        (2, true) => {
            for_count!(steps2 (ymm_reg 32 "0,1,2,3,4,5,6,7" sums at) [] (0 "{x0}" c0_0 c0_1) (1 "{x0} + {s}" c1_0 c1_1) (2 "{x0} + 2*{s}" c2_0 c2_1) (3 "{x0} + {s3}" c3_0 c3_1) (4 "{x4}" c4_0 c4_1) (5 "{x4} + {s}" c5_0 c5_1))
        }
        (2, false) => {
            for_count!(steps2 (ymm_reg 32 "0" sums at) [] (0 "{x0}" c0_0 c0_1) (1 "{x0} + {s}" c1_0 c1_1) (2 "{x0} + 2*{s}" c2_0 c2_1) (3 "{x0} + {s3}" c3_0 c3_1) (4 "{x4}" c4_0 c4_1) (5 "{x4} + {s}" c5_0 c5_1))
        }
        _ => unreachable!("no tile of {V} registers"),
    }
}

/// [`super::Simd::multiply_steps`] of AVX-512.
///
/// # Safety
///
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn avx512<const V: usize, const N: usize, const BLOCKS: bool>(
    sums: &mut [[__m512; V]; N],
    at: StepOperands,
) {
    match (V, BLOCKS) {
        (1, true) => {
            for_count!(steps1 (zmm_reg 64 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15" sums at) [] (0 "{x0}" c0_0) (1 "{x0} + {s}" c1_0) (2 "{x0} + 2*{s}" c2_0) (3 "{x0} + {s3}" c3_0) (4 "{x4}" c4_0) (5 "{x4} + {s}" c5_0) (6 "{x4} + 2*{s}" c6_0) (7 "{x4} + {s3}" c7_0) (8 "{x8}" c8_0) (9 "{x8} + {s}" c9_0) (10 "{x8} + 2*{s}" c10_0) (11 "{x8} + {s3}" c11_0))
        }
        (1, false) => {
            for_count!(steps1 (zmm_reg 64 "0" sums at) [] (0 "{x0}" c0_0) (1 "{x0} + {s}" c1_0) (2 "{x0} + 2*{s}" c2_0) (3 "{x0} + {s3}" c3_0) (4 "{x4}" c4_0) (5 "{x4} + {s}" c5_0) (6 "{x4} + 2*{s}" c6_0) (7 "{x4} + {s3}" c7_0) (8 "{x8}" c8_0) (9 "{x8} + {s}" c9_0) (10 "{x8} + 2*{s}" c10_0) (11 "{x8} + {s3}" c11_0))
        }
        (2, true) => {
            for_count!(steps2 (zmm_reg 64 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15" sums at) [] (0 "{x0}" c0_0 c0_1) (1 "{x0} + {s}" c1_0 c1_1) (2 "{x0} + 2*{s}" c2_0 c2_1) (3 "{x0} + {s3}" c3_0 c3_1) (4 "{x4}" c4_0 c4_1) (5 "{x4} + {s}" c5_0 c5_1) (6 "{x4} + 2*{s}" c6_0 c6_1) (7 "{x4} + {s3}" c7_0 c7_1) (8 "{x8}" c8_0 c8_1) (9 "{x8} + {s}" c9_0 c9_1) (10 "{x8} + 2*{s}" c10_0 c10_1) (11 "{x8} + {s3}" c11_0 c11_1))
        }
        (2, false) => {
            for_count!(steps2 (zmm_reg 64 "0" sums at) [] (0 "{x0}" c0_0 c0_1) (1 "{x0} + {s}" c1_0 c1_1) (2 "{x0} + 2*{s}" c2_0 c2_1) (3 "{x0} + {s3}" c3_0 c3_1) (4 "{x4}" c4_0 c4_1) (5 "{x4} + {s}" c5_0 c5_1) (6 "{x4} + 2*{s}" c6_0 c6_1) (7 "{x4} + {s3}" c7_0 c7_1) (8 "{x8}" c8_0 c8_1) (9 "{x8} + {s}" c9_0 c9_1) (10 "{x8} + 2*{s}" c10_0 c10_1) (11 "{x8} + {s3}" c11_0 c11_1))
        }
        (3, true) => {
            for_count!(steps3 (zmm_reg 64 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15" sums at) [] (0 "{x0}" c0_0 c0_1 c0_2) (1 "{x0} + {s}" c1_0 c1_1 c1_2) (2 "{x0} + 2*{s}" c2_0 c2_1 c2_2) (3 "{x0} + {s3}" c3_0 c3_1 c3_2) (4 "{x4}" c4_0 c4_1 c4_2) (5 "{x4} + {s}" c5_0 c5_1 c5_2) (6 "{x4} + 2*{s}" c6_0 c6_1 c6_2) (7 "{x4} + {s3}" c7_0 c7_1 c7_2))
        }
        (3, false) => {
            for_count!(steps3 (zmm_reg 64 "0" sums at) [] (0 "{x0}" c0_0 c0_1 c0_2) (1 "{x0} + {s}" c1_0 c1_1 c1_2) (2 "{x0} + 2*{s}" c2_0 c2_1 c2_2) (3 "{x0} + {s3}" c3_0 c3_1 c3_2) (4 "{x4}" c4_0 c4_1 c4_2) (5 "{x4} + {s}" c5_0 c5_1 c5_2) (6 "{x4} + 2*{s}" c6_0 c6_1 c6_2) (7 "{x4} + {s3}" c7_0 c7_1 c7_2))
        }
        (4, true) => {
            for_count!(steps4 (zmm_reg 64 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15" sums at) [] (0 "{x0}" c0_0 c0_1 c0_2 c0_3) (1 "{x0} + {s}" c1_0 c1_1 c1_2 c1_3) (2 "{x0} + 2*{s}" c2_0 c2_1 c2_2 c2_3) (3 "{x0} + {s3}" c3_0 c3_1 c3_2 c3_3) (4 "{x4}" c4_0 c4_1 c4_2 c4_3) (5 "{x4} + {s}" c5_0 c5_1 c5_2 c5_3))
        }
        (4, false) => {
            for_count!(steps4 (zmm_reg 64 "0" sums at) [] (0 "{x0}" c0_0 c0_1 c0_2 c0_3) (1 "{x0} + {s}" c1_0 c1_1 c1_2 c1_3) (2 "{x0} + 2*{s}" c2_0 c2_1 c2_2 c2_3) (3 "{x0} + {s3}" c3_0 c3_1 c3_2 c3_3) (4 "{x4}" c4_0 c4_1 c4_2 c4_3) (5 "{x4} + {s}" c5_0 c5_1 c5_2 c5_3))
        }
        _ => unreachable!("no tile of {V} registers"),
    }
}

use super::{Kernel, Level, Simd, transpose};
use crate::cases::levels;

/// Checks interleaving, multiply-add, addition, division and splat lane by lane.
struct Arithmetic;

impl Kernel for Arithmetic {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let lanes = S::LANES;
        let a: Vec<f32> = (0..lanes).map(|i| i as f32 + 0.5).collect();
        let b: Vec<f32> = (0..lanes).map(|i| 3.0 - 2.0 * i as f32).collect();
        let vector = |x: &[f32]| simd.load(&S::blocks(x)[0]);
        let array = |x| {
            let mut out = vec![0.0; lanes];
            simd.store(x, &mut S::blocks_mut(&mut out)[0]);
            out
        };
        let (low, high) = simd.interleave(vector(&a), vector(&b));
        let zipped: Vec<f32> = a.iter().zip(&b).flat_map(|(&a, &b)| [a, b]).collect();
        assert_eq!([array(low), array(high)].concat(), zipped);
        let products: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a * b + 7.0).collect();
        assert_eq!(array(simd.mul_add(vector(&a), vector(&b), simd.splat(7.0))), products);
        let sums: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(array(simd.add(vector(&a), vector(&b))), sums);
        let quotients: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a / b).collect();
        assert_eq!(array(simd.div(vector(&a), vector(&b))), quotients);
    }
}

/// Checks `max` at the ends of the range and where either operand is NaN.
struct Max;

impl Kernel for Max {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let values = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        for (a, b) in values.into_iter().flat_map(|a| values.map(|b| (a, b))) {
            let mut out = vec![0.0; S::LANES];
            simd.store(simd.max(simd.splat(a), simd.splat(b)), &mut S::blocks_mut(&mut out)[0]);
            let expected = if b > a || b.is_nan() { b } else { a };
            let is_expected = |x: &f32| x.to_bits() == expected.to_bits() || x.is_nan() && expected.is_nan();
            assert!(out.iter().all(is_expected), "{a} and {b}: expected {expected}, found {out:?}");
        }
    }
}

#[test]
fn max_propagates_nan() {
    for level in levels() {
        level.run(Max);
    }
}

#[test]
fn arithmetic_is_lane_by_lane() {
    for level in levels() {
        level.run(Arithmetic);
    }
}

struct Transpose<const ROWS: usize>;

impl<const ROWS: usize> Kernel for Transpose<ROWS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let matrix: Vec<f32> = (0..ROWS * S::LANES).map(|i| i as f32).collect();
        let mut rows = [simd.splat(0.0); ROWS];
        for (row, block) in rows.iter_mut().zip(S::blocks(&matrix)) {
            *row = simd.load(block);
        }
        let mut transposed = vec![0.0; matrix.len()];
        for (row, block) in transpose(simd, rows).iter().zip(S::blocks_mut(&mut transposed)) {
            simd.store(*row, block);
        }
        for column in 0..S::LANES {
            for row in 0..ROWS {
                assert_eq!(transposed[column * ROWS + row], matrix[row * S::LANES + column], "row {row} of {ROWS}");
            }
        }
    }
}

#[test]
fn transpose_swaps_rows_and_columns() {
    for level in levels() {
        level.run(Transpose::<1>);
        level.run(Transpose::<2>);
        level.run(Transpose::<4>);
        level.run(Transpose::<8>);
        level.run(Transpose::<16>);
    }
}

#[test]
fn names_round_trip() {
    for level in levels() {
        assert_eq!(Level::named(level.name()), Some(level));
    }
    assert_eq!(Level::named("altivec"), None);
}

//! Operands, and the comparison of results with the reference.

use repvgg_kernels::reference::Reference;

use crate::layers::Layer;

/// The operands of a layer for a batch of images.
pub(crate) struct Operands {
    /// `[N, C, H, W]`.
    pub(crate) input: Vec<f32>,
    /// `[K, C/G, R, S]`.
    pub(crate) weights: Vec<f32>,
    /// `[N, K, P, Q]`.
    pub(crate) output_gradient: Vec<f32>,
}

impl Operands {
    /// Generates the same numbers in every run.
    pub(crate) fn new(layer: &Layer, batch: usize) -> Self {
        let mut state = 1;
        let [input, weights, output_gradient] = layer.lens(batch).map(|len| floats(len, &mut state));
        Self { input, weights, output_gradient }
    }
}

/// Numbers in [-1, 1) from a linear congruential generator.
pub(crate) fn floats(len: usize, state: &mut u32) -> Vec<f32> {
    let mut next = || {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Asserts that `got` differs from the reference only by rounding, with a bound wide enough for the largest tiles.
pub(crate) fn check(what: &str, got: &[f32], want: &Reference) {
    let largest = want.magnitudes.iter().copied().fold(0.0, f64::max);
    let bound = 512.0 * f64::from(f32::EPSILON) * largest;
    assert_eq!(got.len(), want.values.len(), "{what}");
    for (i, (got, value)) in got.iter().zip(&want.values).enumerate() {
        assert!((f64::from(*got) - value).abs() <= bound, "{what}: element {i} is {got}, not {value}");
    }
}

/// The largest error, relative to the largest result.
pub(crate) fn error(got: &[f32], want: &Reference) -> f64 {
    let largest = want.values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    got.iter().zip(&want.values).map(|(got, value)| (f64::from(*got) - value).abs()).fold(0.0, f64::max) / largest
}

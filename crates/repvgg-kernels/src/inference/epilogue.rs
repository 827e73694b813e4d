//! The epilogue of a convolution, computed in the same pass over memory: `y = max(floor, conv(x) + bias + scale · addend)`.

use crate::isa::Simd;

/// Bias, addend and activation. Per-channel slices are padded to whole registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) bias: &'a [f32],
    /// Zero for ReLU, −∞ for none.
    pub(crate) floor: f32,
    pub(crate) addend: Option<Addend<'a>>,
}

/// A map that is scaled by channel and added before the activation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addend<'a> {
    /// In the layout of the output.
    pub(crate) values: &'a [f32],
    pub(crate) scale: &'a [f32],
}

/// The arguments of one run of a convolution, with lengths already checked.
pub(crate) struct Arguments<'a> {
    pub(crate) images: usize,
    /// In the layout of the convolution's specification.
    pub(crate) input: &'a [f32],
    pub(crate) epilogue: Epilogue<'a>,
    /// `[N, ⌈K/L⌉, P, Q, L]`.
    pub(crate) output: &'a mut [f32],
    pub(crate) workspace: &'a mut [f32],
}

impl Epilogue<'_> {
    /// Applies the epilogue to `sums`, a run of outputs of one register of channels, and writes them to `output`. The addend of
    /// the run starts at `at`.
    #[inline(always)]
    pub(crate) fn finish<S: Simd>(&self, simd: S, register: usize, at: usize, sums: &[f32], output: &mut [f32]) {
        let channels = register * S::LANES..(register + 1) * S::LANES;
        let bias = simd.load(&S::blocks(&self.bias[channels.clone()])[0]);
        let floor = simd.splat(self.floor);
        let pairs = S::blocks(sums).iter().zip(S::blocks_mut(output));
        match self.addend {
            None => pairs.for_each(|(sum, y)| simd.store(simd.at_least(floor, simd.add(simd.load(sum), bias)), y)),
            Some(Addend { values, scale }) => {
                let scale = simd.load(&S::blocks(&scale[channels])[0]);
                for ((sum, y), value) in pairs.zip(S::blocks(&values[at..])) {
                    let sum = simd.mul_add(scale, simd.load(value), simd.add(simd.load(sum), bias));
                    simd.store(simd.at_least(floor, sum), y);
                }
            }
        }
    }
}

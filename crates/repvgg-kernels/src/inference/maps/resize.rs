//! Resampling of maps to another size.

use super::{BlockKernel, Cpu, Map, MapMut};
use crate::isa::Simd;

/// The two rows (or columns) of the input that one row (or column) of the output is interpolated from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResizeTap {
    /// The index of each.
    pub indices: [usize; 2],
    /// The weight of the second; that of the first is one less it.
    pub weight: f32,
}

/// Resamples maps: row `p` of the output is interpolated between the rows that `taps[0][p]` names, column `q` between the
/// columns that `taps[1][q]` names. Where both weights are zero, it is a copy.
///
/// # Panics
///
/// If input and output differ in batch, channels or lanes, there is not one tap for each row and column of the output, or
/// a tap is not on the input.
pub fn resize(cpu: Cpu<'_>, input: Map<'_>, taps: [&[ResizeTap]; 2], output: MapMut<'_>) {
    output.expect_channels(&input);
    assert_eq!(output.layout().shape[2..], [taps[0].len(), taps[1].len()], "one tap for each row and column");
    for (axis, taps) in taps.iter().enumerate() {
        let extent = input.size()[axis];
        assert!(taps.iter().flat_map(|tap| tap.indices).all(|index| index < extent), "taps are on the input");
    }
    output.compute(cpu, 4, &Resize { input, taps });
}

struct Resize<'a> {
    input: Map<'a>,
    taps: [&'a [ResizeTap]; 2],
}

impl BlockKernel for Resize<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, index: usize, block: &mut [f32]) {
        let pixels = S::blocks(self.input.block(index));
        let [_, width] = self.input.size();
        let [rows, columns] = self.taps;
        for (row, output) in rows.iter().zip(S::blocks_mut(block).chunks_exact_mut(columns.len())) {
            let [above, below] = row.indices.map(|row| &pixels[row * width..][..width]);
            for (column, pixel) in columns.iter().zip(output) {
                let [left, right] = column.indices;
                let blend = |a, b, weight: f32| match weight {
                    0.0 => a,
                    weight => {
                        let (first, second) = (simd.splat(1.0 - weight), simd.splat(weight));
                        simd.add(simd.mul(a, first), simd.mul(b, second))
                    }
                };
                let upper = blend(simd.load(&above[left]), simd.load(&above[right]), column.weight);
                let value = match row.weight {
                    0.0 => upper,
                    weight => {
                        blend(upper, blend(simd.load(&below[left]), simd.load(&below[right]), column.weight), weight)
                    }
                };
                simd.store(value, pixel);
            }
        }
    }
}

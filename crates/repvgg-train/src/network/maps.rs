//! Operations on maps that the framework lacks, composed of those that it differentiates.

use burn::tensor::{Tensor as BurnTensor, TensorData};
use repvgg::graph::{Pool, Resize};
use repvgg_kernels::Geometry;

use super::forward::pad;
use crate::ops::{self, Threads};

/// The map `[N, C, H, W]` resampled: one product with a matrix for each axis.
pub(super) fn resize(input: BurnTensor<4>, resize: &Resize) -> BurnTensor<4> {
    let [n, c, height, width] = input.dims();
    let [_, rows, columns] = resize.output([c, height, width]).expect("the graph's shapes are checked");
    let device = input.device();
    let matrix = |axis: usize, extent: usize, output: usize| {
        let mut matrix = vec![0.0; output * extent];
        for (row, tap) in matrix.chunks_exact_mut(extent).zip(resize.taps(axis, extent, output)) {
            row[tap.indices[0]] += 1.0 - tap.weight as f32;
            row[tap.indices[1]] += tap.weight as f32;
        }
        BurnTensor::<2>::from_data(TensorData::new(matrix, [output, extent]), &device)
    };
    let columns_first = input.reshape([n * c * height, width]).matmul(matrix(1, width, columns).transpose());
    let planes = columns_first.reshape([n * c, height, columns]);
    matrix(0, height, rows).unsqueeze::<3>().expand([n * c, rows, height]).matmul(planes).reshape([n, c, rows, columns])
}

/// The sum of each window, whose taps may lie apart.
pub(super) fn dilated_sum(threads: &Threads, input: BurnTensor<4>, pool: &Pool) -> BurnTensor<4> {
    let padded = pad(input, pool.padding.map(|ends| ends.map(|end| end as isize)));
    let channels = padded.dims()[1];
    let geometry = Geometry {
        in_channels: channels,
        out_channels: channels,
        kernel: pool.kernel,
        stride: pool.stride,
        padding: [0; 2],
        dilation: pool.dilation,
        groups: channels,
    };
    let ones = BurnTensor::ones([channels, 1, pool.kernel[0], pool.kernel[1]], &padded.device());
    ops::convolution(threads, padded, ones, geometry)
}

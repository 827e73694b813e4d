//! Compares our kernels with the framework's operations on the same tensors.

use burn::tensor::TensorData;

use super::*;

/// Pseudo-random values in ±1.
fn noise(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 2_654_435_761 + seed * 97) % 100_003) as f32 / 50_001.5 - 1.0).collect()
}

fn tracked<const D: usize>(seed: usize, shape: [usize; D]) -> BurnTensor<D> {
    let device = BurnDevice::flex().autodiff();
    let values = noise(seed, shape.iter().product());
    BurnTensor::from_data(TensorData::new(values, shape), &device).require_grad()
}

fn threads() -> Threads {
    Threads::new(&repvgg::engine::thread_pool(2).unwrap()).unwrap()
}

fn read<const D: usize>(tensor: &BurnTensor<D>) -> Vec<f32> {
    tensor.to_data().try_into_vec().unwrap()
}

/// Asserts that two sums of `terms` values, of which the largest is `scale`, differ by at most `c · ε · √terms · scale`.
fn assert_close(ours: &[f32], theirs: &[f32], terms: usize) {
    const C: f32 = 4.0;
    let scale = theirs.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
    let bound = C * f32::EPSILON * (terms as f32).sqrt() * scale;
    assert_eq!(ours.len(), theirs.len());
    for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= bound, "[{index}]: expected {b} within {bound}, found {a}");
    }
}

#[test]
fn convolutions_and_their_gradients_equal_the_frameworks() {
    let base = Geometry {
        in_channels: 8,
        out_channels: 12,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
        groups: 1,
    };
    let point = Geometry { kernel: [1, 1], padding: [0, 0], ..base };
    let strided = Geometry { stride: [2, 2], ..base };
    for geometry in [base, point, strided, Geometry { groups: 4, ..base }, Geometry { stride: [2, 2], ..point }] {
        let kernel_shape = [12, 8 / geometry.groups, geometry.kernel[0], geometry.kernel[1]];
        let run = |apply: fn(BurnTensor<4>, BurnTensor<4>, Geometry) -> BurnTensor<4>| {
            let (input, kernel) = (tracked(1, [3, 8, 7, 6]), tracked(2, kernel_shape));
            let output = apply(input.clone(), kernel.clone(), geometry);
            let weights = tracked(3, output.dims()).detach();
            let gradients = (output.clone() * weights).sum().backward();
            [read(&output), read(&input.grad(&gradients).unwrap()), read(&kernel.grad(&gradients).unwrap())]
        };
        let terms = 3 * 7 * 6;
        let ours = run(|input, kernel, g| convolution(&threads(), input, kernel, g));
        for (ours, theirs) in ours.iter().zip(&run(composed::convolution)) {
            assert_close(ours, theirs, terms);
        }
    }
}

#[test]
fn normalised_sums_and_their_gradients_equal_the_frameworks() {
    for (count, activation) in
        [(1, Activation::Identity), (1, Activation::Relu), (2, Activation::Relu), (3, Activation::Relu)]
    {
        let run = |apply: fn(Vec<Branch>, f64, Activation) -> NormalisedSum| {
            let branch = |seed| Branch {
                input: tracked(seed, [5, 4, 7, 3]) * 2.0 + seed as f32,
                scale: tracked(seed + 10, [4]),
                shift: tracked(seed + 20, [4]),
            };
            let parts: Vec<Branch> = (0..count).map(branch).collect();
            let inputs: Vec<BurnTensor<4>> =
                parts.iter().map(|part| part.input.clone().detach().require_grad()).collect();
            let scales: Vec<BurnTensor<1>> = parts.iter().map(|part| part.scale.clone()).collect();
            let shifts: Vec<BurnTensor<1>> = parts.iter().map(|part| part.shift.clone()).collect();
            let branches = inputs.iter().zip(parts).map(|(input, part)| Branch { input: input.clone(), ..part });
            let sum = apply(branches.collect(), 1e-5, activation);
            let gradients = (sum.output.clone() * tracked(30, [5, 4, 7, 3]).detach()).sum().backward();
            let mut found = vec![read(&sum.output), read(&sum.mean), read(&sum.variance)];
            found.extend(inputs.iter().map(|input| read(&input.grad(&gradients).unwrap())));
            found.extend(scales.iter().chain(&shifts).map(|vector| read(&vector.grad(&gradients).unwrap())));
            found
        };
        let ours = run(|branches, epsilon, activation| normalised_sum(&threads(), branches, epsilon, activation));
        for (ours, theirs) in ours.iter().zip(&run(composed::normalised_sum)) {
            assert_close(ours, theirs, 5 * 7 * 3);
        }
    }
}

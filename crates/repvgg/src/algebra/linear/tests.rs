use super::*;

fn geometry(kernel: [usize; 2], stride: usize, padding: [usize; 2], groups: usize) -> Geometry {
    Geometry { in_channels: 4, out_channels: 4, kernel, stride: [stride; 2], padding, dilation: [1; 2], groups }
}

fn conv(geometry: Geometry) -> LinearConv {
    let wave = |i: usize| (i as f64 * 0.83).sin();
    LinearConv { kernel: (0..geometry.weight_len()).map(wave).collect(), bias: (0..4).map(wave).collect(), geometry }
}

#[test]
fn a_convolution_of_the_identity_is_unchanged_to_the_bit() {
    for groups in [1, 2, 4] {
        let conv = conv(geometry([3, 3], 2, [1, 1], groups));
        assert_eq!(LinearConv::identity(4).then(&conv).unwrap(), conv);
    }
}

#[test]
fn a_grouped_identity_is_the_centre_tap_of_its_own_channel() {
    let sum = LinearConv::identity(4).pad_to(&geometry([3, 3], 1, [1, 1], 2)).unwrap();
    assert_eq!(sum.geometry.groups, 2);
    // Filter k reads channels 0..2 or 2..4; its own is k mod 2 (2101.03697, Sect. 3.3).
    let ones: Vec<usize> = sum.kernel.iter().enumerate().filter(|(_, w)| **w == 1.0).map(|(i, _)| i).collect();
    assert_eq!(ones, (0..4).map(|k| (k * 2 + k % 2) * 9 + 4).collect::<Vec<_>>());
    assert_eq!(sum.kernel.iter().filter(|w| **w != 0.0).count(), 4);
}

#[test]
fn strides_and_padding_compose() {
    let first = geometry([3, 3], 2, [1, 1], 1);
    let second = geometry([3, 1], 2, [0, 0], 1);
    let composed = then_geometry(&first, &second, true).unwrap();
    assert_eq!((composed.kernel, composed.stride, composed.padding), ([7, 3], [4, 4], [1, 1]));
    for size in 7..20 {
        let intermediate = first.output_size([size, size]).unwrap();
        assert_eq!(composed.output_size([size, size]), second.output_size(intermediate), "{size}");
    }
}

#[test]
fn a_strided_pointwise_convolution_spreads_the_taps_after_it() {
    let composed = then_geometry(&geometry([1, 1], 2, [0, 0], 1), &geometry([3, 3], 1, [1, 1], 1), false).unwrap();
    assert_eq!((composed.kernel, composed.dilation, composed.padding), ([3, 3], [2, 2], [2, 2]));
}

#[test]
fn convolutions_that_do_not_combine_give_the_reason() {
    let reason = |result: Result<Geometry, Unfusable>| result.unwrap_err().to_string();
    let (dense, point) = (geometry([3, 3], 1, [1, 1], 1), geometry([1, 1], 1, [0, 0], 1));
    assert_eq!(reason(then_geometry(&point, &dense, true)), "a bias precedes a padded convolution");
    assert_eq!(
        reason(then_geometry(&dense, &dense, false)),
        "a convolution larger than 1×1 precedes a padded convolution"
    );
    assert_eq!(
        reason(sum_geometry(&dense, &geometry([1, 1], 2, [0, 0], 1))),
        "branches have strides [1, 1] and [2, 2]"
    );
    assert_eq!(
        reason(sum_geometry(&dense, &geometry([3, 3], 1, [0, 0], 1))),
        "kernels [3, 3] padded by [1, 1] and [3, 3] padded by [0, 0] are not centred on each other"
    );
}

/// The value of a convolution without stride at `[p, q]` of a map of ones in channel `c` at `[y, x]` alone.
fn response(conv: &LinearConv, k: usize, c: usize, offset: [isize; 2]) -> f64 {
    let Geometry { in_channels, out_channels, groups, kernel: [height, width], padding, dilation, .. } = conv.geometry;
    let per_group = in_channels / groups;
    if c / per_group != k / (out_channels / groups) {
        return 0.0;
    }
    let tap = |axis: usize, extent: usize| {
        (0..extent).find(|&tap| (tap * dilation[axis]) as isize - padding[axis] as isize == offset[axis])
    };
    match (tap(0, height), tap(1, width)) {
        (Some(r), Some(s)) => conv.kernel[((k * per_group + c % per_group) * height + r) * width + s],
        _ => 0.0,
    }
}

#[test]
fn dilated_branches_are_one_larger_kernel() {
    let branch = |kernel: [usize; 2], dilation: [usize; 2], groups: usize| {
        let padding = [0, 1].map(|axis| (kernel[axis] - 1) * dilation[axis] / 2);
        conv(Geometry { dilation, ..geometry(kernel, 1, padding, groups) })
    };
    // A kernel and its dilation, twice; the kernel and dilation of their sum.
    let cases = [
        ([3, 3], [1, 1], [3, 3], [2, 2], [5, 5], [1, 1]),
        ([3, 3], [2, 2], [3, 3], [3, 3], [7, 7], [1, 1]),
        ([3, 3], [2, 2], [3, 3], [4, 4], [5, 5], [2, 2]),
        ([5, 5], [2, 2], [3, 3], [2, 2], [5, 5], [2, 2]),
        ([1, 1], [1, 1], [3, 3], [2, 2], [3, 3], [2, 2]),
        ([1, 1], [5, 5], [1, 1], [1, 1], [1, 1], [1, 1]),
        // Four taps 2 apart lie at odd offsets from the centre, a single tap in it.
        ([4, 4], [2, 2], [1, 1], [1, 1], [7, 7], [1, 1]),
        ([3, 1], [2, 1], [1, 3], [1, 3], [3, 3], [2, 3]),
    ];
    for (kernel_a, dilation_a, kernel_b, dilation_b, kernel, dilation) in cases {
        for (groups_a, groups_b) in [(1, 1), (2, 2), (4, 4), (4, 1), (2, 4)] {
            let (a, b) = (branch(kernel_a, dilation_a, groups_a), branch(kernel_b, dilation_b, groups_b));
            for sum in [a.sum(&b).unwrap(), b.sum(&a).unwrap()] {
                assert_eq!(
                    (sum.geometry.kernel, sum.geometry.dilation),
                    (kernel, dilation),
                    "{kernel_a:?} {kernel_b:?}"
                );
                for (k, c, y, x) in (0..16 * 81).map(|i| (i / 324, i / 81 % 4, i / 9 % 9, i % 9)) {
                    let offset = [y as isize - 4, x as isize - 4];
                    let expected = response(&a, k, c, offset) + response(&b, k, c, offset);
                    assert_eq!(response(&sum, k, c, offset), expected, "{kernel_a:?} {kernel_b:?} at {offset:?}");
                }
                assert_eq!(sum.bias[3], a.bias[3] + b.bias[3]);
            }
        }
    }
}

#[test]
fn kernels_between_two_pixels_and_kernels_beyond_all_bounds_are_refused() {
    let even = geometry([2, 2], 1, [0, 0], 1);
    let reason = sum_geometry(&even, &geometry([1, 1], 1, [0, 0], 1)).unwrap_err().to_string();
    assert_eq!(reason, "kernels [2, 2] padded by [0, 0] and [1, 1] padded by [0, 0] are not centred on each other");
    let far = Geometry { dilation: [4001, 1], ..geometry([3, 1], 1, [4001, 0], 1) };
    let reason = sum_geometry(&far, &geometry([3, 1], 1, [1, 0], 1)).unwrap_err().to_string();
    assert_eq!(reason, "a single kernel would be [8003, 1], larger than 4096");
}

#[test]
fn dilated_convolutions_in_a_chain_stay_dilated() {
    let dilated = |padding: [usize; 2]| Geometry { dilation: [2, 2], ..geometry([3, 3], 1, padding, 1) };
    let composed = then_geometry(&dilated([2, 2]), &dilated([0, 0]), true).unwrap();
    assert_eq!((composed.kernel, composed.dilation, composed.padding), ([5, 5], [2, 2], [2, 2]));
    let (first, second) = (conv(dilated([2, 2])), conv(dilated([0, 0])));
    // The centre tap: all pairs of taps that cancel.
    let mut expected = 0.0;
    for (m, tap) in (0..4).flat_map(|m| (0..9).map(move |tap| (m, tap))) {
        expected += second.kernel[m * 9 + tap] * first.kernel[m * 36 + 8 - tap];
    }
    assert!((first.then(&second).unwrap().kernel[12] - expected).abs() < 1e-12);
}

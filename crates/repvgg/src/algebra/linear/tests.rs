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

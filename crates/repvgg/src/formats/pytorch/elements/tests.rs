use super::*;

/// Reads the elements one by one, following the definition of strides.
fn by_definition(storage: &[f32], layout: &StridedLayout) -> Vec<f32> {
    let count = element_count(&layout.shape).unwrap();
    let place = |mut flat: usize| {
        let axes = layout.shape.iter().zip(&layout.strides).rev();
        axes.fold(layout.offset, |place, (extent, stride)| {
            let index = flat % extent;
            flat /= extent;
            place + index * stride
        })
    };
    (0..count).map(|flat| storage[place(flat)]).collect()
}

#[test]
fn strided_reads_match_the_definition() {
    let values: Vec<f32> = (0..200).map(|x| x as f32).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let layouts: [(usize, &[usize], &[usize]); 13] = [
        (3, &[], &[]),
        (0, &[5], &[1]),
        (2, &[5], &[7]),
        (0, &[4, 5], &[5, 1]),
        (1, &[4, 5], &[1, 4]),
        (0, &[2, 3, 4], &[12, 4, 1]),
        (0, &[2, 3, 4], &[20, 4, 1]),
        (0, &[2, 3, 4, 5], &[60, 1, 15, 3]),
        (7, &[3, 4], &[0, 0]),
        (7, &[3, 4], &[0, 1]),
        (7, &[3, 4], &[1, 0]),
        (9, &[1, 4, 1, 3], &[usize::MAX, 10, usize::MAX, 2]),
        (0, &[3, 0, 2], &[2, 2, 1]),
    ];
    for (offset, shape, strides) in layouts {
        let layout = StridedLayout { offset, shape: shape.to_vec(), strides: strides.to_vec() };
        let (count, end) = layout.extent().unwrap();
        let found = read(Kind::F32, ByteOrder::Little, &bytes, &layout);
        assert_eq!(found, by_definition(&values, &layout), "{layout:?}");
        assert_eq!(found.len(), count);
        assert_eq!(end, found.iter().map(|&x| x as usize + 1).max().unwrap_or(0), "{layout:?}");
    }
}

#[test]
fn an_extent_too_large_to_count_is_none() {
    let extent = |offset, shape: &[usize], strides: &[usize]| {
        StridedLayout { offset, shape: shape.to_vec(), strides: strides.to_vec() }.extent()
    };
    assert_eq!(extent(usize::MAX, &[1], &[1]), None);
    assert_eq!(extent(0, &[usize::MAX, 2], &[0, 0]), None);
    assert_eq!(extent(0, &[3], &[usize::MAX / 2 + 1]), None);
    assert_eq!(extent(0, &[2, 2], &[1]), None);
    assert_eq!(extent(usize::MAX, &[0], &[1]), Some((0, 0)));
}

#[test]
fn half_precision_follows_ieee_754() {
    let layout = |count| StridedLayout { offset: 0, shape: vec![count], strides: vec![1] };
    let bytes = [0x00, 0x3c, 0xff, 0x7b, 0x01, 0x00, 0x00, 0xfc, 0x00, 0x80];
    let expected = [1.0, 65504.0, 2.0f32.powi(-24), f32::NEG_INFINITY, -0.0];
    assert_eq!(read(Kind::F16, ByteOrder::Little, &bytes, &layout(5)), expected);
    let bytes = [0x80, 0x3f, 0x80, 0x7f, 0x01, 0x00];
    let expected = [1.0, f32::INFINITY, 2.0f32.powi(-133)];
    assert_eq!(read(Kind::Bf16, ByteOrder::Little, &bytes, &layout(3)), expected);
}

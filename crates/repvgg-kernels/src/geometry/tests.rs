use super::{Geometry, GeometryError};

const PLAIN: Geometry = Geometry {
    in_channels: 4,
    out_channels: 6,
    kernel: [3, 5],
    stride: [2, 1],
    padding: [1, 0],
    dilation: [1, 2],
    groups: 2,
};

#[test]
fn output_size_rounds_down() {
    assert_eq!(PLAIN.output_size([7, 20]), Ok([4, 12]));
    assert_eq!(PLAIN.output_size([8, 9]), Ok([4, 1]));
    assert_eq!(PLAIN.weight_len(), 6 * 2 * 3 * 5);
}

#[test]
fn errors_name_the_place_and_the_expected_and_found_values() {
    let message =
        |geometry: Geometry, size| geometry.output_size(size).expect_err("the geometry is invalid").to_string();
    let size = [32, 32];
    assert_eq!(message(Geometry { in_channels: 0, ..PLAIN }, size), "in_channels: expected at least 1, found 0");
    assert_eq!(message(Geometry { kernel: [3, 0], ..PLAIN }, size), "kernel: expected at least 1, found 0");
    assert_eq!(message(Geometry { groups: 0, ..PLAIN }, size), "groups: expected at least 1, found 0");
    assert_eq!(
        message(Geometry { out_channels: 5, ..PLAIN }, size),
        "out_channels: expected a multiple of 2 groups, found 5"
    );
    assert_eq!(message(PLAIN, [32, 8]), "input 32x8: expected a padded width of at least 9, found 8");
    assert_eq!(message(PLAIN, [0, 9]), "input 0x9: expected a padded height of at least 3, found 2");
    let length = GeometryError::Length { name: "bias", expected: 6, found: 5 };
    assert_eq!(length.to_string(), "bias: expected 6 elements, found 5");
}

#[test]
fn sizes_beyond_the_address_space_are_errors() {
    let huge = usize::MAX / 2;
    for geometry in [
        Geometry { out_channels: huge, groups: 1, ..PLAIN },
        Geometry { dilation: [1, huge], ..PLAIN },
        Geometry { padding: [huge, 0], ..PLAIN },
        Geometry { stride: [huge, 1], ..PLAIN },
    ] {
        assert_eq!(geometry.output_size([9, 9]), Err(GeometryError::Overflow), "{geometry:?}");
    }
    assert_eq!(PLAIN.output_size([usize::MAX, 9]), Err(GeometryError::Overflow));
}

//! `Resize` and `Upsample`: against numbers that ONNX Runtime gave.

use super::operators::{close, list, output_of, ramp, text, with_opset};
use super::*;

enum Target {
    Scales([f32; 2]),
    Sizes([i64; 2]),
}
use Target::{Scales, Sizes};

/// The values that ONNX Runtime 1.32 gave for this image, to five decimals.
#[test]
fn resized_maps_are_those_of_onnx_runtime() {
    let image = Tensor::new([1, 1, 3, 4], vec![1.0, 2.0, 4.0, 8.0, 3.0, 5.0, 6.0, 7.0, 0.0, 9.0, -2.0, 10.0]).unwrap();
    let cases: [([&str; 3], Target, &[f64]); 14] = [
        (
            ["linear", "half_pixel", ""],
            Sizes([5, 6]),
            &[
                1.0, 1.5, 2.33333, 3.66667, 6.0, 8.0, 1.8, 2.5, 3.46667, 4.53333, 6.2, 7.6, 3.0, 4.0, 5.16667, 5.83333,
                6.5, 7.0, 1.2, 4.3, 6.36667, 2.23333, 5.0, 8.8, 0.0, 4.5, 7.16667, -0.16667, 4.0, 10.0,
            ],
        ),
        (
            ["linear", "half_pixel", ""],
            Scales([2.0, 1.5]),
            &[
                1.0, 1.5, 2.33333, 3.66667, 6.0, 8.0, 1.5, 2.125, 3.04167, 4.20833, 6.125, 7.75, 2.5, 3.375, 4.45833,
                5.29167, 6.375, 7.25, 2.25, 4.125, 5.66667, 4.33333, 5.875, 7.75, 0.75, 4.375, 6.66667, 1.33333, 4.625,
                9.25, 0.0, 4.5, 7.16667, -0.16667, 4.0, 10.0,
            ],
        ),
        (["linear", "pytorch_half_pixel", ""], Sizes([1, 7]), &[1.0, 1.35714, 1.92857, 3.0, 4.28571, 6.57143, 8.0]),
        (["linear", "half_pixel", ""], Sizes([1, 3]), &[3.33333, 5.5, 6.83333]),
        (
            ["linear", "align_corners", ""],
            Sizes([5, 7]),
            &[
                1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 2.0, 2.75, 3.5, 4.25, 5.0, 6.25, 7.5, 3.0, 4.0, 5.0, 5.5, 6.0, 6.5,
                7.0, 1.5, 4.25, 7.0, 4.5, 2.0, 5.25, 8.5, 0.0, 4.5, 9.0, 3.5, -2.0, 4.0, 10.0,
            ],
        ),
        (["linear", "align_corners", ""], Sizes([1, 2]), &[1.0, 8.0]),
        (
            ["linear", "asymmetric", ""],
            Scales([2.0, 2.0]),
            &[
                1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 8.0, 2.0, 2.75, 3.5, 4.25, 5.0, 6.25, 7.5, 7.5, 3.0, 4.0, 5.0, 5.5,
                6.0, 6.5, 7.0, 7.0, 1.5, 4.25, 7.0, 4.5, 2.0, 5.25, 8.5, 8.5, 0.0, 4.5, 9.0, 3.5, -2.0, 4.0, 10.0,
                10.0, 0.0, 4.5, 9.0, 3.5, -2.0, 4.0, 10.0, 10.0,
            ],
        ),
        (
            ["nearest", "asymmetric", "floor"],
            Scales([2.0, 2.0]),
            &[
                1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0, 3.0, 3.0, 5.0, 5.0,
                6.0, 6.0, 7.0, 7.0, 3.0, 3.0, 5.0, 5.0, 6.0, 6.0, 7.0, 7.0, 0.0, 0.0, 9.0, 9.0, -2.0, -2.0, 10.0, 10.0,
                0.0, 0.0, 9.0, 9.0, -2.0, -2.0, 10.0, 10.0,
            ],
        ),
        (
            ["nearest", "half_pixel", "round_prefer_floor"],
            Sizes([4, 6]),
            &[
                1.0, 1.0, 2.0, 4.0, 4.0, 8.0, 3.0, 3.0, 5.0, 6.0, 6.0, 7.0, 3.0, 3.0, 5.0, 6.0, 6.0, 7.0, 0.0, 0.0,
                9.0, -2.0, -2.0, 10.0,
            ],
        ),
        (["nearest", "half_pixel", "round_prefer_ceil"], Sizes([2, 2]), &[2.0, 8.0, 9.0, 10.0]),
        (["nearest", "half_pixel", "round_prefer_floor"], Sizes([2, 2]), &[1.0, 4.0, 0.0, -2.0]),
        (
            ["nearest", "asymmetric", "ceil"],
            Scales([1.5, 1.5]),
            &[
                1.0, 2.0, 4.0, 4.0, 8.0, 8.0, 3.0, 5.0, 6.0, 6.0, 7.0, 7.0, 0.0, 9.0, -2.0, -2.0, 10.0, 10.0, 0.0, 9.0,
                -2.0, -2.0, 10.0, 10.0,
            ],
        ),
        (
            ["nearest", "align_corners", "round_prefer_floor"],
            Sizes([5, 7]),
            &[
                1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 3.0, 3.0, 5.0, 5.0, 6.0, 6.0,
                7.0, 3.0, 3.0, 5.0, 5.0, 6.0, 6.0, 7.0, 0.0, 0.0, 9.0, 9.0, -2.0, -2.0, 10.0,
            ],
        ),
        (["nearest", "asymmetric", "floor"], Scales([0.5, 0.6]), &[1.0, 2.0]),
    ];
    for ([mode, coordinates, nearest], target, expected) in cases {
        let mut attributes = vec![text("mode", mode), text("coordinate_transformation_mode", coordinates)];
        if !nearest.is_empty() {
            attributes.push(text("nearest_mode", nearest));
        }
        let (node, constant) = match target {
            Scales([rows, columns]) => {
                let node = node("Resize", &["x", "", "s"], "y", attributes);
                (node, tensor("s", &[4], &[1.0, 1.0, rows, columns]))
            }
            Sizes([rows, columns]) => {
                let node = node("Resize", &["x", "", "", "s"], "y", attributes);
                (node, list("s", &[1, 1, rows, columns]))
            }
        };
        let mut model = model(vec![node], vec![constant]);
        model.graph.as_mut().unwrap().input[0] = info("x", &[1, 1, 3, 4]);
        close(&output_of(&model, &image), expected, 1e-5);
    }
}

/// `Upsample`, and `Resize` before it had coordinate modes: every pixel repeated.
#[test]
fn early_opsets_repeat_pixels() {
    let source = |index: usize| 16 * (index / 64) + 4 * (index % 64 / 16) + index % 8 / 2;
    let repeated: Vec<f64> = (0..3 * 8 * 8).map(|index| source(index) as f64).collect();
    let scales = || tensor("s", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let floats = vec![1.0, 1.0, 2.0, 2.0];
    let attribute = proto::Attribute { name: "scales".to_owned(), floats, ..proto::Attribute::default() };
    let cases = [
        (7, node("Upsample", &["x"], "y", vec![text("mode", "nearest"), attribute])),
        (9, node("Upsample", &["x", "s"], "y", vec![text("mode", "nearest")])),
        (10, node("Resize", &["x", "s"], "y", Vec::new())),
    ];
    for (opset, node) in cases {
        let found = output_of(&with_opset(opset, model(vec![node], vec![scales()])), &ramp());
        assert_eq!(found, repeated, "opset {opset}");
    }
}

#[test]
fn what_a_resize_cannot_be_is_said() {
    let refused = |attributes: Vec<proto::Attribute>, scales: [f32; 4]| {
        sentence(vec![node("Resize", &["x", "", "s"], "y", attributes)], vec![tensor("s", &[4], &scales)])
    };
    let found = refused(vec![text("mode", "cubic")], [1.0, 1.0, 2.0, 2.0]);
    assert_eq!(found, "node y (Resize): expected nearest or linear resizing, found \"cubic\"");
    let found = refused(vec![text("mode", "linear"), int("antialias", 1)], [1.0, 1.0, 0.5, 0.5]);
    let what = "node y (Resize): expected a resize without antialias, found one that shrinks with it";
    assert_eq!(found, format!("{what}; export the network without its preprocessing, which `repvgg` does outside it"));
    let found = refused(Vec::new(), [1.0, 2.0, 2.0, 2.0]);
    assert_eq!(found, "node y (Resize): expected a resize of height and width, found 2 times Channel");
}

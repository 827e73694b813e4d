use super::*;
use crate::NodeId;
use crate::graph::{Conv2d, Linear};

/// The main output of one op on `input`, with parameters `op.<suffix>`.
fn apply(op: Op, parameters: &[(&str, &[f32])], input: &Tensor<f64>) -> Tensor<f64> {
    let mut graph = Graph::new();
    let image = graph.add("input", Op::Input { channels: input.shape()[1] }, &[]);
    let node = graph.add("op", op.clone(), &[image]);
    graph.output("main", node);
    let shape = |suffix: &str| op.parameters().into_iter().find(|parameter| parameter.suffix == suffix).unwrap().shape;
    let named = parameters
        .iter()
        .map(|&(suffix, values)| (format!("op.{suffix}"), Tensor::new(shape(suffix), values.to_vec()).unwrap()));
    interpret(&graph, &named.collect(), input).unwrap().pop().unwrap()
}

fn image(shape: [usize; 4]) -> Tensor<f64> {
    Tensor::from_fn(shape, |i| i as f64 + 1.0)
}

#[test]
fn a_convolution_by_hand() {
    let taps: Vec<f32> = (1..=9).map(|x| x as f32).collect();
    let op = Op::conv(Conv2d::square(1, 1, 3).stride(2).with_bias());
    let y = apply(op, &[("weight", &taps), ("bias", &[0.5])], &image([1, 1, 3, 3]));
    // The corners of the padded 3×3 image 1…9: each window covers one 2×2 corner.
    let corner = |x: [f64; 4], w: [f64; 4]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + 0.5;
    let expected = [
        corner([1., 2., 4., 5.], [5., 6., 8., 9.]),
        corner([2., 3., 5., 6.], [4., 5., 7., 8.]),
        corner([4., 5., 7., 8.], [2., 3., 5., 6.]),
        corner([5., 6., 8., 9.], [1., 2., 4., 5.]),
    ];
    assert_eq!((y.shape(), y.data()), (&[1, 1, 2, 2][..], &expected[..]));
}

#[test]
fn convolutions_match_the_reference() {
    let base = Geometry {
        in_channels: 6,
        out_channels: 4,
        kernel: [3, 2],
        stride: [2, 1],
        padding: [1, 2],
        dilation: [1, 2],
        groups: 2,
    };
    for geometry in [base, Geometry { groups: 1, ..base }, Geometry { dilation: [2, 1], kernel: [1, 3], ..base }] {
        let input = image([2, 6, 7, 5]).map(|x| (x * 0.37).sin());
        let weights: Vec<f32> = (0..geometry.weight_len()).map(|i| (i as f32 * 0.73).cos()).collect();
        let y = apply(Op::conv(Conv2d { geometry, bias: false }), &[("weight", &weights)], &input);
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let expected = repvgg_kernels::reference::conv2d(&geometry, input.data(), [7, 5], &weights, None);
        for ((y, value), magnitude) in y.data().iter().zip(expected.values).zip(expected.magnitudes) {
            assert!((y - value).abs() <= 64.0 * f64::EPSILON * magnitude, "{y} {value}");
        }
    }
}

#[test]
fn a_batch_norm_by_hand() {
    let parameters: [(&str, &[f32]); 4] =
        [("weight", &[2.0, 3.0]), ("bias", &[1.0, -1.0]), ("running_mean", &[1.0, 4.0]), ("running_var", &[3.0, 0.0])];
    let op = Op::BatchNorm(BatchNorm { channels: 2, eps: 1.0 });
    let y = apply(op, &parameters, &image([1, 2, 1, 2]));
    assert_eq!(y.data(), [1.0, 2.0, -4.0, -1.0]);
}

#[test]
fn pools_by_hand() {
    let pool = Pool { kernel: [2, 2], stride: [2, 2], dilation: [1; 2], padding: [[1; 2]; 2] };
    let x = image([1, 1, 3, 3]).map(|x| -x);
    assert_eq!(apply(Op::MaxPool(pool), &[], &x).data(), [-1.0, -2.0, -4.0, -5.0]);
    assert_eq!(apply(Op::AvgPool(pool), &[], &x).data(), [-0.25, -1.25, -2.75, -7.0]);
    assert_eq!(apply(Op::AvgPoolInside(pool), &[], &x).data(), [-1.0, -2.5, -5.5, -7.0]);
    let below = Pool { kernel: [2, 1], stride: [2, 1], dilation: [1; 2], padding: [[0, 1], [0, 0]] };
    assert_eq!(apply(Op::MaxPool(below), &[], &image([1, 1, 3, 1])).data(), [2.0, 3.0]);
    assert_eq!(apply(Op::GlobalAvgPool, &[], &image([1, 2, 1, 3])).data(), [2.0, 5.0]);
}

#[test]
fn nonlinearities_by_hand() {
    let x = Tensor::new([1, 1, 1, 5], vec![-2.0, -0.5, 0.0, 0.5, 8.0]).unwrap();
    let value = |kind| apply(Op::Activation(kind), &[], &x).into_data();
    assert_eq!(value(ActivationKind::RELU6), [0.0, 0.0, 0.0, 0.5, 6.0]);
    assert_eq!(value(ActivationKind::Clip { low: f32::MIN, high: 0.25 }), [-2.0, -0.5, 0.0, 0.25, 0.25]);
    assert_eq!(value(ActivationKind::LeakyRelu { slope: 0.5 }), [-1.0, -0.25, 0.0, 0.5, 8.0]);
    assert_eq!(value(ActivationKind::HardSigmoid { slope: 0.5, offset: 0.25 }), [0.0, 0.0, 0.25, 0.5, 1.0]);
    // Two pixels of two channels, whose odds are 3 to 1 and 1 to 1.
    let x = Tensor::new([1, 2, 1, 2], vec![3.0_f64.ln(), 700.0, 0.0, 700.0]).unwrap();
    for (kind, expected) in [
        (Softmax::Probabilities, [0.75, 0.5, 0.25, 0.5]),
        (Softmax::Logarithms, [0.75_f64.ln(), 0.5_f64.ln(), 0.25_f64.ln(), 0.5_f64.ln()]),
    ] {
        for (y, expected) in apply(Op::Softmax(kind), &[], &x).data().iter().zip(expected) {
            assert!((y - expected).abs() < 1e-15, "{y} {expected}");
        }
    }
}

#[test]
fn a_fully_connected_layer_by_hand() {
    let op = Op::Linear(Linear { in_features: 2, out_features: 2, bias: true });
    let y = apply(op, &[("weight", &[1.0, 2.0, 3.0, 4.0]), ("bias", &[0.5, 0.0])], &image([2, 2, 1, 1]));
    assert_eq!(y.data(), [5.5, 11.0, 11.5, 25.0]);
}

/// Every op with several inputs, and the flattened result.
fn branches() -> (Graph, Weights, [NodeId; 3]) {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels: 2 }, &[]);
    let scale = graph.add("scale", Op::scale(2), &[input]);
    let add = graph.add("add", Op::Add, &[input, scale, scale]);
    let pooled = graph.add("pooled", Op::GlobalAvgPool, &[input]);
    let mul = graph.add("mul", Op::Mul, &[add, pooled]);
    let concat = graph.add("concat", Op::Concat, &[input, mul]);
    let flat = graph.add("flat", Op::Flatten, &[concat]);
    graph.output("main", flat);
    let weights = [("scale.weight".to_owned(), Tensor::new([2], vec![-1.0, 0.5]).unwrap())].into_iter().collect();
    (graph, weights, [add, mul, flat])
}

#[test]
fn branches_by_hand() {
    let (graph, weights, [add, mul, flat]) = branches();
    let input = image([1, 2, 1, 2]);
    let values = interpret(&graph, &weights, &input).unwrap();
    assert_eq!(values[add.index()].data(), [-1.0, -2.0, 6.0, 8.0]);
    assert_eq!(values[mul.index()].data(), [-1.5, -3.0, 21.0, 28.0]);
    assert_eq!(values[flat.index()].data(), [1.0, 2.0, 3.0, 4.0, -1.5, -3.0, 21.0, 28.0]);
    let logits = logits(&graph, &weights, &input).unwrap();
    assert_eq!(logits.shape(), [1, 8]);
    let magnitudes = magnitudes(&graph, &weights, &input).unwrap();
    assert_eq!(magnitudes[add.index()].data(), [3.0, 6.0, 6.0, 8.0]);
}

#[test]
fn a_mismatch_is_an_error() {
    let (graph, weights, _) = branches();
    let error = interpret(&graph, &weights, &image([1, 3, 2, 2])).unwrap_err();
    assert_eq!(error.to_string(), "input: expected 2 channels, found 3");
    let error = interpret(&graph, &Weights::new(), &image([1, 2, 2, 2])).unwrap_err();
    assert_eq!(error.to_string(), "scale.weight: missing");
}

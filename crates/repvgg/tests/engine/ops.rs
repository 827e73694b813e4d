//! Every op alone, over sizes that straddle rows, vectors and tiles.

use repvgg::graph::{
    ActivationKind, BatchNorm, Conv2d, Coordinates, Linear, Pool, Resize, ResizeTarget, Rounding, Sampling, Softmax,
};
use repvgg::{Graph, Op, Tensor, Weights};
use repvgg_kernels::Geometry;

use super::{Case, assert_matches_the_oracle, open, positive_weights, random_images};

const CHANNELS: usize = 6;

const SIZES: [[usize; 2]; 7] = [[1, 1], [1, 7], [5, 1], [2, 3], [7, 7], [16, 17], [33, 31]];

/// A graph of one op with the image as each of its inputs; `None` if the op cannot take the size.
fn graph(op: &Op, channels: usize, size: [usize; 2]) -> Option<Graph> {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels }, &[]);
    let inputs = vec![input; *op.arity().start()];
    let node = graph.add("op", op.clone(), &inputs);
    graph.output("main", node);
    graph.shapes(size).is_ok().then_some(graph)
}

fn assert_op_matches(op: Op) {
    assert_op_on_channels_matches(op, CHANNELS);
}

fn assert_op_on_channels_matches(op: Op, channels: usize) {
    let mut cases = 0;
    for (size, batch) in SIZES.into_iter().flat_map(|size| [(size, 1), (size, 2), (size, 9)]) {
        let Some(graph) = graph(&op, channels, size) else { continue };
        let case = Case { batch, size, threads: 2, ..Case::default() };
        let weights = positive_weights(&graph, 1);
        assert_matches_the_oracle(&graph, &weights, case, &random_images(channels, case));
        cases += 1;
    }
    assert!(cases >= 3, "{op:?} takes too few of the sizes");
}

#[test]
fn convolutions() {
    let dense = Conv2d::square(CHANNELS, 10, 3);
    assert_op_matches(Op::conv(dense));
    assert_op_matches(Op::conv(dense.with_bias().stride(2)));
    assert_op_matches(Op::conv(Conv2d::square(CHANNELS, 33, 1).with_bias()));
    assert_op_matches(Op::conv(Conv2d::square(CHANNELS, 8, 1).stride(2)));
    assert_op_matches(Op::conv(Conv2d::square(CHANNELS, 4, 7).stride(2)));
    assert_op_matches(Op::conv(Conv2d::square(CHANNELS, 12, 3).groups(3)));
    assert_op_matches(Op::conv(Conv2d::square(CHANNELS, CHANNELS, 3).groups(CHANNELS).with_bias()));
    let odd = Geometry { kernel: [2, 3], stride: [1, 2], padding: [2, 0], dilation: [2, 1], ..dense.geometry };
    assert_op_matches(Op::conv(Conv2d { geometry: odd, bias: true }));
}

#[test]
fn convolutions_with_normalised_filters() {
    for conv in [
        Conv2d::square(CHANNELS, 10, 3),
        Conv2d::square(CHANNELS, 33, 1).with_bias(),
        Conv2d::square(CHANNELS, 12, 3).groups(3).stride(2).with_bias(),
        Conv2d::square(CHANNELS, CHANNELS, 5).groups(CHANNELS),
    ] {
        assert_op_matches(Op::NormalizedConv2d(conv));
    }
}

/// Dividing by its norm would divide by zero.
#[test]
fn a_filter_of_zeros_stays_zero_when_normalised() {
    let op = Op::NormalizedConv2d(Conv2d::square(CHANNELS, 2, 3));
    let graph = graph(&op, CHANNELS, [5, 4]).unwrap();
    let filters = Tensor::from_fn([2, CHANNELS, 3, 3], |i| if i < CHANNELS * 9 { 0.0 } else { -3.0 });
    let weights: Weights = [("op.weight".to_owned(), filters)].into_iter().collect();
    let case = Case { size: [5, 4], threads: 2, ..Case::default() };
    let images = random_images(CHANNELS, case);
    let mut output = vec![f32::NAN; 2 * 5 * 4];
    open(&graph, &weights, case).unwrap().run(images.data(), &mut output).unwrap();
    assert_eq!(output[..5 * 4], [0.0; 5 * 4]);
    // The other filter's weights are all -1 / √54; the window of this pixel is inside the map.
    let window = images.data().chunks(5 * 4).flat_map(|map| [0, 1, 2, 4, 5, 6, 8, 9, 10].map(|pixel| map[pixel]));
    let expected = -window.map(f64::from).sum::<f64>() / 54_f64.sqrt();
    assert!((f64::from(output[5 * 4 + 4 + 1]) - expected).abs() < 1e-5, "{} and {expected}", output[5 * 4 + 4 + 1]);
}

#[test]
fn fully_connected_layers() {
    assert_op_matches(Op::Linear(Linear { in_features: CHANNELS, out_features: 1001, bias: true }));
    assert_op_matches(Op::Linear(Linear { in_features: CHANNELS, out_features: 1, bias: false }));
}

#[test]
fn elementwise_ops() {
    assert_op_matches(Op::relu());
    assert_op_matches(Op::Activation(ActivationKind::Sigmoid));
    assert_op_matches(Op::Activation(ActivationKind::Silu));
    for kind in [
        ActivationKind::RELU6,
        ActivationKind::Clip { low: -0.25, high: 0.5 },
        ActivationKind::Clip { low: f32::MIN, high: 0.125 },
        ActivationKind::LeakyRelu { slope: 0.1 },
        ActivationKind::HardSigmoid { slope: 0.75, offset: 0.5 },
        ActivationKind::Tanh,
        ActivationKind::Erf,
        ActivationKind::Gelu,
        ActivationKind::GeluTanh,
        ActivationKind::Softplus,
        ActivationKind::Mish,
        ActivationKind::Elu { scale: 0.75 },
    ] {
        assert_op_matches(Op::Activation(kind));
    }
    assert_op_matches(Op::BatchNorm(BatchNorm { channels: CHANNELS, eps: 1e-3 }));
    assert_op_matches(Op::scale(CHANNELS));
}

#[test]
fn sums_products_and_concatenations() {
    assert_op_matches(Op::Add);
    assert_op_matches(Op::Mul);
    assert_op_matches(Op::Concat);
}

#[test]
fn pools() {
    for (kernel, stride, padding) in [
        ([3, 3], [2, 2], [[1, 1], [1, 1]]),
        ([2, 2], [2, 2], [[0, 0], [0, 0]]),
        ([1, 3], [1, 1], [[0, 0], [1, 1]]),
        ([3, 2], [2, 2], [[0, 1], [1, 0]]),
        ([3, 4], [1, 3], [[2, 0], [1, 3]]),
    ] {
        for op in [Op::MaxPool, Op::AvgPool, Op::AvgPoolInside] {
            assert_op_matches(op(Pool { kernel, stride, dilation: [1; 2], padding }));
            assert_op_matches(op(Pool { kernel, stride, dilation: [2, 1], padding }));
            assert_op_matches(op(Pool { kernel, stride, dilation: [2, 3], padding }));
        }
    }
    assert_op_matches(Op::GlobalAvgPool);
}

#[test]
fn resized_maps() {
    let targets = [ResizeTarget::Scale([2.0, 2.0]), ResizeTarget::Scale([1.5, 3.25]), ResizeTarget::Size([5, 9])];
    let nearest = [Rounding::Floor, Rounding::Ceil, Rounding::HalfDown, Rounding::HalfUp].map(Sampling::Nearest);
    let coordinates =
        [Coordinates::HalfPixel, Coordinates::HalfPixelOrOrigin, Coordinates::AlignCorners, Coordinates::Asymmetric];
    for target in targets {
        for coordinates in coordinates {
            assert_op_matches(Op::Resize(Resize { target, sampling: Sampling::Linear, coordinates }));
        }
        for sampling in nearest {
            assert_op_matches(Op::Resize(Resize { target, sampling, coordinates: Coordinates::HalfPixel }));
        }
    }
    assert_op_on_channels_matches(Op::Resize(Resize::repeat([2, 3])), 40);
}

/// Channels in one block of lanes, and in several.
#[test]
fn shuffled_channels() {
    for (channels, groups) in [(6, 1), (6, 2), (6, 3), (6, 6), (40, 2), (40, 5), (40, 20), (51, 17)] {
        assert_op_on_channels_matches(Op::Shuffle { groups }, channels);
    }
}

#[test]
fn consecutive_channels() {
    for (start, channels, of) in [(0, 6, 6), (0, 2, 6), (3, 3, 6), (5, 1, 6), (8, 16, 40), (7, 19, 40), (33, 7, 40)] {
        assert_op_on_channels_matches(Op::Slice { start, channels }, of);
    }
}

#[test]
fn padding_and_cropping() {
    for padding in [
        [[0, 0], [0, 0]],
        [[1, 1], [1, 1]],
        [[0, 1], [2, 0]],
        [[3, 0], [0, 5]],
        [[-1, 0], [0, -2]],
        [[-1, -1], [-2, -2]],
        [[-1, 1], [-1, 1]],
        [[2, -1], [-3, 4]],
        [[8, -1], [1, -6]],
    ] {
        assert_op_matches(Op::Pad { padding });
    }
    assert_op_on_channels_matches(Op::Pad { padding: [[-1, 2], [1, -1]] }, 40);
}

/// The slice, shuffle and padding of small integers.
#[test]
fn channels_and_pixels_by_hand() {
    let run = |op: Op, channels: usize, size: [usize; 2]| {
        let graph = graph(&op, channels, size).unwrap();
        let case = Case { size, ..Case::default() };
        let mut session = open(&graph, &Weights::new(), case).unwrap();
        let image: Vec<f32> = (1..=channels * size[0] * size[1]).map(|i| i as f32).collect();
        let mut output = vec![f32::NAN; session.output_shape().iter().product()];
        session.run(&image, &mut output).unwrap();
        output
    };
    // Two groups of three: the first of each, the second of each, the third of each.
    assert_eq!(run(Op::Shuffle { groups: 2 }, 6, [1, 1]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(run(Op::Shuffle { groups: 3 }, 6, [1, 1]), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    assert_eq!(run(Op::Slice { start: 2, channels: 3 }, 6, [1, 2]), [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    // The rows 1 2 3 and 4 5 6 lose the first row and the last column, and gain zeros below and on the left.
    let padding = [[-1, 1], [1, -1]];
    assert_eq!(run(Op::Pad { padding }, 1, [2, 3]), [0.0, 4.0, 5.0, 0.0, 0.0, 0.0]);
}

/// Padding on one side does not make up for cropping too much on the other.
#[test]
fn cropping_more_than_the_map_is_refused() {
    for padding in [[[-3, 5], [0, 0]], [[5, -3], [0, 0]], [[0, 0], [-1, -1]]] {
        let error = graph_of_pad(padding).shapes([3, 2]).unwrap_err().to_string();
        assert!(error.starts_with("op: expected a map larger than"), "{error}");
    }
    assert!(graph_of_pad([[-2, 5], [-1, 0]]).shapes([3, 2]).is_ok());
}

fn graph_of_pad(padding: [[isize; 2]; 2]) -> Graph {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels: 1 }, &[]);
    let node = graph.add("op", Op::Pad { padding }, &[input]);
    graph.output("main", node);
    graph
}

#[test]
fn softmax_over_channels() {
    assert_op_matches(Op::Softmax(Softmax::Probabilities));
    assert_op_matches(Op::Softmax(Softmax::Logarithms));
}

#[test]
fn flattened_images() {
    assert_op_matches(Op::Flatten);
}

/// A flattened one-pixel image is the image itself, which is in the caller's memory unlike every other value.
#[test]
fn readers_of_a_flattened_one_pixel_image() {
    let readers =
        [Op::relu(), Op::Add, Op::scale(20), Op::Linear(Linear { in_features: 20, out_features: 3, bias: true })];
    for reader in readers {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: 20 }, &[]);
        let flat = graph.add("flat", Op::Flatten, &[input]);
        let inputs = vec![flat; *reader.arity().start()];
        let end = graph.add("reader", reader, &inputs);
        graph.output("main", end);
        let case = Case { batch: 3, size: [1, 1], threads: 2, ..Case::default() };
        let weights = positive_weights(&graph, 1);
        assert_matches_the_oracle(&graph, &weights, case, &random_images(20, case));
    }
}

#[test]
fn the_image_as_output() {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels: CHANNELS }, &[]);
    graph.output("main", input);
    let case = Case { batch: 2, size: [3, 5], threads: 2, ..Case::default() };
    let weights = positive_weights(&graph, 1);
    assert_matches_the_oracle(&graph, &weights, case, &random_images(CHANNELS, case));
}

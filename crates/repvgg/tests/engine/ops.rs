//! Every op alone, over sizes that straddle rows, vectors and tiles.

use repvgg::engine::Settings;
use repvgg::graph::{ActivationKind, BatchNorm, Conv2d, Linear, Pool, Softmax};
use repvgg::{Graph, Op};
use repvgg_conv::Geometry;

use super::{assert_matches_the_oracle, random_images, random_weights};

const CHANNELS: usize = 6;

const SIZES: [[usize; 2]; 7] = [[1, 1], [1, 7], [5, 1], [2, 3], [7, 7], [16, 17], [33, 31]];

/// The op on the image, once for each of its inputs; `None` where it cannot take the size.
fn graph(op: &Op, size: [usize; 2]) -> Option<Graph> {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels: CHANNELS }, &[]);
    let inputs = vec![input; *op.arity().start()];
    let node = graph.add("op", op.clone(), &inputs);
    graph.output("main", node);
    graph.shapes(size).is_ok().then_some(graph)
}

fn assert_op_matches(op: Op) {
    let mut tried = 0;
    for (size, batch) in SIZES.into_iter().flat_map(|size| [(size, 1), (size, 2), (size, 9)]) {
        let Some(graph) = graph(&op, size) else { continue };
        let settings = Settings { batch, size, threads: 2, ..Settings::default() };
        let weights = random_weights(&graph, 1);
        assert_matches_the_oracle(&graph, &weights, settings, &random_images(CHANNELS, settings));
        tried += 1;
    }
    assert!(tried >= 3, "{op:?} takes none of the sizes");
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
fn fully_connected_layers() {
    assert_op_matches(Op::Linear(Linear { in_features: CHANNELS, out_features: 1001, bias: true }));
    assert_op_matches(Op::Linear(Linear { in_features: CHANNELS, out_features: 1, bias: false }));
}

#[test]
fn maps_of_each_element() {
    assert_op_matches(Op::relu());
    assert_op_matches(Op::Activation(ActivationKind::Sigmoid));
    for kind in [
        ActivationKind::RELU6,
        ActivationKind::Clip { low: -0.25, high: 0.5 },
        ActivationKind::Clip { low: f32::NEG_INFINITY, high: 0.125 },
        ActivationKind::LeakyRelu { slope: 0.1 },
        ActivationKind::HardSigmoid { slope: 0.75, offset: 0.5 },
    ] {
        assert_op_matches(Op::Activation(kind));
    }
    assert_op_matches(Op::BatchNorm(BatchNorm { channels: CHANNELS, eps: 1e-3 }));
    assert_op_matches(Op::scale(CHANNELS));
}

#[test]
fn joins() {
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
            assert_op_matches(op(Pool { kernel, stride, padding }));
        }
    }
    assert_op_matches(Op::GlobalAvgPool);
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

/// A flattened image of one pixel is the image itself, which lies elsewhere than every other value.
#[test]
fn what_reads_a_flattened_image_of_one_pixel() {
    let readers =
        [Op::relu(), Op::Add, Op::scale(20), Op::Linear(Linear { in_features: 20, out_features: 3, bias: true })];
    for reader in readers {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: 20 }, &[]);
        let flat = graph.add("flat", Op::Flatten, &[input]);
        let inputs = vec![flat; *reader.arity().start()];
        let end = graph.add("reader", reader, &inputs);
        graph.output("main", end);
        let settings = Settings { batch: 3, size: [1, 1], threads: 2, ..Settings::default() };
        let weights = random_weights(&graph, 1);
        assert_matches_the_oracle(&graph, &weights, settings, &random_images(20, settings));
    }
}

#[test]
fn the_image_itself() {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels: CHANNELS }, &[]);
    graph.output("main", input);
    let settings = Settings { batch: 2, size: [3, 5], threads: 2, ..Settings::default() };
    let weights = random_weights(&graph, 1);
    assert_matches_the_oracle(&graph, &weights, settings, &random_images(CHANNELS, settings));
}

//! Random graphs, whose values are read many times, early and late, by every kind of op.

use proptest::prelude::*;
use repvgg::engine::{Algorithm, Level};
use repvgg::graph::{ActivationKind, Conv2d, Linear, Pool, Shape, Softmax};
use repvgg::{Graph, NodeId, Op};
use repvgg_kernels::Geometry;

use super::{Case, assert_matches_the_oracle, positive_weights, random_images};

const CHANNELS: usize = 3;

/// A random operation to append.
#[derive(Debug, Clone, Copy)]
struct Growth {
    /// The kind of op.
    kind: u8,
    /// Two nodes to read, modulo the number of nodes.
    inputs: [usize; 2],
    /// A number that determines the parameters of the op.
    choice: usize,
}

/// A graph that grows by random operations. Those that do not fit are left out.
struct RandomGraph {
    graph: Graph,
    size: [usize; 2],
    shapes: Vec<Shape>,
    ids: Vec<NodeId>,
}

impl RandomGraph {
    fn new(size: [usize; 2]) -> Self {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: CHANNELS }, &[]);
        Self { graph, size, shapes: vec![[CHANNELS, size[0], size[1]]], ids: vec![input] }
    }

    fn add(&mut self, op: Op, inputs: &[NodeId]) -> Option<NodeId> {
        let mut grown = self.graph.clone();
        let id = grown.add(format!("node{}", self.ids.len()), op, inputs);
        self.shapes = grown.shapes(self.size).ok()?;
        self.graph = grown;
        self.ids.push(id);
        Some(id)
    }

    fn conv(&mut self, x: NodeId, choice: usize) -> Option<NodeId> {
        let in_channels = self.shapes[x.index()][0];
        let out_channels = [in_channels, 4, 8, 5][choice % 4];
        let kernel = [[3, 3], [1, 1], [3, 1], [2, 2]][choice / 4 % 4];
        let even = in_channels.is_multiple_of(2) && out_channels.is_multiple_of(2);
        let groups = if even { 1 + choice / 16 % 2 } else { 1 };
        let geometry = Geometry {
            in_channels,
            out_channels,
            kernel,
            stride: [1 + choice / 32 % 2, 1 + choice / 64 % 2],
            padding: [kernel[0] / 2, kernel[1] / 2],
            dilation: [1; 2],
            groups,
        };
        self.add(Op::conv(Conv2d { geometry, bias: choice < 128 }), &[x])
    }

    /// Squeeze-and-excitation.
    fn excite(&mut self, x: NodeId) -> Option<NodeId> {
        let channels = self.shapes[x.index()][0];
        let pooled = self.add(Op::GlobalAvgPool, &[x])?;
        let down = self.add(Op::conv(Conv2d::square(channels, 2, 1).with_bias()), &[pooled])?;
        let relu = self.add(Op::relu(), &[down])?;
        let up = self.add(Op::conv(Conv2d::square(2, channels, 1).with_bias()), &[relu])?;
        let gate = self.add(Op::Activation(ActivationKind::Sigmoid), &[up])?;
        self.add(Op::Mul, &[x, gate])
    }

    /// `ReLU(BN(conv3×3(x)) + BN(conv1×1(x)) + BN(x))`
    fn block(&mut self, x: NodeId) -> Option<NodeId> {
        let channels = self.shapes[x.index()][0];
        let wide = self.add(Op::conv(Conv2d::square(channels, channels, 3)), &[x])?;
        let narrow = self.add(Op::conv(Conv2d::square(channels, channels, 1)), &[x])?;
        let mut branches = [wide, narrow, x];
        for branch in &mut branches {
            *branch = self.add(Op::batch_norm(channels), &[*branch])?;
        }
        let sum = self.add(Op::Add, &branches)?;
        self.add(Op::relu(), &[sum])
    }

    fn grow(&mut self, Growth { kind, inputs: [x, y], choice }: Growth) -> Option<NodeId> {
        // The first input is a late node, so that graphs grow deep as well as wide.
        let late = |at: usize| self.ids[self.ids.len() - 1 - at % self.ids.len().min(4)];
        let (x, y) = (late(x), self.ids[y % self.ids.len()]);
        let channels = self.shapes[x.index()][0];
        let around = [[0, choice / 12 % (1 + choice % 3)], [choice / 6 % 2, choice / 36 % 2]];
        let pool =
            Pool { kernel: [1 + choice % 3, 2], stride: [1 + choice / 3 % 2, 2], dilation: [1; 2], padding: around };
        let padding = |choice: usize| [choice % 4, choice / 4 % 4].map(|end| end as isize - 1);
        let activation = [
            ActivationKind::RELU6,
            ActivationKind::LeakyRelu { slope: 0.25 },
            ActivationKind::HardSigmoid { slope: 0.2, offset: 0.5 },
            ActivationKind::Silu,
            ActivationKind::Gelu,
            ActivationKind::Tanh,
        ][choice % 6];
        let start = choice % channels;
        match kind {
            0..=3 => self.conv(x, choice),
            4 | 5 => self.add(Op::relu(), &[x]),
            6 => self.add(Op::batch_norm(channels), &[x]),
            7 => self.add(Op::scale(channels), &[x]),
            8 => self.add(Op::Add, &[x, y]),
            9 => self.add(Op::Add, &[y, x, x]),
            10 => self.add(Op::Mul, &[x, y]),
            11 => self.add(Op::Concat, &[x, y, x]),
            12 => self.add(Op::MaxPool(pool), &[x]),
            13 => self.add(Op::AvgPool(pool), &[x]),
            14 => self.excite(x),
            15 => self.block(x),
            16 => self.add(Op::AvgPoolInside(pool), &[x]),
            17 => self.add(Op::Activation(activation), &[x]),
            18 => self.add(Op::Softmax([Softmax::Probabilities, Softmax::Logarithms][choice % 2]), &[x]),
            19 => self.add(Op::Shuffle { groups: 1 + choice % 4 }, &[x]),
            20 => self.add(Op::Slice { start, channels: 1 + choice / 4 % (channels - start) }, &[x]),
            21 => self.add(Op::Pad { padding: [padding(choice), padding(choice / 16)] }, &[x]),
            _ => self.add(Op::Activation(ActivationKind::Sigmoid), &[x]),
        }
    }

    /// The graph with an auxiliary output, and with a classifier or the last map as its main output.
    fn finish(mut self, ending: usize) -> Graph {
        let last = self.ids[self.ids.len() - 1];
        let mut end = last;
        if ending.is_multiple_of(2) {
            end = self.add(Op::GlobalAvgPool, &[end]).expect("any map has a mean");
        }
        end = self.add(Op::Flatten, &[end]).expect("any map can be flattened");
        if ending < 3 {
            let linear = Linear { in_features: self.shapes[end.index()][0], out_features: 7, bias: true };
            end = self.add(Op::Linear(linear), &[end]).expect("the features fit");
        }
        self.graph.output("main", end);
        let aux = self.add(Op::relu(), &[last]).expect("any map has an activation");
        self.graph.output("aux", aux);
        self.graph
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_match_the_oracle(
        operations in prop::collection::vec((0u8..23, 0usize..64, 0usize..64, 0usize..256), 1..10),
        ending in 0usize..4,
        size in (1usize..20, 1usize..18).prop_map(|(height, width)| [height, width]),
        (batch, images) in (1usize..5).prop_flat_map(|batch| (Just(batch), 1..=batch)),
        threads in 1usize..5,
        algorithm in prop::option::of(prop::sample::select(Algorithm::ALL.to_vec())),
        level in prop::sample::select(Level::NAMES.to_vec()).prop_filter_map("a level of this CPU", Level::named),
        seed in any::<u64>(),
    ) {
        let mut graph = RandomGraph::new(size);
        for (kind, x, y, choice) in operations {
            graph.grow(Growth { kind, inputs: [x, y], choice });
        }
        let graph = graph.finish(ending);
        let weights = positive_weights(&graph, seed);
        let case = Case { batch, size, threads, algorithm, level, ..Case::default() };
        let images = random_images(CHANNELS, Case { batch: images, ..case });
        assert_matches_the_oracle(&graph, &weights, case, &images);
    }
}

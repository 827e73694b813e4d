use super::*;
use crate::fuse::Fusion;
use crate::graph::{Conv2d, Linear, Op, Pool};
use crate::zoo::Specification;

/// A graph with only its input, images of `channels`, and that input.
fn start(channels: usize) -> (Graph, NodeId) {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels }, &[]);
    (graph, input)
}

fn conv(graph: &mut Graph, name: &str, [from, to]: [usize; 2], kernel: usize, x: NodeId) -> NodeId {
    graph.add(name, Op::conv(Conv2d::square(from, to, kernel)), &[x])
}

/// A 3×3 window that preserves the map's size.
fn pool() -> Pool {
    Pool { kernel: [3, 3], stride: [1, 1], dilation: [1; 2], padding: [[1, 1], [1, 1]] }
}

/// `ReLU(x + conv(ReLU(conv(x))))` on four channels.
fn residual() -> Graph {
    let (mut graph, x) = start(4);
    let y = conv(&mut graph, "block.conv1", [4, 4], 3, x);
    let y = graph.add("block.relu1", Op::relu(), &[y]);
    let y = conv(&mut graph, "block.conv2", [4, 4], 3, y);
    let y = graph.add("block.add", Op::Add, &[y, x]);
    let y = graph.add("block.relu2", Op::relu(), &[y]);
    graph.output("main", y);
    graph
}

/// Three layers of two convolutions, each layer reading all earlier maps.
fn dense() -> Graph {
    let (mut graph, x) = start(8);
    let mut maps = vec![x];
    for layer in 0..3 {
        let joined = match maps.as_slice() {
            [only] => *only,
            all => graph.add(format!("block.{layer}.concat"), Op::Concat, all),
        };
        let y = conv(&mut graph, &format!("block.{layer}.conv1"), [8 + 4 * layer, 16], 1, joined);
        maps.push(conv(&mut graph, &format!("block.{layer}.conv2"), [16, 4], 3, y));
    }
    let y = graph.add("block.concat", Op::Concat, &maps);
    graph.output("main", y);
    graph
}

/// Parallel branches of one or two operators, between two plain convolutions.
fn inception() -> Graph {
    let (mut graph, x) = start(3);
    let x = conv(&mut graph, "stem", [3, 8], 3, x);
    let a = conv(&mut graph, "mixed.a", [8, 8], 1, x);
    let b = conv(&mut graph, "mixed.b1", [8, 8], 1, x);
    let b = conv(&mut graph, "mixed.b2", [8, 8], 3, b);
    let c = graph.add("mixed.c1", Op::MaxPool(pool()), &[x]);
    let c = conv(&mut graph, "mixed.c2", [8, 8], 1, c);
    let y = graph.add("mixed.concat", Op::Concat, &[a, b, c]);
    let y = conv(&mut graph, "head", [24, 8], 3, y);
    graph.output("main", y);
    graph
}

/// `count` normal cells of NASNet-A on two predecessors each (Zoph et al., 1707.07012, Fig. 4), without batch norms.
fn cells(count: usize) -> Graph {
    let (mut graph, x) = start(3);
    let stem = conv(&mut graph, "stem.conv", [3, 8], 3, x);
    let (mut before, mut last) = (stem, stem);
    for cell in 0..count {
        let name = |part: &str| format!("cell_{cell}.{part}");
        let channels = |id: NodeId, graph: &Graph| graph.channels()[id.index()].unwrap();
        let [h, p] = [("h", last), ("p", before)].map(|(part, x)| {
            let from = channels(x, &graph);
            conv(&mut graph, &name(&format!("{part}.conv")), [from, 4], 1, x)
        });
        let separable = |graph: &mut Graph, part: &str, kernel: usize, mut x: NodeId| {
            for twice in 0..2 {
                let depthwise = Op::conv(Conv2d::square(4, 4, kernel).groups(4));
                x = graph.add(name(&format!("{part}.depthwise{twice}")), depthwise, &[x]);
                x = conv(graph, &name(&format!("{part}.pointwise{twice}")), [4, 4], 1, x);
            }
            x
        };
        let sums = [
            [separable(&mut graph, "0.left", 3, h), h],
            [separable(&mut graph, "1.left", 3, p), separable(&mut graph, "1.right", 5, h)],
            [graph.add(name("2.left"), Op::AvgPoolInside(pool()), &[h]), p],
            ["3.left", "3.right"].map(|part| graph.add(name(part), Op::AvgPoolInside(pool()), &[p])),
            [separable(&mut graph, "4.left", 5, p), separable(&mut graph, "4.right", 3, p)],
        ];
        let sums = sums.iter().enumerate().map(|(i, pair)| graph.add(name(&format!("{i}.add")), Op::Add, pair));
        let sums: Vec<NodeId> = sums.collect();
        let y = graph.add(name("concat"), Op::Concat, &sums);
        (before, last) = (last, y);
    }
    graph.output("main", last);
    graph
}

fn named(name: &str) -> Graph {
    Specification::named(name).unwrap().training_graph().unwrap().inference()
}

/// `(name, live bytes, held bytes)` of each node.
fn curve(graph: &Graph, size: [usize; 2]) -> Vec<(String, u64, u64)> {
    let layers = cost(graph, size).unwrap().layers;
    layers.into_iter().map(|layer| (layer.name, layer.live_bytes, layer.held_bytes)).collect()
}

fn blocks(graph: &Graph) -> Vec<(String, usize)> {
    fragmentation(graph).blocks.into_iter().map(|block| (block.name, block.operators)).collect()
}

fn pairs(pairs: &[(&str, usize)]) -> Vec<(String, usize)> {
    pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
}

#[test]
fn a_residual_block_holds_its_input_until_the_addition() {
    let map = 4 * 8 * 8 * 4;
    let expected = [
        ("input", map, 0),
        ("block.conv1", 2 * map, map),
        ("block.relu1", 2 * map, map),
        ("block.conv2", 3 * map, map),
        ("block.add", 2 * map, 0),
        ("block.relu2", map, 0),
    ];
    assert_eq!(curve(&residual(), [8, 8]), expected.map(|(name, live, held)| (name.to_owned(), live, held)));
    let graph = residual();
    let alive = alive_at(&graph, [8, 8], graph.find("block.conv2").unwrap()).unwrap();
    let value = |name: &str, held_for: Option<&str>| Alive {
        name: name.to_owned(),
        bytes: map,
        held_for: held_for.map(str::to_owned),
    };
    assert_eq!(alive, [value("input", Some("block.add")), value("block.relu1", None), value("block.conv2", None)]);
}

#[test]
fn the_longest_wait_is_for_the_addition() {
    let wait = |graph: &Graph, size| longest_wait(graph, size).unwrap().unwrap();
    let value =
        |name: &str, bytes, held_for: &str| Alive { name: name.to_owned(), bytes, held_for: Some(held_for.to_owned()) };
    assert_eq!(wait(&residual(), [8, 8]), Wait { value: value("input", 1024, "block.add"), nodes: 3 });
    // The first of the blocks with an identity branch; both convolutions and their batch norms run meanwhile.
    let expected = value("stage1.0.relu", 48 * 56 * 56 * 4, "stage1.1.add");
    assert_eq!(wait(&named("repvgg-a0"), [224, 224]), Wait { value: expected, nodes: 4 });
    assert_eq!(wait(&dense(), [6, 6]), Wait { value: value("input", 8 * 36 * 4, "block.concat"), nodes: 8 });
    assert_eq!(longest_wait(Fusion::new(&named("repvgg-a0")).graph(), [224, 224]).unwrap(), None);
}

#[test]
fn a_chain_holds_nothing() {
    let (mut graph, mut x) = start(4);
    for layer in 0..3 {
        x = conv(&mut graph, &format!("{layer}.conv"), [4, 4], 3, x);
        x = graph.add(format!("{layer}.relu"), Op::relu(), &[x]);
    }
    graph.output("main", x);
    let cost = cost(&graph, [8, 8]).unwrap();
    assert_eq!(cost.peak_activation_bytes, 2 * 1024);
    assert!(cost.layers.iter().all(|layer| layer.held_bytes == 0));
}

#[test]
fn a_dense_block_holds_every_map() {
    let pixel = 6 * 6 * 4;
    let expected = [
        ("input", 8, 0),
        ("block.0.conv1", 8 + 16, 8),
        ("block.0.conv2", 8 + 16 + 4, 8),
        ("block.1.concat", 12 + 12, 12),
        ("block.1.conv1", 12 + 12 + 16, 12),
        ("block.1.conv2", 12 + 16 + 4, 12),
        ("block.2.concat", 16 + 16, 16),
        ("block.2.conv1", 16 + 16 + 16, 16),
        ("block.2.conv2", 16 + 16 + 4, 16),
        ("block.concat", 20 + 20, 0),
    ];
    let expected = expected.map(|(name, live, held)| (name.to_owned(), live * pixel, held * pixel));
    assert_eq!(curve(&dense(), [6, 6]), expected);
    let alive = alive_at(&dense(), [6, 6], dense().find("block.1.conv1").unwrap()).unwrap();
    let held: Vec<(&str, &str)> =
        alive.iter().filter_map(|value| Some((value.name.as_str(), value.held_for.as_deref()?))).collect();
    assert_eq!(held, [("input", "block.concat"), ("block.0.conv2", "block.concat")]);
}

#[test]
fn a_value_read_twice_by_one_node_is_freed_once() {
    let (mut graph, x) = start(2);
    let y = graph.add("double", Op::Add, &[x, x]);
    let y = graph.add("relu", Op::relu(), &[y]);
    graph.output("main", y);
    let map = 2 * 4 * 4 * 4;
    let expected = ["input", "double", "relu"].map(|name| (name.to_owned(), map, 0));
    assert_eq!(curve(&graph, [4, 4]), expected);
}

#[test]
fn outputs_stay_alive_to_the_end() {
    let mut graph = residual();
    let early = graph.find("block.relu1").unwrap();
    graph.output("early", early);
    let curve = curve(&graph, [8, 8]);
    assert_eq!(curve[5], ("block.relu2".to_owned(), 2 * 1024, 1024));
    let alive = alive_at(&graph, [8, 8], graph.find("block.relu2").unwrap()).unwrap();
    assert_eq!((alive[0].name.as_str(), alive[0].held_for.as_deref()), ("block.relu1", Some("early")));
}

/// The paper's statement (Sect. 3.1) on its own networks, and two ways of counting that must give the same result.
#[test]
fn branches_hold_values_and_plain_networks_do_not() {
    for name in ["repvgg-a0", "repvgg-b1g4", "repvggplus-l2pse"] {
        let training = named(name);
        let plain = Fusion::new(&training).into_graph();
        for graph in [&training, &plain] {
            for (layer, (id, _)) in cost(graph, [64, 64]).unwrap().layers.iter().zip(graph.iter()) {
                let alive = alive_at(graph, [64, 64], id).unwrap();
                let held = alive.iter().filter(|value| value.held_for.is_some());
                assert_eq!(alive.iter().map(|value| value.bytes).sum::<u64>(), layer.live_bytes, "{name}: {layer:?}");
                assert_eq!(held.map(|value| value.bytes).sum::<u64>(), layer.held_bytes, "{name}: {layer:?}");
            }
        }
        let holding = |graph: &Graph| curve(graph, [64, 64]).iter().filter(|(_, _, held)| *held > 0).count();
        assert!(holding(&training) > training.nodes().len() / 2, "{name}");
        if name == "repvggplus-l2pse" {
            // Squeeze-and-excitation multiplies its input, and holds it until then.
            assert!(holding(&plain) > 0);
        } else {
            assert_eq!(holding(&plain), 0, "{name}");
        }
    }
    let a0 = named("repvgg-a0");
    let node = a0.find("stage1.1.rbr_dense.conv").unwrap();
    let alive = alive_at(&a0, [224, 224], node).unwrap();
    let input =
        Alive { name: "stage1.0.relu".to_owned(), bytes: 48 * 56 * 56 * 4, held_for: Some("stage1.1.add".to_owned()) };
    assert_eq!(alive[0], input);
}

#[test]
fn memory_access_by_hand() {
    let (mut graph, x) = start(3);
    let y = graph.add("conv", Op::conv(Conv2d::square(3, 8, 3).stride(2).with_bias()), &[x]);
    let y = graph.add("bn", Op::batch_norm(8), &[y]);
    let y = graph.add("pool", Op::GlobalAvgPool, &[y]);
    let y = graph.add("flat", Op::Flatten, &[y]);
    let y = graph.add("fc", Op::Linear(Linear { in_features: 8, out_features: 10, bias: true }), &[y]);
    graph.output("main", y);
    let cost = cost(&graph, [6, 6]).unwrap();
    let (image, map) = (3 * 36, 8 * 9);
    let expected = [
        ("input", 0, 0),
        ("conv", image + map, 8 * 27 + 8),
        ("bn", 2 * map, 4 * 8),
        ("pool", map + 8, 0),
        ("flat", 0, 0),
        ("fc", 8 + 10, 80 + 10),
    ];
    for (layer, (name, activations, weights)) in cost.layers.iter().zip(expected) {
        let access = MemoryAccess { activation_bytes: 4 * activations, weight_bytes: 4 * weights };
        assert_eq!((layer.name.as_str(), layer.memory_access), (name, access));
    }
    let conv_access = 4 * (image + map + 18);
    assert_eq!(cost.conv_memory_access.bytes(1), conv_access + 4 * (224 + 90));
    assert_eq!(cost.conv_memory_access.bytes(8), 8 * conv_access + 4 * (224 + 90));
    let bytes = 8 * (conv_access + 4 * (3 * map + 8)) + 4 * (224 + 32 + 90);
    assert_eq!(cost.memory_access.bytes(8), bytes);
    let macs = 8 * 27 * 9 + 80;
    assert_eq!(cost.macs, macs);
    assert_eq!(cost.arithmetic_intensity(8), (8 * macs) as f64 / bytes as f64);
}

/// A0 in plain form: alternating convolutions and ReLUs, global pooling, a classifier.
#[test]
fn memory_access_of_a_plain_network() {
    let (mut convolutions, mut others, mut weights) = (0, 0, 0);
    let (mut channels, mut side): (u64, u64) = (3, 224);
    for (width, depth) in [(48, 1), (48, 2), (96, 4), (192, 14), (1280, 1)] {
        for layer in 0..depth {
            let before = channels * side * side;
            side = if layer == 0 { side / 2 } else { side };
            let after = width * side * side;
            convolutions += before + after;
            others += 2 * after;
            weights += 9 * channels * width + width;
            channels = width;
        }
    }
    others += channels * side * side + channels;
    convolutions += channels + 1000;
    weights += channels * 1000 + 1000;
    let plain = cost(Fusion::new(&named("repvgg-a0")).graph(), [224, 224]).unwrap();
    let access = |activations: u64| MemoryAccess { activation_bytes: 4 * activations, weight_bytes: 4 * weights };
    assert_eq!(plain.conv_memory_access, access(convolutions));
    assert_eq!(plain.memory_access, access(convolutions + others));
    assert_eq!(plain.memory_access.weight_bytes, 4 * plain.parameters);
}

#[test]
fn blocks_end_at_values_that_every_path_passes() {
    assert_eq!(blocks(&residual()), pairs(&[("block.add", 2)]));
    assert_eq!(blocks(&dense()), pairs(&[("block.concat", 6)]));
    assert_eq!(blocks(&inception()), pairs(&[("stem", 1), ("mixed.concat", 5), ("head", 1)]));
    let mean = fragmentation(&inception()).mean();
    assert_eq!((mean, fragmentation(&inception()).max()), (7.0 / 3.0, 5));
}

#[test]
fn a_projection_counts_as_an_operator_of_its_block() {
    let (mut graph, x) = start(4);
    let y = conv(&mut graph, "layer.0.conv1", [4, 8], 1, x);
    let y = conv(&mut graph, "layer.0.conv2", [8, 8], 3, y);
    let y = conv(&mut graph, "layer.0.conv3", [8, 16], 1, y);
    let shortcut = conv(&mut graph, "layer.0.downsample", [4, 16], 1, x);
    let y = graph.add("layer.0.add", Op::Add, &[y, shortcut]);
    graph.output("main", y);
    assert_eq!(blocks(&graph), pairs(&[("layer.0.add", 4)]));
}

/// Only the last cell ends in a value that every path passes; names assign each cell to a module.
#[test]
fn cells_with_two_predecessors_are_split_by_module() {
    // Five separable convolutions of two rounds of two, three pools, two convolutions at the entrance.
    let expected: Vec<(String, usize)> =
        [("stem.conv".to_owned(), 1)].into_iter().chain((0..3).map(|cell| (format!("cell_{cell}"), 25))).collect();
    assert_eq!(blocks(&cells(3)), expected);
}

#[test]
fn names_without_modules_split_no_blocks() {
    let (mut graph, x) = start(4);
    let a = conv(&mut graph, "conv_1", [4, 4], 3, x);
    let b = conv(&mut graph, "conv_2", [4, 4], 1, x);
    let y = graph.add("add_1", Op::Add, &[a, b]);
    graph.output("main", y);
    assert_eq!(blocks(&graph), pairs(&[("add_1", 2)]));
}

#[test]
fn repvgg_blocks_have_two_operators_in_training_form_and_one_in_plain_form() {
    for name in ["repvgg-a0", "repvgg-d2se", "repvggplus-l2pse"] {
        let training = named(name);
        let plain = Fusion::new(&training).into_graph();
        for (graph, expected) in [(&training, 2), (&plain, 1)] {
            let found = fragmentation(graph);
            assert!(found.blocks.iter().all(|block| block.operators == expected), "{name}: {:?}", found.blocks);
            assert_eq!((found.mean(), found.max()), (expected as f64, expected));
        }
        assert_eq!(fragmentation(&training).blocks.len(), fragmentation(&plain).blocks.len(), "{name}");
    }
    assert_eq!(fragmentation(&named("repvgg-a0")).blocks.len(), 22);
}

#[test]
fn a_graph_without_operators_has_no_blocks() {
    let (mut graph, x) = start(3);
    let y = graph.add("relu", Op::relu(), &[x]);
    graph.output("main", y);
    let found = fragmentation(&graph);
    assert_eq!((found.blocks.len(), found.mean(), found.max()), (0, 0.0, 0));
}

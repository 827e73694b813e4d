//! Fusion against the oracle: random linear regions, whole networks, and graphs that cannot be fused.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use repvgg::check::verify;
use repvgg::fuse::{Fusion, fuse};
use repvgg::graph::{Conv2d, Graph, Linear, NodeId, Op, Pool, Role};
use repvgg::interpret::{interpret, magnitudes};
use repvgg::{Specification, Tensor, Weights};
use repvgg_testing::random_weights;

fn random_input(shape: [usize; 4], seed: u64) -> Tensor<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Tensor::from_fn(shape, |_| rng.random_range(-1.0..1.0))
}

/// A random linear region with [`CHANNELS`] in and out.
#[derive(Debug, Clone)]
enum Region {
    /// A convolution in groups, with or without a bias and a batch norm after it.
    Conv { kernel: [usize; 2], dilation: usize, groups: usize, bias: bool, norm: bool },
    /// The identity, a batch norm, or a factor per channel.
    Identity { op: u8 },
    /// A 1×1 convolution without bias, then an average pool.
    Average { kernel: usize },
    /// A sum of branches, with or without a batch norm after it.
    Sum { branches: Vec<Region>, norm: bool },
    /// A pointwise convolution, then another region.
    Chain { groups: usize, then: Box<Region> },
}

fn region() -> impl Strategy<Value = Region> {
    let kernel = prop::sample::select(vec![[1, 1], [3, 3], [5, 5], [1, 3], [3, 1], [7, 1]]);
    let groups = prop::sample::select(vec![1, 2, 3, 6, 12]);
    let leaf = prop_oneof![
        (kernel, 1..4usize, groups.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(kernel, dilation, groups, bias, norm)| Region::Conv { kernel, dilation, groups, bias, norm }),
        (0..3u8).prop_map(|op| Region::Identity { op }),
        prop::sample::select(vec![1, 3, 5]).prop_map(|kernel| Region::Average { kernel }),
    ];
    leaf.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 2..4), any::<bool>())
                .prop_map(|(branches, norm)| Region::Sum { branches, norm }),
            (groups.clone(), inner).prop_map(|(groups, then)| Region::Chain { groups, then: Box::new(then) }),
        ]
    })
}

const CHANNELS: usize = 12;

fn build(graph: &mut Graph, region: &Region, name: &str, x: NodeId, stride: usize) -> NodeId {
    match region {
        Region::Conv { kernel, dilation, groups, bias, norm } => {
            let mut conv = Conv2d::square(CHANNELS, CHANNELS, 1).groups(*groups).stride(stride);
            conv.geometry.kernel = *kernel;
            conv.geometry.padding = kernel.map(|k| k / 2 * dilation);
            conv.geometry.dilation = [*dilation; 2];
            conv.bias = *bias;
            let y = graph.add(format!("{name}.conv"), Op::Conv2d(conv), &[x]);
            if *norm { graph.add(format!("{name}.bn"), Op::batch_norm(CHANNELS), &[y]) } else { y }
        }
        Region::Identity { op } if stride == 1 => match op {
            0 => x,
            1 => graph.add(format!("{name}.bn"), Op::batch_norm(CHANNELS), &[x]),
            _ => graph.add(format!("{name}.scale"), Op::scale(CHANNELS), &[x]),
        },
        Region::Identity { .. } => {
            let subsample = Pool { kernel: [1; 2], stride: [stride; 2], padding: [[0; 2]; 2] };
            graph.add(format!("{name}.pool"), Op::AvgPool(subsample), &[x])
        }
        Region::Average { kernel } => {
            let y = graph.add(format!("{name}.1x1"), Op::conv(Conv2d::square(CHANNELS, CHANNELS, 1)), &[x]);
            let pool = Pool { kernel: [*kernel; 2], stride: [stride; 2], padding: [[kernel / 2; 2]; 2] };
            graph.add(format!("{name}.avg"), Op::AvgPool(pool), &[y])
        }
        Region::Sum { branches, norm } => {
            let branches: Vec<NodeId> = branches
                .iter()
                .enumerate()
                .map(|(index, branch)| build(graph, branch, &format!("{name}.{index}"), x, stride))
                .collect();
            let y = graph.add(format!("{name}.add"), Op::Add, &branches);
            if *norm { graph.add(format!("{name}.bn"), Op::batch_norm(CHANNELS), &[y]) } else { y }
        }
        Region::Chain { groups, then } => {
            let conv = Conv2d::square(CHANNELS, CHANNELS, 1).groups(*groups);
            let y = graph.add(format!("{name}.pointwise"), Op::conv(conv), &[x]);
            build(graph, then, &format!("{name}.then"), y, stride)
        }
    }
}

/// Asserts that fusing `graph` changes no value by more than the bound `ε Σ|x||w|` of both forms. Returns the fused graph.
fn assert_same_function(graph: &Graph, size: [usize; 2], seed: u64) -> Graph {
    let weights = random_weights(graph, seed);
    let fused = fuse(graph, &weights).unwrap();
    let input = random_input([2, graph.input_channels(), size[0], size[1]], seed + 1);
    let of = |graph: &Graph, weights: &Weights| {
        let main = graph.main_output().index();
        let value = interpret(graph, weights, &input).unwrap().swap_remove(main);
        (value, magnitudes(graph, weights, &input).unwrap().swap_remove(main))
    };
    let (expected, bound) = of(graph, &weights);
    let (found, fused_bound) = of(&fused.graph, &fused.weights);
    assert_eq!(expected.shape(), found.shape());
    let layers = fused.graph.nodes().len() as f64;
    for (index, (a, b)) in expected.data().iter().zip(found.data()).enumerate() {
        let bound = layers * f64::from(f32::EPSILON) * (bound.data()[index] + fused_bound.data()[index]);
        assert!((a - b).abs() <= bound, "element {index}: {a} and {b} differ by more than {bound:e}");
    }
    fused.graph
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_linear_region_equals_its_fusion(
        region in region(), stride in 1..4usize, height in 1..9usize, width in 1..9usize, seed: u64,
    ) {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: CHANNELS }, &[]);
        let relu = graph.add("before", Op::relu(), &[input]);
        let y = build(&mut graph, &region, "region", relu, stride);
        let y = graph.add("after", Op::relu(), &[y]);
        graph.output("main", y);
        assert_same_function(&graph, [height, width], seed % (1 << 40));
    }
}

fn tiny(extra: &str) -> Graph {
    let text = format!("depths = [2, 2, 3, 1]\nwidth = [0.25, 0.25, 0.125, 0.125]\nclasses = 5\n{extra}");
    Specification::from_toml(&text, "tiny").unwrap().training_graph().unwrap()
}

#[test]
fn whole_networks_fuse_to_plain_chains() {
    for extra in ["", "groups = 4", "se = \"before_relu\"", "se = \"after_relu\"\nauxiliary_heads = true"] {
        let graph = tiny(extra);
        let plain = assert_same_function(&graph, [33, 38], 7);
        let names: Vec<&str> = plain.nodes().iter().map(|node| node.name.as_str()).collect();
        assert!(names.contains(&"stage0.rbr_reparam"), "{names:?}");
        assert!(!plain.nodes().iter().any(|node| matches!(node.op, Op::BatchNorm(_) | Op::Add)), "{names:?}");
        assert!(Fusion::new(&plain).is_plain());
    }
}

#[test]
fn counterparts_compute_the_same_values() {
    for extra in ["", "se = \"after_relu\"\nauxiliary_heads = true"] {
        let graph = tiny(extra);
        let (fusion, weights) = (Fusion::new(&graph), random_weights(&graph, 3));
        let input = random_input([1, 3, 24, 24], 4);
        let before = interpret(fusion.original(), &weights, &input).unwrap();
        let after = interpret(fusion.graph(), &fusion.apply(&weights).unwrap(), &input).unwrap();
        let counterparts = fusion.counterparts();
        assert!(counterparts.is_sorted() && counterparts.len() == after.len());
        for (value, counterpart) in after.iter().zip(counterparts) {
            let expected = &before[counterpart.index()];
            let largest = expected.data().iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
            assert_eq!(value.shape(), expected.shape());
            for (a, b) in value.data().iter().zip(expected.data()) {
                assert!((a - b).abs() <= 1e-5 * largest, "{a} and {b} differ by more than 1e-5 of {largest}");
            }
        }
    }
}

#[test]
fn a_report_accepts_a_fusion_and_refuses_a_wrong_kernel() {
    let graph = tiny("");
    let weights = random_weights(&graph, 3);
    let fusion = Fusion::new(&graph);
    let mut fused = fusion.apply(&weights).unwrap();
    let report = verify(&fusion, &weights, &fused, [32; 2], |_| {}).unwrap();
    report.accept().unwrap();
    assert_eq!(report.regions.len(), 9);
    assert!(report.worst_error() > 0.01, "expected a measurable error, found {}", report.worst_error());
    let value = &mut fused.get_mut("stage2.1.rbr_reparam.weight").unwrap().data_mut()[4];
    *value += 1e-4;
    let error = verify(&fusion, &weights, &fused, [32; 2], |_| {}).unwrap().accept().unwrap_err();
    assert!(
        error.to_string().starts_with("stage2.1.rbr_reparam: expected an error of at most 1 bound, found "),
        "{error}"
    );
}

/// One block with a ReLU in its 1×1 branch (Table 7, "+ReLU in branch").
#[test]
fn a_relu_inside_a_branch_is_the_obstacle() {
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 4 }, &[]);
    let dense = graph.add("stage1.0.rbr_dense.conv", Op::conv(Conv2d::square(4, 4, 3)), &[x]);
    let point = graph.add("stage1.0.rbr_1x1.conv", Op::conv(Conv2d::square(4, 4, 1)), &[x]);
    let relu = graph.add("stage1.0.relu_1x1", Op::relu(), &[point]);
    let sum = graph.add("stage1.0.add", Op::Add, &[dense, relu]);
    graph.output("main", sum);
    let fusion = Fusion::new(&graph);
    assert!(fusion.is_plain());
    let [obstacle] = fusion.obstacles() else { panic!("expected one obstacle, found {:?}", fusion.obstacles()) };
    assert_eq!((obstacle.by.as_str(), obstacle.why.as_str()), ("stage1.0.relu_1x1", "ReLU inside a branch"));
}

/// One convolution cannot reproduce the shift of a batch norm before padding at the border (2103.13425, Sect. 3.3).
#[test]
fn a_bias_before_padding_is_not_fused() {
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 4 }, &[]);
    let y = graph.add("point.conv", Op::conv(Conv2d::square(4, 4, 1)), &[x]);
    let y = graph.add("point.bn", Op::batch_norm(4), &[y]);
    let y = graph.add("dense.conv", Op::conv(Conv2d::square(4, 4, 3)), &[y]);
    graph.output("main", y);
    let plain = assert_same_function(&graph, [5, 5], 1);
    assert_eq!(plain.nodes().len(), 3);
}

/// A separable convolution is linear too, but a single dense convolution would cost far more.
#[test]
fn fusing_never_adds_multiply_adds() {
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 32 }, &[]);
    let y = graph.add("depthwise", Op::conv(Conv2d::square(32, 32, 3).groups(32)), &[x]);
    let y = graph.add("pointwise", Op::conv(Conv2d::square(32, 32, 1)), &[y]);
    graph.output("main", y);
    assert!(Fusion::new(&graph).is_plain());
}

/// Branches `(kernel, dilation)` in `groups`, each with a batch norm, and a batch norm alone.
fn dilated_block(branches: &[(usize, usize)], groups: usize) -> Graph {
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 8 }, &[]);
    let mut sum = graph.add("identity", Op::batch_norm(8), &[x]);
    for (index, &(kernel, dilation)) in branches.iter().enumerate() {
        let mut conv = Conv2d::square(8, 8, kernel).groups(groups);
        conv.geometry.dilation = [dilation; 2];
        conv.geometry.padding = [kernel / 2 * dilation; 2];
        let y = graph.add(format!("branch{index}.conv"), Op::Conv2d(conv), &[x]);
        let y = graph.add(format!("branch{index}.bn"), Op::batch_norm(8), &[y]);
        sum = graph.add(format!("sum{index}"), Op::Add, &[sum, y]);
    }
    graph.output("main", sum);
    graph
}

#[test]
fn branches_of_different_dilation_are_one_convolution() {
    /// The kernel and dilation of a convolution.
    type Kernel = (usize, usize);
    // The branches; the kernel and dilation of the block.
    let cases: [(&[Kernel], usize, usize); 5] = [
        (&[(3, 1), (3, 2)], 5, 1),
        (&[(3, 3), (3, 1)], 7, 1),
        (&[(7, 1), (5, 1), (3, 2), (3, 3)], 7, 1),
        (&[(3, 1), (3, 2), (3, 3)], 7, 1),
        (&[(3, 2)], 3, 2),
    ];
    for (branches, kernel, dilation) in cases {
        for groups in [1, 2, 8] {
            let plain = assert_same_function(&dilated_block(branches, groups), [9, 6], 11);
            let [_, node] = plain.nodes() else { panic!("{branches:?}: expected one node, found {:?}", plain.nodes()) };
            let Op::Conv2d(conv) = node.op else { panic!("{branches:?}: expected a convolution, found {:?}", node.op) };
            let expected = ([kernel; 2], [dilation; 2], groups);
            assert_eq!((conv.geometry.kernel, conv.geometry.dilation, conv.geometry.groups), expected, "{branches:?}");
        }
    }
}

/// One kernel would have 13×13 taps for the 18 of its branches.
#[test]
fn a_widely_dilated_branch_beside_a_dense_one_remains() {
    let graph = dilated_block(&[(3, 1), (3, 6)], 1);
    let fusion = Fusion::new(&graph);
    let [obstacle] = fusion.obstacles() else { panic!("expected one obstacle, found {:?}", fusion.obstacles()) };
    assert_eq!((obstacle.sum.as_str(), obstacle.by.as_str()), ("sum1", "sum1"));
    assert_eq!(obstacle.why, "one convolution would have 10816 weights, its branches have 1152");
    assert_same_function(&graph, [9, 6], 12);
}

#[test]
fn a_batch_norm_before_a_padded_convolution_says_why_it_remains() {
    let graph = |padding: usize| {
        let mut graph = Graph::new();
        let x = graph.add("input", Op::Input { channels: 4 }, &[]);
        let mut conv = Conv2d::square(4, 4, 3);
        conv.geometry.padding = [padding; 2];
        let y = graph.add("bn", Op::batch_norm(4), &[x]);
        let y = graph.add("conv", Op::conv(conv), &[y]);
        graph.output("main", y);
        graph
    };
    let fusion = Fusion::new(&graph(1));
    let [obstacle] = fusion.obstacles() else { panic!("expected one obstacle, found {:?}", fusion.obstacles()) };
    assert_eq!((obstacle.sum.as_str(), obstacle.by.as_str()), ("bn", "conv"));
    assert_eq!(obstacle.why, "a bias precedes a padded convolution");
    assert_eq!(assert_same_function(&graph(0), [5, 5], 3).nodes().len(), 2);
}

/// The batch norm shifts the zeros of the border like every pixel, so its shift is a constant of the convolution.
#[test]
fn a_batch_norm_between_padding_and_its_convolution_fuses() {
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 4 }, &[]);
    let mut conv = Conv2d::square(4, 4, 3);
    conv.geometry.padding = [0; 2];
    let y = graph.add("pad", Op::Pad { padding: [[1, 1], [2, 2]] }, &[x]);
    let y = graph.add("bn", Op::batch_norm(4), &[y]);
    let y = graph.add("conv", Op::conv(conv), &[y]);
    graph.output("main", y);
    let plain = Fusion::new(&graph);
    let remaining: Vec<&str> = plain.graph().nodes().iter().map(|node| node.name.as_str()).collect();
    assert_same_function(&graph, [5, 4], 8);
    assert_eq!(remaining, ["input", "conv"]);
}

#[test]
fn fully_connected_layers_in_a_row_are_one() {
    let linear = |inputs, outputs| Op::Linear(Linear { in_features: inputs, out_features: outputs, bias: true });
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 6 }, &[]);
    let y = graph.add("pool", Op::GlobalAvgPool, &[x]);
    let y = graph.add("head.bn", Op::batch_norm(6), &[y]);
    let y = graph.add("head.0", linear(6, 12), &[y]);
    let y = graph.add("head.1", linear(12, 5), &[y]);
    graph.output("main", y);
    let plain = assert_same_function(&graph, [5, 4], 9);
    let [_, _, node] = plain.nodes() else { panic!("expected three nodes, found {:?}", plain.nodes()) };
    assert_eq!(node.op, linear(6, 5));
    // A bottleneck costs less than the product of its factors.
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 6 }, &[]);
    let y = graph.add("pool", Op::GlobalAvgPool, &[x]);
    let y = graph.add("down", linear(6, 1), &[y]);
    let y = graph.add("up", linear(1, 6), &[y]);
    graph.output("main", y);
    assert!(Fusion::new(&graph).is_plain());
}

#[test]
fn a_value_used_outside_its_region_remains() {
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 4 }, &[]);
    let conv = graph.add("conv", Op::conv(Conv2d::square(4, 4, 3)), &[x]);
    let norm = graph.add("bn", Op::batch_norm(4), &[conv]);
    let relu = graph.add("relu", Op::relu(), &[norm]);
    let sum = graph.add("sum", Op::Add, &[relu, conv]);
    graph.output("main", sum);
    assert_same_function(&graph, [6, 5], 2);
}

/// Overflowing values cannot be compared, and must not pass.
#[test]
fn overflowing_values_are_refused() {
    let graph = tiny("");
    let mut weights = random_weights(&graph, 3);
    for (name, parameter) in graph.parameters() {
        if parameter.role == Role::NormScale {
            weights.get_mut(&name).unwrap().data_mut().iter_mut().for_each(|scale| *scale *= 1e36);
        }
    }
    let fusion = Fusion::new(&graph);
    let fused = fusion.apply(&weights).unwrap();
    assert!(verify(&fusion, &weights, &fused, [32; 2], |_| {}).unwrap().accept().is_err());
}

#[test]
fn a_negative_variance_is_refused() {
    let graph = tiny("");
    let mut weights = random_weights(&graph, 3);
    weights.get_mut("stage1.0.rbr_1x1.bn.running_var").unwrap().data_mut()[2] = -1.0;
    let error = fuse(&graph, &weights).unwrap_err().to_string();
    assert_eq!(error, "stage1.0.rbr_1x1.bn.running_var: expected a variance of at least 0, found -1 at index 2");
}

/// Files from other programs may name nodes in any way.
#[test]
fn fused_names_are_unique_even_if_branches_share_no_prefix() {
    let mut graph = Graph::new();
    let mut x = graph.add("rbr_reparam_1", Op::Input { channels: 4 }, &[]);
    for [a, b, sum, end] in [["a", "b", "c", "d"], ["e", "f", "g", "h"], ["/i/j/Conv", "/i/k/Conv", "/i/Add", "l"]] {
        let dense = graph.add(a, Op::conv(Conv2d::square(4, 4, 3)), &[x]);
        let point = graph.add(b, Op::conv(Conv2d::square(4, 4, 1)), &[x]);
        let sum = graph.add(sum, Op::Add, &[dense, point]);
        x = graph.add(end, Op::relu(), &[sum]);
    }
    graph.output("main", x);
    let fusion = Fusion::new(&graph);
    let names: Vec<&str> = fusion.regions().iter().map(|region| region.name.as_str()).collect();
    assert_eq!(names, ["rbr_reparam", "rbr_reparam_2", "/i/rbr_reparam"]);
}

/// A network may amplify rounding, which is not an error of its fusion; a far larger difference is.
#[test]
fn the_tolerance_grows_with_the_effect_of_rounding() {
    let report = |network_error, rounding| repvgg::check::FusionReport {
        regions: Vec::new(),
        network_error,
        rounding,
        network_input: [2, 3, 64, 64],
    };
    assert!(report(9e-6, 0.0).accept().is_ok() && report(1.1e-5, 0.0).accept().is_err());
    assert!(report(0.1, 0.01).accept().is_ok() && report(0.2, 0.01).accept().is_err());
    assert!(report(f64::NAN, 0.01).accept().is_err());
}

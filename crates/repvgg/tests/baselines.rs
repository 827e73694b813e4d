//! The baselines of the zoo against torchvision and timm: counts, published figures and logits.

use std::fmt::Write;

use repvgg::cost::cost;
use repvgg::fuse::Fusion;
use repvgg::graph::Role;
use repvgg::interpret::logits;
use repvgg::{Graph, Op, Specification, Tensor, Weights};
use serde::Deserialize;

/// The size of a network's images, its parameters, and its multiply-adds in evaluation, counted in PyTorch 2.15.0 on the
/// networks of torchvision 0.29.2 and timm 1.0.31: `tools/golden_baselines.py --counts`.
const COUNTS: [(&str, usize, u64, u64); 40] = [
    ("densenet-121", 224, 7_978_856, 2_834_161_664),
    ("densenet-161", 224, 28_681_000, 7_727_907_072),
    ("densenet-169", 224, 14_149_480, 3_359_843_328),
    ("densenet-201", 224, 20_013_928, 4_291_365_888),
    ("efficientnet-b0", 224, 5_288_548, 385_814_752),
    ("efficientnet-b1", 240, 7_794_184, 686_802_832),
    ("efficientnet-b2", 260, 9_109_994, 993_561_872),
    ("efficientnet-b3", 300, 12_233_232, 1_827_141_392),
    ("efficientnet-b4", 380, 19_341_616, 4_393_771_024),
    ("efficientnet-b5", 456, 30_389_784, 10_266_384_752),
    ("efficientnet-b6", 528, 43_040_704, 19_067_593_536),
    ("efficientnet-b7", 600, 66_347_960, 37_745_884_192),
    ("googlenet", 224, 13_004_888, 1_498_376_192),
    ("regnetx-1.6gf", 224, 9_190_136, 1_602_849_792),
    ("regnetx-12gf", 224, 46_106_056, 12_086_678_016),
    ("regnetx-16gf", 224, 54_278_536, 15_940_755_456),
    ("regnetx-200mf", 224, 2_684_792, 199_039_872),
    ("regnetx-3.2gf", 224, 15_296_552, 3_176_621_952),
    ("regnetx-32gf", 224, 107_811_560, 31_735_929_792),
    ("regnetx-4.0gf", 224, 22_118_248, 3_964_498_816),
    ("regnetx-400mf", 224, 5_495_976, 413_812_608),
    ("regnetx-6.4gf", 224, 26_209_256, 6_460_291_264),
    ("regnetx-600mf", 224, 6_196_040, 600_890_112),
    ("regnetx-800mf", 224, 7_259_656, 799_699_712),
    ("regnetx-8gf", 224, 39_572_648, 7_995_132_416),
    ("resnet-101-v1.5", 224, 44_549_160, 7_801_405_440),
    ("resnet-152-v1.5", 224, 60_192_808, 11_513_626_624),
    ("resnet-18", 224, 11_689_512, 1_814_073_344),
    ("resnet-34", 224, 21_797_672, 3_663_761_408),
    ("resnet-50-v1.5", 224, 25_557_032, 4_089_184_256),
    ("resnext-101-32x4d", 224, 44_177_704, 7_969_996_800),
    ("resnext-50-32x4d", 224, 25_028_904, 4_230_479_872),
    ("vgg-11", 224, 132_863_336, 7_609_090_048),
    ("vgg-11-bn", 224, 132_868_840, 7_609_090_048),
    ("vgg-13", 224, 133_047_848, 11_308_466_176),
    ("vgg-13-bn", 224, 133_053_736, 11_308_466_176),
    ("vgg-16", 224, 138_357_544, 15_470_264_320),
    ("vgg-16-bn", 224, 138_365_992, 15_470_264_320),
    ("vgg-19", 224, 143_667_240, 19_632_062_464),
    ("vgg-19-bn", 224, 143_678_248, 19_632_062_464),
];

/// Parameters in millions, then 10⁹ multiply-adds and Winograd multiplies, of the plain forms of the paper's baselines
/// (2101.03697, Tables 4 and 5), to the decimals that are known. ResNets have their strides in the layers of the paper. The
/// Winograd figures of EfficientNets were not published.
const PLAIN: [(&str, &str, &str, &str); 12] = [
    ("resnet-18", "11.6847", "1.814", "0.979"),
    ("resnet-34", "21.7892", "3.664", "1.801"),
    ("efficientnet-b0", "5.2675", "0.386", ""),
    ("resnet-50", "25.5305", "3.858", "2.830"),
    ("regnetx-3.2gf", "15.2653", "3.177", "2.627"),
    ("resnext-50-32x4d", "24.9948", "4.230", "4.126"),
    ("resnet-101", "44.4965", "7.570", "5.451"),
    ("vgg-16-bn", "138.3575", "15.470", "6.944"),
    ("resnet-152", "60.1171", "11.282", "8.071"),
    ("resnext-101-32x4d", "44.1088", "7.970", "7.729"),
    ("regnetx-12gf", "46.0579", "12.087", "9.923"),
    ("efficientnet-b3", "12.1896", "1.827", ""),
];

fn training_graph(name: &str) -> Graph {
    Specification::named(name).unwrap().training_graph().unwrap()
}

#[test]
fn counts_match_torchvision_and_timm() {
    for (name, size, parameters, macs) in COUNTS {
        let network = Specification::named(name).unwrap();
        let graph = network.training_graph().unwrap();
        assert_eq!(network.image_size(), size, "{name}");
        assert_eq!(cost(&graph, [size; 2]).unwrap().parameters, parameters, "{name}: parameters");
        assert_eq!(cost(&graph.inference(), [size; 2]).unwrap().macs, macs, "{name}: multiply-adds");
    }
}

#[test]
fn plain_forms_have_the_costs_of_the_paper() {
    let billions = |count: u64| format!("{:.3}", count as f64 / 1e9);
    for (name, parameters, macs, winograd) in PLAIN {
        let size = Specification::named(name).unwrap().image_size();
        let plain = cost(Fusion::new(&training_graph(name)).graph(), [size; 2]).unwrap();
        assert_eq!(format!("{:.4}", plain.parameters as f64 / 1e6), parameters, "{name}: parameters");
        assert_eq!(billions(plain.macs), macs, "{name}: multiply-adds");
        if !winograd.is_empty() {
            assert_eq!(billions(plain.winograd_multiplies), winograd, "{name}: Winograd multiplies");
        }
    }
}

/// The position of the stride in a bottleneck changes its multiply-adds, not its parameters.
#[test]
fn both_resnets_have_the_same_parameters() {
    for layers in [50, 101, 152] {
        let [early, late] =
            ["", "-v1.5"].map(|kind| cost(&training_graph(&format!("resnet-{layers}{kind}")), [224; 2]).unwrap());
        assert_eq!(early.parameters, late.parameters);
        assert!(early.macs < late.macs);
    }
}

/// RegNetX-400MF has a width half-way between two multiples of 16: the paper's code rounds it down, torchvision up.
#[test]
fn a_regnet_rounds_its_widths_like_the_code_base_it_is_named_after() {
    let line = "family = \"regnet\"\ndepth = 22\nw0 = 24\nwa = 24.48\nwm = 2.54\ngroup_width = 16\n";
    for (names, parameters) in [("timm", 5_157_512), ("torchvision", 5_495_976)] {
        let network = Specification::from_toml(&format!("{line}names = \"{names}\""), "400mf").unwrap();
        assert_eq!(cost(&network.training_graph().unwrap(), [224; 2]).unwrap().parameters, parameters, "{names}");
    }
}

#[test]
fn auxiliary_heads_of_googlenet_are_outputs_for_training() {
    let outputs = |graph: &Graph| graph.outputs().iter().map(|output| output.name.clone()).collect::<Vec<_>>();
    let graph = training_graph("googlenet");
    assert_eq!(outputs(&graph), ["main", "aux1", "aux2"]);
    let alone = Specification::from_toml("family = \"googlenet\"\nauxiliary_heads = false", "googlenet").unwrap();
    let alone = alone.training_graph().unwrap();
    assert_eq!(alone, graph.inference());
    assert_eq!(cost(&alone, [224; 2]).unwrap().parameters, 6_624_904);
}

/// A line from `tools/golden_baselines.py` or `tools/golden_baselines_mobile.py`.
#[derive(Deserialize)]
struct Golden {
    /// A name, or a specification.
    network: String,
    /// Height and width of the images.
    size: [usize; 2],
    /// The first logits of each image.
    logits: Vec<f64>,
}

impl Golden {
    fn graph(&self) -> Graph {
        let spec = || Specification::from_toml(&self.network, "golden").ok();
        Specification::named(&self.network).or_else(spec).unwrap().training_graph().unwrap()
    }
}

/// Images of the goldens.
const BATCH: usize = 2;

fn goldens() -> impl Iterator<Item = (Golden, Graph, bool)> {
    let files = [include_str!("data/baselines.jsonl"), include_str!("data/baselines_mobile.jsonl")];
    files.into_iter().flat_map(str::lines).map(|line| {
        let golden: Golden = serde_json::from_str(line).unwrap();
        let graph = golden.graph();
        let is_quick = cost(&graph.inference(), golden.size).unwrap().macs < 100_000_000;
        (golden, graph, is_quick)
    })
}

/// Numbers from `low` to `high` determined by a name: SplitMix64 of its CRC-32 and the index, 24 bits each.
fn uniform(name: &str, shape: &[usize], [low, high]: [f64; 2]) -> Tensor {
    let seed = u64::from(crc32fast::hash(name.as_bytes())) << 32;
    Tensor::from_fn(shape, |index| {
        let mut z = (seed + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fraction = ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24);
        (low + (high - low) * fraction) as f32
    })
}

/// Kernels that preserve the magnitude of a signal, batch norms and biases that do not.
fn random_weights(graph: &Graph) -> Weights {
    let value = |(name, parameter): (String, repvgg::graph::Parameter)| {
        let bounds = match parameter.role {
            Role::Kernel | Role::Matrix => {
                let bound = (3.0 / parameter.shape[1..].iter().product::<usize>() as f64).sqrt();
                [-bound, bound]
            }
            Role::NormScale | Role::RunningVar | Role::Scale => [0.5, 1.5],
            Role::Bias | Role::NormShift | Role::RunningMean => [-0.5, 0.5],
        };
        let tensor = uniform(&name, &parameter.shape, bounds);
        (name, tensor)
    };
    graph.parameters().map(value).collect()
}

/// The largest difference from PyTorch's logits in double precision, relative to the largest logit.
fn difference(golden: &Golden, graph: &Graph) -> f64 {
    let [height, width] = golden.size;
    let images = uniform("images", &[BATCH, graph.input_channels(), height, width], [-1.0, 1.0]);
    let found = logits(graph, &random_weights(graph), &images.to_f64()).unwrap();
    let rows = found.data().chunks(found.shape()[1]).zip(golden.logits.chunks(golden.logits.len() / BATCH));
    let pairs: Vec<(f64, f64)> = rows.flat_map(|(a, b)| a.iter().copied().zip(b.iter().copied())).collect();
    assert_eq!(pairs.len(), golden.logits.len());
    let largest = pairs.iter().map(|(_, expected)| expected.abs()).fold(0.0, f64::max);
    pairs.iter().map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max) / largest
}

/// Compares logits with PyTorch's. Double precision leaves an error below 1e-14 after hundreds of layers; any difference in
/// arithmetic would exceed the rounding error of single precision.
fn compare(goldens: impl Iterator<Item = (Golden, Graph)>) -> usize {
    let (mut compared, mut report) = (0, String::new());
    for (golden, graph) in goldens {
        let difference = difference(&golden, &graph);
        writeln!(report, "{difference:.1e} {:?}", golden.network).unwrap();
        assert!(difference < 1e-12, "{report}");
        compared += 1;
    }
    println!("{report}");
    compared
}

#[test]
fn small_networks_match_pytorch() {
    let quick = goldens().filter(|(_, _, is_quick)| *is_quick).map(|(golden, graph, _)| (golden, graph));
    assert!(compare(quick) > 15);
}

#[test]
#[ignore = "takes minutes: cargo test --release -p repvgg --test baselines -- --ignored"]
fn large_networks_match_pytorch() {
    let slow = goldens().filter(|(_, _, is_quick)| !is_quick).map(|(golden, graph, _)| (golden, graph));
    assert!(compare(slow) > 15);
}

/// Fully connected layers read the whole map, so their size follows from the size of the images.
#[test]
fn the_layers_of_a_vgg_fit_its_image_size() {
    for (size, features) in [(32, 512), (100, 512 * 9), (224, 512 * 49)] {
        let text = format!("family = \"vgg\"\nsize = {size}\nclasses = 10");
        let graph = Specification::from_toml(&text, "custom").unwrap().training_graph().unwrap();
        let Op::Linear(first) = graph.node(graph.find("classifier.0").unwrap()).op else {
            panic!("expected a fully connected layer")
        };
        assert_eq!(first.in_features, features, "{size}");
    }
}

#[test]
fn impossible_specifications_are_refused() {
    for (family, fields, message) in [
        ("densenet", "growth = 0", "custom: specification: growth: expected 1 to 65536, found 0"),
        ("densenet", "depths = [6, 12, 5000, 16]", "custom: specification: depths: expected 1 to 1024, found 5000"),
        (
            "densenet",
            "size = 8",
            "features.transition2.pool: kernel [2, 2] does not fit input [1, 1] padded by [[0, 0], [0, 0]]",
        ),
        (
            "densenet",
            "depths = [1024, 1024, 1024, 1024]\ngrowth = 65536\nbottleneck = 65536",
            "features.denseblock1.denselayer1.norm2: expected 1 to 16777216 channels, found 4294967296",
        ),
        ("efficientnet", "width = 0.0", "custom: specification: width: expected a factor above 0, found 0"),
        ("efficientnet", "width = nan", "custom: specification: width: expected a factor above 0, found NaN"),
        ("efficientnet", "width = 1e4", "custom: specification: channels: expected 1 to 65536, found 160000"),
        ("efficientnet", "width = 1e300", "custom: specification: channels: expected 1 to 65536, found LARGEST"),
        ("efficientnet", "depth = 1e9", "custom: specification: depths: expected 1 to 1024, found 1000000000"),
        ("efficientnet", "eps = -1.0", "features.0.1: expected an epsilon of at least 0, found -1"),
        ("googlenet", "classes = 0", "custom: specification: classes: expected 1 to 65536, found 0"),
        ("googlenet", "size = 64", "aux1.avgpool: kernel [5, 5] does not fit input [4, 4] padded by [[0, 0], [0, 0]]"),
        ("regnet", "wm = 1.0", "custom: specification: wm: expected a factor above 1, found 1"),
        ("regnet", "wa = -1.0", "custom: specification: wa: expected a slope of at least 0, found -1"),
        ("regnet", "wa = 1e300", "custom: specification: width: expected 1 to 65536, found LARGEST"),
        ("regnet", "w0 = 1", "custom: specification: width: expected 1 to 65536, found 0"),
        ("regnet", "depth = 0", "custom: specification: depths: expected 1 to 1024, found 0"),
        ("regnet", "names = \"keras\"", "specification: unknown variant `keras`, expected `torchvision` or `timm`"),
        (
            "resnet",
            "groups = 2",
            "custom: specification: expected basic blocks with groups 1 and group_width 64, found 2 and 64",
        ),
        (
            "resnet",
            "groups = 65536\ngroup_width = 65536\nblock = \"bottleneck\"",
            "layer1.0.bn1: expected 1 to 16777216 channels, found 4294967296",
        ),
        ("vgg", "depths = [0, 1, 1, 1, 1]", "custom: specification: depths: expected 1 to 1024, found 0"),
        ("vgg", "size = 31", "custom: specification: size: expected at least 32 pixels, which five pools halve to one"),
        (
            "vgg",
            "size = 16384\nchannels = [1, 1, 1, 1, 65536]",
            "classifier.0: expected 1 to 16777216 channels, found 17179869184",
        ),
    ] {
        let text = format!("family = \"{family}\"\n{fields}");
        let error = Specification::from_toml(&text, "custom").unwrap_err().to_string();
        assert_eq!(error, message.replace("LARGEST", &usize::MAX.to_string()), "{text}");
    }
}

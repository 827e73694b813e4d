//! Every kind of block: its parameters in training form, and its fusion to one convolution or the reason against it.

use repvgg::check::verify;
use repvgg::cost::cost;
use repvgg::fuse::Fusion;
use repvgg::zoo::{BLOCKS, BlockKind, RepVgg};
use repvgg::{Graph, Op, Specification};
use repvgg_testing::random_weights;

/// Trained parameters of RepVGG-B0 with 1000 classes, in training form; `None` where the source gives no figure.
///
/// The reference implementations' own counts for the paper's Tables 6 and 7 (B0, learned factors of DiracNet on layers that
/// keep their shape), and QARepVGG's published 15,808,616.
const B0: [(&str, Option<u64>); 13] = [
    ("full", Some(15_817_960)),
    ("3x3", Some(14_345_512)),
    ("3x3+identity", Some(14_354_856)),
    ("3x3+1x1", Some(15_808_616)),
    ("identity-without-bn", Some(15_808_616)),
    ("post-addition-bn", Some(15_795_688)),
    ("relu-in-branch", Some(15_817_960)),
    ("diracnet", Some(14_354_856)),
    ("trivial", Some(14_345_512)),
    ("acb", Some(23_072_424)),
    ("residual-reorg", None),
    ("qarepvgg", Some(15_808_616)),
    ("dbb", None),
];

/// Parameters of the plain RepVGG-B0.
const B0_PLAIN: u64 = 14_339_048;

fn b0(block: &str) -> Graph {
    Specification::named(&format!("repvgg-b0:{block}")).unwrap().training_graph().unwrap()
}

#[test]
fn counts_match_the_literature() {
    assert_eq!(B0.map(|(name, _)| name), BLOCKS.each_ref().map(|block| block.name));
    for (block, parameters) in B0 {
        let training = b0(block);
        if let Some(parameters) = parameters {
            assert_eq!(cost(&training, [224; 2]).unwrap().parameters, parameters, "{block}");
        }
        let fusion = Fusion::new(&training);
        match block {
            "relu-in-branch" => assert!(!fusion.obstacles().is_empty()),
            "residual-reorg" => {}
            _ => {
                assert_eq!(fusion.obstacles(), [], "{block}");
                assert_eq!(cost(fusion.graph(), [224; 2]).unwrap().parameters, B0_PLAIN, "{block}");
            }
        }
    }
}

/// All linear blocks fuse to the same network: convolutions with biases and ReLUs, with RepVGG's own names.
#[test]
fn linear_blocks_fuse_to_the_same_plain_network() {
    let plain = Fusion::new(&b0("full")).into_graph();
    let ops = |graph: &Graph| graph.nodes().iter().map(|node| node.op.clone()).collect::<Vec<_>>();
    for block in BLOCKS.iter().filter(|block| !["relu-in-branch", "residual-reorg"].contains(&block.name)) {
        assert_eq!(ops(Fusion::new(&b0(block.name)).graph()), ops(&plain), "{}", block.name);
    }
}

#[test]
fn residual_blocks_keep_their_shortcuts_for_a_stated_reason() {
    let training = b0("residual-reorg");
    let fusion = Fusion::new(&training);
    let sums = fusion.graph().nodes().iter().filter(|node| node.op == Op::Add).count();
    // Stages 1 to 3 have 2, 3 and 8 residual blocks (Table 7).
    assert_eq!((sums, fusion.obstacles().len()), (13, 13));
    assert_eq!(fusion.obstacles()[0].why, "ReLU inside a branch");
}

#[test]
fn a_relu_in_a_branch_is_the_obstacle() {
    let fusion = Fusion::new(&b0("relu-in-branch"));
    let first = &fusion.obstacles()[0];
    assert_eq!((first.sum.as_str(), first.why.as_str()), ("stage0.add", "ReLU inside a branch"));
    assert!(first.by.starts_with("stage0.relu_"), "{}", first.by);
    assert_eq!(fusion.obstacles().len(), 28);
}

/// Each kind, dense and in groups, with strides 1 and 2: exact to rounding, block by block and as a whole.
#[test]
fn every_kind_fuses_exactly() {
    for block in &BLOCKS {
        for groups in [1, 2] {
            let spec = RepVgg {
                depths: [2, 3, 2, 1],
                width: [0.125; 4],
                groups,
                block: BlockKind::named(block.name).unwrap(),
                strides: [1, 2, 2, 1, 1],
                classes: 5,
                ..RepVgg::default()
            };
            let training = spec.training_graph().unwrap();
            let weights = random_weights(&training, 5);
            let fusion = Fusion::new(&training);
            let fused = fusion.apply(&weights).unwrap();
            let report = verify(&fusion, &weights, &fused, [13; 2], |_| ()).unwrap();
            assert!(report.accept().is_ok(), "{} in {groups} groups: {report:?}", block.name);
        }
    }
}

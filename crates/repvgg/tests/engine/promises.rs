//! What a plan promises besides its result: threads, memory, steps, errors.

use repvgg::engine::{Level, Plan, Settings};
use repvgg::graph::{Conv2d, Linear};
use repvgg::zoo::RepVgg;
use repvgg::{ErrorKind, Graph, NodeId, Op, Tensor};

use super::{positive_weights, random_images};

fn settings() -> Settings {
    Settings { batch: 1, size: [16, 16], threads: 2, ..Settings::default() }
}

/// A chain of convolutions of 8 channels, each with its ReLU, from the image to the last one.
struct Chain {
    graph: Graph,
    end: NodeId,
}

impl Chain {
    fn new() -> Self {
        let mut graph = Graph::new();
        let end = graph.add("input", Op::Input { channels: 8 }, &[]);
        Self { graph, end }
    }

    fn conv(mut self, name: &str) -> Self {
        let conv = self.graph.add(name, Op::conv(Conv2d::square(8, 8, 3)), &[self.end]);
        self.end = self.graph.add(format!("{name}_relu"), Op::relu(), &[conv]);
        self
    }

    fn plus(mut self, other: NodeId) -> Self {
        self.end = self.graph.add("add", Op::Add, &[self.end, other]);
        self
    }

    fn plan(mut self, settings: Settings) -> Plan {
        self.graph.output("main", self.end);
        Plan::new(&self.graph, &positive_weights(&self.graph, 3), settings).unwrap()
    }
}

/// How many more maps of 8 channels, in whole blocks, the second plan holds than the first; their convolutions are the
/// same.
fn maps_between(first: &Plan, second: &Plan) -> usize {
    let channels = 8_usize.next_multiple_of(settings().level.lanes());
    (second.arena_bytes() - first.arena_bytes()) / (channels * 16 * 16 * size_of::<f32>())
}

#[test]
fn a_chain_holds_two_maps_however_long() {
    // The image in blocks is the first.
    let one = Chain::new().conv("a").plan(settings());
    let six = Chain::new().conv("a").conv("b").conv("c").conv("d").conv("e").conv("f").plan(settings());
    assert_eq!(maps_between(&one, &six), 0);
}

#[test]
fn a_residual_branch_holds_its_input_until_the_sum() {
    let chain = Chain::new().conv("a");
    let kept = chain.end;
    let residual = chain.conv("b").conv("c").plus(kept).plan(settings());
    let plain = Chain::new().conv("a").conv("b").conv("c").plan(settings());
    assert_eq!(maps_between(&plain, &residual), 1);
}

#[test]
fn threads_do_not_change_a_bit() {
    let graph = RepVgg { depths: [1, 2, 1, 1], width: [0.25; 4], classes: 10, ..RepVgg::default() }.training_graph();
    let graph = graph.unwrap();
    let weights = positive_weights(&graph, 5);
    let rows: Vec<Vec<u32>> = (1..=4)
        .map(|threads| {
            let settings = Settings { batch: 3, size: [64, 48], threads, ..Settings::default() };
            let mut plan = Plan::new(&graph, &weights, settings).unwrap();
            let mut logits = vec![0.0f32; 3 * 10];
            plan.run(random_images(3, settings).data(), &mut logits);
            logits.iter().map(|x| x.to_bits()).collect()
        })
        .collect();
    assert!(rows.iter().all(|row| *row == rows[0]));
}

#[test]
fn a_run_leaves_nothing_for_the_next() {
    let chain = Chain::new().conv("a");
    let kept = chain.end;
    let settings = Settings { batch: 3, ..settings() };
    let mut plan = chain.conv("b").plus(kept).conv("c").plan(settings);
    let images = random_images(8, settings);
    let image = images.data().len() / 3;
    let mut first = vec![0.0; image];
    plan.run(&images.data()[..image], &mut first);
    plan.run(images.data(), &mut vec![0.0; 3 * image]);
    let mut again = vec![0.0; image];
    let times = plan.run_timed(&images.data()[..image], &mut again);
    assert_eq!(first, again);
    assert_eq!(times.len(), plan.layers().len());
}

#[test]
fn a_training_block_is_two_steps() {
    let spec = RepVgg { depths: [2, 1, 1, 1], width: [0.125; 4], classes: 10, ..RepVgg::default() };
    let graph = spec.training_graph().unwrap();
    let plan = Plan::new(&graph, &positive_weights(&graph, 5), settings()).unwrap();
    let steps: Vec<(&str, &str)> =
        plan.layers().iter().map(|layer| (layer.name.as_str(), layer.kind.as_str())).collect();
    // Stage 0 and the first block of stage 1 have no identity. The identity's batch norm is the addend's scale.
    assert_eq!(
        steps[4..6],
        [("stage1.1.rbr_dense.bn", "Conv2d + BatchNorm"), ("stage1.1.relu", "Conv2d + BatchNorm + Add + ReLU"),]
    );
    assert_eq!(plan.layers()[4].shape, [8, 4, 4]);
    assert_eq!(plan.layers()[4].macs, 8 * 8 * 9 * 16);
    assert_eq!(plan.layers().last().unwrap().kind, "Linear");
    assert_eq!((plan.input_shape(), plan.output_shape()), ([3, 16, 16], [10, 1, 1]));
}

#[test]
fn what_cannot_be_planned_is_one_sentence() {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels: 3 }, &[]);
    let stem = graph.add("stem", Op::conv(Conv2d::square(3, 64, 3)), &[input]);
    let head = graph.add("head", Op::Linear(Linear { in_features: 64, out_features: 5, bias: false }), &[stem]);
    graph.output("main", head);
    let weights = positive_weights(&graph, 1);
    let refusal = |settings: Settings| Plan::new(&graph, &weights, settings).err().unwrap().to_string();
    let one = Settings { size: [1, 1], ..settings() };
    assert!(Plan::new(&graph, &weights, one).is_ok());
    assert_eq!(refusal(settings()), "head: expected [64, 1, 1], found [64, 16, 16]");
    assert_eq!(refusal(Settings { batch: 0, ..one }), "batch: expected 1 to 65536, found 0");
    assert_eq!(refusal(Settings { threads: 0, ..one }), "threads: expected 1 to 1024, found 0");
    assert_eq!(
        refusal(Settings { size: [usize::MAX, 1], ..one }),
        format!("height: expected 1 to 65536, found {}", usize::MAX)
    );
    let error = Plan::new(&graph, &repvgg::Weights::new(), one).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Weights);
}

#[test]
fn absurd_activations_are_refused_before_they_are_allocated() {
    let mut chain = Chain::new().conv("a");
    chain.graph.output("main", chain.end);
    let level = Level::named("portable").unwrap();
    let settings = Settings { batch: 1024, size: [65536, 65536], level, ..Settings::default() };
    let error = Plan::new(&chain.graph, &positive_weights(&chain.graph, 3), settings).err().unwrap();
    assert_eq!(
        error.to_string(),
        "batch 1024 of 65536x65536 images: expected activations that fit into memory and 64 GiB, found 262144.0 GiB"
    );
}

#[test]
#[should_panic(expected = "input: expected 1 to 1 images of 2048 elements, found 2047 elements")]
fn part_of_an_image_is_a_programming_error() {
    Chain::new().conv("a").plan(settings()).run(&[0.0; 2047], &mut [0.0; 2048]);
}

#[test]
#[should_panic(expected = "output: expected 1 rows of 2048 elements")]
fn a_short_output_is_a_programming_error() {
    let image = Tensor::full([1, 8, 16, 16], 0.0);
    Chain::new().conv("a").plan(settings()).run(image.data(), &mut [0.0; 10]);
}

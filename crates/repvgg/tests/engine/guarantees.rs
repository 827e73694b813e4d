//! The guarantees of a session beyond its result: threads, memory, steps, errors.

use repvgg::engine::{Level, Session};
use repvgg::graph::{Conv2d, Linear};
use repvgg::zoo::RepVgg;
use repvgg::{ErrorKind, Graph, NodeId, Op, Tensor};

use super::{Case, open, positive_weights, random_images};

fn case() -> Case {
    Case { batch: 1, size: [16, 16], threads: 2, ..Case::default() }
}

/// A chain of convolutions of 8 channels, each followed by a ReLU.
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

    fn open(mut self, case: Case) -> Session {
        self.graph.output("main", self.end);
        open(&self.graph, &positive_weights(&self.graph, 3), case).unwrap()
    }
}

/// The number of maps of 8 channels, in whole blocks, that the second session holds more than the first. Their convolutions are
/// the same.
fn additional_maps(first: &Session, second: &Session) -> usize {
    let channels = 8_usize.next_multiple_of(case().level.lanes());
    (second.arena_bytes() - first.arena_bytes()) / (channels * 16 * 16 * size_of::<f32>())
}

#[test]
fn a_chain_of_any_length_holds_two_maps() {
    // One of the two is the image in blocks.
    let one = Chain::new().conv("a").open(case());
    let six = Chain::new().conv("a").conv("b").conv("c").conv("d").conv("e").conv("f").open(case());
    assert_eq!(additional_maps(&one, &six), 0);
}

#[test]
fn a_residual_branch_holds_its_input_until_the_sum() {
    let chain = Chain::new().conv("a");
    let shortcut = chain.end;
    let residual = chain.conv("b").conv("c").plus(shortcut).open(case());
    let plain = Chain::new().conv("a").conv("b").conv("c").open(case());
    assert_eq!(additional_maps(&plain, &residual), 1);
}

#[test]
fn results_are_bit_equal_for_any_threads() {
    let graph = RepVgg { depths: [1, 2, 1, 1], width: [0.25; 4], classes: 10, ..RepVgg::default() }.training_graph();
    let graph = graph.unwrap();
    let weights = positive_weights(&graph, 5);
    let rows: Vec<Vec<u32>> = (1..=4)
        .map(|threads| {
            let case = Case { batch: 3, size: [64, 48], threads, ..Case::default() };
            let mut session = open(&graph, &weights, case).unwrap();
            let mut logits = vec![0.0f32; 3 * 10];
            session.run(random_images(3, case).data(), &mut logits).unwrap();
            logits.iter().map(|x| x.to_bits()).collect()
        })
        .collect();
    assert!(rows.iter().all(|row| *row == rows[0]));
}

#[test]
fn a_run_does_not_affect_the_next() {
    let chain = Chain::new().conv("a");
    let shortcut = chain.end;
    let case = Case { batch: 3, ..case() };
    let mut session = chain.conv("b").plus(shortcut).conv("c").open(case);
    let images = random_images(8, case);
    let image = images.data().len() / 3;
    let mut first = vec![0.0; image];
    session.run(&images.data()[..image], &mut first).unwrap();
    session.run(images.data(), &mut vec![0.0; 3 * image]).unwrap();
    let mut again = vec![0.0; image];
    let times = session.run_timed(&images.data()[..image], &mut again).unwrap();
    assert_eq!(first, again);
    assert_eq!(times.len(), session.layers().len());
}

#[test]
fn a_training_block_is_two_steps() {
    let spec = RepVgg { depths: [2, 1, 1, 1], width: [0.125; 4], classes: 10, ..RepVgg::default() };
    let graph = spec.training_graph().unwrap();
    let session = open(&graph, &positive_weights(&graph, 5), case()).unwrap();
    let steps: Vec<(&str, &str)> =
        session.layers().iter().map(|layer| (layer.name.as_str(), layer.kind.as_str())).collect();
    // Stage 0 and the first block of stage 1 have no identity. The identity's batch norm is the addend's scale.
    assert_eq!(
        steps[4..6],
        [("stage1.1.rbr_dense.bn", "Conv2d + BatchNorm"), ("stage1.1.relu", "Conv2d + BatchNorm + Add + ReLU"),]
    );
    assert_eq!(session.layers()[4].shape, [8, 4, 4]);
    assert_eq!(session.layers()[4].macs, 8 * 8 * 9 * 16);
    assert_eq!(session.layers().last().unwrap().kind, "Linear");
    assert_eq!((session.input_shape(), session.output_shape()), ([3, 16, 16], [10, 1, 1]));
}

#[test]
fn a_session_that_cannot_be_opened_gives_the_reason() {
    let mut graph = Graph::new();
    let input = graph.add("input", Op::Input { channels: 3 }, &[]);
    let stem = graph.add("stem", Op::conv(Conv2d::square(3, 64, 3)), &[input]);
    let head = graph.add("head", Op::Linear(Linear { in_features: 64, out_features: 5, bias: false }), &[stem]);
    graph.output("main", head);
    let weights = positive_weights(&graph, 1);
    let refusal = |case: Case| open(&graph, &weights, case).err().unwrap().to_string();
    let one = Case { size: [1, 1], ..case() };
    assert!(open(&graph, &weights, one).is_ok());
    assert_eq!(refusal(case()), "head: expected [64, 1, 1], found [64, 16, 16]");
    assert_eq!(refusal(Case { batch: 0, ..one }), "batch: expected 1 to 65536, found 0");
    assert_eq!(refusal(Case { threads: 0, ..one }), "threads: expected 1 to 1024, found 0");
    assert_eq!(
        refusal(Case { size: [usize::MAX, 1], ..one }),
        format!("height: expected 1 to 65536, found {}", usize::MAX)
    );
    let error = open(&graph, &repvgg::Weights::new(), one).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Weights);
}

#[test]
fn absurd_activations_are_refused_before_they_are_allocated() {
    let mut chain = Chain::new().conv("a");
    chain.graph.output("main", chain.end);
    let level = Level::named("portable").unwrap();
    let case = Case { batch: 1024, size: [65536, 65536], level, ..Case::default() };
    let error = open(&chain.graph, &positive_weights(&chain.graph, 3), case).err().unwrap();
    assert_eq!(
        error.to_string(),
        "batch 1024 of 65536x65536 images: expected activations that fit into memory and 64 GiB, found 262144.0 GiB"
    );
}

#[test]
fn slices_of_the_wrong_length_are_errors() {
    let mut session = Chain::new().conv("a").open(Case { batch: 2, ..case() });
    let image = Tensor::full([1, 8, 16, 16], 0.5);
    let mut output = [1.5; 2048];
    let mut refusal = |input: &[f32], output: &mut [f32]| session.run(input, output).unwrap_err().to_string();
    let expected = |found| format!("input: expected 1 to 2 images of 2048 elements, found {found} elements");
    for length in [0, 1, 2047, 3 * 2048] {
        assert_eq!(refusal(&vec![0.0; length], &mut output), expected(length));
    }
    assert_eq!(refusal(image.data(), &mut [0.0; 10]), "output: expected 1 rows of 2048 elements, found 10 elements");
    assert_eq!(output, [1.5; 2048], "a refused run writes nothing");
    session.run(image.data(), &mut output).unwrap();
    assert_ne!(output, [1.5; 2048]);
}

//! The networks of `tools/goldens_train.py`.

use repvgg::graph::{ActivationKind, Conv2d, Linear};
use repvgg::{Graph, NodeId, Op};

/// The variant of the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) groups: usize,
    /// The squeezed channels of squeeze-and-excitation, if the network has it.
    pub(crate) squeeze: Option<usize>,
    pub(crate) head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Main,
    MainAndAuxiliary,
}

pub(crate) const CLASSES: usize = 4;

pub(crate) fn network(shape: Shape) -> Graph {
    let mut graph = Graph::new();
    let grouped = |conv: Conv2d| conv.groups(shape.groups);
    let x = graph.add("input", Op::Input { channels: 3 }, &[]);
    let x = block(&mut graph, "stage0", Conv2d::square(3, 8, 3), shape.squeeze, x);
    let x = block(&mut graph, "stage1.0", Conv2d::square(8, 8, 3).stride(2), None, x);
    let stage1 = block(&mut graph, "stage1.1", grouped(Conv2d::square(8, 8, 3)), shape.squeeze, x);
    let x = block(&mut graph, "stage2.0", Conv2d::square(8, 16, 3).stride(2), None, stage1);
    let x = block(&mut graph, "stage2.1", grouped(Conv2d::square(16, 16, 3)), shape.squeeze, x);
    let main = classifier(&mut graph, "linear", 16, x);
    graph.output("main", main);
    if shape.head == Head::MainAndAuxiliary {
        let x = graph.add("stage1_aux.0.conv", Op::conv(Conv2d::square(8, 8, 3).stride(2)), &[stage1]);
        let x = graph.add("stage1_aux.0.bn", Op::batch_norm(8), &[x]);
        let x = graph.add("stage1_aux.1", Op::relu(), &[x]);
        let auxiliary = classifier(&mut graph, "stage1_aux.3", 8, x);
        graph.output("stage1_aux", auxiliary);
    }
    graph
}

/// `ReLU(SE(BN(conv3×3(x)) + BN(conv1×1(x)) + BN(x)))`. The identity branch is present only where the shapes match.
fn block(graph: &mut Graph, name: &str, dense: Conv2d, squeeze: Option<usize>, x: NodeId) -> NodeId {
    let channels = dense.geometry.out_channels;
    let mut point = dense;
    point.geometry.kernel = [1, 1];
    point.geometry.padding = [0, 0];
    let mut branches: Vec<NodeId> = [("rbr_dense", dense), ("rbr_1x1", point)]
        .into_iter()
        .map(|(branch, conv)| {
            let conv = graph.add(format!("{name}.{branch}.conv"), Op::conv(conv), &[x]);
            graph.add(format!("{name}.{branch}.bn"), Op::batch_norm(channels), &[conv])
        })
        .collect();
    if dense.geometry.in_channels == channels && dense.geometry.stride == [1, 1] {
        branches.push(graph.add(format!("{name}.rbr_identity"), Op::batch_norm(channels), &[x]));
    }
    let sum = graph.add(format!("{name}.sum"), Op::Add, &branches);
    let excited = match squeeze {
        None => sum,
        Some(squeezed) => excite(graph, name, channels, squeezed, sum),
    };
    graph.add(format!("{name}.relu"), Op::relu(), &[excited])
}

/// `x · sigmoid(up(ReLU(down(mean(x)))))`
fn excite(graph: &mut Graph, name: &str, channels: usize, squeezed: usize, x: NodeId) -> NodeId {
    let pool = graph.add(format!("{name}.se.pool"), Op::GlobalAvgPool, &[x]);
    let down = Op::conv(Conv2d::square(channels, squeezed, 1).with_bias());
    let down = graph.add(format!("{name}.se.down"), down, &[pool]);
    let relu = graph.add(format!("{name}.se.relu"), Op::relu(), &[down]);
    let up = graph.add(format!("{name}.se.up"), Op::conv(Conv2d::square(squeezed, channels, 1).with_bias()), &[relu]);
    let gate = graph.add(format!("{name}.se.gate"), Op::Activation(ActivationKind::Sigmoid), &[up]);
    graph.add(format!("{name}.se"), Op::Mul, &[x, gate])
}

fn classifier(graph: &mut Graph, name: &str, features: usize, x: NodeId) -> NodeId {
    let pool = graph.add(format!("{name}.pool"), Op::GlobalAvgPool, &[x]);
    let linear = Op::Linear(Linear { in_features: features, out_features: CLASSES, bias: true });
    graph.add(name, linear, &[pool])
}

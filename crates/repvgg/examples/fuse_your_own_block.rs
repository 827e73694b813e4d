//! Fuse a block of your own: any branches of convolutions, batch norms and identities that meet in a sum.

use repvgg::check::verify;
use repvgg::fuse::Fusion;
use repvgg::graph::{Conv2d, Graph, Op, Role};
use repvgg::{Result, Tensor, Weights};

fn main() -> Result<()> {
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 8 }, &[]);
    // An asymmetric block (ACNet): 3×3, 3×1 and 1×3, each with batch norm, and a scaled identity.
    let mut branches = vec![graph.add("block.scale", Op::scale(8), &[x])];
    for (name, kernel) in [("square", [3, 3]), ("vertical", [3, 1]), ("horizontal", [1, 3])] {
        let mut conv = Conv2d::square(8, 8, 3);
        conv.geometry.kernel = kernel;
        conv.geometry.padding = kernel.map(|extent| extent / 2);
        let y = graph.add(format!("block.{name}.conv"), Op::Conv2d(conv), &[x]);
        branches.push(graph.add(format!("block.{name}.bn"), Op::batch_norm(8), &[y]));
    }
    let y = graph.add("block.add", Op::Add, &branches);
    let y = graph.add("block.relu", Op::relu(), &[y]);
    graph.output("main", y);

    let fusion = Fusion::new(&graph);
    for region in fusion.regions() {
        println!("{} nodes become {}: {:?}", region.nodes.len(), region.name, region.geometry);
    }
    let weights = wavy_weights(&graph);
    let fused = fusion.apply(&weights)?;
    let report = verify(&fusion, &weights, &fused, [16; 2], |_| {})?;
    report.accept()?;
    println!("largest error: {:.3} of its rounding bound", report.worst_error());

    // A block with a nonlinear branch does not fuse, and the reason is available.
    let mut graph = Graph::new();
    let x = graph.add("input", Op::Input { channels: 8 }, &[]);
    let y = graph.add("block.conv", Op::conv(Conv2d::square(8, 8, 3)), &[x]);
    let y = graph.add("block.relu", Op::relu(), &[y]);
    let y = graph.add("block.add", Op::Add, &[x, y]);
    graph.output("main", y);
    for obstacle in Fusion::new(&graph).obstacles() {
        println!("{} is not fused: {} ({})", obstacle.sum, obstacle.why, obstacle.by);
    }
    Ok(())
}

/// Parameters unlike those of a new network, which would hide an error.
fn wavy_weights(graph: &Graph) -> Weights {
    let wave = |i: usize| (i as f32 * 0.7).sin();
    let tensor = |role: Role, shape: Vec<usize>| {
        Tensor::from_fn(shape, |i| if role == Role::RunningVar { 1.0 + 0.5 * wave(i) } else { wave(i) })
    };
    graph.parameters().map(|(name, parameter)| (name, tensor(parameter.role, parameter.shape))).collect()
}

//! What a network costs, counted on its graph: parameters, multiply-adds, Winograd multiplies, activation memory.

use crate::graph::{Graph, Node, Op, Role, Shape};
use crate::{Result, element_count};

/// The cost of one node for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerCost {
    /// The node's name.
    pub name: String,
    /// Its operation.
    pub kind: &'static str,
    /// Its output `[C, H, W]`.
    pub shape: Shape,
    /// Its trained parameters.
    pub parameters: u64,
    /// Multiply-adds of convolutions and fully connected layers; bias, batch norm, ReLU and pooling are not counted
    /// (2101.03697, Sect. 2.4).
    pub macs: u64,
    /// Multiplications where every 3×3 convolution of stride 1, dense or grouped, runs as Winograd F(2×2, 3×3):
    /// 4/9 of its multiply-adds; all of them elsewhere (2101.03697, Sect. 2.4).
    pub winograd_multiplies: u64,
}

/// The cost of a network for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Node by node, in the graph's order.
    pub layers: Vec<LayerCost>,
    /// Trained parameters: batch-norm scales and shifts count, running statistics do not.
    pub parameters: u64,
    /// Multiply-adds.
    pub macs: u64,
    /// Winograd multiplies.
    pub winograd_multiplies: u64,
    /// The most bytes of f32 activations that are alive at once when nodes run in order, elementwise nodes overwrite
    /// an input that nobody else reads, and each buffer is freed after its last reader.
    pub peak_activation_bytes: u64,
}

/// The trained parameters of `graph`, whatever the image.
pub fn parameters(graph: &Graph) -> u64 {
    let trained = graph.parameters().filter(|(_, parameter)| parameter.role.is_trained());
    trained.map(|(_, parameter)| element_count(&parameter.shape).unwrap_or(usize::MAX) as u64).sum()
}

/// Counts `graph` for one image of `[height, width]`.
///
/// # Errors
/// When the image does not suit the graph.
pub fn cost(graph: &Graph, size: [usize; 2]) -> Result<Cost> {
    let shapes = graph.shapes(size)?;
    let layers: Vec<LayerCost> = graph.iter().map(|(id, node)| layer_cost(node, shapes[id.index()])).collect();
    Ok(Cost {
        parameters: layers.iter().map(|layer| layer.parameters).sum(),
        macs: layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.macs)),
        winograd_multiplies: layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.winograd_multiplies)),
        peak_activation_bytes: peak_activation_bytes(graph, &shapes),
        layers,
    })
}

fn layer_cost(node: &Node, shape: Shape) -> LayerCost {
    let parameters = node.op.parameters();
    let elements = |roles: &[Role]| -> u64 {
        let chosen = parameters.iter().filter(|parameter| roles.contains(&parameter.role));
        chosen.map(|parameter| element_count(&parameter.shape).unwrap_or(usize::MAX) as u64).sum()
    };
    let macs = elements(&[Role::Kernel, Role::Matrix]).saturating_mul((shape[1] * shape[2]) as u64);
    let is_winograd = matches!(node.op.convolution(), Some(conv) if conv.geometry.kernel == [3, 3]
        && conv.geometry.stride == [1, 1] && conv.geometry.dilation == [1, 1]);
    LayerCost {
        name: node.name.clone(),
        kind: node.op.kind(),
        shape,
        parameters: parameters
            .iter()
            .filter(|parameter| parameter.role.is_trained())
            .map(|parameter| element_count(&parameter.shape).unwrap_or(usize::MAX) as u64)
            .sum(),
        macs,
        winograd_multiplies: if is_winograd { macs / 9 * 4 } else { macs },
    }
}

fn peak_activation_bytes(graph: &Graph, shapes: &[Shape]) -> u64 {
    let bytes = |shape: &Shape| 4 * shape.iter().map(|&extent| extent as u64).product::<u64>();
    let mut readers: Vec<usize> = graph.users().iter().map(Vec::len).collect();
    graph.outputs().iter().for_each(|output| readers[output.node.index()] += 1);
    let (mut alive, mut peak) = (0, 0);
    for (id, node) in graph.iter() {
        let own = bytes(&shapes[id.index()]);
        let dying: Vec<usize> =
            node.inputs.iter().map(|input| input.index()).filter(|&input| readers[input] == 1).collect();
        let overwrites = is_elementwise(&node.op) && dying.iter().any(|&input| shapes[input] == shapes[id.index()]);
        alive += own;
        peak = peak.max(if overwrites { alive - own } else { alive });
        for input in node.inputs.iter().map(|input| input.index()) {
            readers[input] -= 1;
            if readers[input] == 0 {
                alive -= bytes(&shapes[input]);
            }
        }
    }
    peak
}

fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::BatchNorm(_) | Op::Scale { .. } | Op::Activation(_) | Op::Add | Op::Mul | Op::Softmax(_))
}

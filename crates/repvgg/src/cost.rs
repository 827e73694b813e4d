//! The cost of a network, counted from its graph: parameters, multiply-adds and Winograd multiplies; and what these do not
//! show: memory access, degree of parallelism and activation memory (2101.03697, Sect. 3.1).
//!
//! ```
//! use repvgg::Specification;
//! use repvgg::cost::cost;
//! use repvgg::fuse::Fusion;
//!
//! let training = Specification::named("repvgg-a0").unwrap().training_graph()?;
//! let plain = Fusion::new(&training).into_graph();
//! let counted = cost(&plain, [224, 224])?;
//! assert_eq!((counted.parameters, counted.macs), (8_309_384, 1_361_451_008)); // Table 4: 8.30 M, 1.4 B
//! # Ok::<(), repvgg::Error>(())
//! ```

mod access;
mod memory;
mod parallelism;

pub use access::MemoryAccess;
pub use memory::{Alive, Wait, alive_at, longest_wait};
pub use parallelism::{BlockOperators, Fragmentation, fragmentation};

use crate::graph::{Graph, Node, NodeId, Role, Shape};
use crate::{Result, element_count};
use memory::Live;

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
    /// Multiplications if every 3×3 convolution of stride 1, dense or grouped, runs as Winograd F(2×2, 3×3): 4/9 of its
    /// multiply-adds. Other layers count fully (2101.03697, Sect. 2.4).
    pub winograd_multiplies: u64,
    /// Bytes moved.
    pub memory_access: MemoryAccess,
    /// Bytes of f32 activations alive while the node runs; the maximum over nodes is [`Cost::peak_activation_bytes`].
    pub live_bytes: u64,
    /// The part held for later nodes: earlier values that are read after this node has run.
    pub held_bytes: u64,
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
    /// Bytes moved by all operations, each counted separately.
    pub memory_access: MemoryAccess,
    /// Bytes moved by convolutions and fully connected layers.
    pub conv_memory_access: MemoryAccess,
    /// The most bytes of f32 activations alive at once, if nodes run in order, elementwise nodes overwrite an input that no
    /// other node reads, and each buffer is freed after its last reader.
    pub peak_activation_bytes: u64,
}

/// The number of trained parameters of `graph`; it does not depend on the image.
pub fn parameters(graph: &Graph) -> u64 {
    let trained = graph.parameters().filter(|(_, parameter)| parameter.role.is_trained());
    trained.map(|(_, parameter)| element_count(&parameter.shape).unwrap_or(usize::MAX) as u64).sum()
}

impl Cost {
    /// Multiply-adds per byte moved by all operations in a run of `batch` images; 0 if no byte moves.
    pub fn arithmetic_intensity(&self, batch: u64) -> f64 {
        match self.memory_access.bytes(batch) {
            0 => 0.0,
            bytes => self.macs as f64 * batch as f64 / bytes as f64,
        }
    }
}

/// Counts `graph` for one image of `[height, width]`.
///
/// # Errors
/// When the graph cannot take images of this size.
pub fn cost(graph: &Graph, size: [usize; 2]) -> Result<Cost> {
    let shapes = graph.shapes(size)?;
    let live = memory::live(graph, &shapes);
    let layer = |((id, node), live): ((NodeId, &Node), Live)| {
        let inputs: Vec<Shape> = node.inputs.iter().map(|input| shapes[input.index()]).collect();
        layer_cost(node, shapes[id.index()], &inputs, live)
    };
    let layers: Vec<LayerCost> = graph.iter().zip(live).map(layer).collect();
    let sum = |of: fn(&LayerCost) -> u64| layers.iter().map(of).fold(0, u64::saturating_add);
    let convolutions = layers.iter().filter(|layer| layer.macs > 0);
    Ok(Cost {
        parameters: sum(|layer| layer.parameters),
        macs: sum(|layer| layer.macs),
        winograd_multiplies: sum(|layer| layer.winograd_multiplies),
        memory_access: layers.iter().map(|layer| layer.memory_access).sum(),
        conv_memory_access: convolutions.map(|layer| layer.memory_access).sum(),
        peak_activation_bytes: layers.iter().map(|layer| layer.live_bytes).max().unwrap_or(0),
        layers,
    })
}

fn layer_cost(node: &Node, shape: Shape, inputs: &[Shape], live: Live) -> LayerCost {
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
        memory_access: access::of(&node.op, &parameters, inputs, shape),
        live_bytes: live.bytes,
        held_bytes: live.held,
    }
}

/// Bytes of one image's activation in f32.
fn bytes(shape: Shape) -> u64 {
    size_of::<f32>() as u64 * shape.iter().map(|&extent| extent as u64).product::<u64>()
}

#[cfg(test)]
mod tests;

//! The sizes of maps, as far as a file states them: for counting multiply-adds.

use std::collections::HashMap;

use prost::Message;

use super::super::proto;
use super::super::read::parts::Parts;
use super::super::wire;
use super::Plan;
use crate::Result;
use crate::fuse::Fusion;
use crate::graph::{Graph, NodeId, Op};

/// `[H, W]` of values.
pub(super) struct Sizes {
    known: HashMap<String, [usize; 2]>,
}

/// Operators whose result has the size of their operands.
const ELEMENTWISE: [&str; 30] = [
    "Abs",
    "Add",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Div",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "Max",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Sub",
    "Tanh",
];

impl Sizes {
    /// The sizes that the inputs and the described values of a file state, and those that follow from them.
    pub(super) fn of(bytes: &[u8], graph: &proto::Graph) -> Result<Self> {
        const GRAPH: u64 = 7;
        const VALUE_INFO: u64 = 13;
        let mut known = HashMap::new();
        let mut note = |value: &proto::ValueInfo| {
            let shape =
                value.kind.as_ref().and_then(|kind| kind.tensor.as_ref()).and_then(|tensor| tensor.shape.as_ref());
            let extents: Option<Vec<usize>> = shape.and_then(|shape| {
                shape
                    .dim
                    .iter()
                    .skip(2)
                    .map(|dim| usize::try_from(dim.value?).ok().filter(|&extent| extent > 0))
                    .collect()
            });
            if let Some(&[height, width]) = extents.as_deref() {
                known.insert(value.name.clone(), [height, width]);
            }
        };
        graph.input.iter().for_each(&mut note);
        for model in wire::pieces(bytes)?.iter().filter(|piece| piece.number == GRAPH) {
            for piece in wire::pieces(model.content)?.iter().filter(|piece| piece.number == VALUE_INFO) {
                if let Ok(value) = proto::ValueInfo::decode(piece.content) {
                    note(&value);
                }
            }
        }
        let mut sizes = Self { known };
        let weights = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor.dims.as_slice())).collect();
        graph.node.iter().for_each(|node| sizes.follow(node, &weights));
        Ok(sizes)
    }

    /// Notes the size of a node's result.
    fn follow(&mut self, node: &proto::Node, weights: &HashMap<&str, &[i64]>) {
        let Some(output) = node.output.first().filter(|output| !self.known.contains_key(*output)) else { return };
        let operands: Vec<[usize; 2]> = node.input.iter().filter_map(|name| self.known.get(name)).copied().collect();
        let Some(&first) = operands.first() else { return };
        let size = match node.op_type.as_str() {
            "Conv" | "MaxPool" | "AveragePool" => {
                let shape = node.input.get(1).and_then(|name| weights.get(name.as_str())).copied().unwrap_or_default();
                window_size(node, shape.get(2..).unwrap_or_default(), first)
            }
            "GlobalAveragePool" | "GlobalMaxPool" => Some([1, 1]),
            "Concat" if node.attribute.iter().any(|attribute| attribute.name == "axis" && attribute.i == Some(1)) => {
                Some(first)
            }
            // A gate of one pixel broadcasts.
            name if ELEMENTWISE.contains(&name) => operands.into_iter().max(),
            _ => None,
        };
        size.map(|size| self.known.insert(output.clone(), size));
    }

    /// The multiply-adds of the regions of known size, before and after, and the number of the others.
    pub(super) fn multiply_adds(&self, fusion: &Fusion, parts: &Parts<'_>, plans: &[Plan<'_>]) -> ([u64; 2], usize) {
        let (mut totals, mut unknown) = ([0_u64; 2], 0);
        for plan in plans {
            let counted = plan
                .region
                .nodes
                .iter()
                .try_fold(0_u64, |sum, &id| Some(sum.saturating_add(self.node(fusion.original(), id, parts)?)));
            let pixels = match plan.region.op {
                Op::Linear(_) => Some(1),
                _ => self.known.get(plan.output).map(|[height, width]| (height * width) as u64),
            };
            match counted.zip(pixels) {
                Some((before, pixels)) => {
                    totals[0] += before;
                    totals[1] += pixels * plan.region.geometry.weight_len() as u64;
                }
                None => unknown += 1,
            }
        }
        (totals, unknown)
    }

    /// The multiply-adds of a node; `None` if its size is unknown. Rows count as one pixel.
    fn node(&self, graph: &Graph, id: NodeId, parts: &Parts<'_>) -> Option<u64> {
        let pixels = || self.known.get(parts.origins[id.index()].value).map(|[height, width]| (height * width) as u64);
        match &graph.node(id).op {
            Op::Conv2d(conv) => Some(pixels()? * conv.geometry.weight_len() as u64),
            Op::Linear(layer) => Some((layer.in_features * layer.out_features) as u64),
            _ => Some(0),
        }
    }
}

/// The size of the result of a convolution or pool with explicit padding. `weights` are the last axes of its weights, if any.
fn window_size(node: &proto::Node, weights: &[i64], size: [usize; 2]) -> Option<[usize; 2]> {
    let list = |name: &str| {
        let values = node.attribute.iter().find(|attribute| attribute.name == name)?;
        values
            .ints
            .iter()
            .map(|&value| usize::try_from(value).ok().filter(|&value| value < 1 << 16))
            .collect::<Option<Vec<usize>>>()
    };
    let short = |&extent: &i64| usize::try_from(extent).ok().filter(|&extent| extent < 1 << 16);
    let from_weights = || weights.iter().map(short).collect::<Option<Vec<usize>>>();
    let kernel = list("kernel_shape").or_else(from_weights)?;
    let pads = list("pads").unwrap_or_else(|| vec![0; 4]);
    let (strides, dilations) =
        (list("strides").unwrap_or_else(|| vec![1; 2]), list("dilations").unwrap_or_else(|| vec![1; 2]));
    let is_set = |name: &str| {
        node.attribute.iter().any(|attribute| {
            attribute.name == name
                && (attribute.i.unwrap_or(0) != 0 || attribute.s.as_deref().is_some_and(|mode| mode != b"NOTSET"))
        })
    };
    if [kernel.len(), strides.len(), dilations.len()] != [2; 3]
        || pads.len() != 4
        || is_set("auto_pad")
        || is_set("ceil_mode")
    {
        return None;
    }
    let extent = |axis: usize| {
        let reach = kernel[axis].checked_sub(1)? * dilations[axis] + 1;
        Some((size[axis] + pads[axis] + pads[axis + 2]).checked_sub(reach)?.checked_div(strides[axis])? + 1)
    };
    Some([extent(0)?, extent(1)?])
}

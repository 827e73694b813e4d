//! The kinds of block that a RepVGG can be trained with: RepVGG's own, the ablations and variants of the paper's Tables 6
//! and 7, and successors that share the algebra.
//!
//! A kind is one function from a layer and its input to the value before the ReLU, and one row of [`BLOCKS`]. Those that
//! hold only linear operations fuse into the same plain network, whatever their branches.

use repvgg_kernels::Geometry;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Graph;
use crate::error::expected;
use crate::graph::{Conv2d, NodeId, Op, Pool};

/// A layer's name and dimensions.
#[derive(Debug, Clone)]
pub(super) struct ConvLayer {
    /// The prefix of its parameters: `stage1.0`.
    pub(super) name: String,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) stride: usize,
    pub(super) groups: usize,
}

/// A kind of block: the training form of layers that each become one 3×3 convolution.
#[derive(Debug)]
pub struct NamedBlock {
    /// Its name in specifications.
    pub name: &'static str,
    /// A short description.
    pub about: &'static str,
    /// Its source: a section or table of the paper, or its own paper.
    pub source: &'static str,
    /// The number of consecutive layers that form one block.
    pub(super) layers: usize,
    /// Adds these layers; returns the value before the last ReLU.
    pub(super) build: fn(&mut Graph, &[ConvLayer], NodeId) -> NodeId,
}

/// All kinds; the first is RepVGG's.
pub static BLOCKS: [NamedBlock; 13] = [
    block("full", "3×3 + 1×1 + identity, each with batch norm", "Sect. 3.2", full),
    block("3x3", "a 3×3 convolution with batch norm", "Table 6", only_3x3),
    block("3x3+identity", "3×3 + identity, each with batch norm", "Table 6", with_identity),
    block("3x3+1x1", "3×3 + 1×1, each with batch norm", "Table 6", with_1x1),
    block("identity-without-bn", "the full block without batch norm on the identity", "Table 7", identity_without_bn),
    block("post-addition-bn", "the full block with one batch norm after the sum", "Table 7", post_addition_bn),
    block("relu-in-branch", "the full block with a ReLU in each branch", "Table 7", relu_in_branch),
    block("diracnet", "Ŵ = diag(a) I + diag(b) W_norm, then batch norm", "Table 7; 1706.00388", diracnet),
    block("trivial", "Ŵ = I + W, then batch norm", "Table 7", trivial),
    block("acb", "3×3 + 3×1 + 1×3, each with batch norm (ACNet)", "Table 7; 1908.03930", asymmetric),
    NamedBlock {
        layers: 2,
        ..block("residual-reorg", "residual blocks of two layers", "Table 7", residual_reorganisation)
    },
    block("qarepvgg", "one batch norm after the sum and one on the 3×3", "2212.01593", quantization_aware),
    block("dbb", "3×3 + 1×1 + 1×1-average + 1×1-3×3 (diverse branch block)", "2103.13425", diverse_branches),
];

const fn block(
    name: &'static str,
    about: &'static str,
    source: &'static str,
    build: fn(&mut Graph, &[ConvLayer], NodeId) -> NodeId,
) -> NamedBlock {
    NamedBlock { name, about, source, layers: 1, build }
}

/// One of [`BLOCKS`], serialised as its name.
///
/// ```
/// use repvgg::zoo::BlockKind;
///
/// assert_eq!(BlockKind::default().block().name, "full");
/// assert_eq!(BlockKind::named("acb").unwrap().block().source, "Table 7; 1908.03930");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BlockKind(&'static NamedBlock);

impl BlockKind {
    /// The kind called `name`.
    pub fn named(name: &str) -> Option<Self> {
        BLOCKS.iter().find(|block| block.name.eq_ignore_ascii_case(name)).map(Self)
    }

    /// All kinds, in the order of [`BLOCKS`].
    pub fn all() -> impl Iterator<Item = Self> {
        BLOCKS.iter().map(Self)
    }

    /// The row of [`BLOCKS`].
    pub fn block(self) -> &'static NamedBlock {
        self.0
    }
}

impl Default for BlockKind {
    /// RepVGG's own.
    fn default() -> Self {
        Self(&BLOCKS[0])
    }
}

impl PartialEq for BlockKind {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Serialize for BlockKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for BlockKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let known: Vec<&str> = BLOCKS.iter().map(|block| block.name).collect();
            de::Error::custom(expected(format_args!("a block of {}", known.join(", "))).found(name))
        })
    }
}

impl ConvLayer {
    /// Whether the output has the shape of the input.
    fn preserves_shape(&self) -> bool {
        self.in_channels == self.out_channels && self.stride == 1
    }

    /// A convolution with this layer's channels, stride and groups.
    fn conv(&self, kernel: usize) -> Conv2d {
        Conv2d::square(self.in_channels, self.out_channels, kernel).stride(self.stride).groups(self.groups)
    }

    /// The full name of a part.
    fn part(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    fn add(&self, graph: &mut Graph, part: &str, op: Op, inputs: &[NodeId]) -> NodeId {
        graph.add(self.part(part), op, inputs)
    }

    /// Adds `BN(conv(x))` as `{part}.conv` and `{part}.bn`.
    fn conv_bn(&self, graph: &mut Graph, part: &str, conv: Conv2d, x: NodeId) -> NodeId {
        add_conv_bn(graph, &self.part(part), conv, x)
    }

    /// Adds the branch with the 3×3 convolution.
    fn dense(&self, graph: &mut Graph, x: NodeId) -> NodeId {
        self.conv_bn(graph, "rbr_dense", self.conv(3), x)
    }

    /// Adds the branch with the 1×1 convolution.
    fn pointwise(&self, graph: &mut Graph, x: NodeId) -> NodeId {
        self.conv_bn(graph, "rbr_1x1", self.conv(1), x)
    }

    /// Adds the branch without a convolution, if the shapes allow it.
    fn identity(&self, graph: &mut Graph, x: NodeId) -> Option<NodeId> {
        self.preserves_shape().then(|| self.norm(graph, "rbr_identity", x))
    }

    fn norm(&self, graph: &mut Graph, part: &str, x: NodeId) -> NodeId {
        self.add(graph, part, Op::batch_norm(self.out_channels), &[x])
    }

    /// Adds the sum of the branches, unless there is only one.
    fn sum(&self, graph: &mut Graph, branches: &[NodeId]) -> NodeId {
        if let [only] = branches { *only } else { self.add(graph, "add", Op::Add, branches) }
    }
}

/// Adds `BN(conv(x))` as `{name}.conv` and `{name}.bn`.
pub(super) fn add_conv_bn(graph: &mut Graph, name: &str, conv: Conv2d, x: NodeId) -> NodeId {
    let y = graph.add(format!("{name}.conv"), Op::conv(conv), &[x]);
    graph.add(format!("{name}.bn"), Op::batch_norm(conv.geometry.out_channels), &[y])
}

/// `BN(conv3×3(x)) + BN(conv1×1(x)) + BN(x)` (2101.03697, Sect. 3.2, Fig. 2b); the identity branch exists if the
/// shapes allow it.
fn full(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    let mut branches = vec![layer.dense(graph, x), layer.pointwise(graph, x)];
    branches.extend(layer.identity(graph, x));
    layer.sum(graph, &branches)
}

/// `BN(conv3×3(x))`
fn only_3x3(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    layers[0].dense(graph, x)
}

/// `BN(conv3×3(x)) + BN(x)`
fn with_identity(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    let mut branches = vec![layer.dense(graph, x)];
    branches.extend(layer.identity(graph, x));
    layer.sum(graph, &branches)
}

/// `BN(conv3×3(x)) + BN(conv1×1(x))`
fn with_1x1(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    let branches = [layer.dense(graph, x), layer.pointwise(graph, x)];
    layer.sum(graph, &branches)
}

/// `BN(conv3×3(x)) + BN(conv1×1(x)) + x`
fn identity_without_bn(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    let mut branches = vec![layer.dense(graph, x), layer.pointwise(graph, x)];
    branches.extend(layer.preserves_shape().then_some(x));
    layer.sum(graph, &branches)
}

/// `BN(conv3×3(x) + conv1×1(x) + x)`
fn post_addition_bn(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    let mut branches = vec![
        layer.add(graph, "rbr_dense.conv", Op::conv(layer.conv(3)), &[x]),
        layer.add(graph, "rbr_1x1.conv", Op::conv(layer.conv(1)), &[x]),
    ];
    branches.extend(layer.preserves_shape().then_some(x));
    let sum = layer.sum(graph, &branches);
    layer.norm(graph, "bn", sum)
}

/// `ReLU(BN(conv3×3(x))) + ReLU(BN(conv1×1(x))) + ReLU(BN(x))`: no longer one convolution.
fn relu_in_branch(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    let mut branches = vec![("relu_dense", layer.dense(graph, x)), ("relu_1x1", layer.pointwise(graph, x))];
    branches.extend(layer.identity(graph, x).map(|branch| ("relu_identity", branch)));
    let rectified: Vec<NodeId> =
        branches.into_iter().map(|(part, branch)| layer.add(graph, part, Op::relu(), &[branch])).collect();
    layer.sum(graph, &rectified)
}

/// `BN(a ⊙ x + b ⊙ conv3×3(x; W_norm))`, the DiracConv of Zagoruyko & Komodakis (1706.00388, Sect. 3.1; a starts as 1, b
/// as 0.1), or a 3×3 convolution with batch norm if the shape changes.
fn diracnet(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    if !layer.preserves_shape() {
        return layer.dense(graph, x);
    }
    let channels = layer.out_channels;
    let identity = layer.add(graph, "alpha", Op::Scale { channels, initial: 1.0 }, &[x]);
    let conv = layer.add(graph, "rbr_dense.conv", Op::NormalizedConv2d(layer.conv(3)), &[x]);
    let scaled = layer.add(graph, "beta", Op::Scale { channels, initial: 0.1 }, &[conv]);
    let sum = layer.sum(graph, &[identity, scaled]);
    layer.norm(graph, "rbr_dense.bn", sum)
}

/// `BN(x + conv3×3(x))`, or a 3×3 convolution with batch norm if the shape changes.
fn trivial(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    if !layer.preserves_shape() {
        return layer.dense(graph, x);
    }
    let conv = layer.add(graph, "rbr_dense.conv", Op::conv(layer.conv(3)), &[x]);
    let sum = layer.sum(graph, &[conv, x]);
    layer.norm(graph, "rbr_dense.bn", sum)
}

/// `BN(conv3×3(x)) + BN(conv3×1(x)) + BN(conv1×3(x))`: the asymmetric convolution block (Ding et al., 1908.03930,
/// Sect. 3.2).
fn asymmetric(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    let mut branches = Vec::new();
    for (part, kernel) in [("square", [3, 3]), ("ver", [3, 1]), ("hor", [1, 3])] {
        let mut conv = layer.conv(3);
        conv.geometry = Geometry { kernel, padding: kernel.map(|extent| extent / 2), ..conv.geometry };
        let y = layer.add(graph, &format!("{part}_conv"), Op::conv(conv), &[x]);
        branches.push(layer.norm(graph, &format!("{part}_bn"), y));
    }
    layer.sum(graph, &branches)
}

/// `BN(conv3×3(ReLU(BN(conv3×3(x))))) + x`, with `x` projected by a 1×1 convolution if the shape changes, as in
/// ResNet-18. A stage's odd last layer is a single convolution.
fn residual_reorganisation(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let [first, second] = layers else { return only_3x3(graph, layers, x) };
    let y = first.dense(graph, x);
    let y = first.add(graph, "relu", Op::relu(), &[y]);
    let y = second.dense(graph, y);
    let shortcut = if first.preserves_shape() { x } else { first.conv_bn(graph, "shortcut", first.conv(1), x) };
    second.sum(graph, &[y, shortcut])
}

/// `BN(BN(conv3×3(x)) + conv1×1(x) + x)`: QARepVGG (Chu et al., 2212.01593, setting S4).
fn quantization_aware(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    let pointwise = layer.add(graph, "rbr_1x1", Op::conv(layer.conv(1)), &[x]);
    let mut branches = vec![layer.dense(graph, x), pointwise];
    branches.extend(layer.preserves_shape().then_some(x));
    let sum = layer.sum(graph, &branches);
    layer.norm(graph, "bn", sum)
}

/// The diverse branch block (Ding et al., 2103.13425, Sect. 3.3): 3×3, 1×1, 1×1 then average, and 1×1 then 3×3, each
/// convolution and average with batch norm; the first 1×1 of the last branch is `I + W`.
///
/// A branch of two operations pads the input before the first, so that the border holds the batch norm's image of zero, as
/// exact fusion requires.
fn diverse_branches(graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
    let layer = &layers[0];
    let ConvLayer { in_channels, out_channels, stride, groups, .. } = *layer;
    let origin = layer.conv_bn(graph, "dbb_origin", layer.conv(3), x);
    let pointwise = layer.conv_bn(graph, "dbb_1x1", layer.conv(1), x);
    let padded = layer.add(graph, "dbb_pad", Op::Pad { padding: [[1; 2]; 2] }, &[x]);

    let conv = Conv2d::square(in_channels, out_channels, 1).groups(groups);
    let y = layer.add(graph, "dbb_avg.conv", Op::conv(conv), &[padded]);
    let y = layer.norm(graph, "dbb_avg.bn.bn", y);
    let pool = Pool { kernel: [3; 2], stride: [stride; 2], padding: [[0; 2]; 2] };
    let y = layer.add(graph, "dbb_avg.avg", Op::AvgPool(pool), &[y]);
    let average = layer.norm(graph, "dbb_avg.avgbn", y);

    let conv = Conv2d::square(in_channels, in_channels, 1).groups(groups);
    let y = layer.add(graph, "dbb_1x1_kxk.idconv1.conv", Op::conv(conv), &[padded]);
    let y = layer.add(graph, "dbb_1x1_kxk.idconv1.add", Op::Add, &[y, padded]);
    let y = layer.add(graph, "dbb_1x1_kxk.bn1.bn", Op::batch_norm(in_channels), &[y]);
    let mut conv = layer.conv(3);
    conv.geometry.padding = [0; 2];
    let y = layer.add(graph, "dbb_1x1_kxk.conv2", Op::conv(conv), &[y]);
    let chained = layer.norm(graph, "dbb_1x1_kxk.bn2", y);

    layer.sum(graph, &[origin, pointwise, average, chained])
}

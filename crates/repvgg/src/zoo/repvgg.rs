//! RepVGG (Ding et al., 2101.03697): the variants, the block, the network.

use serde::{Deserialize, Serialize};

use super::blocks::{BlockKind, ConvLayer, add_conv_bn};
use crate::error::{Problem, expected};
use crate::graph::{ActivationKind, Conv2d, Linear};
use crate::{Error, Graph, NodeId, Op, Result};

/// One row of the paper's table of models (Sect. 3.4, Table 2): layers per stage, multipliers a and b, groups.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Blocks in stages 1 to 4.
    pub depths: [usize; 4],
    /// Multipliers of 64, 128, 256 and 512 channels.
    pub width: [f64; 4],
    /// Groups in every second layer.
    pub groups: usize,
    /// The position of squeeze-and-excitation.
    pub se: SqueezeExcite,
    /// Whether three auxiliary classifiers support training (RepVGGplus).
    pub auxiliary_heads: bool,
}

const A: [usize; 4] = [2, 4, 14, 1];
const B: [usize; 4] = [4, 6, 16, 1];
const D: [usize; 4] = [8, 14, 24, 1];

/// All official networks.
pub static VARIANTS: [Variant; 15] = [
    plain("repvgg-a0", A, [0.75, 0.75, 0.75, 2.5], 1),
    plain("repvgg-a1", A, [1.0, 1.0, 1.0, 2.5], 1),
    plain("repvgg-a2", A, [1.5, 1.5, 1.5, 2.75], 1),
    plain("repvgg-b0", B, [1.0, 1.0, 1.0, 2.5], 1),
    plain("repvgg-b1", B, [2.0, 2.0, 2.0, 4.0], 1),
    plain("repvgg-b1g2", B, [2.0, 2.0, 2.0, 4.0], 2),
    plain("repvgg-b1g4", B, [2.0, 2.0, 2.0, 4.0], 4),
    plain("repvgg-b2", B, [2.5, 2.5, 2.5, 5.0], 1),
    plain("repvgg-b2g2", B, [2.5, 2.5, 2.5, 5.0], 2),
    plain("repvgg-b2g4", B, [2.5, 2.5, 2.5, 5.0], 4),
    plain("repvgg-b3", B, [3.0, 3.0, 3.0, 5.0], 1),
    plain("repvgg-b3g2", B, [3.0, 3.0, 3.0, 5.0], 2),
    plain("repvgg-b3g4", B, [3.0, 3.0, 3.0, 5.0], 4),
    Variant { se: SqueezeExcite::BeforeRelu, ..plain("repvgg-d2se", D, [2.5, 2.5, 2.5, 5.0], 1) },
    Variant {
        se: SqueezeExcite::AfterRelu,
        auxiliary_heads: true,
        ..plain("repvggplus-l2pse", D, [2.5, 2.5, 2.5, 5.0], 1)
    },
];

const fn plain(name: &'static str, depths: [usize; 4], width: [f64; 4], groups: usize) -> Variant {
    Variant { name, depths, width, groups, se: SqueezeExcite::None, auxiliary_heads: false }
}

impl Variant {
    /// The row as a specification, with 1000 classes, three input channels and the paper's strides.
    pub fn spec(&self) -> RepVgg {
        RepVgg {
            name: self.name.to_owned(),
            depths: self.depths,
            width: self.width,
            groups: self.groups,
            se: self.se,
            auxiliary_heads: self.auxiliary_heads,
            ..RepVgg::default()
        }
    }
}

/// The position of squeeze-and-excitation in a block (Hu et al., 1709.01507).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SqueezeExcite {
    /// No squeeze-and-excitation.
    None,
    /// Between the sum and the ReLU, reduced to 1/16 of the channels (D2se).
    BeforeRelu,
    /// After the ReLU, reduced to 1/4 of the channels (RepVGGplus).
    AfterRelu,
}

/// The specification of any network of the family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepVgg {
    /// The network's name.
    pub name: String,
    /// Blocks in stages 1 to 4; stage 0 is one block.
    pub depths: [usize; 4],
    /// Multipliers of 64, 128, 256 and 512 channels.
    pub width: [f64; 4],
    /// Channels of stage 0, if not the paper's `min(64, 64 · width[0])`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<usize>,
    /// Groups of every second layer, counted from stage 0, inside stages 1 to 4 (Sect. 3.4); 1 is dense.
    pub groups: usize,
    /// The kind of block in training form.
    #[serde(skip_serializing_if = "is_full")]
    pub block: BlockKind,
    /// The position of squeeze-and-excitation.
    pub se: SqueezeExcite,
    /// RepVGGplus: stage 3 in two halves, auxiliary classifiers after stages 1, 2 and the first half of 3.
    pub auxiliary_heads: bool,
    /// The number of classes.
    pub classes: usize,
    /// Channels of the image.
    pub input_channels: usize,
    /// Stride of the first block of stages 0 to 4; `[1, 1, 2, 2, 2]` suits images of 32×32.
    pub strides: [usize; 5],
    /// ε of every batch norm.
    #[serde(skip_serializing_if = "is_usual")]
    pub eps: f64,
}

impl Default for RepVgg {
    /// RepVGG-A0 under the name `custom`.
    fn default() -> Self {
        Self {
            name: "custom".to_owned(),
            depths: A,
            width: [0.75, 0.75, 0.75, 2.5],
            stem: None,
            groups: 1,
            block: BlockKind::default(),
            se: SqueezeExcite::None,
            auxiliary_heads: false,
            classes: 1000,
            input_channels: 3,
            strides: [2; 5],
            eps: EPS,
        }
    }
}

/// PyTorch's ε of batch norms.
const EPS: f64 = 1e-5;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_usual(eps: &f64) -> bool {
    *eps == EPS
}

fn is_full(block: &BlockKind) -> bool {
    *block == BlockKind::default()
}

/// The widest layer in a specification.
const LIMIT: usize = 1 << 16;

/// The deepest stage in a specification.
const DEPTH_LIMIT: usize = 256;

impl RepVgg {
    /// Output channels of stages 0 to 4.
    pub fn stage_channels(&self) -> [usize; 5] {
        let scaled = |base: usize, factor: f64| (base as f64 * factor) as usize;
        let [w1, w2, w3, w4] = self.width;
        let stem = self.stem.unwrap_or(scaled(64, w1).min(64));
        [stem, scaled(64, w1), scaled(128, w2), scaled(256, w3), scaled(512, w4)]
    }

    /// Describes the first difference between the layers of `self` and `other`, with the value of each. Names, strides, classes,
    /// input channels and ε are not compared.
    pub fn differs_from(&self, other: &Self) -> Option<[String; 2]> {
        let describe = |spec: &Self| {
            [
                ("depths", format!("{:?}", spec.depths)),
                ("channels", format!("{:?}", spec.stage_channels())),
                ("groups", spec.groups.to_string()),
                ("block", spec.block.block().name.to_owned()),
                ("squeeze-and-excitation", format!("{:?}", spec.se)),
                ("auxiliary heads", spec.auxiliary_heads.to_string()),
            ]
        };
        let pairs = describe(self).into_iter().zip(describe(other));
        let (ours, theirs) = pairs.into_iter().find(|(ours, theirs)| ours != theirs)?;
        Some([ours, theirs].map(|(label, value)| format!("{label} {value}")))
    }

    /// Checks that every layer has channels, which its groups divide.
    ///
    /// # Errors
    /// Names the field, label was expected and label was found.
    pub fn validate(&self) -> Result<()> {
        let invalid = |field: &str, problem: Problem| Err(Error::spec(field, problem).within(&self.name));
        let count = |limit| expected(format_args!("1 to {limit}"));
        for (stage, &depth) in self.depths.iter().enumerate() {
            if !(1..=DEPTH_LIMIT).contains(&depth) {
                let blocks = format_args!("1 to {DEPTH_LIMIT} blocks in stage {}", stage + 1);
                return invalid("depths", expected(blocks).found(depth));
            }
        }
        for (stage, &channels) in self.stage_channels().iter().enumerate() {
            let factor = if let (0, Some(_)) = (stage, self.stem) { 1.0 } else { self.width[stage.saturating_sub(1)] };
            if !factor.is_finite() || !(1..=LIMIT).contains(&channels) {
                let found = format_args!("{channels} (multiplier {factor:e})");
                return invalid("width", expected(format_args!("1 to {LIMIT} channels in stage {stage}")).found(found));
            }
        }
        for (field, value) in
            [("classes", self.classes), ("input_channels", self.input_channels), ("groups", self.groups)]
        {
            if !(1..=LIMIT).contains(&value) {
                return invalid(field, count(LIMIT).found(value));
            }
        }
        if let Some(stride) = self.strides.iter().find(|stride| !(1..=8).contains(*stride)) {
            return invalid("strides", count(8).found(stride));
        }
        if !(self.eps.is_finite() && self.eps >= 0.0) {
            return invalid("eps", expected("a finite number of at least 0").found(self.eps));
        }
        if self.auxiliary_heads && self.depths[2] < 2 {
            return invalid("depths", expected("at least two blocks in stage 3, which auxiliary heads split").found(1));
        }
        for block in self.stages().into_iter().flat_map(|(_, blocks)| blocks) {
            for channels in [block.in_channels, block.out_channels] {
                if channels % block.groups != 0 {
                    let divisible = format_args!("channels divisible by {} groups", block.groups);
                    return invalid(&block.name, expected(divisible).found(channels));
                }
            }
        }
        Ok(())
    }

    /// The stages by official name, each with its blocks.
    fn stages(&self) -> Vec<(String, Vec<ConvLayer>)> {
        let depths = [1].into_iter().chain(self.depths);
        let mut in_channels = self.input_channels;
        let mut layer = 0;
        let mut stages = Vec::new();
        for (stage, (depth, out_channels)) in depths.zip(self.stage_channels()).enumerate() {
            let mut blocks = Vec::with_capacity(depth);
            for index in 0..depth {
                blocks.push(ConvLayer {
                    name: String::new(),
                    in_channels,
                    out_channels,
                    stride: if index == 0 { self.strides[stage] } else { 1 },
                    groups: if layer > 0 && layer % 2 == 0 { self.groups } else { 1 },
                });
                in_channels = out_channels;
                layer += 1;
            }
            stages.extend(self.named(stage, blocks));
        }
        stages
    }

    /// Gives the blocks of a stage their official names. RepVGGplus splits its third stage in two.
    fn named(&self, stage: usize, mut blocks: Vec<ConvLayer>) -> Vec<(String, Vec<ConvLayer>)> {
        let parts = match (stage, self.auxiliary_heads) {
            (3, true) => {
                let second = blocks.split_off(blocks.len() / 2);
                vec![("stage3_first".to_owned(), blocks), ("stage3_second".to_owned(), second)]
            }
            _ => vec![(format!("stage{stage}"), blocks)],
        };
        let infix = if self.auxiliary_heads { ".blocks" } else { "" };
        let name = |part: &str, index: usize| match stage {
            0 => part.to_owned(),
            _ => format!("{part}{infix}.{index}"),
        };
        parts
            .into_iter()
            .map(|(part, mut blocks)| {
                blocks.iter_mut().enumerate().for_each(|(index, block)| block.name = name(&part, index));
                (part, blocks)
            })
            .collect()
    }

    /// The training graph, with all branches.
    ///
    /// # Errors
    /// When [`validate`](Self::validate) refuses the specification.
    pub fn training_graph(&self) -> Result<Graph> {
        self.validate()?;
        let mut graph = Graph::new();
        let mut x = graph.add("input", Op::Input { channels: self.input_channels }, &[]);
        let mut auxiliary = Vec::new();
        for (stage, blocks) in self.stages() {
            let channels = blocks.last().map_or(0, |block| block.out_channels);
            for layers in blocks.chunks(self.block.block().layers) {
                x = self.add_block(&mut graph, layers, x);
            }
            if self.auxiliary_heads && matches!(stage.as_str(), "stage1" | "stage2" | "stage3_first") {
                auxiliary.push((stage, x, channels));
            }
        }
        let pooled = graph.add("gap", Op::GlobalAvgPool, &[x]);
        let head = Linear { in_features: self.stage_channels()[4], out_features: self.classes, bias: true };
        let logits = graph.add("linear", Op::Linear(head), &[pooled]);
        graph.output("main", logits);
        for (stage, x, channels) in auxiliary {
            self.add_auxiliary_head(&mut graph, &format!("{stage}_aux"), x, channels);
        }
        Ok(graph.with_eps(self.eps))
    }

    /// `y = ReLU(SE(block(x)))`, or `SE(ReLU(block(x)))` (Sect. 3.2).
    fn add_block(&self, graph: &mut Graph, layers: &[ConvLayer], x: NodeId) -> NodeId {
        let ConvLayer { name, out_channels, .. } = layers.last().expect("a block has a layer");
        let mut y = (self.block.block().build)(graph, layers, x);
        if self.se == SqueezeExcite::BeforeRelu {
            y = add_squeeze_excite(graph, &format!("{name}.se"), *out_channels, out_channels / 16, y);
        }
        y = graph.add(format!("{name}.relu"), Op::relu(), &[y]);
        if self.se == SqueezeExcite::AfterRelu {
            y = add_squeeze_excite(graph, &format!("{name}.post_se"), *out_channels, out_channels / 4, y);
        }
        y
    }

    /// RepVGGplus's auxiliary classifier: conv3×3 of stride 2, batch norm, ReLU, global pooling, linear.
    fn add_auxiliary_head(&self, graph: &mut Graph, name: &str, x: NodeId, channels: usize) {
        let y = add_conv_bn(graph, &format!("{name}.0"), Conv2d::square(channels, channels, 3).stride(2), x);
        let y = graph.add(format!("{name}.relu"), Op::relu(), &[y]);
        let y = graph.add(format!("{name}.gap"), Op::GlobalAvgPool, &[y]);
        let head = Linear { in_features: channels, out_features: self.classes, bias: true };
        let y = graph.add(format!("{name}.3"), Op::Linear(head), &[y]);
        graph.output(name, y);
    }
}

/// Adds `x · sigmoid(up(ReLU(down(mean(x)))))`, with the mean over the whole map.
fn add_squeeze_excite(graph: &mut Graph, name: &str, channels: usize, reduced: usize, x: NodeId) -> NodeId {
    let reduced = reduced.max(1);
    let y = graph.add(format!("{name}.pool"), Op::GlobalAvgPool, &[x]);
    let y = graph.add(format!("{name}.down"), Op::conv(Conv2d::square(channels, reduced, 1).with_bias()), &[y]);
    let y = graph.add(format!("{name}.relu"), Op::relu(), &[y]);
    let y = graph.add(format!("{name}.up"), Op::conv(Conv2d::square(reduced, channels, 1).with_bias()), &[y]);
    let y = graph.add(format!("{name}.sigmoid"), Op::Activation(ActivationKind::Sigmoid), &[y]);
    graph.add(format!("{name}.mul"), Op::Mul, &[x, y])
}

//! MobileOne (Vasu et al., 2206.04040), under timm's names: MobileNet's layers, each with several branches in training and
//! one convolution in plain form.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields, invalid};
use super::layers::{Chain, SqueezeExcite};
use crate::error::expected;
use crate::graph::{ActivationKind, Conv2d, NodeId, Op};
use crate::{Graph, Result};

/// A MobileNet with branches in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MobileOne {
    /// Pairs of a depthwise and a pointwise block in each stage.
    depths: [usize; 4],
    /// Factors of the stages' channels, which are 64, 128, 256 and 512.
    width: [f64; 4],
    /// Parallel convolutions in each block: the paper's k.
    branches: usize,
    /// The number of pairs with squeeze-and-excitation at the end of each stage.
    excited: [usize; 4],
    classes: usize,
    input_channels: usize,
}

/// Channels of the stages before their factors.
const CHANNELS: [usize; 4] = [64, 128, 256, 512];

/// The most parallel convolutions.
const MOST_BRANCHES: usize = 64;

impl Default for MobileOne {
    /// MobileOne-S0.
    fn default() -> Self {
        let (depths, width) = ([2, 8, 10, 1], [0.75, 1.0, 1.0, 2.0]);
        Self { depths, width, branches: 4, excited: [0; 4], classes: 1000, input_channels: 3 }
    }
}

impl Family for MobileOne {
    fn networks() -> Vec<Network<Self>> {
        let row = |name, width, branches, excited| Network {
            name,
            size: 224,
            spec: Self { width, branches, excited, ..Self::default() },
        };
        vec![
            row("mobileone-s0", [0.75, 1.0, 1.0, 2.0], 4, [0; 4]),
            row("mobileone-s1", [1.5, 1.5, 2.0, 2.5], 1, [0; 4]),
            row("mobileone-s2", [1.5, 2.0, 2.5, 4.0], 1, [0; 4]),
            row("mobileone-s3", [2.0, 2.5, 3.0, 4.0], 1, [0; 4]),
            row("mobileone-s4", [3.0, 3.5, 3.5, 4.0], 1, [0, 0, 5, 1]),
        ]
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { depths, width, branches, excited, classes, input_channels } = *self;
        let wide: [usize; 4] = std::array::from_fn(|stage| (CHANNELS[stage] as f64 * width[stage]) as usize);
        check_depths(&depths)?;
        check_counts(&wide.map(|channels| ("width", channels)))?;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        if !(1..=MOST_BRANCHES).contains(&branches) {
            return Err(invalid("branches", expected(format_args!("1 to {MOST_BRANCHES}")).found(branches)));
        }
        if let Some((depth, excited)) = depths.into_iter().zip(excited).find(|(depth, excited)| excited > depth) {
            return Err(invalid("excited", expected(format_args!("at most the stage's {depth}")).found(excited)));
        }
        let mut chain = Chain::new(input_channels);
        let mut channels = wide[0].min(CHANNELS[0]);
        let stem = Conv2d::square(input_channels, channels, 3).stride(2);
        MobileOneBlock { name: "stem".to_owned(), conv: stem, branches: 1, is_excited: false }.add(&mut chain);
        for (stage, (depth, excited)) in depths.into_iter().zip(excited).enumerate() {
            for index in 0..depth {
                let stride = if index == 0 { 2 } else { 1 };
                let depthwise = Conv2d::square(channels, channels, 3).stride(stride).groups(channels);
                let pointwise = Conv2d::square(channels, wide[stage], 1);
                for (number, conv) in (2 * index..).zip([depthwise, pointwise]) {
                    let name = format!("stages.{stage}.{number}");
                    MobileOneBlock { name, conv, branches, is_excited: index + excited >= depth }.add(&mut chain);
                }
                channels = wide[stage];
            }
        }
        Ok(chain.classify("head.fc", channels, classes))
    }
}

/// A block that becomes one convolution in plain form.
struct MobileOneBlock {
    name: String,
    /// The convolution.
    conv: Conv2d,
    /// The number of copies in training.
    branches: usize,
    is_excited: bool,
}

impl MobileOneBlock {
    /// `ReLU(SE(Σⱼ BNⱼ(convⱼ(x)) + BN(conv1×1(x)) + BN(x)))`: the 1×1 if the kernel is larger, the identity if the
    /// shapes allow it (2206.04040, Sect. 3.2, Fig. 3).
    fn add(&self, chain: &mut Chain) {
        let Self { name, conv, .. } = self;
        let g = conv.geometry;
        let x = chain.end;
        let mut terms: Vec<NodeId> = Vec::new();
        if g.in_channels == g.out_channels && g.stride == [1; 2] {
            terms.push(chain.norm(format!("{name}.identity"), g.out_channels));
        }
        if g.kernel != [1; 2] {
            let mut scale = *conv;
            (scale.geometry.kernel, scale.geometry.padding) = ([1; 2], [0; 2]);
            terms.push(conv_bn(chain, &format!("{name}.conv_scale"), scale, x));
        }
        for branch in 0..self.branches {
            terms.push(conv_bn(chain, &format!("{name}.conv_kxk.{branch}"), *conv, x));
        }
        if terms.len() > 1 {
            chain.end = chain.graph.add(format!("{name}.add"), Op::Add, &terms);
        }
        if self.is_excited {
            chain.squeeze_excite(&SqueezeExcite {
                name: &format!("{name}.attn"),
                parts: ["fc1", "fc2"],
                channels: g.out_channels,
                reduced: reduced(g.out_channels),
                activation: ActivationKind::Relu,
            });
        }
        chain.relu(format!("{name}.act"));
    }
}

/// Adds `BN(conv(x))`.
fn conv_bn(chain: &mut Chain, name: &str, conv: Conv2d, x: NodeId) -> NodeId {
    chain.end = x;
    chain.conv_bn([format!("{name}.conv"), format!("{name}.bn")], conv)
}

/// A sixteenth of the channels, as the nearest multiple of 8.
fn reduced(channels: usize) -> usize {
    ((channels / 16 + 4) / 8 * 8).max(8)
}

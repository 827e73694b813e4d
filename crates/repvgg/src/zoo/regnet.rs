//! RegNetX (Radosavovic et al., 2003.13678, Sect. 3.3), under torchvision's names or timm's.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields, invalid};
use super::layers::{Chain, divisible};
use crate::error::expected;
use crate::graph::Conv2d;
use crate::{Graph, Result};

/// A residual network whose block widths follow a quantised line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RegNet {
    /// The total number of blocks, d.
    depth: usize,
    /// The width at the start of the line.
    w0: usize,
    /// The slope of the line per block.
    wa: f64,
    /// The factor from one stage's width to the next.
    wm: f64,
    /// Channels of a group of the 3×3 convolutions.
    group_width: usize,
    /// The code base whose names and rounding are used.
    names: Names,
    classes: usize,
    input_channels: usize,
}

/// The code base that defines parameter names and rounding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Names {
    /// Rounds a width half-way between two multiples of the group width up, and never loses more than a tenth.
    Torchvision,
    /// Rounds a width half-way between two multiples of the group width to the even one, as the paper's code does.
    Timm,
}

/// Channels after the stem.
const STEM: usize = 32;

/// Widths are multiples of this.
const QUANTUM: f64 = 8.0;

/// Consecutive blocks of one width.
struct Stage {
    depth: usize,
    width: usize,
    groups: usize,
}

impl Default for RegNet {
    /// RegNetX-200MF.
    fn default() -> Self {
        let (depth, w0, wa, wm, group_width) = (13, 24, 36.44, 2.49, 8);
        Self { depth, w0, wa, wm, group_width, names: Names::Timm, classes: 1000, input_channels: 3 }
    }
}

impl Family for RegNet {
    fn networks() -> Vec<Network<Self>> {
        use Names::{Timm, Torchvision};
        let row = |name, depth, w0, wa, wm, group_width, names| Network {
            name,
            size: 224,
            spec: Self { depth, w0, wa, wm, group_width, names, ..Self::default() },
        };
        vec![
            row("regnetx-200mf", 13, 24, 36.44, 2.49, 8, Timm),
            row("regnetx-400mf", 22, 24, 24.48, 2.54, 16, Torchvision),
            row("regnetx-600mf", 16, 48, 36.97, 2.24, 24, Timm),
            row("regnetx-800mf", 16, 56, 35.73, 2.28, 16, Torchvision),
            row("regnetx-1.6gf", 18, 80, 34.01, 2.25, 24, Torchvision),
            row("regnetx-3.2gf", 25, 88, 26.31, 2.25, 48, Torchvision),
            row("regnetx-4.0gf", 23, 96, 38.65, 2.43, 40, Timm),
            row("regnetx-6.4gf", 17, 184, 60.83, 2.07, 56, Timm),
            row("regnetx-8gf", 23, 80, 49.56, 2.88, 120, Torchvision),
            row("regnetx-12gf", 19, 168, 73.36, 2.37, 112, Timm),
            row("regnetx-16gf", 22, 216, 55.59, 2.1, 128, Torchvision),
            row("regnetx-32gf", 23, 320, 69.86, 2.0, 168, Torchvision),
        ]
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { names, classes, input_channels, .. } = *self;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        let mut chain = Chain::new(input_channels);
        let (stem, head) = match names {
            Names::Torchvision => (["stem.0", "stem.1"], "fc"),
            Names::Timm => (["stem.conv", "stem.bn"], "head.fc"),
        };
        chain.conv_bn(stem.map(str::to_owned), Conv2d::square(input_channels, STEM, 3).stride(2));
        chain.relu("stem.relu");
        let mut channels = STEM;
        for (number, stage) in (1..).zip(self.stages()?) {
            for index in 0..stage.depth {
                let stride = if index == 0 { 2 } else { 1 };
                add_block(&mut chain, &names.block(number, index), channels, &stage, stride);
                channels = stage.width;
            }
        }
        Ok(chain.classify(head, channels, classes))
    }
}

impl RegNet {
    /// The quantised line of widths (Sect. 3.3, Eq. 2 to 4), each width adjusted to its groups.
    fn stages(&self) -> Result<Vec<Stage>> {
        let Self { depth, w0, wa, wm, group_width, names, .. } = *self;
        check_depths(&[depth])?;
        check_counts(&[("w0", w0), ("group_width", group_width)])?;
        if !(wa.is_finite() && wa >= 0.0) {
            return Err(invalid("wa", expected("a slope of at least 0").found(wa)));
        }
        if !(wm.is_finite() && wm > 1.0) {
            return Err(invalid("wm", expected("a factor above 1").found(wm)));
        }
        let w0 = w0 as f64;
        let widths: Vec<usize> = (0..depth)
            .map(|block| {
                let exponent = ((w0 + wa * block as f64) / w0).ln() / wm.ln();
                let width = w0 * wm.powf(exponent.round_ties_even());
                (QUANTUM * (width / QUANTUM).round_ties_even()) as usize
            })
            .collect();
        let stages = widths.chunk_by(|a, b| a == b).map(|blocks| {
            check_counts(&[("width", blocks[0])])?;
            let group_width = group_width.min(blocks[0]);
            let groups = names.groups(blocks[0], group_width);
            Ok(Stage { depth: blocks.len(), width: groups * group_width, groups })
        });
        stages.collect()
    }
}

impl Names {
    /// The number of groups that best approximates a width.
    fn groups(self, width: usize, group_width: usize) -> usize {
        match self {
            Self::Torchvision => divisible(width as f64, group_width) / group_width,
            Self::Timm => (width as f64 / group_width as f64).round_ties_even().max(1.0) as usize,
        }
    }

    /// The parameter names of a block.
    fn block(self, stage: usize, index: usize) -> BlockNames {
        match self {
            Self::Torchvision => BlockNames {
                block: format!("trunk_output.block{stage}.block{stage}-{index}"),
                layers: ["f.a", "f.b", "f.c"],
                projection: "proj",
                parts: ["0", "1"],
            },
            Self::Timm => BlockNames {
                block: format!("s{stage}.b{}", index + 1),
                layers: ["conv1", "conv2", "conv3"],
                projection: "downsample",
                parts: ["conv", "bn"],
            },
        }
    }
}

/// The parameter names of a block.
struct BlockNames {
    block: String,
    layers: [&'static str; 3],
    projection: &'static str,
    /// A convolution and its batch norm.
    parts: [&'static str; 2],
}

/// The X block: 1×1, 3×3 in groups with the stride, 1×1, plus `x`, projected if the shape changes (Sect. 3.2, Fig. 4).
fn add_block(chain: &mut Chain, names: &BlockNames, channels: usize, stage: &Stage, stride: usize) {
    let Stage { width, groups, .. } = *stage;
    let BlockNames { block, layers, projection, parts } = names;
    let conv_bn = |chain: &mut Chain, layer: &str, conv| {
        chain.conv_bn(parts.map(|part| format!("{block}.{layer}.{part}")), conv);
    };
    let x = chain.end;
    conv_bn(chain, layers[0], Conv2d::square(channels, width, 1));
    chain.relu(format!("{block}.{}.relu", layers[0]));
    conv_bn(chain, layers[1], Conv2d::square(width, width, 3).stride(stride).groups(groups));
    chain.relu(format!("{block}.{}.relu", layers[1]));
    conv_bn(chain, layers[2], Conv2d::square(width, width, 1));
    let residual = chain.end;
    chain.end = x;
    if channels != width || stride != 1 {
        conv_bn(chain, projection, Conv2d::square(channels, width, 1).stride(stride));
    }
    chain.plus(format!("{block}.add"), residual);
    chain.relu(format!("{block}.relu"));
}

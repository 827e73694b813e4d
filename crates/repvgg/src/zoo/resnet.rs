//! ResNet (He et al., 1512.03385) and ResNeXt (Xie et al., 1611.05431), under torchvision's names.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields};
use super::layers::Chain;
use crate::error::expected;
use crate::graph::{Conv2d, Op, Pool};
use crate::{Error, Graph, Result};

/// A residual network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ResNet {
    /// The layers of a residual block.
    block: ResidualBlock,
    /// Blocks in each of the four stages.
    depths: [usize; 4],
    /// Groups of a bottleneck's 3×3 convolution.
    groups: usize,
    /// Channels of a group in the first stage; a ResNet's single group has 64.
    group_width: usize,
    classes: usize,
    input_channels: usize,
}

/// A residual block, and the position of its stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ResidualBlock {
    /// Two 3×3 convolutions, the stride in the first.
    Basic,
    /// 1×1, 3×3, 1×1 with four times the channels; the stride in the first 1×1, as in the paper.
    Bottleneck,
    /// As `Bottleneck`, with the stride in the 3×3: "v1.5", which torchvision calls ResNet.
    BottleneckV15,
}

impl Default for ResNet {
    /// ResNet-18.
    fn default() -> Self {
        let (block, depths) = (ResidualBlock::Basic, [2; 4]);
        Self { block, depths, groups: 1, group_width: 64, classes: 1000, input_channels: 3 }
    }
}

impl Family for ResNet {
    fn networks() -> Vec<Network<Self>> {
        use ResidualBlock::{Basic, Bottleneck, BottleneckV15};
        let row = |name, block, depths, groups, group_width| Network {
            name,
            size: 224,
            spec: Self { block, depths, groups, group_width, ..Self::default() },
        };
        vec![
            row("resnet-18", Basic, [2, 2, 2, 2], 1, 64),
            row("resnet-34", Basic, [3, 4, 6, 3], 1, 64),
            row("resnet-50", Bottleneck, [3, 4, 6, 3], 1, 64),
            row("resnet-50-v1.5", BottleneckV15, [3, 4, 6, 3], 1, 64),
            row("resnet-101", Bottleneck, [3, 4, 23, 3], 1, 64),
            row("resnet-101-v1.5", BottleneckV15, [3, 4, 23, 3], 1, 64),
            row("resnet-152", Bottleneck, [3, 8, 36, 3], 1, 64),
            row("resnet-152-v1.5", BottleneckV15, [3, 8, 36, 3], 1, 64),
            row("resnext-50-32x4d", BottleneckV15, [3, 4, 6, 3], 32, 4),
            row("resnext-101-32x4d", BottleneckV15, [3, 4, 23, 3], 32, 4),
        ]
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { block, depths, groups, group_width, classes, input_channels } = *self;
        check_depths(&depths)?;
        check_counts(&[("groups", groups), ("group_width", group_width)])?;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        if block == ResidualBlock::Basic && (groups, group_width) != (1, 64) {
            let problem = expected("basic blocks with groups 1 and group_width 64")
                .found(format_args!("{groups} and {group_width}"));
            return Err(Error::spec("specification", problem));
        }
        let mut chain = Chain::new(input_channels);
        let mut stem = Conv2d::square(input_channels, 64, 7).stride(2);
        stem.geometry.padding = [3; 2];
        chain.conv_bn(["conv1".to_owned(), "bn1".to_owned()], stem);
        chain.relu("relu");
        chain.then("maxpool", Op::MaxPool(Pool { kernel: [3; 2], stride: [2; 2], dilation: [1; 2], padding: [[1; 2]; 2] }));
        let mut channels = 64;
        for (stage, &depth) in depths.iter().enumerate() {
            for index in 0..depth {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let name = format!("layer{}.{index}", stage + 1);
                channels = self.add_block(&mut chain, &name, channels, 64 << stage, stride);
            }
        }
        Ok(chain.classify("fc", channels, classes))
    }
}

impl ResNet {
    /// `ReLU(F(x) + x)`, with `x` projected if the shape changes (1512.03385, Sect. 3.2, option B); returns the output
    /// channels.
    fn add_block(&self, chain: &mut Chain, name: &str, channels: usize, base: usize, stride: usize) -> usize {
        let width = self.group_width * base / 64 * self.groups;
        let square = |from: usize, to: usize, kernel: usize| Conv2d::square(from, to, kernel);
        let (layers, out) = match self.block {
            ResidualBlock::Basic => (vec![square(channels, base, 3).stride(stride), square(base, base, 3)], base),
            ResidualBlock::Bottleneck | ResidualBlock::BottleneckV15 => {
                let strides = if self.block == ResidualBlock::Bottleneck { [stride, 1] } else { [1, stride] };
                let out = 4 * base;
                let reduce = square(channels, width, 1).stride(strides[0]);
                let spatial = square(width, width, 3).stride(strides[1]).groups(self.groups);
                (vec![reduce, spatial, square(width, out, 1)], out)
            }
        };
        let (x, last) = (chain.end, layers.len());
        for (index, layer) in (1..).zip(layers) {
            chain.conv_bn([format!("{name}.conv{index}"), format!("{name}.bn{index}")], layer);
            if index < last {
                chain.relu(format!("{name}.relu{index}"));
            }
        }
        let residual = chain.end;
        chain.end = x;
        if channels != out || stride != 1 {
            let projection = Conv2d::square(channels, out, 1).stride(stride);
            chain.conv_bn([format!("{name}.downsample.0"), format!("{name}.downsample.1")], projection);
        }
        chain.plus(format!("{name}.add"), residual);
        chain.relu(format!("{name}.relu"));
        out
    }
}

//! DenseNet (Huang et al., 1608.06993), with bottlenecks and compression, under torchvision's names.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields};
use super::layers::Chain;
use crate::graph::{Conv2d, Op, Pool};
use crate::{Graph, Result};

/// A network whose layers read the outputs of all earlier layers in their block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DenseNet {
    /// Layers in each of the four blocks.
    depths: [usize; 4],
    /// Channels that a layer adds.
    growth: usize,
    /// Channels after the stem.
    stem: usize,
    /// Channels between a layer's two convolutions, as a multiple of the channels it adds.
    bottleneck: usize,
    classes: usize,
    input_channels: usize,
}

impl Default for DenseNet {
    /// DenseNet-121.
    fn default() -> Self {
        Self { depths: [6, 12, 24, 16], growth: 32, stem: 64, bottleneck: 4, classes: 1000, input_channels: 3 }
    }
}

impl Family for DenseNet {
    fn networks() -> Vec<Network<Self>> {
        let row = |name, depths, growth| Network {
            name,
            size: 224,
            spec: Self { depths, growth, stem: 2 * growth, ..Self::default() },
        };
        vec![
            row("densenet-121", [6, 12, 24, 16], 32),
            row("densenet-161", [6, 12, 36, 24], 48),
            row("densenet-169", [6, 12, 32, 32], 32),
            row("densenet-201", [6, 12, 48, 32], 32),
        ]
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { depths, growth, stem, bottleneck, classes, input_channels } = *self;
        check_depths(&depths)?;
        check_counts(&[("growth", growth), ("stem", stem), ("bottleneck", bottleneck)])?;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        let mut chain = Chain::new(input_channels);
        let mut conv = Conv2d::square(input_channels, stem, 7).stride(2);
        conv.geometry.padding = [3; 2];
        chain.conv_bn(["features.conv0".to_owned(), "features.norm0".to_owned()], conv);
        chain.relu("features.relu0");
        let pool = Pool { kernel: [3; 2], stride: [2; 2], dilation: [1; 2], padding: [[1; 2]; 2] };
        chain.then("features.pool0", Op::MaxPool(pool));
        let mut channels = stem;
        for (block, depth) in (1..).zip(depths) {
            for layer in 1..=depth {
                let name = format!("features.denseblock{block}.denselayer{layer}");
                self.add_layer(&mut chain, &name, channels);
                channels += growth;
            }
            if block < depths.len() {
                channels = add_transition(&mut chain, &format!("features.transition{block}"), channels);
            }
        }
        chain.norm("features.norm5", channels);
        chain.relu("features.relu5");
        Ok(chain.classify("classifier", channels, classes))
    }
}

impl DenseNet {
    /// `[x, conv3×3(ReLU(BN(conv1×1(ReLU(BN(x))))))]` (Sect. 3): `x` concatenates all earlier outputs.
    fn add_layer(&self, chain: &mut Chain, name: &str, channels: usize) {
        let (x, between) = (chain.end, self.bottleneck * self.growth);
        chain.norm(format!("{name}.norm1"), channels);
        chain.relu(format!("{name}.relu1"));
        chain.conv_bn([format!("{name}.conv1"), format!("{name}.norm2")], Conv2d::square(channels, between, 1));
        chain.relu(format!("{name}.relu2"));
        let new = chain.then(format!("{name}.conv2"), Op::Conv2d(Conv2d::square(between, self.growth, 3)));
        chain.concat(format!("{name}.concat"), &[x, new]);
    }
}

/// Halves the channels and the side of the map (Sect. 3, "Compression"); returns the remaining channels.
fn add_transition(chain: &mut Chain, name: &str, channels: usize) -> usize {
    let half = channels / 2;
    chain.norm(format!("{name}.norm"), channels);
    chain.relu(format!("{name}.relu"));
    chain.then(format!("{name}.conv"), Op::Conv2d(Conv2d::square(channels, half, 1)));
    let pool = Pool { kernel: [2; 2], stride: [2; 2], dilation: [1; 2], padding: [[0; 2]; 2] };
    chain.then(format!("{name}.pool"), Op::AvgPool(pool));
    half
}

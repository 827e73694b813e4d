//! ShuffleNet V2 (Ma et al., 1807.11164), under torchvision's names.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields, invalid};
use super::layers::Chain;
use crate::error::expected;
use crate::graph::{Conv2d, NodeId, Op, Pool};
use crate::{Graph, Result};

/// A network whose units split channels and shuffle them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ShuffleNetV2 {
    /// Units in each stage.
    depths: [usize; 3],
    /// Channels after the stem, after each stage and after the last convolution.
    channels: [usize; 5],
    classes: usize,
    input_channels: usize,
}

impl Default for ShuffleNetV2 {
    /// ShuffleNet V2 1×.
    fn default() -> Self {
        Self { depths: [4, 8, 4], channels: [24, 116, 232, 464, 1024], classes: 1000, input_channels: 3 }
    }
}

impl Family for ShuffleNetV2 {
    fn networks() -> Vec<Network<Self>> {
        let row = |name, channels| Network { name, size: 224, spec: Self { channels, ..Self::default() } };
        vec![
            row("shufflenet-v2-0.5", [24, 48, 96, 192, 1024]),
            row("shufflenet-v2-1.0", [24, 116, 232, 464, 1024]),
            row("shufflenet-v2-1.5", [24, 176, 352, 704, 1024]),
            row("shufflenet-v2-2.0", [24, 244, 488, 976, 2048]),
        ]
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { depths, channels, classes, input_channels } = *self;
        let [stem, a, b, c, features] = channels;
        check_depths(&depths)?;
        check_counts(&channels.map(|channels| ("channels", channels)))?;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        if let Some(odd) = [a, b, c].into_iter().find(|channels| channels % 2 == 1) {
            return Err(invalid("channels", expected("an even number of channels in each stage").found(odd)));
        }
        let mut chain = Chain::new(input_channels);
        conv_bn_relu(&mut chain, "conv1", 0, Conv2d::square(input_channels, stem, 3).stride(2));
        chain.then("maxpool", Op::MaxPool(Pool { kernel: [3; 2], stride: [2; 2], dilation: [1; 2], padding: [[1; 2]; 2] }));
        let mut from = stem;
        for (stage, (depth, to)) in (2..).zip(depths.into_iter().zip([a, b, c])) {
            for index in 0..depth {
                let name = format!("stage{stage}.{index}");
                if index == 0 {
                    add_halving_unit(&mut chain, &name, from, to)
                } else {
                    add_unit(&mut chain, &name, to)
                }
                from = to;
            }
        }
        conv_bn_relu(&mut chain, "conv5", 0, Conv2d::square(c, features, 1));
        Ok(chain.classify("fc", features, classes))
    }
}

/// `shuffle([x₁, F(x₂)])`, where `x₁` and `x₂` are the halves of the channels (Fig. 3c).
fn add_unit(chain: &mut Chain, name: &str, channels: usize) {
    let (x, half) = (chain.end, channels / 2);
    let left = chain.then(format!("{name}.left"), Op::Slice { start: 0, channels: half });
    chain.end = x;
    chain.then(format!("{name}.right"), Op::Slice { start: half, channels: half });
    let branch = format!("{name}.branch2");
    conv_bn_relu(chain, &branch, 0, Conv2d::square(half, half, 1));
    conv_bn(chain, &branch, 3, Conv2d::square(half, half, 3).groups(half));
    conv_bn_relu(chain, &branch, 5, Conv2d::square(half, half, 1));
    shuffle(chain, name, left);
}

/// `shuffle([G(x), F(x)])` with half the rows and columns (Fig. 3d).
fn add_halving_unit(chain: &mut Chain, name: &str, from: usize, to: usize) {
    let (x, half) = (chain.end, to / 2);
    let branch = format!("{name}.branch1");
    conv_bn(chain, &branch, 0, Conv2d::square(from, from, 3).stride(2).groups(from));
    let left = conv_bn_relu(chain, &branch, 2, Conv2d::square(from, half, 1));
    chain.end = x;
    let branch = format!("{name}.branch2");
    conv_bn_relu(chain, &branch, 0, Conv2d::square(from, half, 1));
    conv_bn(chain, &branch, 3, Conv2d::square(half, half, 3).stride(2).groups(half));
    conv_bn_relu(chain, &branch, 5, Conv2d::square(half, half, 1));
    shuffle(chain, name, left);
}

/// Interleaves the channels of `left` and the end.
fn shuffle(chain: &mut Chain, name: &str, left: NodeId) {
    let right = chain.end;
    chain.concat(format!("{name}.concat"), &[left, right]);
    chain.then(format!("{name}.shuffle"), Op::Shuffle { groups: 2 });
}

/// Adds a convolution and its batch norm, as `{name}.{first}` and `{name}.{first + 1}`.
fn conv_bn(chain: &mut Chain, name: &str, first: usize, conv: Conv2d) -> NodeId {
    chain.conv_bn([format!("{name}.{first}"), format!("{name}.{}", first + 1)], conv)
}

fn conv_bn_relu(chain: &mut Chain, name: &str, first: usize, conv: Conv2d) -> NodeId {
    conv_bn(chain, name, first, conv);
    chain.relu(format!("{name}.{}", first + 2))
}

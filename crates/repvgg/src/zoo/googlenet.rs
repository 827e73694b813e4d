//! GoogLeNet (Szegedy et al., 1409.4842) with batch norm, under torchvision's names.
//!
//! As in torchvision, the branch with the paper's 5×5 kernel has a 3×3 one. The published weights expect pixels in −1 to 1,
//! not the usual mean and deviation.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, class_fields};
use super::layers::Chain;
use crate::graph::{Conv2d, NodeId, Op, Pool};
use crate::{Graph, Result};

/// GoogLeNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GoogLeNet {
    /// Whether two auxiliary classifiers support training. They only fit images of about 224 pixels.
    auxiliary_heads: bool,
    classes: usize,
    input_channels: usize,
}

/// The channels of an inception module, in the columns of Table 1: 1×1; reduction and 3×3; reduction and "5×5"; projection
/// of the pool.
type Inception = [usize; 6];

/// The modules by name.
const INCEPTIONS: [(&str, Inception); 9] = [
    ("inception3a", [64, 96, 128, 16, 32, 32]),
    ("inception3b", [128, 128, 192, 32, 96, 64]),
    ("inception4a", [192, 96, 208, 16, 48, 64]),
    ("inception4b", [160, 112, 224, 24, 64, 64]),
    ("inception4c", [128, 128, 256, 24, 64, 64]),
    ("inception4d", [112, 144, 288, 32, 64, 64]),
    ("inception4e", [256, 160, 320, 32, 128, 128]),
    ("inception5a", [256, 160, 320, 32, 128, 128]),
    ("inception5b", [384, 192, 384, 48, 128, 128]),
];

impl Default for GoogLeNet {
    fn default() -> Self {
        Self { auxiliary_heads: true, classes: 1000, input_channels: 3 }
    }
}

impl Family for GoogLeNet {
    fn networks() -> Vec<Network<Self>> {
        vec![Network { name: "googlenet", size: 224, spec: Self::default() }]
    }

    fn without_auxiliary_heads(self) -> Self {
        Self { auxiliary_heads: false, ..self }
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { auxiliary_heads, classes, input_channels } = *self;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        let mut chain = Chain::new(input_channels);
        chain.eps = 1e-3;
        let mut stem = Conv2d::square(input_channels, 64, 7).stride(2);
        stem.geometry.padding = [3; 2];
        conv_bn_relu(&mut chain, "conv1", stem);
        chain.then("maxpool1", halving_pool(3));
        conv_bn_relu(&mut chain, "conv2", Conv2d::square(64, 64, 1));
        conv_bn_relu(&mut chain, "conv3", Conv2d::square(64, 192, 3));
        chain.then("maxpool2", halving_pool(3));
        let mut channels = 192;
        let mut auxiliary = Vec::new();
        for (name, inception) in INCEPTIONS {
            channels = add_inception(&mut chain, name, channels, inception);
            match name {
                "inception3b" => drop(chain.then("maxpool3", halving_pool(3))),
                "inception4a" => auxiliary.push(("aux1", chain.end, channels)),
                "inception4d" => auxiliary.push(("aux2", chain.end, channels)),
                "inception4e" => drop(chain.then("maxpool4", halving_pool(2))),
                _ => {}
            }
        }
        chain.then("avgpool", Op::GlobalAvgPool);
        let logits = chain.linear("fc", channels, classes);
        chain.graph.output("main", logits);
        if auxiliary_heads {
            for (name, x, channels) in auxiliary {
                chain.end = x;
                let logits = add_auxiliary_head(&mut chain, name, channels, classes);
                chain.graph.output(name, logits);
            }
        }
        Ok(chain.graph)
    }
}

/// Four parallel branches (Sect. 4, Fig. 2b); returns the sum of their channels.
fn add_inception(chain: &mut Chain, name: &str, channels: usize, inception: Inception) -> usize {
    let [single, reduced_3, wide_3, reduced_5, wide_5, pooled] = inception;
    let x = chain.end;
    conv_bn_relu(chain, &format!("{name}.branch1"), Conv2d::square(channels, single, 1));
    let mut branches = vec![chain.end];
    for (branch, reduced, wide) in [("branch2", reduced_3, wide_3), ("branch3", reduced_5, wide_5)] {
        chain.end = x;
        conv_bn_relu(chain, &format!("{name}.{branch}.0"), Conv2d::square(channels, reduced, 1));
        conv_bn_relu(chain, &format!("{name}.{branch}.1"), Conv2d::square(reduced, wide, 3));
        branches.push(chain.end);
    }
    chain.end = x;
    let pool = Pool { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], padding: [[1; 2]; 2] };
    chain.then(format!("{name}.branch4.0"), Op::MaxPool(pool));
    conv_bn_relu(chain, &format!("{name}.branch4.1"), Conv2d::square(channels, pooled, 1));
    branches.push(chain.end);
    chain.concat(format!("{name}.concat"), &branches);
    single + wide_3 + wide_5 + pooled
}

/// An auxiliary classifier (Sect. 5) with the paper's 5×5 average pool of stride 3, where torchvision's adaptive pool to 4×4
/// has 4×4 windows three or four pixels apart.
fn add_auxiliary_head(chain: &mut Chain, name: &str, channels: usize, classes: usize) -> NodeId {
    let pool = Pool { kernel: [5; 2], stride: [3; 2], dilation: [1; 2], padding: [[0; 2]; 2] };
    chain.then(format!("{name}.avgpool"), Op::AvgPool(pool));
    conv_bn_relu(chain, &format!("{name}.conv"), Conv2d::square(channels, 128, 1));
    chain.then(format!("{name}.flatten"), Op::Flatten);
    chain.linear(format!("{name}.fc1"), 128 * 4 * 4, 1024);
    chain.relu(format!("{name}.relu"));
    chain.linear(format!("{name}.fc2"), 1024, classes)
}

/// Adds a convolution, its batch norm and a ReLU, as `{name}.conv`, `{name}.bn` and `{name}.relu`.
fn conv_bn_relu(chain: &mut Chain, name: &str, conv: Conv2d) {
    chain.conv_bn([format!("{name}.conv"), format!("{name}.bn")], conv);
    chain.relu(format!("{name}.relu"));
}

/// A max pool of stride 2 whose last window may extend beyond the map.
fn halving_pool(kernel: usize) -> Op {
    Op::MaxPool(Pool { kernel: [kernel; 2], stride: [2; 2], dilation: [1; 2], padding: [[0, 1]; 2] })
}

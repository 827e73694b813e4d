//! EfficientNet (Tan & Le, 1905.11946), under torchvision's names.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields, invalid};
use super::layers::{Chain, SqueezeExcite, divisible};
use crate::error::expected;
use crate::graph::{ActivationKind, Conv2d, Op};
use crate::{Graph, Result};

/// EfficientNet-B0, scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EfficientNet {
    /// The factor of all channels.
    width: f64,
    /// The factor of the number of blocks in each stage.
    depth: f64,
    /// The ε of batch norms.
    eps: f64,
    classes: usize,
    input_channels: usize,
}

/// A stage of EfficientNet-B0.
struct Stage {
    /// The expansion factor of a block.
    expansion: usize,
    /// The side of the depthwise kernels.
    kernel: usize,
    stride: usize,
    channels: usize,
    depth: usize,
}

/// EfficientNet-B0 (Table 1); its stem has 32 channels.
const STAGES: [Stage; 7] = [
    Stage { expansion: 1, kernel: 3, stride: 1, channels: 16, depth: 1 },
    Stage { expansion: 6, kernel: 3, stride: 2, channels: 24, depth: 2 },
    Stage { expansion: 6, kernel: 5, stride: 2, channels: 40, depth: 2 },
    Stage { expansion: 6, kernel: 3, stride: 2, channels: 80, depth: 3 },
    Stage { expansion: 6, kernel: 5, stride: 1, channels: 112, depth: 3 },
    Stage { expansion: 6, kernel: 5, stride: 2, channels: 192, depth: 4 },
    Stage { expansion: 6, kernel: 3, stride: 1, channels: 320, depth: 1 },
];

/// Channels after the stem.
const STEM: usize = 32;

/// The ratio of the classifier's features to the last stage's channels.
const HEAD: usize = 4;

/// Channels are multiples of this.
const QUANTUM: usize = 8;

impl Default for EfficientNet {
    /// EfficientNet-B0.
    fn default() -> Self {
        Self { width: 1.0, depth: 1.0, eps: 1e-5, classes: 1000, input_channels: 3 }
    }
}

impl Family for EfficientNet {
    fn networks() -> Vec<Network<Self>> {
        let row =
            |name, size, width, depth, eps| Network { name, size, spec: Self { width, depth, eps, ..Self::default() } };
        vec![
            row("efficientnet-b0", 224, 1.0, 1.0, 1e-5),
            row("efficientnet-b1", 240, 1.0, 1.1, 1e-5),
            row("efficientnet-b2", 260, 1.1, 1.2, 1e-5),
            row("efficientnet-b3", 300, 1.2, 1.4, 1e-5),
            row("efficientnet-b4", 380, 1.4, 1.8, 1e-5),
            row("efficientnet-b5", 456, 1.6, 2.2, 1e-3),
            row("efficientnet-b6", 528, 1.8, 2.6, 1e-3),
            row("efficientnet-b7", 600, 2.0, 3.1, 1e-3),
        ]
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { width, depth, eps, classes, input_channels } = *self;
        for (field, factor) in [("width", width), ("depth", depth)] {
            if !(factor.is_finite() && factor > 0.0) {
                return Err(invalid(field, expected("a factor above 0").found(factor)));
            }
        }
        let wide = |channels: usize| divisible(channels as f64 * width, QUANTUM);
        let deep = |blocks: usize| (blocks as f64 * depth).ceil() as usize;
        check_counts(&STAGES.map(|stage| ("channels", wide(stage.channels))))?;
        check_depths(&STAGES.map(|stage| deep(stage.depth)))?;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        let mut chain = Chain::new(input_channels);
        chain.eps = eps;
        let mut channels = wide(STEM);
        conv_bn_silu(&mut chain, "features.0", Conv2d::square(input_channels, channels, 3).stride(2));
        for (number, stage) in (1..).zip(&STAGES) {
            for index in 0..deep(stage.depth) {
                let block = MbConv {
                    name: format!("features.{number}.{index}"),
                    channels: [channels, wide(stage.channels)],
                    expansion: stage.expansion,
                    kernel: stage.kernel,
                    stride: if index == 0 { stage.stride } else { 1 },
                };
                channels = block.add(&mut chain);
            }
        }
        let features = HEAD * channels;
        conv_bn_silu(&mut chain, "features.8", Conv2d::square(channels, features, 1));
        Ok(chain.classify("classifier.1", features, classes))
    }
}

/// An inverted residual with squeeze-and-excitation.
struct MbConv {
    name: String,
    /// Input and output channels.
    channels: [usize; 2],
    expansion: usize,
    kernel: usize,
    stride: usize,
}

impl MbConv {
    /// `project(SE(depthwise(expand(x)))) + x`, without `+ x` if the shape changes (1801.04381, Sect. 3.4; 1905.11946,
    /// Sect. 4); returns its output channels.
    fn add(&self, chain: &mut Chain) -> usize {
        let [from, to] = self.channels;
        let middle = divisible((from * self.expansion) as f64, QUANTUM);
        let mut parts = (0..).map(|part| format!("{}.block.{part}", self.name));
        let mut part = || parts.next().expect("the counter is unbounded");
        let x = chain.end;
        if middle != from {
            conv_bn_silu(chain, &part(), Conv2d::square(from, middle, 1));
        }
        let depthwise = Conv2d::square(middle, middle, self.kernel).stride(self.stride).groups(middle);
        conv_bn_silu(chain, &part(), depthwise);
        chain.squeeze_excite(&SqueezeExcite {
            name: &part(),
            parts: ["fc1", "fc2"],
            channels: middle,
            reduced: (from / 4).max(1),
            activation: ActivationKind::Silu,
        });
        conv_bn(chain, &part(), Conv2d::square(middle, to, 1));
        if self.stride == 1 && from == to {
            chain.plus(format!("{}.add", self.name), x);
        }
        to
    }
}

/// Adds a convolution and its batch norm, as `{name}.0` and `{name}.1`.
fn conv_bn(chain: &mut Chain, name: &str, conv: Conv2d) {
    chain.conv_bn([format!("{name}.0"), format!("{name}.1")], conv);
}

/// Adds a convolution, its batch norm and a SiLU, as `{name}.0` to `{name}.2`.
fn conv_bn_silu(chain: &mut Chain, name: &str, conv: Conv2d) {
    conv_bn(chain, name, conv);
    chain.then(format!("{name}.2"), Op::Activation(ActivationKind::Silu));
}

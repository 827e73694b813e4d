//! MobileNet (Howard et al., 1704.04861), under the names of timm's `mobilenetv1_100`.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, class_fields, invalid};
use super::layers::{Chain, divisible};
use crate::error::expected;
use crate::graph::{ActivationKind, Conv2d, Op};
use crate::{Graph, Result};

/// MobileNet, scaled. The resolution multiplier (Sect. 3.4) is the side of the images in units of 224 pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MobileNet {
    /// The factor of all channels (Sect. 3.3).
    width: f64,
    classes: usize,
    input_channels: usize,
}

/// Consecutive blocks with the same channels. The first has the stride.
struct Stage {
    channels: usize,
    depth: usize,
    stride: usize,
}

/// Table 1.
const STAGES: [Stage; 5] = [
    Stage { channels: 64, depth: 1, stride: 1 },
    Stage { channels: 128, depth: 2, stride: 2 },
    Stage { channels: 256, depth: 2, stride: 2 },
    Stage { channels: 512, depth: 6, stride: 2 },
    Stage { channels: 1024, depth: 2, stride: 2 },
];

/// Channels after the stem.
const STEM: usize = 32;

/// Channels are multiples of this.
const QUANTUM: usize = 8;

impl Default for MobileNet {
    fn default() -> Self {
        Self { width: 1.0, classes: 1000, input_channels: 3 }
    }
}

impl Family for MobileNet {
    fn networks() -> Vec<Network<Self>> {
        let row = |name, width| Network { name, size: 224, spec: Self { width, ..Self::default() } };
        vec![
            row("mobilenet-v1", 1.0),
            row("mobilenet-v1-0.75", 0.75),
            row("mobilenet-v1-0.5", 0.5),
            row("mobilenet-v1-0.25", 0.25),
        ]
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { width, classes, input_channels } = *self;
        if !(width.is_finite() && width > 0.0) {
            return Err(invalid("width", expected("a factor above 0").found(width)));
        }
        let wide = |channels: usize| divisible(channels as f64 * width, QUANTUM);
        check_counts(&STAGES.map(|stage| ("width", wide(stage.channels))))?;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        let mut chain = Chain::new(input_channels);
        let mut channels = wide(STEM);
        let stem = Conv2d::square(input_channels, channels, 3).stride(2);
        conv_bn_relu6(&mut chain, ["conv_stem", "bn1", "act1"].map(str::to_owned), stem);
        for (number, stage) in STAGES.iter().enumerate() {
            for index in 0..stage.depth {
                let part = |part: &str| format!("blocks.{number}.{index}.{part}");
                let (stride, out) = (if index == 0 { stage.stride } else { 1 }, wide(stage.channels));
                let depthwise = Conv2d::square(channels, channels, 3).stride(stride).groups(channels);
                conv_bn_relu6(&mut chain, ["conv_dw", "bn1", "act1"].map(part), depthwise);
                conv_bn_relu6(&mut chain, ["conv_pw", "bn2", "act2"].map(part), Conv2d::square(channels, out, 1));
                channels = out;
            }
        }
        Ok(chain.classify("classifier", channels, classes))
    }
}

fn conv_bn_relu6(chain: &mut Chain, [conv_name, norm_name, activation]: [String; 3], conv: Conv2d) {
    chain.conv_bn([conv_name, norm_name], conv);
    chain.then(activation, Op::Activation(ActivationKind::RELU6));
}

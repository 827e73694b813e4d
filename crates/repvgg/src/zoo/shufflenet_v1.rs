//! ShuffleNet (Zhang et al., 1707.01083), with the names and channel order of its authors' PyTorch code.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields, invalid};
use super::layers::Chain;
use crate::error::expected;
use crate::graph::{Conv2d, Linear, Op, Pool};
use crate::{Graph, Result};

/// A network of grouped 1×1 convolutions with channel shuffles between them (Table 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ShuffleNetV1 {
    /// Groups of the 1×1 convolutions.
    groups: usize,
    /// Channels of the first stage at a width of 1. Each later stage doubles them.
    channels: usize,
    /// The factor of the stages' channels: the paper's s.
    width: f64,
    /// Channels after the stem.
    stem: usize,
    /// Units in each stage.
    depths: [usize; 3],
    classes: usize,
    input_channels: usize,
}

impl Default for ShuffleNetV1 {
    /// ShuffleNet 1× with three groups.
    fn default() -> Self {
        let (groups, channels, stem) = (3, 240, 24);
        Self { groups, channels, width: 1.0, stem, depths: [4, 8, 4], classes: 1000, input_channels: 3 }
    }
}

impl Family for ShuffleNetV1 {
    fn networks() -> Vec<Network<Self>> {
        let row =
            |name, groups, channels| Network { name, size: 224, spec: Self { groups, channels, ..Self::default() } };
        vec![
            row("shufflenet-v1-g1", 1, 144),
            row("shufflenet-v1-g2", 2, 200),
            row("shufflenet-v1-g3", 3, 240),
            row("shufflenet-v1-g4", 4, 272),
            row("shufflenet-v1-g8", 8, 384),
        ]
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { groups, channels, width, stem, depths, classes, input_channels } = *self;
        let wide: [usize; 3] = std::array::from_fn(|stage| ((channels << stage) as f64 * width) as usize);
        check_counts(&[("groups", groups), ("channels", channels), ("stem", stem)])?;
        check_counts(&wide.map(|channels| ("width", channels)))?;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        check_depths(&depths)?;
        if let Some(channels) = wide.into_iter().find(|channels| channels % 4 != 0 || channels / 4 % groups != 0) {
            let divisor = format_args!("channels divisible by 4 · {groups}");
            return Err(invalid("width", expected(divisor).found(channels)));
        }
        let steps = [[stem, wide[0]], [wide[0], wide[1]], [wide[1], wide[2]]];
        if let Some([from, to]) = steps.into_iter().find(|[from, to]| from >= to || (to - from) % groups != 0) {
            let wider = format_args!("{from} channels plus a multiple of {groups}");
            return Err(invalid("width", expected(wider).found(to)));
        }
        let mut chain = Chain::new(input_channels);
        let conv = Conv2d::square(input_channels, stem, 3).stride(2);
        chain.conv_bn(["first_conv.0".to_owned(), "first_conv.1".to_owned()], conv);
        chain.relu("first_conv.2");
        chain.then("maxpool", Op::MaxPool(HALVED));
        let mut from = stem;
        let mut names = (0..).map(|number| format!("features.{number}"));
        for (stage, depth) in depths.into_iter().enumerate() {
            for index in 0..depth {
                let name = names.next().expect("the counter is unbounded");
                // The stem has too few channels for groups (Sect. 3.2).
                let first_groups = if (stage, index) == (0, 0) { 1 } else { groups };
                let is_halved = index == 0;
                Unit { name, channels: [from, wide[stage]], groups: [first_groups, groups], is_halved }.add(&mut chain);
                from = wide[stage];
            }
        }
        chain.then("globalpool", Op::GlobalAvgPool);
        chain.then("classifier.0", Op::Linear(Linear { in_features: from, out_features: classes, bias: false }));
        Ok(chain.finish())
    }
}

/// The pool that halves a map.
const HALVED: Pool = Pool { kernel: [3; 2], stride: [2; 2], dilation: [1; 2], padding: [[1; 2]; 2] };

/// A ShuffleNet unit (Fig. 2).
struct Unit {
    name: String,
    /// Input and output channels.
    channels: [usize; 2],
    /// Groups of the two 1×1 convolutions.
    groups: [usize; 2],
    /// Whether it halves the map and concatenates its channels with the input, rather than adding to it.
    is_halved: bool,
}

impl Unit {
    /// `ReLU(F(x) + x)`, or `[mean(x), ReLU(F(x))]` if the map is halved. `F` is 1×1, shuffle, depthwise 3×3, 1×1.
    ///
    /// As in the authors' code, the shuffle follows the depthwise convolution, and the second 1×1 convolution's group
    /// `g` of `G` reads the channels `g`, `g + G`, `g + 2G`, …; the paper does the opposite in both cases.
    fn add(&self, chain: &mut Chain) {
        let Self { name, channels: [from, to], groups, is_halved } = self;
        let part = |branch: usize, index: usize| format!("{name}.branch_main_{branch}.{index}");
        let middle = to / 4;
        let (stride, out) = if *is_halved { (2, to - from) } else { (1, *to) };
        let x = chain.end;
        chain.conv_bn([part(1, 0), part(1, 1)], Conv2d::square(*from, middle, 1).groups(groups[0]));
        chain.relu(part(1, 2));
        let depthwise = Conv2d::square(middle, middle, 3).stride(stride).groups(middle);
        chain.conv_bn([part(1, 3), part(1, 4)], depthwise);
        if groups[1] > 1 {
            chain.then(format!("{name}.shuffle"), Op::Shuffle { groups: middle / groups[1] });
        }
        chain.conv_bn([part(2, 0), part(2, 1)], Conv2d::square(middle, out, 1).groups(groups[1]));
        if *is_halved {
            let residual = chain.relu(format!("{name}.relu"));
            chain.end = x;
            let shortcut = chain.then(format!("{name}.branch_proj"), Op::AvgPool(HALVED));
            chain.concat(format!("{name}.concat"), &[shortcut, residual]);
        } else {
            chain.plus(format!("{name}.add"), x);
            chain.relu(format!("{name}.relu"));
        }
    }
}

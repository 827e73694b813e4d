//! VGG (Simonyan & Zisserman, 1409.1556), with or without batch norm, under torchvision's names.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields, invalid};
use super::layers::Chain;
use crate::graph::{Conv2d, Op, Pool};
use crate::{Graph, Result};

/// A plain network of 3×3 convolutions, five pools and three fully connected layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Vgg {
    /// Convolutions before each of the five pools.
    depths: [usize; 5],
    /// Their channels.
    channels: [usize; 5],
    /// Whether a batch norm follows each convolution.
    batch_norm: bool,
    /// Features of the two hidden fully connected layers.
    hidden: usize,
    classes: usize,
    input_channels: usize,
    /// The side of the map that the fully connected layers read: 1/32 of that of the images. At 224 pixels it is 7, the side
    /// to which torchvision pools maps of other sizes.
    #[serde(skip)]
    map: usize,
}

impl Default for Vgg {
    /// VGG-11.
    fn default() -> Self {
        Self {
            depths: [1, 1, 2, 2, 2],
            channels: [64, 128, 256, 512, 512],
            batch_norm: false,
            hidden: 4096,
            classes: 1000,
            input_channels: 3,
            map: 7,
        }
    }
}

impl Family for Vgg {
    fn networks() -> Vec<Network<Self>> {
        let row = |name, depths, batch_norm| Network {
            name,
            size: 224,
            spec: Self { depths, batch_norm, ..Self::default() },
        };
        vec![
            row("vgg-11", [1, 1, 2, 2, 2], false),
            row("vgg-11-bn", [1, 1, 2, 2, 2], true),
            row("vgg-13", [2, 2, 2, 2, 2], false),
            row("vgg-13-bn", [2, 2, 2, 2, 2], true),
            row("vgg-16", [2, 2, 3, 3, 3], false),
            row("vgg-16-bn", [2, 2, 3, 3, 3], true),
            row("vgg-19", [2, 2, 4, 4, 4], false),
            row("vgg-19-bn", [2, 2, 4, 4, 4], true),
        ]
    }

    fn for_size(self, size: usize) -> Self {
        Self { map: size / 32, ..self }
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { depths, channels, batch_norm, hidden, classes, input_channels, map } = *self;
        check_depths(&depths)?;
        check_counts(&channels.map(|count| ("channels", count)))?;
        check_counts(&[("hidden", hidden), ("classes", classes), ("input_channels", input_channels)])?;
        if map == 0 {
            return Err(invalid("size", "expected at least 32 pixels, which five pools halve to one".into()));
        }
        let mut chain = Chain::new(input_channels);
        let mut names = (0..).map(|index| format!("features.{index}"));
        let mut name = || names.next().expect("the counter is unbounded");
        let mut previous = input_channels;
        for (depth, channels) in depths.into_iter().zip(channels) {
            for _ in 0..depth {
                let conv = Conv2d::square(previous, channels, 3).with_bias();
                chain.then(name(), Op::Conv2d(conv));
                if batch_norm {
                    chain.norm(name(), channels);
                }
                chain.relu(name());
                previous = channels;
            }
            chain.then(name(), Op::MaxPool(Pool { kernel: [2; 2], stride: [2; 2], dilation: [1; 2], padding: [[0; 2]; 2] }));
        }
        chain.then("flatten", Op::Flatten);
        chain.linear("classifier.0", previous * map * map, hidden);
        chain.relu("classifier.1");
        chain.linear("classifier.3", hidden, hidden);
        chain.relu("classifier.4");
        chain.linear("classifier.6", hidden, classes);
        Ok(chain.finish())
    }
}

//! Xception (Chollet, 1610.02357), under the names of timm's `legacy_xception`.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields};
use super::layers::Chain;
use crate::graph::{Conv2d, Op, Pool};
use crate::{Graph, Result};

/// A network of depthwise separable convolutions in residual blocks (Fig. 5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Xception {
    /// Channels after each block of the entry flow.
    entry: [usize; 3],
    /// Blocks of the middle flow, which preserve the shape.
    middle: usize,
    /// Channels after the block of the exit flow and after each of its convolutions.
    exit: [usize; 3],
    classes: usize,
    input_channels: usize,
}

/// Channels after each convolution of the stem.
const STEM: [usize; 2] = [32, 64];

impl Default for Xception {
    fn default() -> Self {
        Self { entry: [128, 256, 728], middle: 8, exit: [1024, 1536, 2048], classes: 1000, input_channels: 3 }
    }
}

impl Family for Xception {
    fn networks() -> Vec<Network<Self>> {
        vec![Network { name: "xception", size: 299, spec: Self::default() }]
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { entry, middle, exit, classes, input_channels } = *self;
        check_counts(&entry.map(|channels| ("entry", channels)))?;
        check_counts(&exit.map(|channels| ("exit", channels)))?;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        check_depths(&[middle])?;
        let mut chain = Chain::new(input_channels);
        for (number, conv) in
            (1..).zip([Conv2d::square(input_channels, STEM[0], 3).stride(2), Conv2d::square(STEM[0], STEM[1], 3)])
        {
            chain.conv_bn([format!("conv{number}"), format!("bn{number}")], unpadded(conv));
            chain.relu(format!("act{number}"));
        }
        for block in blocks(entry, middle, exit[0]) {
            block.add(&mut chain);
        }
        for (number, from, to) in [(3, exit[0], exit[1]), (4, exit[1], exit[2])] {
            separable(&mut chain, &format!("conv{number}"), from, to);
            chain.norm(format!("bn{number}"), to);
            chain.relu(format!("act{number}"));
        }
        Ok(chain.classify("fc", exit[2], classes))
    }
}

fn unpadded(mut conv: Conv2d) -> Conv2d {
    conv.geometry.padding = [0; 2];
    conv
}

/// The blocks of the three flows.
fn blocks(entry: [usize; 3], middle: usize, last: usize) -> Vec<XceptionBlock> {
    let [a, b, c] = entry;
    let block = |layers, stride| XceptionBlock { name: String::new(), layers, starts_with_relu: true, stride };
    let mut blocks = vec![
        XceptionBlock { starts_with_relu: false, ..block(vec![[STEM[1], a], [a, a]], 2) },
        block(vec![[a, b], [b, b]], 2),
        block(vec![[b, c], [c, c]], 2),
    ];
    blocks.extend((0..middle).map(|_| block(vec![[c, c]; 3], 1)));
    blocks.push(block(vec![[c, c], [c, last]], 2));
    (1..).zip(blocks).map(|(number, block)| XceptionBlock { name: format!("block{number}"), ..block }).collect()
}

/// A residual block.
struct XceptionBlock {
    name: String,
    /// Channels read and written by each separable convolution.
    layers: Vec<[usize; 2]>,
    /// Whether a ReLU precedes the first convolution.
    starts_with_relu: bool,
    stride: usize,
}

impl XceptionBlock {
    /// `F(x) + x`, with `x` projected if the shape changes. A pool has the stride.
    fn add(&self, chain: &mut Chain) {
        let Self { name, layers, stride, .. } = self;
        let [from, to] = [layers[0][0], layers[layers.len() - 1][1]];
        let x = chain.end;
        let mut parts = (0..).map(|part| format!("{name}.rep.{part}"));
        let mut part = || parts.next().expect("the counter is unbounded");
        for (index, &[from, to]) in layers.iter().enumerate() {
            if index > 0 || self.starts_with_relu {
                chain.relu(part());
            }
            separable(chain, &part(), from, to);
            chain.norm(part(), to);
        }
        if *stride != 1 {
            chain.then(part(), Op::MaxPool(Pool { kernel: [3; 2], stride: [*stride; 2], dilation: [1; 2], padding: [[1; 2]; 2] }));
        }
        let residual = chain.end;
        chain.end = x;
        if from != to || *stride != 1 {
            let projection = Conv2d::square(from, to, 1).stride(*stride);
            chain.conv_bn([format!("{name}.skip"), format!("{name}.skipbn")], projection);
        }
        chain.plus(format!("{name}.add"), residual);
    }
}

/// A depthwise 3×3 convolution, then a 1×1 convolution, with nothing between them.
fn separable(chain: &mut Chain, name: &str, from: usize, to: usize) {
    chain.then(format!("{name}.conv1"), Op::Conv2d(Conv2d::square(from, from, 3).groups(from)));
    chain.then(format!("{name}.pointwise"), Op::Conv2d(Conv2d::square(from, to, 1)));
}

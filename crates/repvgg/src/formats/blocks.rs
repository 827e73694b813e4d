//! Fuses the RepVGG blocks of a file that is no whole network: a backbone without its head, or a detector around one.
//!
//! Blocks are found by the names of their parameters. Each is fused and checked by itself, as a small graph; all other tensors stay
//! as they are.
//!
//! ```
//! use repvgg::formats::blocks::fuse_blocks;
//! use repvgg::zoo::RepVgg;
//! use repvgg::{Tensor, Weights};
//!
//! # fn main() -> repvgg::Result<()> {
//! let spec = RepVgg { depths: [1, 1, 1, 1], width: [0.1; 4], ..RepVgg::default() };
//! let network = Weights::initialise(&spec.training_graph()?, 0);
//! let backbone = network.iter().filter(|(name, _)| !name.starts_with("linear."));
//! let mut file: Weights = backbone.map(|(name, tensor)| (format!("backbone.{name}"), tensor.clone())).collect();
//! file.insert("neck.weight", Tensor::full([4], 1.0));
//!
//! let fused = fuse_blocks(file, None)?;
//! assert_eq!(fused.blocks.len(), 5);
//! assert!(fused.weights.get("backbone.stage1.0.rbr_reparam.weight").is_some());
//! assert_eq!(fused.untouched, ["neck.weight"]);
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use super::dialect::PARTS;
use super::{Container, Dialect, Stored, pytorch, safetensors};
use crate::check::{RegionReport, verify};
use crate::error::expected;
use crate::file::read_bounded;
use crate::fuse::Fusion;
use crate::graph::{BatchNorm, Conv2d, Op};
use crate::{Error, Graph, Result, Weights};

/// The tensors of a file with fused blocks.
#[derive(Debug, Clone)]
pub struct FusedBlocks {
    /// All tensors: fused kernels and biases in place of the blocks' branches, and the others as they were.
    pub weights: Weights,
    /// The comparison of each block with its branches, under the block's name.
    pub blocks: Vec<RegionReport>,
    /// The names of the tensors that belong to no block.
    pub untouched: Vec<String>,
}

impl FusedBlocks {
    /// Accepts blocks that are exact to rounding.
    ///
    /// # Errors
    /// When the error of a block exceeds its bound.
    pub fn accept(&self) -> Result<()> {
        match self.blocks.iter().find(|block| block.error.is_nan() || block.error > 1.0) {
            Some(block) => {
                let problem = expected("an error of at most 1 bound").found(format_args!("{:.3}", block.error));
                Err(Error::fuse(&block.name, problem))
            }
            None => Ok(()),
        }
    }
}

/// The tensors of a file that holds only tensors.
#[derive(Debug, Clone)]
pub struct LooseTensors {
    /// The kind of file.
    pub container: Container,
    /// Floating-point tensors.
    pub weights: Weights,
    /// The names of all others, whose elements are not read.
    pub others: Vec<String>,
}

/// Reads the tensors of a safetensors file or of a checkpoint's state dict `wanted`, whatever network they belong to. `None` for
/// files of other kinds.
///
/// # Errors
/// When the file cannot be read.
pub fn read_tensors(path: &Path, wanted: Option<&str>) -> Result<Option<LooseTensors>> {
    const LIMIT: u64 = 16 << 30;
    let bytes = read_bounded(path, LIMIT)?;
    let place = |error: Error| error.within(path.display());
    let (container, tensors) = if safetensors::is_safetensors(&bytes) {
        (Container::Safetensors, safetensors::read(&bytes).map_err(place)?.tensors)
    } else if pytorch::is_pytorch(&bytes) {
        (Container::Pytorch, pytorch::read(&bytes, wanted).map_err(place)?.tensors)
    } else {
        return Ok(None);
    };
    let (mut weights, mut others) = (Weights::new(), Vec::new());
    for (name, stored) in tensors {
        match stored {
            Stored::Float(tensor) => weights.insert(name, tensor),
            Stored::Other { .. } => others.push(name),
        }
    }
    Ok(Some(LooseTensors { container, weights, others }))
}

/// Fuses every RepVGG block among `weights`, under the names of any [`Dialect`] and behind any prefix. `epsilon` is that of the
/// batch norms, PyTorch's 10⁻⁵ by default.
///
/// # Errors
/// When a block lacks a parameter, or its parameters do not fit each other.
pub fn fuse_blocks(weights: Weights, epsilon: Option<f64>) -> Result<FusedBlocks> {
    let mut fused = FusedBlocks { weights, blocks: Vec::new(), untouched: Vec::new() };
    let mut made = BTreeSet::new();
    for dialect in Dialect::ALL {
        for block in Block::find(&fused.weights, dialect) {
            made.extend(fused.fuse(&block, epsilon).map_err(|error| error.within(&block.name))?);
        }
    }
    fused.untouched =
        fused.weights.iter().map(|(name, _)| name.to_owned()).filter(|name| !made.contains(name)).collect();
    Ok(fused)
}

/// A block of a file.
struct Block {
    /// Its name, with all prefixes.
    name: String,
    dialect: Dialect,
}

impl Block {
    /// The blocks whose 3×3 branch has a dialect's name.
    fn find(weights: &Weights, dialect: Dialect) -> Vec<Self> {
        let kernel = format!(".{}.weight", PARTS[0][dialect as usize]);
        let names = weights.iter().filter_map(|(name, _)| name.strip_suffix(&kernel));
        names.map(|name| Self { name: name.to_owned(), dialect }).collect()
    }

    /// The name of a part in the file, given its row in [`PARTS`].
    fn part(&self, row: usize) -> String {
        format!("{}.{}", self.name, PARTS[row][self.dialect as usize])
    }
}

/// The rows of [`PARTS`].
const DENSE: [usize; 2] = [0, 1];
const POINTWISE: [usize; 2] = [2, 3];
const IDENTITY: usize = 4;
const FUSED: usize = 7;

/// The parameters of a batch norm, which end with its counter.
const NORM: [&str; 5] = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

impl FusedBlocks {
    /// Replaces the branches of `block` by one convolution. Returns the names of its parameters.
    fn fuse(&mut self, block: &Block, epsilon: Option<f64>) -> Result<[String; 2]> {
        let (graph, weights) = self.branches(block, epsilon)?;
        let fusion = Fusion::new(&graph);
        let [region] = fusion.regions() else {
            return Err(Error::fuse("block", expected("one convolution").found(fusion.regions().len())));
        };
        let plain = fusion.apply(&weights)?;
        let report = verify(&fusion, &weights, &plain, [8, 8], |_| ())?;
        self.blocks
            .extend(report.regions.into_iter().map(|region| RegionReport { name: block.name.clone(), ..region }));
        for row in [DENSE[0], DENSE[1], POINTWISE[0], POINTWISE[1], IDENTITY] {
            NORM.iter().for_each(|leaf| drop(self.weights.remove(&format!("{}.{leaf}", block.part(row)))));
        }
        let names = ["weight", "bias"].map(|leaf| format!("{}.{leaf}", block.part(FUSED)));
        for (name, leaf) in names.iter().zip(["weight", "bias"]) {
            self.weights.insert(name, plain.require(&format!("{}.{leaf}", region.name))?.clone());
        }
        Ok(names)
    }

    /// The block as a graph, whose outputs are averaged over the pixels, and its weights.
    fn branches(&self, block: &Block, epsilon: Option<f64>) -> Result<(Graph, Weights)> {
        let kernel = self.weights.require(&format!("{}.weight", block.part(DENSE[0])))?;
        let &[out_channels, per_group, 3, 3] = kernel.shape() else {
            let problem = expected("[K, C, 3, 3]").found(format_args!("{:?}", kernel.shape()));
            return Err(Error::weights(block.part(DENSE[0]), problem));
        };
        let has_identity = self.weights.get(&format!("{}.weight", block.part(IDENTITY))).is_some();
        // Only the identity shows the number of groups. Without it, groups do not change the fused kernel.
        let groups = if has_identity && per_group > 0 { out_channels / per_group } else { 1 };
        let in_channels = per_group * groups;
        let norm = BatchNorm { channels: out_channels, eps: epsilon.unwrap_or(1e-5) };
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: in_channels }, &[]);
        let mut terms = Vec::new();
        for (rows, side) in [(DENSE, 3), (POINTWISE, 1)] {
            let conv = Conv2d::square(in_channels, out_channels, side).groups(groups);
            let conv = graph.add(block.part(rows[0]), Op::conv(conv), &[input]);
            terms.push(graph.add(block.part(rows[1]), Op::BatchNorm(norm), &[conv]));
        }
        if has_identity {
            terms.push(graph.add(block.part(IDENTITY), Op::BatchNorm(norm), &[input]));
        }
        let sum = graph.add(format!("{}.sum", block.name), Op::Add, &terms);
        let mean = graph.add("mean", Op::GlobalAvgPool, &[sum]);
        graph.output("main", mean);
        let weights = graph.parameters().map(|(name, _)| Ok((name.clone(), self.weights.require(&name)?.clone())));
        let weights: Weights = weights.collect::<Result<_>>()?;
        weights.check(&graph)?;
        Ok((graph, weights))
    }
}

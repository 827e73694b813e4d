//! Ablations: one network with several kinds of block, each trained alike with several seeds.
//!
//! Every training is a [run](crate::run) of its own, in `FOLDER/BLOCK/seed-N`, and is resumed or skipped when the same
//! ablation is started again.
//!
//! ```
//! use repvgg::zoo::{BlockKind, RepVgg};
//! use repvgg_train::Device;
//! use repvgg_train::ablation::Ablation;
//! use repvgg_train::recipe::Preset;
//!
//! let ablation = Ablation {
//!     folder: "ablation".into(),
//!     data: "shapes".into(),
//!     network: RepVgg::default(),
//!     blocks: ["full", "3x3", "acb"].into_iter().filter_map(BlockKind::named).collect(),
//!     seeds: 2,
//!     recipe: Preset::named("ablation-quick")?.recipe,
//!     threads: 2,
//!     device: Device::cpu(),
//! };
//! for trial in ablation.trials() {
//!     println!("{}", ablation.path(trial).display());
//! }
//! assert_eq!(ablation.trials().count(), 6);
//! # Ok::<(), repvgg::Error>(())
//! ```

use std::path::{Path, PathBuf};

use repvgg::error::expected;
use repvgg::zoo::{BlockKind, RepVgg};
use repvgg::{Error, Result, Specification};

use crate::Device;
use crate::data::Data;
use crate::recipe::{Preset, Recipe};
use crate::run::{Config, Run, Setup};

/// What is trained: each block with each seed.
#[derive(Debug, Clone)]
pub struct Ablation {
    /// Where the runs are kept.
    pub folder: PathBuf,
    /// The data set, as [`data::open`](crate::data::open) takes it.
    pub data: PathBuf,
    /// The network but for its blocks and classes.
    pub network: RepVgg,
    /// The kinds of block.
    pub blocks: Vec<BlockKind>,
    /// How many seeds, from 0 on. The split of a single folder, the order of images and their augmentation are the same
    /// for all blocks of a seed.
    pub seeds: u64,
    /// How each of them is trained.
    pub recipe: Recipe,
    /// Threads that compute.
    pub threads: usize,
    /// Where it computes.
    pub device: Device,
}

/// One training of an ablation.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Its kind of block.
    pub block: BlockKind,
    /// Its seed.
    pub seed: u64,
}

impl Ablation {
    /// All trainings: all blocks with the first seed, then with the next, so that a table of fewer seeds is there early.
    pub fn trials(&self) -> impl Iterator<Item = Trial> + '_ {
        (0..self.seeds).flat_map(|seed| self.blocks.iter().map(move |&block| Trial { block, seed }))
    }

    /// The folder of a training.
    pub fn path(&self, trial: Trial) -> PathBuf {
        self.folder.join(trial.block.block().name).join(format!("seed-{}", trial.seed))
    }

    /// The network of a block.
    pub fn architecture(&self, block: BlockKind, classes: usize) -> Specification {
        let name = format!("{}:{}", self.network.name, block.block().name);
        RepVgg { name, block, classes, ..self.network.clone() }.into()
    }

    /// The run of a training, new or as far as it has come; `data` are those of its seed.
    ///
    /// # Errors
    /// When its folder holds a run of other settings, or as [`Run::create`] and [`Run::resume`].
    pub fn open(&self, trial: Trial, data: &Data) -> Result<Run> {
        let path = self.path(trial);
        let start = self.setup(trial).assemble_on(data.clone())?;
        if path.join("config.toml").is_file() {
            let run = Run::resume(&path)?;
            check_same(&path, &start.config, run.config())?;
            return Ok(run);
        }
        Run::create(&path, start)
    }

    /// Checks that every network can be trained on `data`, before the first is.
    ///
    /// # Errors
    /// When the recipe does not suit the images, or a network does not take images of their size.
    pub fn check(&self, data: &Data) -> Result<()> {
        let size = self.image_size(data);
        self.recipe.check(size)?;
        for &block in &self.blocks {
            let architecture = self.architecture(block, data.labels.len());
            architecture.training_graph()?.shapes([size; 2]).map_err(|error| error.within(architecture.name()))?;
        }
        Ok(())
    }

    /// The side of the networks' square input in pixels.
    pub fn image_size(&self, data: &Data) -> usize {
        data.side.unwrap_or(self.recipe.size)
    }

    fn setup(&self, trial: Trial) -> Setup {
        let model = self.architecture(trial.block, self.network.classes);
        let preset = Preset { recipe: self.recipe.clone(), model };
        let setup = Setup::new(&self.data, preset);
        Setup { seed: trial.seed, threads: self.threads, device: self.device, ..setup }
    }
}

/// Refuses to mix trainings of different settings in one table; threads and device may differ.
fn check_same(path: &Path, wanted: &Config, found: &Config) -> Result<()> {
    let settings = |config: &Config| {
        [
            ("the recipe", format!("{:?}", config.recipe)),
            ("the network", format!("{:?}", config.architecture)),
            ("the images", config.fingerprint.clone()),
        ]
    };
    let pairs = settings(wanted).into_iter().zip(settings(found));
    match pairs.into_iter().find(|(wanted, found)| wanted != found) {
        Some(((what, _), _)) => {
            let what = expected("a training of the same settings")
                .found(format_args!("another of {what}: choose another folder"));
            Err(Error::spec(path.display(), what))
        }
        None => Ok(()),
    }
}

//! Ablations: one network built from several kinds of block, each trained by the same recipe with several seeds.
//!
//! Each trial is a separate [run](crate::run) in `FOLDER/BLOCK/seed-N`. Starting the same ablation again skips finished
//! runs and resumes interrupted ones.
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

/// The settings of an ablation. It trains each block with each seed.
#[derive(Debug, Clone)]
pub struct Ablation {
    /// The folder of all runs.
    pub folder: PathBuf,
    /// The data set, as [`data::open`](crate::data::open) takes it.
    pub data: PathBuf,
    /// The network. Its kind of block and number of classes are replaced.
    pub network: RepVgg,
    /// The kinds of block to compare.
    pub blocks: Vec<BlockKind>,
    /// The number of seeds, starting at 0. All blocks of a seed share the split of a single folder, the order of images
    /// and their augmentation.
    pub seeds: u64,
    /// The recipe of every run.
    pub recipe: Recipe,
    /// The number of compute threads.
    pub threads: usize,
    /// The device to train on.
    pub device: Device,
}

/// One training run of an ablation.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// The kind of block.
    pub block: BlockKind,
    /// The seed.
    pub seed: u64,
}

impl Ablation {
    /// All trials, seed by seed: a table of all blocks is available after the first seed.
    pub fn trials(&self) -> impl Iterator<Item = Trial> + '_ {
        (0..self.seeds).flat_map(|seed| self.blocks.iter().map(move |&block| Trial { block, seed }))
    }

    /// The run folder of a trial.
    pub fn path(&self, trial: Trial) -> PathBuf {
        self.folder.join(trial.block.block().name).join(format!("seed-{}", trial.seed))
    }

    /// The network built from `block`.
    pub fn architecture(&self, block: BlockKind, classes: usize) -> Specification {
        let name = format!("{}:{}", self.network.name, block.block().name);
        RepVgg { name, block, classes, ..self.network.clone() }.into()
    }

    /// Opens the run of a trial: resumes it if it exists, creates it otherwise. `data` is the data set opened with the
    /// trial's seed.
    ///
    /// # Errors
    /// When the folder holds a run with other settings, and those of [`Run::create`] and [`Run::resume`].
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

    /// Checks that every network can be trained on `data`, without training any.
    ///
    /// # Errors
    /// When the recipe does not suit the images, or a network does not accept images of their size.
    pub fn check(&self, data: &Data) -> Result<()> {
        let size = self.image_size(data);
        self.recipe.check(size)?;
        for &block in &self.blocks {
            let architecture = self.architecture(block, data.labels.len());
            architecture.training_graph()?.shapes([size; 2]).map_err(|error| error.within(architecture.name()))?;
        }
        Ok(())
    }

    /// The side of the networks' square input, in pixels.
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

/// Keeps runs with different settings out of one table. Threads and device may differ.
fn check_same(path: &Path, requested: &Config, existing: &Config) -> Result<()> {
    let settings = |config: &Config| {
        [
            ("recipe", format!("{:?}", config.recipe)),
            ("network", format!("{:?}", config.architecture)),
            ("data set", config.fingerprint.clone()),
        ]
    };
    let pairs = settings(requested).into_iter().zip(settings(existing));
    match pairs.into_iter().find(|(requested, existing)| requested != existing) {
        Some(((setting, _), _)) => {
            let problem = expected("a run with the same settings").found(format_args!("a run with another {setting}"));
            Err(Error::spec(path.display(), problem.with_hint("choose another folder")))
        }
        None => Ok(()),
    }
}

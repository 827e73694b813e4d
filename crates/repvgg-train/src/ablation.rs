//! Ablations: one network with several kinds of block, each trained alike with several seeds.
//!
//! Every training is a [run](crate::run) of its own, in `FOLDER/BLOCK/seed-N`, and is resumed or skipped when the same
//! ablation is started again.

use std::path::{Path, PathBuf};

use repvgg::error::expected;
use repvgg::image::Preprocessing;
use repvgg::zoo::{BlockKind, RepVgg};
use repvgg::{Architecture, Error, Result, Weights};

use crate::data::Data;
use crate::recipe::Recipe;
use crate::run::{Config, Run, fingerprint};

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
    /// Where it computes: `cpu`, `vulkan:0`, ….
    pub device: String,
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
    pub fn architecture(&self, block: BlockKind, classes: usize) -> Architecture {
        let name = format!("{}:{}", self.network.name, block.block().name);
        RepVgg { name, block, classes, ..self.network.clone() }.into()
    }

    /// The run of a training, new or as far as it has come; `data` are those of its seed.
    ///
    /// # Errors
    /// When its folder holds a run of other settings, or as [`Run::create`] and [`Run::resume`].
    pub fn open(&self, trial: Trial, data: &Data) -> Result<Run> {
        let path = self.path(trial);
        let config = self.config(trial, data)?;
        if path.join("config.toml").is_file() {
            let run = Run::resume(&path)?;
            check_same(&path, &config, run.config())?;
            return Ok(run);
        }
        let weights = Weights::initialise(&config.architecture.training_graph()?, trial.seed);
        Run::create(&path, config, data.clone(), &weights)
    }

    fn config(&self, trial: Trial, data: &Data) -> Result<Config> {
        let size = data.side.unwrap_or(self.recipe.size);
        let crop_fraction = if data.side.is_some() { 1.0 } else { Preprocessing::default().crop_fraction };
        let preprocessing = Preprocessing { size, crop_fraction, ..Preprocessing::default() };
        Ok(Config {
            data: self.data.clone(),
            fingerprint: fingerprint(data)?,
            seed: trial.seed,
            threads: self.threads,
            device: self.device.clone(),
            skip_unreadable: false,
            init_from: None,
            labels: data.labels.clone(),
            recipe: self.recipe.clone(),
            preprocessing: preprocessing.for_channels(self.network.input_channels),
            architecture: self.architecture(trial.block, data.labels.len()),
        })
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

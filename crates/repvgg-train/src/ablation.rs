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

/// The validation accuracy of one kind of block, trained with several seeds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accuracies {
    /// The top-1 accuracy after the last epoch of each seed, 0 to 1.
    pub top1: Vec<f64>,
}

impl Accuracies {
    /// Adds the accuracy of a finished run.
    pub fn add(&mut self, run: &Run) {
        let last = run.position().metrics.last();
        self.top1.extend(last.and_then(|metrics| metrics.validation_top1));
    }

    /// The mean over seeds; 0 without any.
    pub fn mean(&self) -> f64 {
        self.top1.iter().sum::<f64>() / self.top1.len().max(1) as f64
    }

    /// The sample standard deviation over seeds; `None` for fewer than two.
    pub fn standard_deviation(&self) -> Option<f64> {
        let (mean, count) = (self.mean(), self.top1.len());
        let squares: f64 = self.top1.iter().map(|top1| (top1 - mean).powi(2)).sum();
        (count > 1).then(|| (squares / (count - 1) as f64).sqrt())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_standard_deviation_are_over_seeds() {
        let one = Accuracies { top1: vec![0.5] };
        assert_eq!((one.mean(), one.standard_deviation()), (0.5, None));
        let two = Accuracies { top1: vec![0.5, 0.7] };
        assert!((two.mean() - 0.6).abs() < 1e-12);
        assert!((two.standard_deviation().unwrap() - 0.02f64.sqrt()).abs() < 1e-12);
    }
}

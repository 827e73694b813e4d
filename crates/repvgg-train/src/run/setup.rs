//! What a new run is made from, and how its configuration and initial weights follow.

use std::path::{Path, PathBuf};

use repvgg::image::Preprocessing;
use repvgg::{Error, Model, Result, Specification, Weights};

use super::{Config, Run, fingerprint};
use crate::Device;
use crate::data::{self, BUILT_IN, Data, Unreadable};
use crate::recipe::{Preset, Recipe};
use crate::transfer::{plain_form, transfer};

/// What a new run is made from.
///
/// ```no_run
/// use repvgg_train::recipe::Preset;
/// use repvgg_train::run::{Control, Pretrained, Setup};
///
/// # fn main() -> repvgg::Result<()> {
/// let preset = Preset::named("quick")?;
/// let setup = Setup { recipe: preset.recipe.clone().with_epochs(3), ..Setup::new("photos/", preset) };
/// let mut run = setup.start("run".as_ref())?;
/// run.train(|_| Control::Continue)?;
///
/// // Fine-tune what it learned on other images: a head for other classes starts afresh.
/// let pretrained = Pretrained { name: "run/best.safetensors".to_owned(), model: run.model()? };
/// let setup = Setup::fine_tune("other-photos/", Preset::named("quick")?.recipe, pretrained)?;
/// setup.start("fine-tuned".as_ref())?.train(|_| Control::Continue)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Setup {
    /// The data set, as [`data::open`] takes it.
    pub data: PathBuf,
    /// How the network is trained.
    pub recipe: Recipe,
    /// The network; it gets as many classes as the data have.
    pub network: Specification,
    /// The model whose weights the run starts from; none for [initial weights](Weights::initialise).
    pub pretrained: Option<Pretrained>,
    /// The side of the network's square input in pixels; none for the images' own where they have one, else the pretrained
    /// model's, else the recipe's.
    pub size: Option<usize>,
    /// Determines everything random: initial weights, order, augmentation, the split of a single folder.
    pub seed: u64,
    /// Threads that compute; as many decode images.
    pub threads: usize,
    /// Where the run computes.
    pub device: Device,
    /// What happens to images that cannot be read.
    pub unreadable: Unreadable,
}

/// A model whose weights a run starts from.
#[derive(Debug, Clone)]
pub struct Pretrained {
    /// Its name, for the record.
    pub name: String,
    /// The model, in training form.
    pub model: Model,
}

/// All that a run starts with.
#[derive(Clone)]
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The data set.
    pub data: Data,
    /// The first weights.
    pub weights: Weights,
    /// How many parameters of these the pretrained model gave.
    pub transferred: usize,
}

impl Setup {
    /// A run of a preset on the data set at `data`, on all processor cores, with seed 0.
    pub fn new(data: impl Into<PathBuf>, preset: Preset) -> Self {
        Self {
            data: data.into(),
            recipe: preset.recipe,
            network: preset.model,
            pretrained: None,
            size: None,
            seed: 0,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            device: Device::cpu(),
            unreadable: Unreadable::Refuse,
        }
    }

    /// A run that starts from the weights of `pretrained`, on the data set at `data`.
    ///
    /// # Errors
    /// When the model is in plain form and nothing says how it was trained.
    pub fn fine_tune(data: impl Into<PathBuf>, recipe: Recipe, pretrained: Pretrained) -> Result<Self> {
        let Pretrained { name, model } = &pretrained;
        let model = model.training_specification().ok_or_else(|| plain_form().within(name))?;
        Ok(Self { pretrained: Some(pretrained), ..Self::new(data, Preset { recipe, model }) })
    }

    /// Opens the data set and works out all that the run starts with; nothing is written.
    ///
    /// # Errors
    /// When the data set cannot be opened, the network cannot be built for its classes, or the pretrained weights do not
    /// fit.
    pub fn assemble(&self) -> Result<Start> {
        self.assemble_on(data::open(&self.data, self.seed)?)
    }

    /// As [`assemble`](Self::assemble), on a data set that is already open.
    ///
    /// # Errors
    /// As there.
    pub fn assemble_on(&self, data: Data) -> Result<Start> {
        let architecture = self.network.clone().with_classes(data.labels.len())?;
        let mut weights = Weights::initialise(&architecture.training_graph()?, self.seed);
        let transferred = match &self.pretrained {
            Some(Pretrained { name, model }) => transfer(&mut weights, model).map_err(|error| error.within(name))?,
            None => 0,
        };
        let config = Config {
            data: absolute(&self.data)?,
            fingerprint: fingerprint(&data)?,
            seed: self.seed,
            threads: self.threads,
            device: self.device.to_string(),
            skip_unreadable: self.unreadable == Unreadable::Skip,
            init_from: self.pretrained.as_ref().map(|pretrained| pretrained.name.clone()),
            labels: data.labels.clone(),
            recipe: self.recipe.clone(),
            preprocessing: self.preprocessing(&data, architecture.input_channels()),
            architecture,
        };
        Ok(Start { config, data, weights, transferred })
    }

    /// Starts the run in a new folder.
    ///
    /// # Errors
    /// As [`assemble`](Self::assemble) and [`Run::create`].
    pub fn start(&self, folder: &Path) -> Result<Run> {
        Run::create(folder, self.assemble()?)
    }

    /// The evaluation transform: whole images where all are squares of one size, a central crop elsewhere; with the
    /// statistics of a pretrained model.
    fn preprocessing(&self, data: &Data, channels: usize) -> Preprocessing {
        let pretrained = self.pretrained.as_ref().map(|pretrained| &pretrained.model.preprocessing);
        let known = pretrained.cloned().unwrap_or_default();
        let known_size = pretrained.map(|preprocessing| preprocessing.size);
        let size = self.size.or(data.side).or(known_size).unwrap_or(self.recipe.size);
        let crop_fraction = if data.side.is_some() { 1.0 } else { known.crop_fraction };
        Preprocessing { size, crop_fraction, ..known }.for_channels(channels)
    }
}

/// The place of a data set as it is found again from any folder.
fn absolute(place: &Path) -> Result<PathBuf> {
    if place == Path::new(BUILT_IN) {
        return Ok(place.to_owned());
    }
    std::path::absolute(place).map_err(|error| Error::io(place.display(), error))
}

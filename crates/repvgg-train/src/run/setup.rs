//! The settings of a new run, and the configuration and initial weights derived from them.

use std::path::{Path, PathBuf};

use repvgg::image::{Orientation, Preprocessing};
use repvgg::{Error, Model, Result, Specification, Weights};

use super::{Config, Run, fingerprint};
use crate::Device;
use crate::data::{self, BUILT_IN, Data, Unreadable};
use crate::recipe::{Preset, Recipe};
use crate::transfer::{plain_form, transfer};

/// The settings of a new run.
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
/// // Fine-tune the result on other images. A head for other classes starts from random weights.
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
    /// The training recipe.
    pub recipe: Recipe,
    /// The network. Its number of classes becomes that of the data set.
    pub network: Specification,
    /// The model whose weights the run starts from. Without one, it starts from [random weights](Weights::initialise).
    pub pretrained: Option<Pretrained>,
    /// The side of the network's square input in pixels. The default is the size of the images if they all have the same,
    /// else the pretrained model's, else the recipe's.
    pub size: Option<usize>,
    /// The seed of everything random: initial weights, order, augmentation, the split of a single folder.
    pub seed: u64,
    /// The number of compute threads. Images are decoded on the same number of further threads.
    pub threads: usize,
    /// The device to train on.
    pub device: Device,
    /// The handling of images that cannot be read.
    pub unreadable: Unreadable,
    /// What is done about the orientation that a camera notes beside the pixels.
    pub orientation: Orientation,
}

/// A model whose weights a run starts from.
#[derive(Debug, Clone)]
pub struct Pretrained {
    /// The name that the run's configuration records.
    pub name: String,
    /// The model, in training form.
    pub model: Model,
}

/// Everything that [`Run::create`] needs.
#[derive(Clone)]
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The data set.
    pub data: Data,
    /// The initial weights.
    pub weights: Weights,
    /// The number of parameters among them that come from the pretrained model.
    pub transferred: usize,
}

impl Setup {
    /// A run with a preset on the data set at `data`, on all processor cores, with seed 0.
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
            orientation: Orientation::Upright,
        }
    }

    /// A run that starts from the weights of `pretrained`, on the data set at `data`.
    ///
    /// # Errors
    /// When the model is in plain form and its training form is unknown.
    pub fn fine_tune(data: impl Into<PathBuf>, recipe: Recipe, pretrained: Pretrained) -> Result<Self> {
        let Pretrained { name, model } = &pretrained;
        let model = model.training_specification().ok_or_else(|| plain_form().within(name))?;
        Ok(Self { pretrained: Some(pretrained), ..Self::new(data, Preset { recipe, model }) })
    }

    /// Opens the data set and derives the configuration and initial weights of the run. Writes nothing.
    ///
    /// # Errors
    /// When the data set cannot be opened, the network cannot be built for its classes, or the pretrained weights do not
    /// fit.
    pub fn assemble(&self) -> Result<Start> {
        self.assemble_on(data::open(&self.data, self.seed)?)
    }

    /// Does the same as [`assemble`](Self::assemble) for a data set that is already open.
    ///
    /// # Errors
    /// Those of [`assemble`](Self::assemble), except for opening the data set.
    pub fn assemble_on(&self, data: Data) -> Result<Start> {
        let data = data.with_orientation(self.orientation);
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
            orientation: self.orientation,
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
    /// Those of [`assemble`](Self::assemble) and [`Run::create`].
    pub fn start(&self, folder: &Path) -> Result<Run> {
        Run::create(folder, self.assemble()?)
    }

    /// The evaluation transform: the whole image if all images are squares of one size, else a central crop. Mean and
    /// deviation are those of the pretrained model, if there is one.
    fn preprocessing(&self, data: &Data, channels: usize) -> Preprocessing {
        let pretrained = self.pretrained.as_ref().map(|pretrained| &pretrained.model.preprocessing);
        let base = pretrained.cloned().unwrap_or_default();
        let pretrained_size = pretrained.map(|preprocessing| preprocessing.size);
        let given = self.size.or(data.side).map(|side| [side; 2]);
        let size = given.or(pretrained_size).unwrap_or([self.recipe.size; 2]);
        let crop_fraction = if data.side.is_some() { 1.0 } else { base.crop_fraction };
        Preprocessing { size, crop_fraction, ..base }.for_channels(channels)
    }
}

/// The place of a data set, independent of the working directory.
fn absolute(place: &Path) -> Result<PathBuf> {
    if place == Path::new(BUILT_IN) {
        return Ok(place.to_owned());
    }
    std::path::absolute(place).map_err(|error| Error::io(place.display(), error))
}

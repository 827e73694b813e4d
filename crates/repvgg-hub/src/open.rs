//! Opens models by any name that a user types.

use std::path::{Path, PathBuf};

use repvgg::engine::Tuning;
use repvgg::formats::{self, HubConfig, Origin};
use repvgg::{Model, Result, Specification};

use crate::{Repository, Settings, Transfer, fetch};

/// The meaning of a model's name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ModelName {
    /// A model file.
    File(PathBuf),
    /// A repository of the hub.
    Repository(Repository),
    /// A network without weights: an architecture's name or a specification file.
    Specification(Box<Specification>),
}

impl ModelName {
    /// Interprets `name`. `hf:OWNER/NAME[@REVISION]` is a repository. A name that exists as a file or looks like a path is a
    /// model file, unless it ends in `.toml`. Any other name is a [specification](Specification::open).
    ///
    /// ```
    /// use repvgg_hub::ModelName;
    ///
    /// assert!(matches!(ModelName::parse("run/best.safetensors")?, ModelName::File(_)));
    /// assert!(matches!(ModelName::parse("hf:timm/repvgg_a0.rvgg_in1k")?, ModelName::Repository(_)));
    /// assert!(matches!(ModelName::parse("repvgg-a0")?, ModelName::Specification(_)));
    /// # Ok::<(), repvgg::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the name of a repository is malformed, an architecture is unknown, or a specification cannot be read.
    pub fn parse(name: &str) -> Result<Self> {
        let path = Path::new(name);
        let is_specification = path.extension().is_some_and(|extension| extension == "toml");
        if Repository::has_prefix(name) {
            Repository::parse(name).map(Self::Repository)
        } else if !is_specification && (path.exists() || path.extension().is_some() || name.contains('/')) {
            Ok(Self::File(path.to_owned()))
        } else {
            Specification::open(name).map(Box::new).map(Self::Specification)
        }
    }
}

/// Options for opening a model.
#[derive(Clone, Default)]
pub struct OpenOptions {
    /// The expected architecture. Weights of another one are an error. Its strides, which weights do not reveal, are used.
    pub architecture: Option<Specification>,
    /// The settings of the hub and its cache; `None` for [those of the environment](Settings::from_env).
    pub settings: Option<Settings>,
}

/// A model and its origin.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The model.
    pub model: Model,
    /// The kind of file; `None` for initial weights.
    pub origin: Option<Origin>,
    /// The model file, if the name is that of a file.
    pub file: Option<PathBuf>,
}

impl Opened {
    /// The measured choices stored next to the model file; empty if there are none.
    ///
    /// # Errors
    /// When the file that holds them cannot be read.
    pub fn tuning(&self) -> Result<Tuning> {
        self.file.as_deref().map_or_else(|| Ok(Tuning::new()), Tuning::beside)
    }
}

/// Opens the model called `name`: a file of any kind that [`formats::open`] reads, or a repository, which is fetched
/// unless the cache holds it. `progress` is called while files arrive.
///
/// # Errors
/// When the file or repository cannot be read, or holds no model of the expected architecture.
pub fn open(name: &str, options: &OpenOptions, progress: &mut dyn FnMut(Transfer<'_>)) -> Result<Opened> {
    if Repository::has_prefix(name) {
        return open_repository(name, options, progress);
    }
    let file = PathBuf::from(name);
    let (model, origin) = formats::open(&file, options.architecture.as_ref())?;
    Ok(Opened { model, origin: Some(origin), file: Some(file) })
}

/// Like [`open`], but an [architecture's](ModelName::parse) name gives its plain form with initial weights, for measurements
/// that do not depend on the weights.
///
/// ```
/// use repvgg_hub::{OpenOptions, open_or_initialise};
///
/// let opened = open_or_initialise("repvgg-a0", &OpenOptions::default(), &mut |_| ())?;
/// assert_eq!(opened.model.classes(), 1000);
/// # Ok::<(), repvgg::Error>(())
/// ```
///
/// # Errors
/// As [`open`] and [`ModelName::parse`].
pub fn open_or_initialise(name: &str, options: &OpenOptions, progress: &mut dyn FnMut(Transfer<'_>)) -> Result<Opened> {
    let ModelName::Specification(specification) = ModelName::parse(name)? else { return open(name, options, progress) };
    let model = Model::initialise(*specification, 0)?.fuse()?;
    Ok(Opened { model, origin: None, file: None })
}

fn open_repository(name: &str, options: &OpenOptions, progress: &mut dyn FnMut(Transfer<'_>)) -> Result<Opened> {
    let repository = Repository::parse(name)?;
    let settings = options.settings.clone().map_or_else(Settings::from_env, Ok)?;
    let snapshot = fetch(&repository, &settings, progress)?;
    let config = snapshot.read_config().map_err(|error| error.within(name))?;
    let architecture = options.architecture.clone().or_else(|| config.as_ref().and_then(HubConfig::named));
    let (model, origin) = formats::open(&snapshot.weights, architecture.as_ref())?;
    let model = match config {
        Some(config) => config.apply(model).map_err(|error| error.within(name))?,
        None => model,
    };
    Ok(Opened { model, origin: Some(origin), file: None })
}

//! Opens models by any name that a user types.

use std::path::{Path, PathBuf};

use repvgg::engine::Tuning;
use repvgg::formats::{self, HubConfig, Origin};
use repvgg::{Error, Model, Result, Specification};

use crate::choose::choose_weights;
use crate::{CONFIG, Repository, Settings, Transfer, fetch, read_config};

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
    /// What the caller knows about the model's file.
    pub file: formats::OpenOptions,
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
    /// The model file, if the name is that of a file or a folder.
    pub file: Option<PathBuf>,
    /// Whether the file, or the `config.json` beside it, states how images are prepared. Otherwise the model's preprocessing is the
    /// usual one.
    pub has_preprocessing: bool,
    /// Sentences about the parts of the file that were not read.
    pub remarks: Vec<String>,
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

/// Opens the model called `name`: a file of any kind that [`formats::open`] reads, a folder with one file of weights, or a
/// repository, which is fetched unless the cache holds it. A `config.json` beside the weights supplies what they do not say:
/// architecture, labels and preprocessing. `progress` is called while files arrive.
///
/// # Errors
/// When the file or repository cannot be read, or holds no model of the expected architecture.
pub fn open(name: &str, options: &OpenOptions, progress: &mut dyn FnMut(Transfer<'_>)) -> Result<Opened> {
    if Repository::has_prefix(name) {
        return open_repository(name, options, progress);
    }
    let folder = Path::new(name).is_dir();
    let file = match folder {
        true => weights_in(Path::new(name)).map_err(|error| error.within(name))?,
        false => PathBuf::from(name),
    };
    let path = file.with_file_name(CONFIG);
    let (config, remark) = match path.is_file().then(|| read_config(&path)).transpose() {
        Ok(config) => (config.flatten(), None),
        Err(error) if folder => return Err(error.within(name)),
        // Beside a file that is named itself, a file of this name may be another program's.
        Err(error) => (None, Some(format!("not used: {error}"))),
    };
    let place = file.parent().unwrap_or(Path::new(".")).display();
    let mut opened = describe(&file, config, options, &place)?;
    opened.remarks.extend(remark);
    Ok(Opened { file: Some(file), ..opened })
}

/// The file of weights in a folder, chosen as in a repository.
fn weights_in(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(Error::from)?;
    let mut names: Vec<String> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    choose_weights(&names).map(|name| folder.join(name))
}

/// Opens weights, with what the `config` at `place` says about them.
fn describe(
    weights: &Path,
    config: Option<HubConfig>,
    options: &OpenOptions,
    place: &dyn std::fmt::Display,
) -> Result<Opened> {
    let named = || config.as_ref().and_then(HubConfig::named);
    let architecture = options.file.architecture.clone().or_else(named);
    let opened = formats::open(weights, &formats::OpenOptions { architecture, ..options.file.clone() })?;
    let formats::Opened { mut model, origin, mut has_preprocessing, remarks } = opened;
    // A file of this program describes itself.
    if let Some(config) = config.filter(|_| !has_preprocessing) {
        has_preprocessing = config.preprocessing.is_some();
        model = config.apply(model).map_err(|error| error.within(place))?;
    }
    Ok(Opened { model, origin: Some(origin), file: None, has_preprocessing, remarks })
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
    Ok(Opened { model, origin: None, file: None, has_preprocessing: true, remarks: Vec::new() })
}

fn open_repository(name: &str, options: &OpenOptions, progress: &mut dyn FnMut(Transfer<'_>)) -> Result<Opened> {
    let repository = Repository::parse(name)?;
    let settings = options.settings.clone().map_or_else(Settings::from_env, Ok)?;
    let snapshot = fetch(&repository, &settings, progress)?;
    let config = snapshot.read_config().map_err(|error| error.within(name))?;
    describe(&snapshot.weights, config, options, &name)
}

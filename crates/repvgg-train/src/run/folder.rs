//! The run folder: its files, and a lock that admits one writing process.
//!
//! | file | content |
//! |---|---|
//! | `config.toml` | the [`Config`] |
//! | `metrics.jsonl` | one [`EpochMetrics`] per epoch |
//! | `curves.svg` | loss and accuracy over the epochs |
//! | `last.safetensors` | the network after the last epoch, in training form |
//! | `best.safetensors` | the network of the best epoch by validation top-1, in training form |
//! | `state.safetensors` | the state to resume from: weights, velocities, position, metrics |
//! | `lock` | locked by the process that writes to the folder |

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use repvgg::Precision;
use repvgg::error::expected;
use repvgg::file::write_atomically;
use repvgg::formats::Stored;
use repvgg::formats::safetensors::{self, Contents};
use repvgg::{Error, Model, Result, Weights};
use serde::{Deserialize, Serialize};

use super::config::Config;
use crate::curves::{self, EpochMetrics};

/// A run folder locked by this process.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Holds the lock while it is open. The system releases the lock even when the process is killed.
    _lock: File,
}

/// The progress of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Finished epochs.
    pub epoch: usize,
    /// Finished steps of the current epoch.
    pub step: usize,
    /// The sum of the losses of the current epoch's images so far.
    pub loss_sum: f64,
    /// The current epoch's images so far.
    pub images: usize,
    /// The current epoch's correctly classified images so far.
    pub correct: usize,
    /// The current epoch's images skipped because they could not be read.
    pub skipped: usize,
    /// Seconds spent in the current epoch.
    pub seconds: f64,
    /// The number of correctly classified validation images after the best epoch; none before the first.
    pub best_correct: Option<usize>,
    /// The metrics of the finished epochs.
    pub metrics: Vec<EpochMetrics>,
}

impl Position {
    /// Whether the run has not made a step yet.
    pub fn is_start(&self) -> bool {
        *self == Self::default()
    }
}

/// The state that a run resumes from.
#[derive(Debug, Clone)]
pub struct State {
    /// Parameters and running statistics.
    pub weights: Weights,
    /// The velocities of SGD.
    pub velocities: Weights,
    /// The progress of the run.
    pub position: Position,
}

/// The prefix of the names of velocities in the state file.
const VELOCITY: &str = "velocity:";
/// The metadata key of the position in the state file.
const POSITION: &str = "position";

impl Folder {
    /// Creates the folder of a new run, or reuses one whose run has not saved a step yet.
    ///
    /// # Errors
    /// When the folder already holds a run, another process is writing to it, or it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| Error::io(path.display(), error))?;
        let folder = Self::lock(path)?;
        let is_start = || matches!(folder.load_state(), Ok(Some(state)) if state.position.is_start());
        if folder.file("config.toml").exists() && !is_start() {
            let problem = expected("a new folder").found("a run");
            return Err(Error::format(path.display(), problem.with_hint("resume it, or choose another folder")));
        }
        Ok(folder)
    }

    /// Opens the folder of an existing run.
    ///
    /// # Errors
    /// When it holds no run, or another process is writing to it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("config.toml").is_file() {
            return Err(Error::format(path.display(), expected("a run folder").found("no config.toml")));
        }
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self> {
        let lock_path = path.join("lock");
        let failed = |error| Error::io(lock_path.display(), error);
        let lock = File::options().create(true).append(true).open(&lock_path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::format(path.display(), "another process is writing to this run"))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the configuration.
    pub(super) fn save_config(&self, config: &Config) -> Result<()> {
        let path = self.file("config.toml");
        let text = toml::to_string(config).map_err(|error| Error::format(path.display(), error.to_string()))?;
        write_atomically(&path, |file| file.write_all(text.as_bytes()))
    }

    /// Reads the configuration.
    pub(super) fn load_config(&self) -> Result<Config> {
        let path = self.file("config.toml");
        let text = fs::read_to_string(&path).map_err(|error| Error::io(path.display(), error))?;
        toml::from_str(&text).map_err(|error: toml::de::Error| {
            let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            Error::format(path.display(), expected("the configuration of a run").found(message)).with_source(error)
        })
    }

    /// Writes a model file.
    pub(super) fn save_model(&self, name: &str, model: &Model) -> Result<()> {
        model.save(&self.file(name))
    }

    /// Writes the metrics and their plot.
    pub(super) fn save_metrics(&self, metrics: &[EpochMetrics], title: &str) -> Result<()> {
        let path = self.file("metrics.jsonl");
        let lines = metrics.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let lines = lines.map_err(|error| Error::format(path.display(), error.to_string()))?;
        write_atomically(&path, |file| lines.iter().try_for_each(|line| writeln!(file, "{line}")))?;
        let picture = curves::svg(metrics, title);
        write_atomically(&self.file("curves.svg"), |file| file.write_all(picture.as_bytes()))
    }

    /// Writes the state to one file, so that its parts are always consistent.
    pub(super) fn save_state(&self, weights: &Weights, velocities: &Weights, position: &Position) -> Result<()> {
        let path = self.file("state.safetensors");
        let position =
            serde_json::to_string(position).map_err(|error| Error::format(path.display(), error.to_string()))?;
        let mut tensors = weights.clone();
        for (name, velocity) in velocities.iter() {
            tensors.insert(format!("{VELOCITY}{name}"), velocity.clone());
        }
        let metadata = HashMap::from([(POSITION.to_owned(), position)]);
        let bytes = safetensors::write(&tensors, Precision::Single, metadata)?;
        write_atomically(&path, |file| file.write_all(&bytes))
    }

    /// Reads the state; `None` if the run stopped before it wrote its first one.
    pub(super) fn load_state(&self) -> Result<Option<State>> {
        let path = self.file("state.safetensors");
        match fs::read(&path) {
            Ok(bytes) => read_state(&bytes).map(Some).map_err(|error| error.within(path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path.display(), error)),
        }
    }
}

fn read_state(bytes: &[u8]) -> Result<State> {
    let Contents { tensors, metadata } = safetensors::read(bytes)?;
    let position = metadata.get(POSITION);
    let position =
        position.ok_or_else(|| Error::format("state", expected("a position in the metadata").found("none")))?;
    let position = serde_json::from_str(position).map_err(|error| Error::format("state", error.to_string()))?;
    let (mut weights, mut velocities) = (Weights::new(), Weights::new());
    for (name, stored) in tensors {
        let Stored::Float(tensor) = stored else {
            return Err(Error::format(name, expected("floating-point elements").found("others")));
        };
        match name.strip_prefix(VELOCITY) {
            Some(name) => velocities.insert(name, tensor),
            None => weights.insert(name, tensor),
        }
    }
    Ok(State { weights, velocities, position })
}

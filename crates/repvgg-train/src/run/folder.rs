//! The run folder: what is in it, and that only one process writes it.
//!
//! | file | content |
//! |---|---|
//! | `config.toml` | the [`Config`] |
//! | `metrics.jsonl` | one [`EpochMetrics`] per epoch |
//! | `curves.svg` | loss and accuracy over the epochs |
//! | `last.safetensors` | the network after the last epoch, in training form |
//! | `best.safetensors` | the network of the best epoch by validation top-1, in training form |
//! | `state.safetensors` | all that resuming needs: weights, velocities, position, metrics |
//! | `lock` | held by the process that writes |

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

/// A run folder held by this process.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Keeps the lock for as long as it is open; the system releases it when the process dies, however it dies.
    _lock: File,
}

/// How far a run has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Whole epochs done.
    pub epoch: usize,
    /// Steps done in the epoch after them.
    pub step: usize,
    /// The sum over that epoch's images of their losses.
    pub loss_sum: f64,
    /// That epoch's images so far, and those classified right.
    pub images: usize,
    /// See `images`.
    pub correct: usize,
    /// That epoch's images left out because they could not be read.
    pub skipped: usize,
    /// Seconds spent in that epoch.
    pub seconds: f64,
    /// The most validation images classified right after an epoch, none before the first.
    pub best_correct: Option<usize>,
    /// The epochs done.
    pub metrics: Vec<EpochMetrics>,
}

impl Position {
    /// Whether no step has been made.
    pub fn is_start(&self) -> bool {
        *self == Self::default()
    }
}

/// All that resuming needs.
#[derive(Debug, Clone)]
pub struct State {
    /// Parameters and running statistics.
    pub weights: Weights,
    /// SGD's velocities.
    pub velocities: Weights,
    /// How far the run has come.
    pub position: Position,
}

/// How a velocity is called in the state file.
const VELOCITY: &str = "velocity:";
/// The key of the position in the state file's metadata.
const POSITION: &str = "position";

impl Folder {
    /// Makes the folder of a new run; one that holds a run without a single saved step is taken over.
    ///
    /// # Errors
    /// When it holds a run already, another process writes it, or it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| Error::io(path.display(), error))?;
        let folder = Self::hold(path)?;
        let is_start = || matches!(folder.load_state(), Ok(Some(state)) if state.position.is_start());
        if folder.file("config.toml").exists() && !is_start() {
            let what = expected("a new folder").found("a run: continue it with --resume, or choose another folder");
            return Err(Error::format(path.display(), what));
        }
        Ok(folder)
    }

    /// Opens the folder of a run to continue it.
    ///
    /// # Errors
    /// When it holds no run, or another process writes it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("config.toml").is_file() {
            return Err(Error::format(path.display(), expected("a run folder").found("no config.toml")));
        }
        Self::hold(path)
    }

    fn hold(path: &Path) -> Result<Self> {
        let lock_path = path.join("lock");
        let failed = |error| Error::io(lock_path.display(), error);
        let lock = File::options().create(true).append(true).open(&lock_path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::format(path.display(), "another process is writing this run")),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of one of its files.
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

    /// Writes the metrics and their picture.
    pub(super) fn save_metrics(&self, metrics: &[EpochMetrics], title: &str) -> Result<()> {
        let path = self.file("metrics.jsonl");
        let lines = metrics.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let lines = lines.map_err(|error| Error::format(path.display(), error.to_string()))?;
        write_atomically(&path, |file| lines.iter().try_for_each(|line| writeln!(file, "{line}")))?;
        let picture = curves::svg(metrics, title);
        write_atomically(&self.file("curves.svg"), |file| file.write_all(picture.as_bytes()))
    }

    /// Writes the state in one file, so that its parts always belong together.
    pub(super) fn save_state(&self, state: &State) -> Result<()> {
        let path = self.file("state.safetensors");
        let position =
            serde_json::to_string(&state.position).map_err(|error| Error::format(path.display(), error.to_string()))?;
        let mut tensors = state.weights.clone();
        for (name, velocity) in state.velocities.iter() {
            tensors.insert(format!("{VELOCITY}{name}"), velocity.clone());
        }
        let metadata = HashMap::from([(POSITION.to_owned(), position)]);
        let bytes = safetensors::write(&tensors, Precision::Single, metadata)?;
        write_atomically(&path, |file| file.write_all(&bytes))
    }

    /// Reads the state; `None` when the run was stopped before it first wrote one.
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

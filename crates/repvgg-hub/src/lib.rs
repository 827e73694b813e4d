//! Fetches models of a hub into the cache that all of its clients share.
//!
//! ```text
//! hf:OWNER/NAME@REVISION ──► commit, file names ──► config.json, weights ──► models--OWNER--NAME/snapshots/COMMIT/
//!         Repository               Client            resumed, verified                   Snapshot
//! ```
//!
//! [`open`] opens a model by any name that a user types: a file, a repository, an architecture.
//!
//! ```no_run
//! use repvgg_hub::{OpenOptions, open};
//!
//! let opened = open("hf:timm/repvgg_a0.rvgg_in1k", &OpenOptions::default(), &mut |transfer| {
//!     println!("{}: {} of {} bytes", transfer.file, transfer.done, transfer.size);
//! })?;
//! assert_eq!(opened.model.classes(), 1000);
//! # Ok::<(), repvgg::Error>(())
//! ```
//!
//! `hf-hub` defines addresses, responses and the layout of the cache. Transfers are implemented here, because that client has
//! no timeouts, does not check the status of a resumed download, and verifies neither sizes nor hashes.
#![forbid(unsafe_code)]

mod cache;
mod checksum;
mod choose;
mod client;
mod download;
mod open;
mod repository;
mod settings;

use std::path::{Path, PathBuf};

use repvgg::error::expected;
use repvgg::file::read_bounded;
use repvgg::formats::hub_config::{self, HubConfig};
use repvgg::{Error, ErrorKind, Result};

use cache::Cached;
use choose::choose_weights;
use client::{Client, Info};
use download::Source;

pub use open::{ModelName, OpenOptions, Opened, open, open_or_initialise};
pub use repository::Repository;
pub use settings::Settings;

/// The file that describes how the weights are used.
const CONFIG: &str = "config.json";

/// The largest accepted `config.json`, in bytes.
const MAX_CONFIG: u64 = 16 << 20;

/// The progress of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// The file's name in the repository.
    pub file: &'a str,
    /// Bytes received so far.
    pub done: u64,
    /// Bytes of the whole file.
    pub size: u64,
}

/// The files of a repository that make up a model, in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The file of weights: safetensors, PyTorch or ONNX.
    pub weights: PathBuf,
    /// The `config.json`, if the repository has one.
    pub config: Option<PathBuf>,
    /// The commit of the files: 40 hexadecimal digits.
    pub commit: String,
}

impl Snapshot {
    /// Reads labels and preprocessing from the `config.json`, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn read_config(&self) -> Result<Option<HubConfig>> {
        self.config.as_deref().map_or(Ok(None), read_config)
    }
}

/// Reads a `config.json`.
fn read_config(path: &Path) -> Result<Option<HubConfig>> {
    let bytes = read_bounded(path, MAX_CONFIG)?;
    hub_config::read(&bytes).map(Some)
}

/// Fetches the weights and the `config.json` of `repository`, as far as the cache lacks them.
///
/// The weights are the first of these that exists: `model.safetensors`; the only `.safetensors`; `pytorch_model.bin`; the only
/// `.pth`, `.bin` or `.onnx`. `progress` is called while a file arrives, but not for a file in the cache.
///
/// # Errors
/// When the repository, the revision or a single file of weights does not exist or may not be read, the hub cannot be reached
/// or stops responding, a file differs from its announced size or hash, or the cache cannot be written. Offline, also when the
/// cache lacks the files. An interrupted file stays in the cache, and the next call resumes it.
pub fn fetch(repository: &Repository, settings: &Settings, progress: &mut dyn FnMut(Transfer<'_>)) -> Result<Snapshot> {
    let cached = Cached::new(settings, repository);
    let attempt = if settings.offline { find(&cached) } else { fetch_into(&cached, repository, settings, progress) };
    attempt.map_err(|error| error.within(repository))
}

/// Finds the snapshot in the cache.
fn find(cached: &Cached) -> Result<Snapshot> {
    let missing = |what: String| {
        Error::new(
            ErrorKind::Io,
            expected(format_args!("{what} in the cache, since HF_HUB_OFFLINE is set")).found("none"),
        )
    };
    let commit = cached.commit()?.ok_or_else(|| missing(cached.reference().display().to_string()))?;
    let folder = cached.snapshot(&commit);
    let names = cached.files(&commit);
    if names.is_empty() {
        return Err(missing(folder.join("model.safetensors").display().to_string()));
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let weights = choose_weights(&names).map_err(|error| error.within("in the cache, since HF_HUB_OFFLINE is set"))?;
    let config = names.contains(&CONFIG).then(|| folder.join(CONFIG));
    Ok(Snapshot { weights: folder.join(weights), config, commit })
}

fn fetch_into(
    cached: &Cached,
    repository: &Repository,
    settings: &Settings,
    progress: &mut dyn FnMut(Transfer<'_>),
) -> Result<Snapshot> {
    let client = Client::new(settings)?;
    let Info { commit, files } = client.info(repository)?;
    let names: Vec<_> = files.iter().map(String::as_str).collect();
    let weights = choose_weights(&names)?;
    let source = Source { client: &client, cached, id: repository.id(), commit: &commit };
    let mut file = |name: &str| {
        let fetched = source.file(name, &mut |done, size| progress(Transfer { file: name, done, size }));
        fetched.map_err(|error| error.within(name))
    };
    let config = names.contains(&CONFIG).then(|| file(CONFIG)).transpose()?;
    let weights = file(weights)?;
    cached.set_commit(&commit)?;
    Ok(Snapshot { weights, config, commit })
}

//! Models of a hub, fetched into the cache that all of its clients share.
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
//! `hf-hub` defines addresses, answers and the layout of the cache. Transfers are our own: that client neither bounds its waiting, nor
//! checks the status of what it resumes, nor verifies sizes and hashes.
#![forbid(unsafe_code)]

mod cache;
mod checksum;
mod choose;
mod client;
mod download;
mod open;
mod repository;
mod settings;

use std::path::PathBuf;

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

/// What says how the weights are used.
const CONFIG: &str = "config.json";

/// The largest `config.json` that is read, in bytes.
const MAX_CONFIG: u64 = 16 << 20;

/// How far a file has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// The file's name in the repository.
    pub file: &'a str,
    /// Bytes that have arrived.
    pub done: u64,
    /// Bytes of the whole file.
    pub size: u64,
}

/// The files of a repository that matter here, on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The file of weights: safetensors, PyTorch or ONNX.
    pub weights: PathBuf,
    /// The `config.json`, when the repository has one.
    pub config: Option<PathBuf>,
    /// The commit they belong to, 40 hexadecimal digits.
    pub commit: String,
}

impl Snapshot {
    /// The labels and the preprocessing that the repository gives, when it has a `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is not what it should be.
    pub fn read_config(&self) -> Result<Option<HubConfig>> {
        let Some(path) = &self.config else { return Ok(None) };
        let bytes = read_bounded(path, MAX_CONFIG)?;
        hub_config::read(&bytes).map(Some)
    }
}

/// The weights and the `config.json` of `repository` in the cache; what is not there yet is fetched.
///
/// The weights are `model.safetensors`, else the only file of that kind, else `pytorch_model.bin`, else the only `.pth`, `.bin` or
/// `.onnx`. `progress` is called while a file arrives, and not for a file that the cache holds.
///
/// # Errors
/// When the repository, the revision or one file of weights is not there or may not be read, the hub cannot be reached or falls
/// silent, what it sends has another size or hash than it said, or the cache cannot be written; when offline, also when the cache
/// does not hold the files. What has arrived of an interrupted file stays, and the next call goes on from there.
pub fn fetch(repository: &Repository, settings: &Settings, progress: &mut dyn FnMut(Transfer<'_>)) -> Result<Snapshot> {
    let cached = Cached::new(settings, repository);
    let attempt = if settings.offline { find(&cached) } else { fetch_into(&cached, repository, settings, progress) };
    attempt.map_err(|error| error.within(repository))
}

/// The snapshot that is in the cache.
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

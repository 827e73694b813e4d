//! The folder of a repository in the cache that all clients of the hub share:
//!
//! ```text
//! models--OWNER--NAME/refs/REVISION            the commit, as text
//!                     blobs/HASH               a file's content
//!                     snapshots/COMMIT/FILE    a link to it
//! .locks/models--OWNER--NAME/HASH.lock         locked while the content is written
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use repvgg::error::expected;
use repvgg::file::{read_bounded, write_atomically};
use repvgg::{Error, Result};

use crate::repository::is_commit;
use crate::{Repository, Settings};

/// The cache of one repository.
pub(crate) struct Cached {
    root: PathBuf,
    repo: Repo,
    layout: CacheRepo,
}

impl Cached {
    pub(crate) fn new(settings: &Settings, repository: &Repository) -> Self {
        let repo = repo(repository.id(), repository.revision());
        let layout = Cache::new(settings.cache.clone()).repo(repo.clone());
        Self { root: settings.cache.clone(), repo, layout }
    }

    /// The file that maps the revision to a commit.
    pub(crate) fn reference(&self) -> PathBuf {
        self.root.join(self.repo.folder_name()).join("refs").join(self.repo.revision())
    }

    /// The commit of the revision when it was last fetched; `None` if it never was.
    pub(crate) fn commit(&self) -> Result<Option<String>> {
        if is_commit(self.repo.revision()) {
            return Ok(Some(self.repo.revision().to_owned()));
        }
        let path = self.reference();
        if !path.is_file() {
            return Ok(None);
        }
        let commit = String::from_utf8(read_bounded(&path, 1 << 10)?).unwrap_or_default().trim().to_owned();
        if is_commit(&commit) {
            return Ok(Some(commit));
        }
        Err(Error::format(path.display(), expected("the 40 digits of a commit").found("something else")))
    }

    /// Records `commit` as that of the revision.
    pub(crate) fn set_commit(&self, commit: &str) -> Result<()> {
        let path = self.reference();
        if self.repo.revision() == commit || fs::read(&path).is_ok_and(|bytes| bytes == commit.as_bytes()) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| Error::io(folder.display(), error))?;
        }
        write_atomically(&path, |file| file.write_all(commit.as_bytes()))
    }

    /// The folder with the files of `commit`.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    /// The names in the snapshot of `commit` whose content exists; empty if there is no snapshot.
    pub(crate) fn files(&self, commit: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.snapshot(commit)) else { return Vec::new() };
        let files = entries.flatten().filter(|entry| entry.path().is_file());
        let mut names: Vec<_> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The path of the content with the hash `digits`.
    pub(crate) fn blob(&self, digits: &str) -> PathBuf {
        self.layout.blob_path(digits)
    }

    /// Locks the content with the hash `digits` against other writers, until the returned file is dropped.
    pub(crate) fn lock(&self, digits: &str) -> io::Result<File> {
        let folder = self.root.join(".locks").join(self.repo.folder_name());
        fs::create_dir_all(&folder)?;
        let file =
            File::options().write(true).create(true).truncate(false).open(folder.join(format!("{digits}.lock")))?;
        match file.lock() {
            // Some network file systems have no locks. The check of the hash protects the content there, too.
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(error),
            _ => Ok(file),
        }
    }

    /// Links `name` of `commit` to the content with the hash `digits`.
    pub(crate) fn link(&self, commit: &str, name: &str, digits: &str) -> io::Result<PathBuf> {
        let folder = self.snapshot(commit);
        fs::create_dir_all(&folder)?;
        let pointer = folder.join(name);
        // Created under a temporary name, then renamed: a concurrent reader finds the old link or the new one.
        static LINKS: AtomicUsize = AtomicUsize::new(0);
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        let new = folder.join(format!(".{digits}.{}.{number}", std::process::id()));
        #[cfg(unix)]
        std::os::unix::fs::symlink(PathBuf::from("../../blobs").join(digits), &new)?;
        #[cfg(not(unix))]
        fs::hard_link(self.blob(digits), &new)?;
        match fs::rename(&new, &pointer) {
            Ok(()) => Ok(pointer),
            Err(error) => {
                let _ = fs::remove_file(&new);
                Err(error)
            }
        }
    }
}

/// A revision of a model repository, as `hf-hub` names it.
pub(crate) fn repo(id: &str, revision: &str) -> Repo {
    Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned())
}

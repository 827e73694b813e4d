//! Atomic writes and bounded reads.
//!
//! ```
//! use repvgg::file::{read_bounded, write_atomically};
//!
//! # fn main() -> repvgg::Result<()> {
//! let path = std::env::temp_dir().join(format!("repvgg-doctest-{}.txt", std::process::id()));
//! write_atomically(&path, |file| file.write_all(b"whole"))?;
//! assert_eq!(read_bounded(&path, 100)?, b"whole");
//! assert!(read_bounded(&path, 4).is_err());
//! # std::fs::remove_file(&path).unwrap();
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::{Builder, NamedTempFile};

use crate::error::expected;
use crate::{Error, Result};

/// Writes a file atomically: `path` contains either all of the new bytes or its previous contents.
///
/// The bytes go to a temporary file in the same folder, which is synced to disk and renamed to `path`. On any failure the
/// temporary file is removed. A `path` that is not a regular file, such as a pipe or a device, is written directly.
///
/// # Errors
/// When the folder does not exist or cannot be written, the disk is full, or `write` fails; the error names `path`.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let attempt = || -> io::Result<()> {
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let mut buffered = BufWriter::new(File::options().write(true).open(path)?);
            write(&mut buffered)?;
            return buffered.flush();
        }
        let mut file = beside(path)?;
        let _unfinished = Unfinished::new(file.path());
        let mut buffered = BufWriter::new(file.as_file_mut());
        write(&mut buffered)?;
        buffered.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    attempt().map_err(|error| Error::io(path.display(), error))
}

/// Refuses an `output` that is the same file as `input`: writing it would destroy what is being read.
///
/// # Errors
/// When both paths lead to the same file.
pub fn refuse_overwrite(input: &Path, output: &Path) -> Result<()> {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(target)) if input == target => Err(Error::spec(
            output.display(),
            expected("a file other than the model").found("the model itself, which would be lost"),
        )),
        _ => Ok(()),
    }
}

/// The most bytes read from a pipe or a device, whose length is not known beforehand.
const STREAM_LIMIT: u64 = 1 << 30;

/// Reads a file of at most `limit` bytes; pipes and devices are limited to 1 GiB.
///
/// # Errors
/// When it cannot be read, is a folder, or is longer; the error names `path`.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |error| Error::io(path.display(), error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Error::format(path.display(), expected("a file").found("a folder")));
    }
    let limit = if metadata.is_file() { limit } else { limit.min(STREAM_LIMIT) };
    let too_long = || Error::format(path.display(), expected(format_args!("at most {limit} bytes")).found("more"));
    if metadata.len() > limit {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit { Err(too_long()) } else { Ok(bytes) }
}

/// The temporary files being written.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes the temporary files of unfinished [`write_atomically`] calls, for a program that exits on a signal.
pub fn remove_unfinished() {
    for path in UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // It may have been renamed in the meantime.
        let _ = std::fs::remove_file(path);
    }
}

/// Registers the path of a temporary file as unfinished until dropped.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(path: &Path) -> Self {
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// A temporary file in the folder of `path`.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private by default; the final file has the usual permissions, subject to the umask.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // The library's error contains the temporary name, which means nothing to the user.
    builder.tempfile_in(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(error.kind(), expected("an existing folder").found(folder.display()).to_string())
        }
        kind => kind.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_new_bytes_replace_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        for bytes in [&b"a long first version"[..], b"second"] {
            write_atomically(&path, |file| file.write_all(bytes)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(names(folder.path()), ["model"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(error.unwrap_err().to_string(), format!("{}: no storage space", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["model"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/model");
        let error = write_atomically(&path, |_| Ok(())).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: ", path.display())), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_and_a_device_stays_a_device() {
        let full = Path::new("/dev/full");
        let error = write_atomically(full, |file| file.write_all(b"bytes")).unwrap_err();
        assert!(error.to_string().starts_with("/dev/full: No space left on device"), "{error}");
        assert!(!fs::metadata(full).unwrap().is_file());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_without_end_is_refused() {
        let error = read_bounded(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(error.to_string(), "/dev/zero: expected at most 1000 bytes, found more");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        write_atomically(&folder.path().join("ours"), |_| Ok(())).unwrap();
        fs::write(folder.path().join("plain"), "").unwrap();
        assert_eq!(mode("ours"), mode("plain"));
    }
}

//! Downloads a file into the cache: resumes it, checks its size and hash, and only then gives it its name.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use repvgg::error::expected;
use repvgg::{Error, ErrorKind, Result};
use ureq::Body;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use ureq::http::{Response, StatusCode};

use crate::cache::Cached;
use crate::client::{Client, Remote, text};

/// The largest file that is fetched, in bytes: the largest accepted model file.
const MAX_SIZE: u64 = 16 << 30;

/// Bytes read from the connection at a time.
const CHUNK: usize = 1 << 16;

/// The files of a commit, on the hub and in the cache.
pub(crate) struct Source<'a> {
    pub(crate) client: &'a Client<'a>,
    pub(crate) cached: &'a Cached,
    pub(crate) id: &'a str,
    pub(crate) commit: &'a str,
}

impl Source<'_> {
    /// Returns the path of the file `name` in the cache, after fetching it if it is missing. `progress` receives the bytes done
    /// and the bytes in total.
    pub(crate) fn file(&self, name: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<PathBuf> {
        let pointer = self.cached.snapshot(self.commit).join(name);
        if pointer.is_file() {
            return Ok(pointer);
        }
        let remote = self.client.describe(self.id, self.commit, name)?;
        if remote.size > MAX_SIZE {
            return Err(Error::format("size", expected(format_args!("at most {MAX_SIZE} bytes")).found(remote.size)));
        }
        let digits = remote.checksum.digits();
        let blob = self.cached.blob(digits);
        let failed = |error| Error::io(blob.display(), error);
        fs::create_dir_all(self.cached.blob("")).map_err(failed)?;
        let lock = self.cached.lock(digits).map_err(failed)?;
        if length(&blob) != Some(remote.size) {
            let partial = self.cached.blob(&format!("{digits}.incomplete"));
            self.fetch(name, &partial, &remote, progress)?;
            verify(&partial, &remote)?;
            fs::rename(&partial, &blob).map_err(failed)?;
        }
        let pointer = self.cached.link(self.commit, name, digits).map_err(failed)?;
        drop(lock);
        Ok(pointer)
    }

    /// Completes the file `partial`, from its end if possible, or from the start.
    fn fetch(&self, name: &str, partial: &Path, remote: &Remote, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let failed = |error| Error::io(partial.display(), error);
        let mut file = File::options().write(true).create(true).truncate(false).open(partial).map_err(failed)?;
        let mut done = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if done == remote.size {
            return Ok(());
        }
        if done > remote.size {
            done = restart(&mut file).map_err(failed)?;
        }
        let response = self.client.open(self.id, self.commit, name, done, remote.size)?;
        match range_start(&response) {
            None => done = restart(&mut file).map_err(failed)?,
            Some(start) if start == done => {}
            Some(start) => {
                return Err(Error::format(
                    "range",
                    expected(format_args!("the bytes from {done} on")).found(format_args!("those from {start} on")),
                ));
            }
        }
        let rest = remote.size - done;
        let announced = text(response.headers(), CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if let Some(announced) = announced.filter(|&announced| announced != rest) {
            return Err(Error::format(
                "size",
                expected(format_args!("{rest} bytes")).found(format_args!("a response of {announced}")),
            ));
        }
        progress(done, remote.size);
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; CHUNK];
        while done < remote.size {
            let wanted = usize::try_from(remote.size - done).unwrap_or(CHUNK).min(CHUNK);
            let read = match body.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(interrupted(done, remote.size, "the connection was closed")),
                Ok(read) => read,
                Err(error) => {
                    return Err(interrupted(done, remote.size, &self.client.describe_failure(&error.into())));
                }
            };
            file.write_all(&buffer[..read]).map_err(failed)?;
            done += read as u64;
            progress(done, remote.size);
        }
        if body.read(&mut buffer[..1]).is_ok_and(|read| read > 0) {
            fs::remove_file(partial).map_err(failed)?;
            return Err(Error::format("size", expected(format_args!("{} bytes", remote.size)).found("more")));
        }
        file.sync_all().map_err(failed)
    }
}

/// The length of the file at `path` in bytes, if there is one.
fn length(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(Metadata::is_file).map(|metadata| metadata.len())
}

/// Empties the file; returns the bytes done, which are 0.
fn restart(file: &mut File) -> io::Result<u64> {
    // A device, such as `/dev/full`, has no length to set.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.rewind()?;
    Ok(0)
}

/// The position of the body in the file; `None` if it is the whole file.
fn range_start(response: &Response<Body>) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let range = text(response.headers(), CONTENT_RANGE)?.strip_prefix("bytes ")?;
    range.split('-').next()?.parse().ok()
}

/// The error for a connection that ended early. The partial file stays for the next run.
fn interrupted(done: u64, size: u64, why: &str) -> Error {
    let problem = format!("interrupted after {done} of {size} bytes ({why}), the next run resumes there");
    Error::new(ErrorKind::Io, problem)
}

/// Checks the hash of the complete file, and removes the file if it differs.
fn verify(partial: &Path, remote: &Remote) -> Result<()> {
    let failed = |error| Error::io(partial.display(), error);
    let mut file = File::open(partial).map_err(failed)?;
    let found = remote.checksum.of(&mut file, remote.size).map_err(failed)?;
    let required = remote.checksum.digits();
    if found == required {
        return Ok(());
    }
    fs::remove_file(partial).map_err(failed)?;
    let name = remote.checksum.name();
    Err(Error::new(ErrorKind::Format, expected(format_args!("{name} {required}")).found(found)))
}

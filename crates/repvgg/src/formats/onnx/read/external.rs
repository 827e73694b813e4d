//! Constants in files next to the model.

use crate::error::{Problem, expected};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::budget::Budget;
use super::{ReadResult, proto, short};

/// The folder of a model's external files, and the files opened so far.
pub(super) struct External<'a> {
    folder: Option<&'a Path>,
    /// The open files and their lengths in bytes, by path in the folder.
    files: HashMap<PathBuf, (File, u64)>,
}

impl<'a> External<'a> {
    pub(super) fn new(folder: Option<&'a Path>) -> Self {
        Self { folder, files: HashMap::new() }
    }

    /// Reads the `length` bytes that `entries` locate.
    pub(super) fn read(&mut self, entries: &[proto::Entry], length: usize, budget: &mut Budget) -> ReadResult<Vec<u8>> {
        let entry = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let number =
            |key: &str| match entry(key) {
                None => Ok(None),
                Some(text) => match text.parse::<u64>() {
                    Ok(number) => Ok(Some(number)),
                    Err(_) => Err(expected(format_args!("the {key} of external data as a number"))
                        .found(format_args!("{text:?}"))),
                },
            };
        let location = entry("location").ok_or_else(|| expected("a location of external data").found("none"))?;
        let offset = number("offset")?.unwrap_or(0);
        let stated = number("length")?.unwrap_or(length as u64);
        if stated != length as u64 {
            return Err(expected(format_args!("{length} bytes of external data")).found(stated).into());
        }
        let (location, path) = (short(location), relative(location)?);
        if !self.files.contains_key(&path) {
            let (file, file_length) = self.open(&path, location)?;
            budget.extend(usize::try_from(file_length).unwrap_or(usize::MAX));
            self.files.insert(path.clone(), (file, file_length));
        }
        let (file, file_length) = self.files.get_mut(&path).expect("the file was opened");
        if offset.checked_add(stated).is_none_or(|end| end > *file_length) {
            let what = expected(format_args!("{length} bytes at {offset} of {location:?}"))
                .found(format_args!("a file of {file_length}"));
            return Err(what.into());
        }
        budget.take(length / size_of::<f32>())?;
        let mut bytes = vec![0; length];
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|error| format!("cannot read {location:?}: {error}"))?;
        Ok(bytes)
    }

    /// Opens a regular file that lies inside the folder after links are resolved.
    fn open(&self, relative: &Path, location: &str) -> ReadResult<(File, u64)> {
        let Some(folder) = self.folder else {
            return Err(expected("all data inside the model")
                .found(format_args!("external data in {location:?}"))
                .into());
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };

        let failed = |error| format!("cannot open {location:?}: {error}");
        let real = |path: PathBuf| path.canonicalize().map_err(failed);
        let (folder, path) = (real(folder.to_owned())?, real(folder.join(relative))?);
        if !path.starts_with(&folder) || !path.is_file() {
            return Err(outside(location).into());
        }
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok((file, length))
    }
}

/// Normalises the path of a location, which must stay inside the folder.
fn relative(location: &str) -> ReadResult<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(location).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err(outside(short(location)).into()),
        }
    }
    Ok(path)
}

fn outside(location: &str) -> Problem {
    expected("external data in a file inside the model's folder").found(format_args!("{location:?}"))
}

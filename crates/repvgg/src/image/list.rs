//! The image files in a folder.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::error::expected;
use crate::{Error, Result};

/// The extensions of image files, in lower case.
const EXTENSIONS: [&str; 8] = ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

/// The image files in the folder `path` and its subfolders, sorted by path. Extensions decide, in upper or lower case.
///
/// If `path` is a file, the list contains only that file, whatever its name. Names that begin with a dot are skipped. Links
/// are followed, but each folder is visited once.
///
/// # Errors
/// When `path` or a subfolder cannot be read.
pub fn list(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let metadata = fs::metadata(path).map_err(|error| Error::io(path.display(), error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let refuse = |error| Error::io(folder.display(), error);
        if !seen.insert(folder.canonicalize().map_err(refuse)?) {
            continue;
        }
        for entry in fs::read_dir(&folder).map_err(refuse)? {
            let entry = entry.map_err(refuse)?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if has_image_extension(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Replaces each folder in `paths` with its image files ([`list`]).
///
/// # Errors
/// When a folder cannot be read or contains no image.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = list(path)?;
            if found.is_empty() {
                return Err(Error::format(path.display(), expected("images").found("none")));
            }
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subfolders_are_listed_in_order() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b/2.PNG", "b/1.jpg", "a.webp", "notes.txt", ".hidden.png", ".git/x.png"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let files = list(root.path()).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.strip_prefix(root.path()).unwrap()).collect();
        assert_eq!(names, ["a.webp", "b/1.jpg", "b/2.PNG"].map(Path::new));
        assert_eq!(list(root.path().join("notes.txt")).unwrap(), [root.path().join("notes.txt")]);
        assert!(list(root.path().join("missing")).unwrap_err().to_string().contains("missing: "));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_its_own_folder_is_followed_once() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.png"), "").unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        assert_eq!(list(root.path()).unwrap().len(), 1);
    }
}

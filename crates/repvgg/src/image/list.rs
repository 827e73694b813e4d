//! The image files in a folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, DirEntry, File},
    io::Read,
    path::{Path, PathBuf},
};

use crate::error::{Problem, expected};
use crate::{Error, Result};

/// The endings of image files, in lower case.
const ENDINGS: [&str; 19] = [
    "apng", "bmp", "dib", "gif", "jfi", "jfif", "jif", "jpe", "jpeg", "jpg", "pam", "pbm", "pgm", "png", "pnm", "ppm",
    "tif", "tiff", "webp",
];

/// The longest ending that [`PassedOver`] names.
const LONGEST_ENDING: usize = 12;

/// The most kinds that a sentence about [`PassedOver`] lists.
const SHOWN: usize = 8;

/// The image files of one or more folders, and the other files there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The image files.
    pub files: Vec<PathBuf>,
    /// The files that are no images.
    pub passed_over: PassedOver,
}

/// Files that are not read, counted by kind.
///
/// ```
/// use repvgg::image::PassedOver;
///
/// let mut passed_over = PassedOver::default();
/// for name in ["a.txt", "b.TXT", "c.mp4"] {
///     passed_over.add(PassedOver::kind(name.as_ref()));
/// }
/// assert_eq!(passed_over.to_string(), "3 files were passed over: 2 .txt, 1 .mp4");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOver(BTreeMap<String, usize>);

impl PassedOver {
    /// The kind of a file: its ending in lower case, such as `.txt`.
    pub fn kind(path: &Path) -> String {
        match ending(path) {
            Some(ending) if ending.chars().count() <= LONGEST_ENDING => format!(".{ending}"),
            Some(_) => "with a long ending".to_owned(),
            None => "without an ending".to_owned(),
        }
    }

    /// Counts one file of a kind.
    pub fn add(&mut self, kind: String) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: Self) {
        for (kind, count) in other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// The number of files.
    pub fn count(&self) -> usize {
        self.0.values().sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for PassedOver {
    /// One sentence, with the most frequent kind first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        let mut kinds: Vec<(&String, &usize)> = self.0.iter().collect();
        kinds.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let mut shown: Vec<String> = kinds.iter().take(SHOWN).map(|(kind, count)| format!("{count} {kind}")).collect();
        let rest: usize = kinds.iter().skip(SHOWN).map(|&(_, count)| count).sum();
        if rest > 0 {
            shown.push(format!("{rest} of other kinds"));
        }
        let files = if count == 1 { "file was" } else { "files were" };
        write!(f, "{count} {files} passed over: {}", shown.join(", "))
    }
}

/// Lists the image files in the folder `path` and its subfolders, sorted by path.
///
/// A file is an image if it has the ending of one, in upper or lower case, or if its first bytes are those of a JPEG, PNG, GIF
/// or WebP file, whatever its name. If `path` is a file, the list contains only that file. Hidden names ([`is_hidden`]) are
/// skipped and not counted. Links are followed, but each folder is visited once.
///
/// # Errors
/// When `path` or a subfolder cannot be read.
pub fn list(path: impl AsRef<Path>) -> Result<Listing> {
    let path = path.as_ref();
    let metadata = fs::metadata(path).map_err(|error| Error::io(path.display(), error))?;
    if !metadata.is_dir() {
        return Ok(Listing { files: vec![path.to_owned()], ..Listing::default() });
    }
    let mut listing = Listing::default();
    let mut seen = BTreeSet::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let refuse = |error| Error::io(folder.display(), error);
        if !seen.insert(folder.canonicalize().map_err(refuse)?) {
            continue;
        }
        for entry in fs::read_dir(&folder).map_err(refuse)? {
            let entry = entry.map_err(refuse)?;
            if is_hidden(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            match Found::of(&entry) {
                Found::Folder => folders.push(path),
                Found::Image => listing.files.push(path),
                Found::Other(kind) => listing.passed_over.add(kind),
            }
        }
    }
    listing.files.sort();
    Ok(listing)
}

/// Replaces each folder in `paths` with its image files ([`list`]).
///
/// # Errors
/// When a folder cannot be read or contains no image.
pub fn files(paths: &[PathBuf]) -> Result<Listing> {
    let mut all = Listing::default();
    for path in paths {
        if path.is_dir() {
            let found = list(path)?;
            if found.files.is_empty() {
                return Err(Error::format(path.display(), found.no_images("images")));
            }
            all.files.extend(found.files);
            all.passed_over.merge(found.passed_over);
        } else {
            all.files.push(path.clone());
        }
    }
    Ok(all)
}

impl Listing {
    /// The problem of a folder without an image where there should be `what`.
    pub fn no_images(&self, what: impl fmt::Display) -> Problem {
        let problem = expected(what).found("none");
        if self.passed_over.is_empty() { problem } else { problem.with_hint(&self.passed_over) }
    }
}

/// What an entry of a folder is.
enum Found {
    Folder,
    Image,
    /// Another file, of this kind.
    Other(String),
}

impl Found {
    fn of(entry: &DirEntry) -> Self {
        let path = entry.path();
        // The type of a link's target. A link to nothing is listed by its ending, so that reading it names it.
        let kind = match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => Some(kind),
            _ => fs::metadata(&path).ok().map(|metadata| metadata.file_type()),
        };
        match kind {
            Some(kind) if kind.is_dir() => Self::Folder,
            Some(kind) if !kind.is_file() => Self::Other("that is no regular file".to_owned()),
            _ if has_image_ending(&path) || has_image_content(&path) => Self::Image,
            _ => Self::Other(PassedOver::kind(&path)),
        }
    }
}

/// Whether a file or folder is skipped because of its name: one that begins with a dot, or what macOS adds to archives.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}

/// Whether the file at `path` is an image by its ending or its first bytes, as [`list`] decides.
pub fn is_image(path: &Path) -> bool {
    path.is_file() && (has_image_ending(path) || has_image_content(path))
}

fn ending(path: &Path) -> Option<String> {
    Some(path.extension()?.to_string_lossy().to_lowercase())
}

fn has_image_ending(path: &Path) -> bool {
    ending(path).is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Whether the file begins as a JPEG, PNG, GIF or WebP file does. The marks of other formats are too short, or, as that of TIFF,
/// begin files of other kinds too, such as raw photographs.
fn has_image_content(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(12).read_to_end(&mut start));
    let is_webp = start.starts_with(b"RIFF") && start.ends_with(b"WEBP");
    read.is_ok()
        && (is_webp
            || [b"\xff\xd8\xff".as_slice(), b"\x89PNG\r\n\x1a\n", b"GIF8"].iter().any(|mark| start.starts_with(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subfolders_are_listed_in_order() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "b/2.PNG",
            "b/1.jpg",
            "a.webp",
            "notes.txt",
            "b/notes.TXT",
            "LICENSE",
            "__MACOSX/y.png",
            ".hidden.png",
            ".git/x.png",
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let Listing { files, passed_over } = list(root.path()).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.strip_prefix(root.path()).unwrap()).collect();
        assert_eq!(names, ["a.webp", "b/1.jpg", "b/2.PNG"].map(Path::new));
        assert_eq!(passed_over.to_string(), "3 files were passed over: 2 .txt, 1 without an ending");
        assert_eq!(list(root.path().join("notes.txt")).unwrap().files, [root.path().join("notes.txt")]);
        assert!(list(root.path().join("missing")).unwrap_err().to_string().contains("missing: "));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_its_own_folder_is_followed_once() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.png"), "").unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        assert_eq!(list(root.path()).unwrap().files.len(), 1);
    }

    /// Endings in any case, and content where the ending says nothing; a raw photograph begins as a TIFF file does.
    #[test]
    fn endings_or_content_make_an_image() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
        let endings = ["jfif", "JPE", "ppm", "PGM", "pnm", "TIF", "tiff", "JPEG", "bmp"];
        endings.iter().enumerate().for_each(|(at, ending)| write(&format!("{at}.{ending}"), b""));
        write("a.jpg?w=600", b"\xff\xd8\xff\xe0 and so on");
        write("b", b"\x89PNG\r\n\x1a\n");
        write("c.img", b"RIFF\x10\0\0\0WEBPVP8 ");
        write("d.dat", b"GIF89a");
        for (name, bytes) in
            [("x.nef", b"II*\0".as_slice()), ("y.wav", b"RIFF\x10\0\0\0WAVEfmt "), ("z.mp4", b"\0\0\0 ftyp")]
        {
            write(name, bytes);
        }
        let listing = list(root.path()).unwrap();
        assert_eq!(listing.files.len(), endings.len() + 4, "{:?}", listing.files);
        assert_eq!(listing.passed_over.to_string(), "3 files were passed over: 1 .mp4, 1 .nef, 1 .wav");
    }

    #[test]
    fn a_sentence_names_few_kinds() {
        let mut passed_over = PassedOver::default();
        for number in 0..12 {
            passed_over.add(PassedOver::kind(format!("x.{number}").as_ref()));
        }
        passed_over.add(PassedOver::kind("x.with spaces and more".as_ref()));
        passed_over.add(PassedOver::kind("x.11".as_ref()));
        let text = passed_over.to_string();
        assert!(
            text.starts_with("14 files were passed over: 2 .11, 1 .0, ") && text.ends_with(", 5 of other kinds"),
            "{text}"
        );
    }

    #[test]
    fn a_folder_without_images_says_what_it_holds() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.heic"), "").unwrap();
        let message = files(&[root.path().to_owned()]).unwrap_err().to_string();
        assert!(message.ends_with(": expected images, found none (1 file was passed over: 1 .heic)"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn pipes_are_not_opened() {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join("a.png");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let listing = list(root.path()).unwrap();
        assert_eq!((listing.files.len(), listing.passed_over.count()), (0, 1));
    }
}

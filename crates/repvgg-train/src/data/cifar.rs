//! CIFAR-10 in its binary format (Krizhevsky 2009): records of a label byte and 32 × 32 planes of red, green and blue.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use repvgg::error::expected;
use repvgg::{Error, Result, image::RgbImage};

use super::{Beside, Data, Dataset, Fingerprint, Split};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;
const FOLDER: &str = "cifar-10-batches-bin";
const TEST: &str = "test_batch.bin";
const NAMES: &str = "batches.meta.txt";
const LABELS: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The records of one or more batch files, in memory.
struct Cifar {
    files: Vec<PathBuf>,
    records: Vec<[u8; RECORD]>,
}

impl Dataset for Cifar {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn label(&self, index: usize) -> usize {
        self.records[index][0].into()
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        let planes = &self.records[index][1..];
        let pixels = (0..PLANE).flat_map(|at| [planes[at], planes[at + PLANE], planes[at + 2 * PLANE]]).collect();
        Ok(RgbImage::from_raw(SIDE as u32, SIDE as u32, pixels).expect("three planes"))
    }

    fn place(&self, index: usize) -> String {
        let folder = self.files[0].parent().unwrap_or(Path::new(""));
        let part = if self.files[0].ends_with(TEST) { "test" } else { "training" };
        format!("{}: {part} image {index}", folder.display())
    }

    fn identify(&self, fingerprint: &mut Fingerprint) -> Result<()> {
        for record in &self.records {
            // The label and one pixel of each row distinguish files at a thirtieth of the cost of hashing all bytes.
            fingerprint.bytes(&record[..1]);
            fingerprint.bytes(&std::array::from_fn::<u8, 96, _>(|row| record[1 + row * SIDE + row % SIDE]));
        }
        Ok(())
    }
}

/// Opens the batches in `root` or in its subfolder [`FOLDER`]; `None` if neither has any.
pub(super) fn open(root: &Path) -> Result<Option<Data>> {
    for folder in [root.to_owned(), root.join(FOLDER)] {
        let batches = batches(&folder);
        if batches.is_empty() {
            continue;
        }
        let is_compressed = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "xz");
        let test = folder.join(TEST);
        let place = folder.display();
        if batches.iter().all(is_compressed) || (!test.exists() && batches.iter().any(is_compressed)) {
            let problem = expected("uncompressed batches").found("*.bin.xz");
            return Err(Error::format(place, problem.with_hint("decompress them with: xz -dk *.xz")));
        }
        let (test, training): (Vec<_>, Vec<_>) =
            batches.into_iter().filter(|path| !is_compressed(path)).partition(|path| path.ends_with(TEST));
        if test.is_empty() {
            return Err(Error::format(
                place,
                expected(format_args!("{TEST} next to the training batches")).found("none"),
            ));
        }
        if training.is_empty() {
            return Err(Error::format(
                place,
                expected(format_args!("training batches data_batch_*.bin next to {TEST}")).found("none"),
            ));
        }
        let labels = labels(&folder)?;
        let (train, validation) = (Arc::new(read(training)?), Arc::new(read(test)?));
        let split = Split::Parts { train: "data_batch".to_owned(), validation: "test_batch".to_owned() };
        return Ok(Some(Data { labels, train, validation, side: Some(SIDE), split, beside: Beside::default() }));
    }
    Ok(None)
}

/// The batch files of a folder, compressed or not, sorted. A folder that cannot be read has none.
fn batches(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.strip_suffix(".xz").unwrap_or(name);
        name == TEST || (name.starts_with("data_batch_") && name.ends_with(".bin"))
    });
    files.sort();
    files
}

/// Reads `files` and checks their lengths and labels.
fn read(files: Vec<PathBuf>) -> Result<Cifar> {
    let mut records = Vec::new();
    for file in &files {
        let bytes = fs::read(file).map_err(|error| Error::io(file.display(), error))?;
        let (batch, rest) = bytes.as_chunks::<RECORD>();
        if batch.is_empty() || !rest.is_empty() {
            let problem = expected(format_args!("a positive multiple of {RECORD} bytes")).found(bytes.len());
            return Err(Error::format(file.display(), problem));
        }
        if let Some(at) = batch.iter().position(|record| usize::from(record[0]) >= LABELS.len()) {
            let problem = expected("a label from 0 to 9").found(batch[at][0]);
            return Err(Error::format(format_args!("record {at}"), problem).within(file.display()));
        }
        records.extend_from_slice(batch);
    }
    Ok(Cifar { files, records })
}

/// The names of the ten classes: those of [`NAMES`] if the folder has that file, else [`LABELS`].
fn labels(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(NAMES);
    if !path.exists() {
        return Ok(LABELS.map(str::to_owned).to_vec());
    }
    let text = fs::read_to_string(&path).map_err(|error| Error::io(path.display(), error))?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.len() != LABELS.len() {
        return Err(Error::format(path.display(), expected("ten names").found(names.len())));
    }
    Ok(names)
}

#[cfg(test)]
mod tests;

//! Constants in a file next to the model.

use std::io::{self, Write};
use std::path::Path;

use super::super::proto;
use super::initializer::Initializer;
use crate::error::expected;
use crate::file::write_atomically;
use crate::{Error, Result};

/// Each external constant begins at a multiple of this many bytes, so that it can be memory-mapped.
const ALIGNMENT: u64 = 4096;

/// Smaller constants stay in the model: readers expect the lists of integers there.
const SMALLEST_EXTERNAL: usize = 1024;

/// Writes large constants to `<file name>.data` next to `path`; returns all constants as the model refers to them.
pub(super) fn write_external(path: &Path, initializers: &[Initializer<'_>]) -> Result<Vec<proto::Tensor>> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name =
        name.ok_or_else(|| Error::spec(path.display(), expected("a file name in Unicode").found("other bytes")))?;
    let location = format!("{name}.data");
    let mut end = 0_u64;
    let mut placed = Vec::new();
    let mut tensors = Vec::new();
    for initializer in initializers {
        if initializer.bytes() < SMALLEST_EXTERNAL {
            tensors.push(initializer.embedded());
            continue;
        }
        let offset = end.next_multiple_of(ALIGNMENT);
        tensors.push(initializer.external(&location, offset));
        placed.push((offset, initializer));
        end = offset + initializer.bytes() as u64;
    }
    write_atomically(&path.with_file_name(&location), |file| write_all(file, &placed))?;
    Ok(tensors)
}

fn write_all(file: &mut dyn Write, placed: &[(u64, &Initializer<'_>)]) -> io::Result<()> {
    let mut end = 0;
    for (offset, initializer) in placed {
        file.write_all(&vec![0; (offset - end) as usize])?;
        file.write_all(&initializer.to_bytes())?;
        end = offset + initializer.bytes() as u64;
    }
    Ok(())
}

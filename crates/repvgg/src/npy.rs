//! NumPy array files (`.npy`): a short text header and the raw elements of one array.
//!
//! The format is NumPy Enhancement Proposal 1 with its later versions: the magic bytes, a version, the length of the
//! header (two bytes in version 1, four from version 2), a Python dictionary with the keys `descr`, `fortran_order`
//! and `shape`, then the elements. Arrays of little-endian `f4` and `f8` are read; `f4` in C order is written.
//!
//! ```
//! use repvgg::{Tensor, npy};
//!
//! # fn main() -> repvgg::Result<()> {
//! let path = std::env::temp_dir().join(format!("repvgg-doctest-{}.npy", std::process::id()));
//! npy::write(&path, &Tensor::full([2, 3], 0.5))?;
//! assert_eq!(npy::read(&path)?.shape(), [2, 3]);
//! # std::fs::remove_file(&path).unwrap();
//! # Ok(())
//! # }
//! ```

mod header;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::error::expected;
use crate::file::write_atomically;
use crate::{Error, Result, Tensor};
use header::{Element, Header};

/// Reads an array; `f8` elements are rounded to `f32`, Fortran order becomes row-major.
///
/// # Errors
/// When the file cannot be read, is not a `.npy` file of a known version, has elements of another type, or has
/// fewer or more elements than its header states. A header cannot cause allocations beyond the file's size.
pub fn read(path: &Path) -> Result<Tensor> {
    let place = path.display();
    let file = File::open(path).map_err(|error| Error::io(&place, error))?;
    let mut file = BufReader::new(file);
    let header = Header::read(&mut file).map_err(|error| error.within(&place))?;
    let mut bytes = Vec::new();
    // One byte more than declared, to detect a longer file.
    let byte_count = header.byte_count();
    file.take(byte_count.saturating_add(1) as u64).read_to_end(&mut bytes).map_err(|error| Error::io(&place, error))?;
    if bytes.len() != byte_count {
        let found = if bytes.len() > byte_count { "more".to_owned() } else { bytes.len().to_string() };
        return Err(Error::format(place, expected(format_args!("{byte_count} bytes of elements")).found(found)));
    }
    let elements: Vec<f32> = match header.element {
        Element::F32 => bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect(),
        Element::F64 => bytes.as_chunks().0.iter().map(|&chunk| f64::from_le_bytes(chunk) as f32).collect(),
    };
    let elements = if header.fortran_order { row_major(&header.shape, &elements) } else { elements };
    Tensor::new(header.shape, elements)
}

/// Writes an array to a file atomically ([`write_atomically`]).
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, tensor: &Tensor) -> Result<()> {
    write_atomically(path, |file| {
        file.write_all(&header::encode(tensor.shape()))?;
        tensor.data().iter().try_for_each(|x| file.write_all(&x.to_le_bytes()))
    })
}

/// Reorders elements from Fortran order, first axis fastest, to row-major order, last axis fastest.
fn row_major(shape: &[usize], elements: &[f32]) -> Vec<f32> {
    let fortran_index = |mut index: usize| {
        // Peel off the row-major digits, last axis first, and weight each with its Fortran stride.
        let mut stride = elements.len();
        let mut flat = 0;
        for &extent in shape.iter().rev() {
            stride /= extent;
            flat += index % extent * stride;
            index /= extent;
        }
        flat
    };
    (0..elements.len()).map(|index| elements[fortran_index(index)]).collect()
}

#[cfg(test)]
mod tests;

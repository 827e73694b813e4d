//! Where constants lie: inside the model, or beside it.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use half::f16;

use super::super::proto::{self, data_type};
use super::build::{Extent, value_info};
use crate::error::expected;
use crate::file::write_atomically;
use crate::{Error, Result};

/// Each constant beside the model begins at a multiple of this many bytes, so that it can be mapped into memory.
const ALIGNMENT: u64 = 4096;

/// Constants of fewer bytes stay inside: readers want the lists of integers there.
const SMALLEST_BESIDE: usize = 1024;

/// A constant of the file.
pub(super) struct Initializer<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements<'a>,
}

/// A constant's elements in the type they are kept in.
pub(super) enum Elements<'a> {
    F32(Cow<'a, [f32]>),
    F16(Vec<f16>),
    I64(Vec<i64>),
}

impl Initializer<'_> {
    fn data_type(&self) -> i32 {
        match self.elements {
            Elements::F32(_) => data_type::FLOAT,
            Elements::F16(_) => data_type::FLOAT16,
            Elements::I64(_) => data_type::INT64,
        }
    }

    /// Bytes of its elements.
    pub(super) fn bytes(&self) -> usize {
        match &self.elements {
            Elements::F32(values) => size_of_val(&**values),
            Elements::F16(values) => size_of_val(&**values),
            Elements::I64(values) => size_of_val(&**values),
        }
    }

    /// Its elements, the lowest byte of each first.
    fn to_bytes(&self) -> Vec<u8> {
        match &self.elements {
            Elements::F32(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Elements::F16(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Elements::I64(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// Its description, for formats that list constants among the inputs.
    pub(super) fn value_info(&self) -> proto::ValueInfo {
        let extents: Vec<Extent<'_>> = self.shape.iter().map(|&extent| Extent::Known(extent)).collect();
        value_info(&self.name, self.data_type(), &extents)
    }

    fn head(&self) -> proto::Tensor {
        proto::Tensor {
            dims: self.shape.iter().map(|&extent| extent as i64).collect(),
            data_type: self.data_type(),
            name: self.name.clone(),
            ..proto::Tensor::default()
        }
    }

    /// The constant with its elements inside the model.
    pub(super) fn inside(&self) -> proto::Tensor {
        proto::Tensor { raw_data: self.to_bytes().into(), ..self.head() }
    }

    /// The constant with its elements at `offset` of the file `location`.
    fn elsewhere(&self, location: &str, offset: u64) -> proto::Tensor {
        let entry = |key: &str, value: String| proto::Entry { key: key.to_owned(), value };
        let external_data = vec![
            entry("location", location.to_owned()),
            entry("offset", offset.to_string()),
            entry("length", self.bytes().to_string()),
        ];
        proto::Tensor { external_data, data_location: proto::EXTERNAL, ..self.head() }
    }
}

/// Writes large constants to `<file name>.data` beside `path`; all of them as the model has them.
pub(super) fn beside(path: &Path, initializers: &[Initializer<'_>]) -> Result<Vec<proto::Tensor>> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name =
        name.ok_or_else(|| Error::spec(path.display(), expected("a file name in Unicode").found("other bytes")))?;
    let location = format!("{name}.data");
    let mut end = 0_u64;
    let mut placed = Vec::new();
    let mut tensors = Vec::new();
    for initializer in initializers {
        if initializer.bytes() < SMALLEST_BESIDE {
            tensors.push(initializer.inside());
            continue;
        }
        let offset = end.next_multiple_of(ALIGNMENT);
        tensors.push(initializer.elsewhere(&location, offset));
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

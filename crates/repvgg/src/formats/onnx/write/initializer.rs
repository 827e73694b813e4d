//! Constants of the file.

use std::borrow::Cow;

use half::f16;

use super::super::proto::{self, data_type};
use super::value_info::{Extent, value_info};

/// A constant of the file.
pub(super) struct Initializer<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements<'a>,
}

/// A constant's elements in their stored type.
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

    /// The size of its elements in bytes.
    pub(super) fn bytes(&self) -> usize {
        match &self.elements {
            Elements::F32(values) => size_of_val(&**values),
            Elements::F16(values) => size_of_val(&**values),
            Elements::I64(values) => size_of_val(&**values),
        }
    }

    /// Its elements, little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
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
    pub(super) fn embedded(&self) -> proto::Tensor {
        proto::Tensor { raw_data: self.to_bytes().into(), ..self.head() }
    }

    /// The constant with its elements at `offset` of the file `location`.
    pub(super) fn external(&self, location: &str, offset: u64) -> proto::Tensor {
        let entry = |key: &str, value: String| proto::Entry { key: key.to_owned(), value };
        let external_data = vec![
            entry("location", location.to_owned()),
            entry("offset", offset.to_string()),
            entry("length", self.bytes().to_string()),
        ];
        proto::Tensor { external_data, data_location: proto::EXTERNAL, ..self.head() }
    }
}

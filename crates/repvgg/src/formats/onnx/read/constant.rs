//! Constants, decoded when a node reads them.

use std::rc::Rc;

use half::{bf16, f16};

use super::budget::Budget;
use super::external::External;
use super::{Failure, ReadResult, proto, short};
use crate::error::expected;
use crate::formats::onnx::proto::data_type;
use crate::{Tensor, element_count};

/// The longest list of integers, such as shapes, axes and sizes.
const MOST_INTEGERS: usize = 4096;

/// The most axes of an array.
pub(super) const MOST_AXES: usize = 8;

/// A constant array.
#[derive(Debug, Clone)]
pub(super) struct Constant {
    /// The name of its initializer; empty for computed constants.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: ConstantData,
}

/// The elements, last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ConstantData {
    Floats(Vec<f32>),
    Integers(Vec<Extent>),
}

/// An integer, which may come from a shape that is not fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Known(i64),
    /// The batch size.
    Batch,
    Unknown,
}

impl Extent {
    /// The function of a known value; what it does not give, or an unknown value, is unknown.
    pub(super) fn map(self, function: impl Fn(i64) -> Option<i64>) -> Self {
        match self {
            Self::Known(value) => function(value).map_or(Self::Unknown, Self::Known),
            _ => Self::Unknown,
        }
    }
}

impl Constant {
    pub(super) fn integers(shape: Vec<usize>, values: Vec<Extent>) -> Self {
        Self { name: String::new(), shape, values: ConstantData::Integers(values) }
    }

    pub(super) fn list(values: Vec<Extent>) -> Self {
        Self::integers(vec![values.len()], values)
    }

    pub(super) fn floats(&self) -> ReadResult<&[f32]> {
        match &self.values {
            ConstantData::Floats(values) => Ok(values),
            ConstantData::Integers(_) => Err(expected("floating-point constants").found("integers").into()),
        }
    }

    /// The only element, which must be a floating-point number.
    pub(super) fn scalar(&self) -> ReadResult<f32> {
        match self.floats()? {
            [only] => Ok(*only),
            more => Err(expected("a constant of one element").found(more.len()).into()),
        }
    }

    pub(super) fn extents(&self) -> ReadResult<&[Extent]> {
        match &self.values {
            ConstantData::Integers(values) => Ok(values),
            ConstantData::Floats(_) => Err(expected("integers").found("floating-point constants").into()),
        }
    }

    /// The integers, all of which must be known.
    pub(super) fn known(&self) -> ReadResult<Vec<i64>> {
        let known = |extent: &Extent| match extent {
            Extent::Known(value) => Ok(*value),
            _ => Err(expected("constant integers").found("values that depend on the batch or the image size").into()),
        };
        self.extents()?.iter().map(known).collect()
    }

    /// The same elements in another shape.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Self {
        Self { shape, ..self.clone() }
    }

    /// The same elements as a tensor.
    pub(super) fn tensor(&self, shape: impl Into<Vec<usize>>) -> ReadResult<Tensor> {
        Tensor::new(shape, self.floats()?.to_vec()).map_err(|error| error.to_string().into())
    }

    /// The axes in another order.
    pub(super) fn transposed(&self, perm: &[usize]) -> ReadResult<Self> {
        let mut seen = vec![false; self.shape.len()];
        let is_permutation = perm.len() == seen.len()
            && perm.iter().all(|&axis| axis < seen.len() && !std::mem::replace(&mut seen[axis], true));
        if !is_permutation {
            return Err(expected(format_args!("an order of {} axes", self.shape.len()))
                .found(format_args!("{perm:?}"))
                .into());
        }
        let mut strides = vec![1; self.shape.len()];
        for axis in (1..self.shape.len()).rev() {
            strides[axis - 1] = strides[axis] * self.shape[axis];
        }
        let shape: Vec<usize> = perm.iter().map(|&axis| self.shape[axis]).collect();
        let strides: Vec<usize> = perm.iter().map(|&axis| strides[axis]).collect();
        let sources = StridedIndices::new(&shape, &strides);
        let values = match &self.values {
            ConstantData::Floats(values) => ConstantData::Floats(sources.map(|source| values[source]).collect()),
            ConstantData::Integers(values) => ConstantData::Integers(sources.map(|source| values[source]).collect()),
        };
        Ok(Self { name: self.name.clone(), shape, values })
    }
}

/// The flat indices of an array's elements with these `strides`, in row-major order of `shape`.
pub(super) struct StridedIndices<'a> {
    shape: &'a [usize],
    strides: &'a [usize],
    index: Vec<usize>,
    offset: usize,
    left: usize,
}

impl<'a> StridedIndices<'a> {
    pub(super) fn new(shape: &'a [usize], strides: &'a [usize]) -> Self {
        Self { shape, strides, index: vec![0; shape.len()], offset: 0, left: shape.iter().product() }
    }
}

impl Iterator for StridedIndices<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let offset = self.offset;
        for axis in (0..self.shape.len()).rev() {
            self.index[axis] += 1;
            self.offset += self.strides[axis];
            if self.index[axis] < self.shape[axis] {
                break;
            }
            self.offset -= self.strides[axis] * self.shape[axis];
            self.index[axis] = 0;
        }
        Some(offset)
    }
}

/// Decodes a tensor of the file or of its external data.
pub(super) fn decode(
    tensor: &proto::Tensor,
    external: &mut External<'_>,
    budget: &mut Budget,
) -> ReadResult<Rc<Constant>> {
    if tensor.dims.len() > MOST_AXES {
        return Err(expected(format_args!("at most {MOST_AXES} axes")).found(tensor.dims.len()).into());
    }
    let extent = |&dim: &i64| usize::try_from(dim).map_err(|_| expected("extents of at least 0").found(dim));
    let shape: Vec<usize> = tensor.dims.iter().map(extent).collect::<Result<_, _>>()?;
    let count = element_count(&shape).filter(|&count| count <= isize::MAX as usize / 8);
    let count = count.ok_or_else(|| expected("a shape within the address space").found(format_args!("{shape:?}")))?;
    let kind = tensor.data_type;
    let width = match kind {
        data_type::FLOAT | data_type::INT32 => 4,
        data_type::DOUBLE | data_type::INT64 => 8,
        data_type::FLOAT16 | data_type::BFLOAT16 => 2,
        data_type::UINT8 | data_type::INT8 | data_type::BOOL => 1,
        other => {
            return Err(expected("constants of floats or integers").found(format_args!("element type {other}")).into());
        }
    };
    let outside = match tensor.data_location {
        proto::EXTERNAL => Some(external.read(&tensor.external_data, count * width, budget)?),
        _ => None,
    };
    let bytes: Option<&[u8]> = match &outside {
        Some(bytes) => Some(bytes),
        None if !tensor.raw_data.is_empty() => Some(&tensor.raw_data),
        None => None,
    };
    let listed = match kind {
        data_type::FLOAT => tensor.float_data.len(),
        data_type::DOUBLE => tensor.double_data.len(),
        data_type::INT64 => tensor.int64_data.len(),
        _ => tensor.int32_data.len(),
    };
    let found = bytes.map_or(listed, |bytes| bytes.len() / width);
    if found != count || bytes.is_some_and(|bytes| bytes.len() % width != 0) {
        return Err(expected(format_args!("{count} elements for the shape {shape:?}")).found(found).into());
    }
    budget.take(count)?;
    let values = match kind {
        data_type::INT64 | data_type::INT32 | data_type::UINT8 | data_type::INT8 | data_type::BOOL => {
            ConstantData::Integers(integers(tensor, kind, bytes, count)?)
        }
        _ => ConstantData::Floats(floats(tensor, kind, bytes)),
    };
    Ok(Rc::new(Constant { name: short(&tensor.name).to_owned(), shape, values }))
}

/// Elements of `N` bytes, little-endian.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn floats(tensor: &proto::Tensor, kind: i32, bytes: Option<&[u8]>) -> Vec<f32> {
    let halves = |widen: fn(u16) -> f32| match bytes {
        Some(bytes) => words(bytes).map(|word| widen(u16::from_le_bytes(word))).collect(),
        None => tensor.int32_data.iter().map(|&bits| widen(bits as u16)).collect(),
    };
    match (kind, bytes) {
        (data_type::FLOAT16, _) => halves(|bits| f16::from_bits(bits).to_f32()),
        (data_type::BFLOAT16, _) => halves(|bits| bf16::from_bits(bits).to_f32()),
        (data_type::DOUBLE, Some(bytes)) => words(bytes).map(|word| f64::from_le_bytes(word) as f32).collect(),
        (data_type::DOUBLE, None) => tensor.double_data.iter().map(|&x| x as f32).collect(),
        (_, Some(bytes)) => words(bytes).map(f32::from_le_bytes).collect(),
        (_, None) => tensor.float_data.clone(),
    }
}

fn integers(tensor: &proto::Tensor, kind: i32, bytes: Option<&[u8]>, count: usize) -> Result<Vec<Extent>, Failure> {
    if count > MOST_INTEGERS {
        return Err(expected(format_args!("at most {MOST_INTEGERS} integers")).found(count).into());
    }
    let values: Vec<i64> = match (kind, bytes) {
        (data_type::INT64, Some(bytes)) => words(bytes).map(i64::from_le_bytes).collect(),
        (data_type::INT64, None) => tensor.int64_data.clone(),
        (data_type::INT32, Some(bytes)) => words(bytes).map(|word| i32::from_le_bytes(word).into()).collect(),
        (data_type::INT8, Some(bytes)) => bytes.iter().map(|&byte| i64::from(byte as i8)).collect(),
        (_, Some(bytes)) => bytes.iter().map(|&byte| byte.into()).collect(),
        (_, None) => tensor.int32_data.iter().map(|&value| value.into()).collect(),
    };
    Ok(values.into_iter().map(Extent::Known).collect())
}

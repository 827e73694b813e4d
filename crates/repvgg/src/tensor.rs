//! A dense row-major array.

use crate::error::expected;
use crate::{Error, Result};

/// A dense row-major array: activations are `[N, C, H, W]`, convolution kernels `[O, I/G, R, S]`.
///
/// `T` is `f32` for stored and computed values, `f64` for the oracle.
///
/// ```
/// use repvgg::Tensor;
///
/// let tensor = Tensor::from_fn([1, 2, 2, 2], |index| index as f32);
/// assert_eq!((tensor.nchw().unwrap(), tensor.data()[5]), ([1, 2, 2, 2], 5.0));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<T = f32> {
    shape: Vec<usize>,
    data: Vec<T>,
}

impl<T> Tensor<T> {
    /// A tensor of `shape` over `data`.
    ///
    /// # Errors
    /// When the shape's product is not the number of elements, or overflows.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        match element_count(&shape) {
            Some(count) if count == data.len() => Ok(Self { shape, data }),
            _ => Err(Error::shape(
                "tensor",
                expected(format_args!("{shape:?}")).found(format_args!("{} elements", data.len())),
            )),
        }
    }

    /// A tensor of `shape` whose element at flat index `i` is `value(i)`.
    ///
    /// # Panics
    /// When the shape's product overflows.
    pub fn from_fn(shape: impl Into<Vec<usize>>, value: impl FnMut(usize) -> T) -> Self {
        let shape = shape.into();
        let count = element_count(&shape).expect("tensor shape overflows");
        Self { shape, data: (0..count).map(value).collect() }
    }

    /// The extent of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, last axis fastest.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// The elements, to write.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The elements, by value.
    pub fn into_data(self) -> Vec<T> {
        self.data
    }

    /// The four extents of an `[N, C, H, W]` tensor.
    ///
    /// # Errors
    /// When the tensor does not have four axes.
    pub fn nchw(&self) -> Result<[usize; 4]> {
        <[usize; 4]>::try_from(self.shape.as_slice())
            .map_err(|_| Error::shape("tensor", expected("[N, C, H, W]").found(format_args!("{:?}", self.shape))))
    }
}

impl<T: Copy> Tensor<T> {
    /// A tensor of `shape` that holds `value` everywhere.
    ///
    /// # Panics
    /// When the shape's product overflows.
    pub fn full(shape: impl Into<Vec<usize>>, value: T) -> Self {
        Self::from_fn(shape, |_| value)
    }

    /// Applies a function to every element.
    pub fn map<U>(&self, value: impl FnMut(T) -> U) -> Tensor<U> {
        Tensor { shape: self.shape.clone(), data: self.data.iter().copied().map(value).collect() }
    }
}

impl Tensor<f32> {
    /// The tensor in double precision.
    pub fn to_f64(&self) -> Tensor<f64> {
        self.map(f64::from)
    }
}

impl Tensor<f64> {
    /// The tensor rounded once to single precision.
    pub fn to_f32(&self) -> Tensor<f32> {
        self.map(|x| x as f32)
    }
}

/// The precision of parameters in a file; arithmetic is always in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Precision {
    /// 32 bits, unchanged.
    #[default]
    Single,
    /// 16 bits, rounded to nearest.
    Half,
}

/// The product of the extents, or `None` when it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, &extent| count.checked_mul(extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_elements_must_agree() {
        let error = Tensor::new([2, 3], vec![0.0f32; 5]).unwrap_err();
        assert_eq!(error.to_string(), "tensor: expected [2, 3], found 5 elements");
        assert!(Tensor::new([usize::MAX, 2], vec![0.0f32; 0]).is_err());
    }
}

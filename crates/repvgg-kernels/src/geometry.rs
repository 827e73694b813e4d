//! The geometry of a convolution. All arithmetic on untrusted sizes happens here.

use std::fmt;

use crate::Algorithm;

/// The geometry of a convolution, independent of the images it is applied to. Pairs are `[vertical, horizontal]`.
///
/// # Example
///
/// ```
/// use repvgg_kernels::Geometry;
///
/// let geometry = Geometry {
///     in_channels: 3,
///     out_channels: 48,
///     kernel: [3, 3],
///     stride: [2, 2],
///     padding: [1, 1],
///     dilation: [1, 1],
///     groups: 1,
/// };
/// assert_eq!(geometry.output_size([224, 224]), Ok([112, 112]));
///
/// let error = geometry.output_size([0, 224]).unwrap_err();
/// assert_eq!((error.place(), error.expected(), error.found()), (
///     "input 0x224".to_owned(),
///     "a padded height of at least 3".to_owned(),
///     "2".to_owned(),
/// ));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// `C`.
    pub in_channels: usize,
    /// `K`.
    pub out_channels: usize,
    /// `[R, S]`.
    pub kernel: [usize; 2],
    /// Input pixels between neighbouring outputs.
    pub stride: [usize; 2],
    /// Rows of zeros above and below, columns of zeros left and right.
    pub padding: [usize; 2],
    /// Input pixels between neighbouring taps.
    pub dilation: [usize; 2],
    /// `G`: filter `k` reads the `C/G` channels of group `k / (K/G)`.
    pub groups: usize,
}

impl Geometry {
    /// Checks every condition that does not depend on the image.
    ///
    /// # Errors
    ///
    /// If a size that must be positive is zero, the channels are not divisible by the groups, or sizes overflow `usize`.
    pub fn validate(&self) -> Result<(), GeometryError> {
        let positive = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("kernel", self.kernel[0].min(self.kernel[1])),
            ("stride", self.stride[0].min(self.stride[1])),
            ("dilation", self.dilation[0].min(self.dilation[1])),
            ("groups", self.groups),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(GeometryError::Zero { name });
        }
        for (name, channels) in [("in_channels", self.in_channels), ("out_channels", self.out_channels)] {
            if channels % self.groups != 0 {
                return Err(GeometryError::Groups { name, channels, groups: self.groups });
            }
        }
        let factors = [self.out_channels, self.in_channels / self.groups, self.kernel[0], self.kernel[1]];
        checked_product(&factors)?;
        for axis in 0..2 {
            self.reach(axis)?;
        }
        Ok(())
    }

    /// `[P, Q]` for an input of `[H, W]`: `(H + 2·padding − dilation·(R − 1) − 1) / stride + 1`, rounded down.
    ///
    /// # Errors
    ///
    /// Those of [`Geometry::validate`], and a kernel larger than the padded image.
    pub fn output_size(&self, input: [usize; 2]) -> Result<[usize; 2], GeometryError> {
        self.validate()?;
        let mut output = [0; 2];
        for axis in 0..2 {
            let reach = self.reach(axis)?;
            let padded = input[axis].checked_add(2 * self.padding[axis]).ok_or(GeometryError::Overflow)?;
            if input[axis] == 0 || padded < reach {
                return Err(GeometryError::TooSmall { input, axis, padded, reach });
            }
            output[axis] = (padded - reach) / self.stride[axis] + 1;
        }
        Ok(output)
    }

    /// `K·(C/G)·R·S`.
    pub fn weight_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.kernel[0] * self.kernel[1]
    }

    /// Input rows (or columns) that one output spans, gaps of the dilation included.
    fn reach(&self, axis: usize) -> Result<usize, GeometryError> {
        const LIMIT: usize = isize::MAX as usize / 4;
        let reach = self.dilation[axis].checked_mul(self.kernel[axis] - 1).and_then(|gap| gap.checked_add(1));
        match reach {
            Some(reach) if reach <= LIMIT && self.padding[axis] <= LIMIT && self.stride[axis] <= LIMIT => Ok(reach),
            _ => Err(GeometryError::Overflow),
        }
    }
}

/// The product of sizes, or [`GeometryError::Overflow`] if that number of `f32` exceeds the address space.
pub(crate) fn checked_product(factors: &[usize]) -> Result<usize, GeometryError> {
    let product = factors.iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor));
    product.filter(|&product| product <= isize::MAX as usize / size_of::<f32>()).ok_or(GeometryError::Overflow)
}

/// The reason why a convolution cannot be built or applied to an image.
///
/// Displayed as `place: expected …, found …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GeometryError {
    /// A size that must be positive is zero.
    Zero {
        /// The field of [`Geometry`].
        name: &'static str,
    },
    /// The channels are not divisible by the groups.
    Groups {
        /// The field of [`Geometry`].
        name: &'static str,
        /// The value of the field.
        channels: usize,
        /// `G`.
        groups: usize,
    },
    /// The padded image is smaller than the kernel.
    TooSmall {
        /// `[H, W]`.
        input: [usize; 2],
        /// 0 for height, 1 for width.
        axis: usize,
        /// The padded size along the axis.
        padded: usize,
        /// The size of the dilated kernel along the axis.
        reach: usize,
    },
    /// A slice has the wrong number of elements.
    Length {
        /// The name of the slice.
        name: &'static str,
        /// The number of elements that the geometry requires.
        expected: usize,
        /// The number of elements of the slice.
        found: usize,
    },
    /// An algorithm does not compute convolutions of this kind.
    Algorithm {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The system cannot allocate the packed weights.
    Memory,
    /// A size does not fit the address space.
    Overflow,
}

impl GeometryError {
    /// The place of the error: a field, a slice or the input.
    pub fn place(&self) -> String {
        match *self {
            Self::Zero { name } | Self::Groups { name, .. } | Self::Length { name, .. } => name.to_owned(),
            Self::TooSmall { input: [height, width], .. } => format!("input {height}x{width}"),
            Self::Algorithm { .. } => "algorithm".to_owned(),
            Self::Memory => "packed weights".to_owned(),
            Self::Overflow => "geometry".to_owned(),
        }
    }

    /// The value that was expected there.
    pub fn expected(&self) -> String {
        match *self {
            Self::Zero { .. } => "at least 1".to_owned(),
            Self::Groups { groups, .. } => format!("a multiple of {groups} groups"),
            Self::TooSmall { axis, reach, .. } => {
                format!("a padded {} of at least {reach}", ["height", "width"][axis])
            }
            Self::Length { expected, .. } => format!("{expected} elements"),
            Self::Algorithm { .. } => "one that computes this geometry".to_owned(),
            Self::Memory => "enough memory".to_owned(),
            Self::Overflow => "sizes within the address space".to_owned(),
        }
    }

    /// The value that was found instead.
    pub fn found(&self) -> String {
        match *self {
            Self::Zero { .. } => "0".to_owned(),
            Self::Groups { channels, .. } => channels.to_string(),
            Self::TooSmall { padded, .. } => padded.to_string(),
            Self::Length { found, .. } => found.to_string(),
            Self::Algorithm { algorithm } => algorithm.to_string(),
            Self::Memory => "a failed allocation".to_owned(),
            Self::Overflow => "larger sizes".to_owned(),
        }
    }
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.place(), self.expected(), self.found())
    }
}

impl std::error::Error for GeometryError {}

#[cfg(test)]
mod tests;

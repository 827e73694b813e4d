//! The windows of pooling operations.

use serde::{Deserialize, Serialize};

use super::Shape;
use crate::error::{Problem, expected};

/// The most windows of a pool that may cover one pixel, on average. More means a malformed graph that would take hours to
/// compute.
const OVERLAP_LIMIT: usize = 1 << 10;

/// The window of a pooling operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Step between the taps of a window.
    #[serde(default = "dense", skip_serializing_if = "is_dense")]
    pub dilation: [usize; 2],
    /// Rows added above and below, columns added left and right.
    pub padding: [[usize; 2]; 2],
}

fn dense() -> [usize; 2] {
    [1; 2]
}

fn is_dense(dilation: &[usize; 2]) -> bool {
    *dilation == dense()
}

impl Pool {
    /// The output shape: windows that fit into the padded input, the last partial one dropped.
    pub(super) fn shape(&self, [channels, height, width]: Shape) -> Result<Shape, Problem> {
        let Self { kernel, stride, dilation, padding } = *self;
        let zeros = [kernel, stride, dilation].as_flattened().contains(&0);
        let span = [0, 1].map(|axis: usize| kernel[axis].saturating_sub(1) * dilation[axis] + 1);
        let is_padded_away = |axis: usize| padding[axis].iter().any(|&padding| padding >= span[axis]);
        if zeros || (0..2).any(is_padded_away) {
            let found = expected("kernel, stride and dilation of at least 1 and padding smaller than the kernel");
            return Err(found.found(format_args!(
                "kernel {kernel:?}, stride {stride:?}, dilation {dilation:?}, padding {padding:?}"
            )));
        }
        let extent = |input: usize, axis: usize| {
            let padded = padding[axis][0].checked_add(padding[axis][1])?.checked_add(input)?;
            Some(padded.checked_sub(span[axis])? / stride[axis] + 1)
        };
        match (extent(height, 0), extent(width, 1)) {
            (Some(p), Some(q)) => {
                let visits = [p, q, kernel[0], kernel[1]].into_iter().try_fold(1usize, usize::checked_mul);
                match visits {
                    Some(visits) if visits / OVERLAP_LIMIT <= height.saturating_mul(width).max(256) => {
                        Ok([channels, p, q])
                    }
                    _ => Err(expected(format_args!("each pixel in at most {OVERLAP_LIMIT} windows"))
                        .found(format_args!("kernel {kernel:?} with stride {stride:?}"))),
                }
            }
            _ => Err(format!("kernel {kernel:?} does not fit input [{height}, {width}] padded by {padding:?}").into()),
        }
    }
}

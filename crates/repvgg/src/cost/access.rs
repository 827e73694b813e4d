//! Memory access cost: the bytes that operations move (Ma et al., 1807.11164, Sect. 2; 2101.03697, Sect. 3.1).
//!
//! An operation reads its inputs and its parameters and writes its output, each once and in f32: a 1×1 convolution of `c₁`
//! to `c₂` channels on `h×w` pixels moves `hw (c₁ + c₂) + c₁c₂` numbers. Every operation counts separately, as in a
//! framework that runs a graph node by node; an engine that fuses operations into one pass moves less. The literature
//! abbreviates memory access cost as MAC, which here means a multiply-add.

use std::iter::Sum;

use super::bytes;
use crate::element_count;
use crate::graph::{Op, Parameter, Shape};

/// Bytes of f32 moved: activations once per image, parameters once per batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryAccess {
    /// Inputs read and outputs written for one image.
    pub activation_bytes: u64,
    /// Parameters read, including running statistics.
    pub weight_bytes: u64,
}

impl MemoryAccess {
    /// Bytes moved in a run of `batch` images.
    pub fn bytes(self, batch: u64) -> u64 {
        self.activation_bytes.saturating_mul(batch).saturating_add(self.weight_bytes)
    }
}

impl Sum for MemoryAccess {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            activation_bytes: sum.activation_bytes.saturating_add(part.activation_bytes),
            weight_bytes: sum.weight_bytes.saturating_add(part.weight_bytes),
        })
    }
}

/// The bytes that one operation moves. Inputs of the network and flattening move none.
pub(super) fn of(op: &Op, parameters: &[Parameter], inputs: &[Shape], output: Shape) -> MemoryAccess {
    if matches!(op, Op::Input { .. } | Op::Flatten) {
        return MemoryAccess::default();
    }
    let elements = |parameter: &Parameter| element_count(&parameter.shape).unwrap_or(usize::MAX) as u64;
    let activations = inputs.iter().copied().chain([output]).map(bytes);
    MemoryAccess {
        activation_bytes: activations.fold(0, u64::saturating_add),
        weight_bytes: parameters
            .iter()
            .map(elements)
            .fold(0, u64::saturating_add)
            .saturating_mul(size_of::<f32>() as u64),
    }
}

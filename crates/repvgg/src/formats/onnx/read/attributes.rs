//! Attributes of nodes, with checks.

use super::{ReadResult, proto, short};
use crate::error::expected;

/// Resolves an axis of an array with `rank` axes; a negative one counts from the end.
pub(super) fn axis(axis: i64, rank: usize) -> ReadResult<usize> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match from_start.and_then(|axis| usize::try_from(axis).ok()) {
        Some(index) if index < rank => Ok(index),
        _ => Err(expected(format_args!("an axis of {rank}")).found(axis).into()),
    }
}

/// Checks that a number is a plausible count.
pub(super) fn count(name: &str, value: i64) -> ReadResult<usize> {
    // No extent of a network comes near it, and sums and products of a few counts stay far from overflow.
    const MOST: i64 = 1 << 31;
    match usize::try_from(value) {
        Ok(count) if value <= MOST => Ok(count),
        _ => Err(expected(format_args!("{name} from 0 to {MOST}")).found(value).into()),
    }
}

impl proto::Node {
    fn attribute(&self, name: &str) -> Option<&proto::Attribute> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// An integer, or `default` if it is missing.
    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(|attribute| attribute.i).unwrap_or(default)
    }

    /// A number, or `default` if it is missing.
    pub(super) fn float(&self, name: &str, default: f32) -> ReadResult<f32> {
        let value = self.attribute(name).and_then(|attribute| attribute.f).unwrap_or(default);
        if value.is_nan() {
            return Err(expected(format_args!("a number for {name}")).found("NaN").into());
        }
        Ok(value)
    }

    /// Text, or `default` if it is missing.
    pub(super) fn text<'a>(&'a self, name: &str, default: &'a str) -> ReadResult<&'a str> {
        let Some(bytes) = self.attribute(name).and_then(|attribute| attribute.s.as_ref()) else { return Ok(default) };
        std::str::from_utf8(bytes).map_err(|_| expected(format_args!("text for {name}")).found("other bytes").into())
    }

    /// A list of integers, if present.
    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// Two counts, both `default` if they are missing.
    pub(super) fn pair(&self, name: &str, default: usize) -> ReadResult<[usize; 2]> {
        match self.ints(name) {
            None => Ok([default; 2]),
            Some(&[vertical, horizontal]) => Ok([count(name, vertical)?, count(name, horizontal)?]),
            Some(other) => Err(expected(format_args!("{name} of two axes")).found(other.len()).into()),
        }
    }

    /// A tensor, if present.
    pub(super) fn tensor(&self, name: &str) -> Option<&proto::Tensor> {
        self.attribute(name).and_then(|attribute| attribute.t.as_ref())
    }

    /// A graph, if present.
    pub(super) fn graph(&self, name: &str) -> Option<&proto::Graph> {
        self.attribute(name).and_then(|attribute| attribute.g.as_ref())
    }

    /// The names that it reads, those that its graphs read from outside included.
    pub(super) fn reads(&self) -> Vec<&str> {
        let graphs = self.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
        let inner = graphs.flat_map(|graph| {
            let outputs = graph.output.iter().map(|output| output.name.as_str());
            graph.node.iter().flat_map(Self::reads).chain(outputs).collect::<Vec<_>>()
        });
        self.input.iter().map(String::as_str).chain(inner).collect()
    }

    /// A list of numbers, if present.
    pub(super) fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name).map(|attribute| attribute.floats.as_slice())
    }

    /// Whether there is an attribute of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// The name of the node or, if it has none, of its first output.
    pub(in super::super) fn title(&self) -> &str {
        short(if self.name.is_empty() { self.output.first().map_or("", String::as_str) } else { &self.name })
    }
}

//! Descriptions of the values at the ends of a graph.

use super::super::proto;

/// An extent of the graph's input or output.
pub(super) enum Extent<'a> {
    Known(usize),
    Named(&'a str),
}

/// The description of a value of the graph.
pub(super) fn value_info(name: &str, elem_type: i32, extents: &[Extent<'_>]) -> proto::ValueInfo {
    let dimension = |extent: &Extent<'_>| match *extent {
        Extent::Known(extent) => proto::Dimension { value: Some(extent as i64), name: None },
        Extent::Named(name) => proto::Dimension { value: None, name: Some(name.to_owned()) },
    };
    let shape = Some(proto::Shape { dim: extents.iter().map(dimension).collect() });
    let kind = Some(proto::Type { tensor: Some(proto::TensorType { elem_type, shape }) });
    proto::ValueInfo { name: name.to_owned(), kind }
}

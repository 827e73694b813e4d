//! Checks the bytes of a file before anything is decoded.
//!
//! A message of two bytes becomes a structure of a hundred or more, so decoding a small file could allocate a hundred times
//! its size. The check counts the parts and refuses more than any network has. It allocates nothing.

use crate::error::expected;
use crate::{Error, Result};

/// The parts that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Node,
    Initializer,
    /// Attributes, and inputs and outputs of nodes and of the graph.
    Connection,
    /// Extents of shapes, entries of metadata and elements of lists of integers.
    Number,
}

/// Each part's name and limit.
const PARTS: [(&str, usize); 4] =
    [("nodes", 16_384), ("initializers", 65_536), ("attributes, inputs and outputs", 262_144), ("numbers", 1 << 20)];

/// The messages that the check enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
}

/// The treatment of a field.
enum Treatment {
    Skipped,
    /// A message to enter, and the part it counts as.
    Nested(Message, Option<Part>),
    /// One part for the field, or for each varint if the field is a packed list.
    Counted(Part),
}

impl Message {
    fn field(self, number: u64) -> Treatment {
        use Treatment::{Counted, Nested, Skipped};
        match (self, number) {
            (Self::Model, 7) => Nested(Self::Graph, None),
            (Self::Model, 8 | 14) => Counted(Part::Number),
            (Self::Graph, 1) => Nested(Self::Node, Some(Part::Node)),
            (Self::Graph, 5) => Nested(Self::Tensor, Some(Part::Initializer)),
            (Self::Graph, 11 | 12) => Nested(Self::ValueInfo, Some(Part::Connection)),
            (Self::Node, 1 | 2) => Counted(Part::Connection),
            (Self::Node, 5) => Nested(Self::Attribute, Some(Part::Connection)),
            (Self::Attribute, 5) => Nested(Self::Tensor, None),
            (Self::Attribute, 6) => Nested(Self::Graph, None),
            (Self::Attribute, 8) | (Self::Tensor, 1 | 7 | 13) => Counted(Part::Number),
            (Self::ValueInfo, 2) => Nested(Self::Type, None),
            (Self::Type, 1) => Nested(Self::TensorType, None),
            (Self::TensorType, 2) => Nested(Self::Shape, None),
            (Self::Shape, 1) => Counted(Part::Number),
            _ => Skipped,
        }
    }

    /// Whether a counted field with a length is a list of varints, rather than one string or message.
    fn is_packed(self, number: u64) -> bool {
        matches!((self, number), (Self::Attribute, 8) | (Self::Tensor, 1 | 7))
    }
}

/// Checks that the file has no more parts than a network has.
///
/// # Errors
/// When it has more, or the bytes are malformed.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let mut counts = [0; PARTS.len()];
    walk(bytes, Message::Model, 0, &mut counts)
}

/// The deepest message: graphs within graphs add three levels each.
const DEEPEST: usize = 32;

fn walk(mut bytes: &[u8], message: Message, depth: usize, counts: &mut [usize; PARTS.len()]) -> Result<()> {
    if depth > DEEPEST {
        return Err(Error::format(
            "onnx",
            expected(format_args!("messages at most {DEEPEST} deep")).found("deeper ones"),
        ));
    }
    while !bytes.is_empty() {
        let field = Field::read(&mut bytes).ok_or_else(broken)?;
        match message.field(field.number) {
            Treatment::Skipped => {}
            Treatment::Nested(inner, part) => {
                part.map_or(Ok(()), |part| count(counts, part, 1))?;
                walk(field.content, inner, depth + 1, counts)?;
            }
            Treatment::Counted(part) if message.is_packed(field.number) && field.wire_type == LENGTH => {
                // The last byte of a varint has its highest bit clear.
                count(counts, part, field.content.iter().filter(|&&byte| byte < 0x80).count())?;
            }
            Treatment::Counted(part) => count(counts, part, 1)?,
        }
    }
    Ok(())
}

fn count(counts: &mut [usize; PARTS.len()], part: Part, more: usize) -> Result<()> {
    let (name, most) = PARTS[part as usize];
    counts[part as usize] += more;
    if counts[part as usize] > most {
        return Err(Error::format("onnx", expected(format_args!("at most {most} {name}")).found("more")));
    }
    Ok(())
}

fn broken() -> Error {
    Error::format("onnx", expected("a complete ONNX file").found("malformed bytes"))
}

/// A field of a message: its number, its content, and all of its bytes.
pub(super) struct Piece<'a> {
    pub(super) number: u64,
    /// The value of a varint.
    pub(super) value: u64,
    /// The bytes of a field with a length.
    pub(super) content: &'a [u8],
    /// The field with its number and length.
    pub(super) whole: &'a [u8],
}

/// The fields of a message, in order.
///
/// # Errors
/// When the bytes are no message.
pub(super) fn pieces(mut bytes: &[u8]) -> Result<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let start = bytes;
        let Field { number, value, content, .. } = Field::read(&mut bytes).ok_or_else(broken)?;
        pieces.push(Piece { number, value, content, whole: &start[..start.len() - bytes.len()] });
    }
    Ok(pieces)
}

/// Appends a field that holds `content`.
pub(super) fn push(bytes: &mut Vec<u8>, number: u64, content: &[u8]) {
    for mut varint in [number << 3 | LENGTH, content.len() as u64] {
        while varint >= 0x80 {
            bytes.push(varint as u8 | 0x80);
            varint >>= 7;
        }
        bytes.push(varint as u8);
    }
    bytes.extend_from_slice(content);
}

const VARINT: u64 = 0;
const LENGTH: u64 = 2;

/// One field of a message.
struct Field<'a> {
    number: u64,
    wire_type: u64,
    /// The value of a varint.
    value: u64,
    /// The bytes of a field with a length.
    content: &'a [u8],
}

impl<'a> Field<'a> {
    /// Takes a field from the front of `bytes`; `None` if they begin with none.
    fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        let mut field = Self::head(bytes)?;
        let length = match field.wire_type {
            VARINT => 0,
            1 => 8,
            LENGTH => usize::try_from(field.value).ok()?,
            5 => 4,
            // Groups, which ONNX does not use.
            _ => return None,
        };
        (field.content, *bytes) = bytes.split_at_checked(length)?;
        Some(field)
    }

    /// Takes the field's number and type, and its value or length, but no content.
    fn head(bytes: &mut &'a [u8]) -> Option<Self> {
        let key = varint(bytes)?;
        let (number, wire_type) = (key >> 3, key & 7);
        let value = if matches!(wire_type, VARINT | LENGTH) { varint(bytes)? } else { 0 };
        Some(Self { number, wire_type, value, content: &[] })
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Whether a file that begins with `bytes` is an ONNX model: the version of the format comes first, then only fields that
/// a model has, up to its graph. The first few hundred bytes suffice.
pub(super) fn is_onnx(mut bytes: &[u8]) -> bool {
    // The latest version is 13; the bound leaves ample room.
    const VERSIONS: std::ops::RangeInclusive<u64> = 1..=100;
    match Field::read(&mut bytes) {
        Some(Field { number: 1, wire_type: VARINT, value, .. }) if VERSIONS.contains(&value) => {}
        _ => return false,
    }
    while let Some(field) = Field::head(&mut bytes) {
        match (field.number, field.wire_type) {
            (7, LENGTH) => return true,
            (5, VARINT) => {}
            (2 | 3 | 4 | 6 | 8 | 14 | 20 | 25 | 26, LENGTH) => {
                let length = usize::try_from(field.value).unwrap_or(usize::MAX);
                let Some(rest) = bytes.get(length..) else { return false };
                bytes = rest;
            }
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_recognised_by_its_first_fields() {
        // ir_version 8, producer "pt", a graph of 300 bytes, not included.
        let head = [0x08, 8, 0x12, 2, b'p', b't', 0x3A, 0xAC, 0x02];
        assert!(is_onnx(&head));
        assert!(!is_onnx(&head[..6]), "no graph");
        assert!(!is_onnx(&head[2..]), "no version");
        assert!(!is_onnx(b"\x89PNG\r\n\x1a\n") && !is_onnx(b"PK\x03\x04") && !is_onnx(b"\x80\x02}q") && !is_onnx(b""));
        // A safetensors header of eight bytes of length and JSON.
        assert!(!is_onnx(b"\x08\x01\0\0\0\0\0\0{\"weight\":"));
    }

    #[test]
    fn many_empty_parts_are_refused_before_decoding() {
        let nodes: Vec<u8> = [0x0A, 0].repeat(20_000);
        let mut file = vec![0x08, 8, 0x3A];
        let mut length = nodes.len();
        while length >= 0x80 {
            file.push(length as u8 | 0x80);
            length >>= 7;
        }
        file.push(length as u8);
        file.extend(nodes);
        assert_eq!(check(&file).unwrap_err().to_string(), "onnx: expected at most 16384 nodes, found more");
    }

    /// Decoding recurses into graphs, so a file must not nest them as deep as it likes.
    #[test]
    fn graphs_within_graphs_are_limited() {
        let within = |field: u8, content: &[u8]| {
            let mut bytes = vec![field << 3 | 2];
            let mut length = content.len();
            while length >= 0x80 {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            bytes.extend(content);
            bytes
        };
        let nested = |levels: usize| {
            // The graph of an attribute of a node of a graph.
            let graph = (0..levels).fold(Vec::new(), |graph, _| within(1, &within(5, &within(6, &graph))));
            within(7, &graph)
        };
        assert!(check(&nested(10)).is_ok());
        let found = check(&nested(1000)).unwrap_err().to_string();
        assert_eq!(found, "onnx: expected messages at most 32 deep, found deeper ones");
    }

    #[test]
    fn malformed_bytes_are_refused() {
        for bytes in [&[0x3A, 0x05, 0][..], &[0x3B], &[0xFF; 12], &[0x08]] {
            assert!(check(bytes).is_err(), "{bytes:?}");
        }
    }
}

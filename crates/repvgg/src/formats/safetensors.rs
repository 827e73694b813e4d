//! The safetensors format: a JSON header, then raw little-endian elements.
//!
//! ```
//! use std::collections::HashMap;
//!
//! use repvgg::formats::safetensors;
//! use repvgg::{Precision, Tensor, Weights};
//!
//! let weights = Weights::from_iter([("bias".to_owned(), Tensor::full([3], 0.5))]);
//! let bytes = safetensors::write(&weights, Precision::Half, HashMap::new()).unwrap();
//! assert_eq!(safetensors::read(&bytes).unwrap().tensors[0].0, "bias");
//! ```

use std::collections::{HashMap, HashSet};
use std::fmt;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::Deserializer;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

use super::Stored;
use crate::error::{Problem, expected};
use crate::{Error, Precision, Result, Tensor, Weights};

/// The contents of a safetensors file.
pub struct Contents {
    /// Every tensor with its name, sorted by name.
    pub tensors: Vec<(String, Stored)>,
    /// The file's metadata: text by key.
    pub metadata: HashMap<String, String>,
}

/// Whether a file that begins with `bytes` is a safetensors file: a length, then a header that begins with a brace.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{') && header_len(bytes).is_some_and(|length| length <= HEADER_LIMIT)
}

/// The longest accepted header, in bytes.
const HEADER_LIMIT: u64 = 100_000_000;

fn header_len(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|length| u64::from_le_bytes(*length))
}

/// Reads a whole file.
///
/// # Errors
/// When the header violates the format, a name repeats, or the tensors do not cover the file exactly.
pub fn read(bytes: &[u8]) -> Result<Contents> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| refusal(&error))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| refusal(&error))?;
    // The library silently keeps the last of two tensors with the same name.
    let length = header_len(bytes).map_or(0, |length| length as usize);
    check_names(&bytes[8..8 + length])?;
    let mut views: Vec<_> = file.iter().collect();
    // The library yields tensors in no particular order.
    views.sort_by_key(|(name, _)| *name);
    let tensors = views.into_iter().map(|(name, view)| Ok((name.to_owned(), decode(name, &view)?)));
    Ok(Contents { tensors: tensors.collect::<Result<_>>()?, metadata: header.metadata().clone().unwrap_or_default() })
}

fn decode(name: &str, view: &TensorView<'_>) -> Result<Stored> {
    let bytes = view.data();
    let data: Vec<f32> = match view.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
        other => return Ok(Stored::Other { dtype: format!("{other:?}"), shape: view.shape().to_vec() }),
    };
    Ok(Stored::Float(Tensor::new(view.shape(), data).map_err(|error| error.within(name))?))
}

/// Encodes a file. The same input always gives the same bytes.
///
/// # Errors
/// When a value does not fit the precision, or the metadata cannot be encoded.
pub fn write(weights: &Weights, precision: Precision, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let foreign = |error| Error::format("safetensors", format!("cannot be written: {error}"));
    let encoded = weights.iter().map(|(name, tensor)| Ok((name, tensor.shape(), encode(name, tensor, precision)?)));
    let encoded = encoded.collect::<Result<Vec<(&str, &[usize], Vec<u8>)>>>()?;
    let dtype = match precision {
        Precision::Single => Dtype::F32,
        Precision::Half => Dtype::F16,
    };
    let views = encoded.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(dtype, shape.to_vec(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(foreign)?;
    safetensors::serialize(views, Some(metadata)).map_err(foreign)
}

fn encode(name: &str, tensor: &Tensor, precision: Precision) -> Result<Vec<u8>> {
    Ok(match precision {
        Precision::Single => tensor.data().iter().flat_map(|x| x.to_le_bytes()).collect(),
        Precision::Half => {
            if let Some(x) = tensor.data().iter().find(|x| x.is_finite() && f16::from_f32(**x).is_infinite()) {
                let problem = expected("values within ±65504, the range of 16-bit floats").found(x);
                return Err(Error::weights(name, problem));
            }
            tensor.data().iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()
        }
    })
}

/// Translates an error of the library.
fn refusal(error: &SafeTensorError) -> Error {
    use SafeTensorError as E;
    let problem = match error {
        E::HeaderTooSmall | E::InvalidHeaderLength => Problem::from("truncated: shorter than its header states"),
        E::MetadataIncompleteBuffer => expected("tensors that cover the file exactly").found("another length"),
        E::HeaderTooLarge => expected(format_args!("a header of at most {HEADER_LIMIT} bytes")).found("a longer one"),
        E::InvalidHeader(_) => expected("a UTF-8 header").found("other bytes"),
        E::InvalidHeaderDeserialization(error) => expected("a header of names, types, shapes and offsets").found(error),
        E::InvalidOffset(name) => {
            let problem = "offsets do not continue where the previous tensor ends";
            return Error::format(name, problem).within("safetensors");
        }
        E::TensorInvalidInfo => "offsets do not match shape and type".into(),
        E::ValidationOverflow => expected("shapes within the address space").found("larger ones"),
        other => expected("a model file").found(other),
    };
    Error::format("safetensors", problem)
}

/// Refuses a header in which a name repeats.
fn check_names(header: &[u8]) -> Result<()> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut names = HashSet::new();
            while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if !names.insert(name.clone()) {
                    return Err(A::Error::custom(format!("duplicate name {name:?}")));
                }
            }
            Ok(())
        }
    }

    let mut parser = serde_json::Deserializer::from_slice(header);
    parser.deserialize_map(Names).map_err(|error| Error::format("safetensors", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> Weights {
        Weights::from_iter([("a".to_owned(), Tensor::new([2], vec![1.0, -0.333_333_34]).unwrap())])
    }

    /// A file with this header and `elements` bytes of zeros.
    fn file(header: &str, elements: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + elements, 0);
        bytes
    }

    #[test]
    fn tensors_and_metadata_survive_a_round_trip() {
        let bytes = write(&weights(), Precision::Single, HashMap::from([("k".into(), "v".into())])).unwrap();
        let contents = read(&bytes).unwrap();
        assert_eq!(contents.tensors, [("a".to_owned(), Stored::Float(weights().get("a").unwrap().clone()))]);
        assert_eq!(contents.metadata["k"], "v");
    }

    #[test]
    fn half_precision_rounds_to_nearest() {
        let bytes = write(&weights(), Precision::Half, HashMap::new()).unwrap();
        let Stored::Float(tensor) = &read(&bytes).unwrap().tensors[0].1 else { panic!("expected floats") };
        assert_eq!(tensor.data(), [1.0, -0.333_251_95]);
        let large = Weights::from_iter([("a".to_owned(), Tensor::full([1], 7e4))]);
        let error = write(&large, Precision::Half, HashMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "a: expected values within ±65504, the range of 16-bit floats, found 70000");
    }

    #[test]
    fn every_float_type_becomes_f32_and_others_keep_their_shape() {
        let header = r#"{"d":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"h":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]},"n":{"dtype":"I64","shape":[],"data_offsets":[10,18]}}"#;
        let mut bytes = file(header, 18);
        let start = bytes.len() - 18;
        bytes[start..start + 8].copy_from_slice(&0.1f64.to_le_bytes());
        bytes[start + 8..start + 10].copy_from_slice(&bf16::from_f32(2.5).to_le_bytes());
        let mut tensors = read(&bytes).unwrap().tensors;
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(tensors[0].1, Stored::Float(Tensor::full([1], 0.1f64 as f32)));
        assert_eq!(tensors[1].1, Stored::Float(Tensor::full([1], 2.5)));
        assert_eq!(tensors[2].1, Stored::Other { dtype: "I64".to_owned(), shape: vec![] });
    }

    #[test]
    fn errors_describe_hostile_headers() {
        let tensor = |name: &str, shape: &str, from: u64, to: u64| {
            format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
        };
        let cases = [
            (file("{}", 4), "tensors that cover the file exactly"),
            (
                file(&format!("{{{},{}}}", tensor("a", "[1]", 0, 4), tensor("b", "[1]", 0, 4)), 4),
                "offsets do not continue",
            ),
            (file(&format!("{{{},{}}}", tensor("a", "[1]", 0, 4), tensor("a", "[1]", 0, 4)), 4), "duplicate name"),
            (file(&format!("{{{}}}", tensor("a", "[2]", 0, 4)), 4), "offsets do not match shape and type"),
            (file(&format!("{{{}}}", tensor("a", "[100]", 0, 400)), 4), "tensors that cover the file exactly"),
            (
                file(&format!("{{{}}}", tensor("a", "[18446744073709551615,2]", 0, 4)), 4),
                "shapes within the address space",
            ),
            (file(&format!("{{{}}}", tensor("a", "[1]", 4, 0)), 4), "offsets"),
            (file("{\"a\":1}", 0), "a header of names, types, shapes and offsets"),
            (u64::MAX.to_le_bytes().to_vec(), "header"),
            (vec![1, 2, 3], "truncated"),
        ];
        for (bytes, expected) in cases {
            let error = read(&bytes).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.starts_with("safetensors: "), "{error}: lacks {expected}");
        }
    }
}

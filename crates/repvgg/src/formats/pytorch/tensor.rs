//! Builds tensors from storages.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::element::{Element, Kind};
use super::elements::{self, ByteOrder, StridedLayout};
use super::names::{Name, Rebuild};
use super::value::{Id, PickleValue, PickleValues};
use crate::error::expected;
use crate::formats::Stored;
use crate::{Error, Result, Tensor};

/// The most elements and axes of all tensors per byte of the file, so that many views of one storage cannot exhaust memory.
/// It allows four names for each half-precision weight.
const ELEMENTS_PER_BYTE: usize = 2;

/// The most axes of a tensor, as in PyTorch.
const MAX_RANK: usize = 64;

/// The deepest nesting of tensors: attributes around a parameter around a tensor.
const MAX_WRAPPERS: usize = 4;

/// A storage as a pickle describes it.
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    /// The type of its elements.
    element: Element,
    /// The number of elements of the whole storage.
    pub(super) count: usize,
    /// The elements in use; only very old files use a part.
    part: Range<usize>,
}

impl<'a> Storage<'a> {
    /// Reads `("storage", class, key, location, count)`, which streams may follow by `(key of the part, first, count)`.
    pub(super) fn read(values: &PickleValues<'a>, reference: Id) -> Result<Self> {
        let wrong =
            || Error::format("storage", expected("its class, key, location and number of elements").found("others"));
        let (&[word, class, key, location, count], rest) =
            values.tuple(reference).and_then(<[Id]>::split_first_chunk).ok_or_else(wrong)?;
        let &PickleValue::Name(Name::Storage(element)) = values.get(class) else { return Err(wrong()) };
        let (Some("storage"), Some(key), Some(location), Some(count)) =
            (values.text(word), values.text(key), values.text(location), values.count(count))
        else {
            return Err(wrong());
        };
        if location == "meta" {
            return Err(Error::format("storage", "a meta storage has no elements"));
        }
        let part = match rest.first().and_then(|&part| values.tuple(part)) {
            None => 0..count,
            Some(&[_, first, size]) => {
                let (first, size) = values.count(first).zip(values.count(size)).ok_or_else(wrong)?;
                first..first.checked_add(size).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        if part.end > count {
            return Err(Error::format(
                "storage",
                expected(format_args!("a part of {count} elements")).found("one beyond"),
            ));
        }
        Ok(Self { key, element, count, part })
    }

    /// The bytes of the whole storage.
    pub(super) fn byte_count(&self) -> Result<usize> {
        let product = self.count.checked_mul(self.element.size());
        product.ok_or_else(|| Error::format("storage", expected("fewer elements").found(self.count)))
    }
}

/// Builds tensors from the storages of a file.
pub(super) struct Reader<'a, F> {
    order: ByteOrder,
    /// Returns the bytes of the storage with a given key.
    fetch: F,
    /// The storages fetched so far, each checked once.
    fetched: HashMap<&'a str, Cow<'a, [u8]>>,
    /// The elements and axes that may still be allocated.
    allowance: usize,
}

impl<'v, F: FnMut(&'v str) -> Result<Cow<'v, [u8]>>> Reader<'v, F> {
    /// A reader for a file of `file_size` bytes.
    pub(super) fn new(order: ByteOrder, file_size: usize, fetch: F) -> Self {
        Self { order, fetch, fetched: HashMap::new(), allowance: file_size.saturating_mul(ELEMENTS_PER_BYTE) }
    }

    /// Builds the tensor that a value describes.
    ///
    /// # Errors
    /// When it is not a plain array of real numbers, exceeds its storage, or the tensors have too many elements in total.
    pub(super) fn tensor(&mut self, values: &PickleValues<'v>, id: Id) -> Result<Stored> {
        let (rebuild, arguments) = rebuild_call(values, id)?;
        let wrong = || Error::format("tensor", expected("storage, offset, size and stride").found("other values"));
        let (&[storage, offset, size, stride], rest) = arguments.split_first_chunk().ok_or_else(wrong)?;
        let &PickleValue::Persistent(reference) = values.get(storage) else { return Err(wrong()) };
        let storage = Storage::read(values, reference)?;
        let extents = |id| {
            let items = values.tuple(id).filter(|items| items.len() <= MAX_RANK)?;
            items.iter().map(|&item| values.count(item)).collect::<Option<Vec<usize>>>()
        };
        let (Some(offset), Some(shape), Some(strides)) = (values.count(offset), extents(size), extents(stride)) else {
            return Err(wrong());
        };
        let after_hooks = rest.get(2..).unwrap_or_default();
        let (element, metadata) = match (rebuild, after_hooks) {
            (Rebuild::TypedTensor, [dtype, metadata @ ..]) => match values.get(*dtype) {
                &PickleValue::Name(Name::Dtype(element)) => (element, metadata),
                _ => return Err(wrong()),
            },
            (Rebuild::TypedTensor, []) => return Err(wrong()),
            (_, metadata) => (storage.element, metadata),
        };
        if metadata.iter().any(|&id| !matches!(values.get(id), PickleValue::Plain) && !values.parts(id).is_empty()) {
            return Err(Error::format("tensor", "negative and conjugate views are not supported"));
        }
        self.view(&storage, element, &StridedLayout { offset, shape, strides })
    }

    fn view(&mut self, storage: &Storage<'v>, element: Element, layout: &StridedLayout) -> Result<Stored> {
        if let Kind::Complex | Kind::Quantized = element.kind() {
            return Err(Error::format("tensor", expected("real numbers").found(element.name())));
        }
        storage.byte_count()?;
        let [start, size] = [storage.part.start, storage.part.len()].map(|count| count * storage.element.size());
        let (elements, end) = layout.extent().ok_or_else(|| Error::format("tensor", "too large"))?;
        if end > size / element.size() {
            let held = size / element.size();
            return Err(Error::format(
                "tensor",
                expected(format_args!("to lie within {held} elements")).found(format_args!("one of {end}")),
            ));
        }
        let other = element.kind() == Kind::Other;
        let cost = layout.shape.len().saturating_add(if other { 0 } else { elements });
        let left = self.allowance.checked_sub(cost);
        self.allowance = left.ok_or_else(|| {
            let limit = format!("expected at most {ELEMENTS_PER_BYTE} elements for each byte of the file");
            Error::format("tensor", format!("{limit}, found more: many tensors share few elements"))
        })?;
        if other {
            return Ok(Stored::Other { dtype: element.name().to_owned(), shape: layout.shape.clone() });
        }
        let order = self.order;
        let bytes = self.bytes(storage)?;
        // Bounds were checked against the storage's size, and the storage's size against its bytes.
        let data = elements::read(element.kind(), order, &bytes[start..start + size], layout);
        Ok(Stored::Float(Tensor::new(layout.shape.clone(), data)?))
    }

    /// The bytes of a storage, once their number has been checked.
    fn bytes(&mut self, storage: &Storage<'v>) -> Result<&[u8]> {
        let required = storage.byte_count()?;
        if !self.fetched.contains_key(storage.key) {
            let bytes = (self.fetch)(storage.key)?;
            self.fetched.insert(storage.key, bytes);
        }
        let bytes = &self.fetched[storage.key];
        if bytes.len() != required {
            let found = bytes.len();
            return Err(Error::format("storage", expected(format_args!("{required} bytes")).found(found)));
        }
        Ok(bytes)
    }
}

/// The function that rebuilds the tensor and its arguments, stripped of wrappers.
fn rebuild_call<'v>(values: &'v PickleValues<'_>, id: Id) -> Result<(Rebuild, &'v [Id])> {
    let wrong = || Error::format("tensor", expected("the arguments of a tensor").found("other values"));
    let arguments = |id: Id| match values.get(id) {
        &PickleValue::Object { maker: Name::Rebuild(rebuild), ref parts } => {
            Some((rebuild, values.tuple(*parts.first()?)?))
        }
        _ => None,
    };
    let mut current = arguments(id).ok_or_else(wrong)?;
    for _ in 0..MAX_WRAPPERS {
        current = match current {
            (Rebuild::Parameter, &[inner, ..]) => arguments(inner).ok_or_else(wrong)?,
            (Rebuild::FromType, &[function, class, inner, ..]) => match (values.get(function), values.get(class)) {
                (&PickleValue::Name(Name::Rebuild(rebuild)), PickleValue::Name(Name::TensorClass)) => {
                    (rebuild, values.tuple(inner).ok_or_else(wrong)?)
                }
                _ => return Err(wrong()),
            },
            (Rebuild::Unreadable(kind), _) => {
                return Err(Error::format("tensor", expected("a plain tensor").found(kind.describe())));
            }
            (Rebuild::Tensor | Rebuild::TypedTensor, _) => return Ok(current),
            _ => return Err(wrong()),
        };
    }
    Err(wrong())
}

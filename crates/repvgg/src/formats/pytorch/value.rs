//! The values that a pickle builds, as plain data.

use super::names::Name;

/// The index of a value among all values of a pickle. Values refer to each other by it, so sharing and cycles are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// A value of a pickle.
#[derive(Debug)]
pub(super) enum PickleValue<'a> {
    Int(i64),
    Text(&'a str),
    /// A boolean, a float, bytes, `None`, an integer beyond 64 bits: nothing that describes a tensor.
    Plain,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Entries in the order they were set, duplicate keys included.
    Dict(Vec<(Id, Id)>),
    Name(Name<'a>),
    /// The application of the name `maker`. The first part is the tuple of its arguments, the others were set or added later.
    Object {
        maker: Name<'a>,
        parts: Vec<Id>,
    },
    /// A set, or the result of applying an object: data of no interest.
    Opaque(Vec<Id>),
    /// A persistent id: a reference to data outside the pickle.
    Persistent(Id),
}

/// All values of a pickle, in the order of creation.
#[derive(Debug)]
pub(super) struct PickleValues<'a>(Vec<PickleValue<'a>>);

impl<'a> PickleValues<'a> {
    /// The value shared by all plain values.
    pub(super) const PLAIN: Id = Id(0);
    /// The value shared by all empty tuples.
    pub(super) const EMPTY: Id = Id(1);

    pub(super) fn new() -> Self {
        Self(vec![PickleValue::Plain, PickleValue::Tuple(Vec::new())])
    }

    /// Adds a value. The machine's limits keep their number far below 2³².
    pub(super) fn add(&mut self, value: PickleValue<'a>) -> Id {
        self.0.push(value);
        Id((self.0.len() - 1) as u32)
    }

    pub(super) fn get(&self, id: Id) -> &PickleValue<'a> {
        &self.0[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: Id) -> &mut PickleValue<'a> {
        &mut self.0[id.0 as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PickleValue<'a>> {
        self.0.iter()
    }

    /// The items of a tuple.
    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            PickleValue::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match *self.get(id) {
            PickleValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A non-negative integer.
    pub(super) fn count(&self, id: Id) -> Option<usize> {
        match *self.get(id) {
            PickleValue::Int(number) => usize::try_from(number).ok(),
            _ => None,
        }
    }

    /// The values directly contained in a value.
    pub(super) fn parts(&self, id: Id) -> Vec<Id> {
        match self.get(id) {
            PickleValue::Tuple(items)
            | PickleValue::List(items)
            | PickleValue::Object { parts: items, .. }
            | PickleValue::Opaque(items) => items.clone(),
            PickleValue::Dict(entries) => entries.iter().flat_map(|&(key, value)| [key, value]).collect(),
            PickleValue::Int(_)
            | PickleValue::Text(_)
            | PickleValue::Plain
            | PickleValue::Name(_)
            | PickleValue::Persistent(_) => Vec::new(),
        }
    }
}

impl Id {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl PickleValue<'_> {
    /// The value as errors describe it.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Int(_) => "an integer",
            Self::Text(_) => "text",
            Self::Plain => "a plain value",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Name(_) => "a name",
            Self::Object { maker: Name::Rebuild(_), .. } => "a tensor",
            Self::Object { .. } | Self::Opaque(_) => "an object",
            Self::Persistent(_) => "a storage",
        }
    }
}

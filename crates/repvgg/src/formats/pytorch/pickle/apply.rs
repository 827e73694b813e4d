//! Names, and their application to values.

use super::super::names::Name;
use super::super::value::{Id, PickleValue};
use super::Machine;
use crate::error::expected;
use crate::{Error, Result};

/// The most characters of a name that an error shows.
const NAME_LIMIT: usize = 80;

/// The error for a name that a checkpoint has no use for.
fn unsafe_name(module: &str, name: &str) -> Error {
    let found: String = format!("{module}.{name}").escape_debug().take(NAME_LIMIT).collect();
    let problem = expected("data that a checkpoint holds");
    Error::format("pickle", problem.found(format_args!("{found}, which would run code when PyTorch loads the file")))
}

impl<'a> Machine<'a> {
    pub(super) fn name(&mut self, module: &'a str, name: &'a str) -> Result<()> {
        match Name::find(module, name) {
            Some(name) => self.push(PickleValue::Name(name)),
            None => Err(unsafe_name(module, name)),
        }
    }

    /// Records the application of `function` to `arguments`.
    pub(super) fn apply(&mut self, function: Id, arguments: Id) -> Result<()> {
        let name = match *self.values.get(function) {
            PickleValue::Name(name) => name,
            PickleValue::Object { .. } | PickleValue::Opaque(_) => {
                return self.push(PickleValue::Opaque(vec![function, arguments]));
            }
            ref other => {
                let found = other.describe();
                return Err(Error::format("pickle", expected("a name to apply").found(found)));
            }
        };
        let Some(items) = self.values.tuple(arguments) else {
            let found = self.values.get(arguments).describe();
            return Err(Error::format("pickle", expected("a tuple of arguments").found(found)));
        };
        let first = items.first().copied();
        match name {
            Name::Mapping => {
                let last = items.last().copied();
                let entries = last.map_or_else(|| Ok(Vec::new()), |items| self.entries(items))?;
                self.push(PickleValue::Dict(entries))
            }
            Name::Size => {
                let extents = first.filter(|&extents| self.values.tuple(extents).is_some());
                let extents =
                    extents.ok_or_else(|| Error::format("pickle", expected("a size of a tuple").found("none")))?;
                self.stack.push(extents);
                Ok(())
            }
            Name::Attribute if !first.is_some_and(|of| self.is_opaque(of)) => Err(unsafe_name("builtins", "getattr")),
            maker => self.push(PickleValue::Object { maker, parts: vec![arguments] }),
        }
    }

    /// Whether a value is opaque data or a class of it.
    fn is_opaque(&self, id: Id) -> bool {
        match self.values.get(id) {
            PickleValue::Name(name) | PickleValue::Object { maker: name, .. } => {
                matches!(name, Name::Opaque { .. } | Name::Attribute)
            }
            other => matches!(other, PickleValue::Opaque(_)),
        }
    }

    /// The initial entries of a dictionary: those of another one or, written by Python 2, a list of pairs.
    fn entries(&mut self, from: Id) -> Result<Vec<(Id, Id)>> {
        let entries = match self.values.get(from) {
            PickleValue::Dict(entries) => entries.clone(),
            PickleValue::List(pairs) => {
                let pair = |&pair: &Id| match self.values.get(pair) {
                    PickleValue::Tuple(items) | PickleValue::List(items) => <[Id; 2]>::try_from(items.as_slice()).ok(),
                    _ => None,
                };
                let pairs: Option<Vec<[Id; 2]>> = pairs.iter().map(pair).collect();
                let pairs =
                    pairs.ok_or_else(|| Error::format("pickle", expected("pairs of key and value").found("others")))?;
                pairs.into_iter().map(|[key, value]| (key, value)).collect()
            }
            _ => Vec::new(),
        };
        self.charge(2 * entries.len())?;
        Ok(entries)
    }

    /// Sets the state of the object on top of the stack. Attributes of a dictionary, in which PyTorch stores the versions of
    /// modules, are not entries and are dropped.
    pub(super) fn build(&mut self, state: Id) -> Result<()> {
        let top = self.top()?;
        if matches!(self.values.get(top), PickleValue::Dict(_)) { Ok(()) } else { self.add_part(state) }
    }

    /// Adds to the parts of the object on top of the stack.
    pub(super) fn add_part(&mut self, part: Id) -> Result<()> {
        self.charge(1)?;
        let top = self.top()?;
        match self.values.get_mut(top) {
            PickleValue::Object { parts, .. } | PickleValue::Opaque(parts) => {
                parts.push(part);
                Ok(())
            }
            other => {
                let found = other.describe();
                Err(Error::format("pickle", expected("an object to give a state").found(found)))
            }
        }
    }
}

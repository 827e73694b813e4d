//! Finds the state dict among the contents of a checkpoint.

use std::collections::HashSet;

use super::names::Name;
use super::pickle::Pickle;
use super::value::{Id, PickleValue};
use crate::error::expected;
use crate::{Error, Result};

/// The keys under which training programs store a state dict; averaged weights come after the weights themselves.
const KEYS: [&str; 14] = [
    "state_dict",
    "model",
    "model_state_dict",
    "ema",
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
    "module",
    "net",
    "network",
    "model_state",
    "params_ema",
    "params",
    "weights",
];

/// The most keys that an error lists, and the most characters of each.
const LISTED: usize = 8;
const KEY_LIMIT: usize = 40;

/// Finds the state dict and returns its tensors by name, in its order.
///
/// The state dict is the value of the first of [`KEYS`] that is a dictionary with a tensor directly in it, or else the root, if
/// that is one. Entries without tensors, such as counters and settings, are skipped; an entry with tensors nested
/// in it is refused.
///
/// # Errors
/// When there is no state dict, a name is not text, a name repeats, or tensors are nested deeper.
pub(super) fn find<'a>(pickle: &Pickle<'a>) -> Result<Vec<(&'a str, Id)>> {
    let PickleValue::Dict(root) = pickle.values.get(pickle.root) else {
        let found = pickle.values.get(pickle.root).describe();
        return Err(Error::format("pickle", expected("a dictionary of tensors").found(found)));
    };
    check_unique(pickle, root)?;
    let under = |key: &str| root.iter().find(|entry| pickle.values.text(entry.0) == Some(key)).map(|entry| entry.1);
    let wrapped = KEYS.into_iter().find_map(|key| Some((key, tensors_of(pickle, under(key)?)?)));
    let (place, entries) = match wrapped {
        Some((key, entries)) => (key, entries),
        None => ("state dict", tensors_of(pickle, pickle.root).ok_or_else(|| no_state_dict(pickle, root))?),
    };
    named(pickle, entries).map_err(|error| error.within(place))
}

/// The entries of a dictionary with a tensor directly in it.
fn tensors_of<'p>(pickle: &'p Pickle<'_>, id: Id) -> Option<&'p [(Id, Id)]> {
    match pickle.values.get(id) {
        PickleValue::Dict(entries) if entries.iter().any(|&(_, value)| is_tensor(pickle, value)) => Some(entries),
        _ => None,
    }
}

fn is_tensor(pickle: &Pickle<'_>, id: Id) -> bool {
    matches!(pickle.values.get(id), PickleValue::Object { maker: Name::Rebuild(_), .. })
}

/// The error for a dictionary without a state dict.
fn no_state_dict(pickle: &Pickle<'_>, root: &[(Id, Id)]) -> Error {
    let word = |&(key, _): &(Id, Id)| match pickle.values.text(key) {
        Some(text) => shown(text),
        None => pickle.values.get(key).describe().to_owned(),
    };
    let mut keys: Vec<String> = root.iter().take(LISTED).map(word).collect();
    if root.len() > LISTED {
        keys.push(format!("{} more", root.len() - LISTED));
    }
    let found = if keys.is_empty() { "an empty one".to_owned() } else { format!("the keys {}", keys.join(", ")) };
    Error::format("pickle", expected("a dictionary of tensors, bare or under a key such as state_dict").found(found))
}

/// A key as an error shows it.
fn shown(key: &str) -> String {
    key.escape_debug().take(KEY_LIMIT).collect()
}

/// Refuses a key that is set twice, which cannot happen in Python.
fn check_unique(pickle: &Pickle<'_>, entries: &[(Id, Id)]) -> Result<()> {
    let mut names = HashSet::new();
    match entries.iter().filter_map(|&(key, _)| pickle.values.text(key)).find(|name| !names.insert(*name)) {
        Some(name) => Err(Error::format(shown(name), "duplicate name")),
        None => Ok(()),
    }
}

/// The tensors among `entries` by name.
fn named<'a>(pickle: &Pickle<'a>, entries: &[(Id, Id)]) -> Result<Vec<(&'a str, Id)>> {
    check_unique(pickle, entries)?;
    let mut tensors = Vec::new();
    let mut seen = vec![false; pickle.values.len()];
    for &(key, value) in entries {
        let name = pickle.values.text(key);
        if is_tensor(pickle, value) {
            let found = pickle.values.get(key).describe();
            let name = name.ok_or_else(|| Error::format("names", expected("text").found(found)))?;
            tensors.push((name, value));
        } else if holds_tensor(pickle, value, &mut seen) {
            let found = pickle.values.get(value).describe();
            let name = shown(name.unwrap_or("an entry"));
            return Err(Error::format(name, expected("a tensor").found(format_args!("{found} that holds tensors"))));
        }
    }
    Ok(tensors)
}

/// Whether a tensor can be reached from `id`. `seen` holds the values already visited or being visited.
fn holds_tensor(pickle: &Pickle<'_>, id: Id, seen: &mut [bool]) -> bool {
    let mut left = vec![id];
    while let Some(id) = left.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        if is_tensor(pickle, id) || matches!(pickle.values.get(id), PickleValue::Persistent(_)) {
            return true;
        }
        left.extend(pickle.values.parts(id));
    }
    false
}

//! Finds the state dicts among the contents of a checkpoint.

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

/// The deepest nesting of [`KEYS`], as in `{"ema": {"module": …}}`.
const DEPTH: usize = 3;

/// The most keys that an error lists, and the most characters of each.
const LISTED: usize = 8;
const KEY_LIMIT: usize = 40;

/// A dictionary with tensors directly in it.
struct StateDict {
    /// The keys that lead to it, joined by dots; empty for the root.
    path: String,
    id: Id,
}

/// The tensors of the chosen state dict.
pub(super) struct Chosen<'a> {
    /// The keys that lead to the state dict, joined by dots; empty for the root.
    pub(super) path: String,
    /// The paths of the other state dicts.
    pub(super) others: Vec<String>,
    /// The tensors by name, in the state dict's order.
    pub(super) tensors: Vec<(&'a str, Id)>,
}

/// Finds the state dict called `wanted` and its tensors. Without a wish, it is the first under [`KEYS`], or else the root.
///
/// Entries without tensors, such as counters and settings, are skipped; an entry with tensors nested in it is refused.
///
/// # Errors
/// When there is no state dict, none called `wanted`, a name is not text, a name repeats, or tensors are nested deeper.
pub(super) fn find<'a>(pickle: &Pickle<'a>, wanted: Option<&str>) -> Result<Chosen<'a>> {
    let root = pickle.values.get(pickle.root);
    if let Some(error) = pickled_model(pickle, pickle.root) {
        return Err(error);
    }
    let PickleValue::Dict(entries) = root else {
        return Err(Error::format("pickle", expected("a dictionary of tensors").found(root.describe())));
    };
    check_unique(pickle, entries)?;
    let mut found = Vec::new();
    collect(pickle, pickle.root, "", &mut found);
    let index = match wanted {
        Some(wanted) => {
            match found.iter().position(|known| known.path == wanted || known.path.starts_with(&format!("{wanted}."))) {
                Some(index) => index,
                None => {
                    found.push(under_other_key(pickle, entries, wanted).ok_or_else(|| no_such(&found, wanted))?);
                    found.len() - 1
                }
            }
        }
        None => 0,
    };
    if found.is_empty() {
        let model = entries.iter().find_map(|&(_, value)| pickled_model(pickle, value));
        return Err(model.unwrap_or_else(|| no_state_dict(pickle, entries)));
    }
    let StateDict { path, id } = found.remove(index);
    let PickleValue::Dict(entries) = pickle.values.get(id) else { unreachable!("a state dict is a dictionary") };
    let place = if path.is_empty() { "state dict" } else { &path };
    let tensors = named(pickle, entries).map_err(|error| error.within(place))?;
    Ok(Chosen { others: found.into_iter().map(|known| known.path).collect(), path, tensors })
}

/// Collects the state dicts under [`KEYS`], then `id` itself.
fn collect(pickle: &Pickle<'_>, id: Id, path: &str, found: &mut Vec<StateDict>) {
    let PickleValue::Dict(entries) = pickle.values.get(id) else { return };
    let depth = if path.is_empty() { 0 } else { path.split('.').count() };
    if depth < DEPTH {
        for key in KEYS {
            if let Some(&(_, value)) = entries.iter().find(|entry| pickle.values.text(entry.0) == Some(key)) {
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                collect(pickle, value, &path, found);
            }
        }
    }
    if entries.iter().any(|&(_, value)| is_tensor(pickle, value)) {
        found.push(StateDict { path: path.to_owned(), id });
    }
}

/// The state dict under a key that is not one of [`KEYS`].
fn under_other_key(pickle: &Pickle<'_>, entries: &[(Id, Id)], wanted: &str) -> Option<StateDict> {
    let (_, id) = *entries.iter().find(|entry| pickle.values.text(entry.0) == Some(wanted))?;
    let mut found = Vec::new();
    collect(pickle, id, wanted, &mut found);
    found.into_iter().next()
}

/// The error for a file without the state dict that the caller wants.
fn no_such(found: &[StateDict], wanted: &str) -> Error {
    let name = |known: &StateDict| if known.path.is_empty() { "the root".to_owned() } else { shown(&known.path) };
    let known = found.iter().take(LISTED).map(name).collect::<Vec<_>>();
    let known =
        if known.is_empty() { "a dictionary of tensors".to_owned() } else { format!("one of {}", known.join(", ")) };
    Error::spec("weights", expected(known).found(shown(wanted)))
}

fn is_tensor(pickle: &Pickle<'_>, id: Id) -> bool {
    matches!(pickle.values.get(id), PickleValue::Object { maker: Name::Rebuild(_), .. })
}

/// The error for a pickled module, if `id` is one: its class builds the network, so the file does not describe it.
fn pickled_model(pickle: &Pickle<'_>, id: Id) -> Option<Error> {
    let PickleValue::Object { maker: Name::Opaque { module, name }, parts } = pickle.values.get(id) else {
        return None;
    };
    let is_module = |&part: &Id| match pickle.values.get(part) {
        PickleValue::Dict(entries) => entries.iter().any(|entry| pickle.values.text(entry.0) == Some("_parameters")),
        _ => false,
    };
    let class: String = format!("{module}.{name}").escape_debug().take(2 * KEY_LIMIT).collect();
    let found = format_args!("a pickled model of class {class}: save its state_dict() instead");
    parts.iter().any(is_module).then(|| Error::format("pickle", expected("a state dict").found(found)))
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

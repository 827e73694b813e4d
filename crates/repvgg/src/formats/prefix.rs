//! Finds the network among a file's tensors by the prefix of their names.
//!
//! Training programs wrap a network in modules of their own: `model.`, `net.`, `module._orig_mod.`. All its parameters then share a
//! prefix, and tensors of other modules, such as the class weights of a loss, have others.

use std::collections::BTreeMap;

use super::Stored;
use crate::weights::Shapes;
use crate::{Error, ErrorKind, Result};

/// The tensors of a file by name, in its order.
pub(super) type Tensors = Vec<(String, Stored)>;

/// The fewest tensors of a network.
const LEAST: usize = 6;

/// The deepest nesting of modules around a network.
const DEPTH: usize = 6;

/// The most prefixes to try for each level of nesting.
const ATTEMPTS: usize = 16;

/// The prefixes under which a library keeps the averaged weights that its file is for, beside those that it averages.
const AVERAGED: [(&str, &str); 1] = [("ema_model.", "online_model.")];

/// Finds the only prefix, ending in a dot, under which the tensors have names and shapes that `fits` accepts. The shortest prefixes
/// come first. `None` if there is no such prefix.
///
/// # Errors
/// When several prefixes of the same depth fit.
pub(super) fn locate(tensors: &Tensors, fits: impl Fn(&Shapes) -> bool) -> Result<Option<String>> {
    let mut level = vec![String::new()];
    for _ in 0..DEPTH {
        level = level.iter().flat_map(|prefix| longer(tensors, prefix)).take(ATTEMPTS).collect();
        let fitting: Vec<&String> = level.iter().filter(|prefix| fits(&shapes_under(tensors, prefix))).collect();
        match fitting.as_slice() {
            [] => {}
            [only] => return Ok(Some((*only).clone())),
            [a, b] if AVERAGED.iter().any(|(averaged, other)| a.ends_with(averaged) && b.ends_with(other)) => {
                return Ok(Some((*a).clone()));
            }
            several => {
                let names = several.iter().map(|prefix| prefix.trim_end_matches('.')).collect::<Vec<_>>().join(", ");
                let problem = format!("ambiguous: {} networks, under {names}", several.len());
                return Err(Error::new(ErrorKind::Ambiguous, problem).within("weights"));
            }
        }
    }
    Ok(None)
}

/// The prefixes that are one module longer than `prefix` and hold enough tensors for a network.
fn longer(tensors: &Tensors, prefix: &str) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in tensors {
        if let Some((module, _)) = name.strip_prefix(prefix).and_then(|rest| rest.split_once('.')) {
            *counts.entry(module).or_default() += 1;
        }
    }
    let large = counts.into_iter().filter(|(_, count)| *count >= LEAST);
    large.map(|(module, _)| format!("{prefix}{module}.")).collect()
}

/// The shapes of the tensors under `prefix`, by name without it.
pub(super) fn shapes_under(tensors: &Tensors, prefix: &str) -> Shapes {
    let under =
        tensors.iter().filter_map(|(name, stored)| Some((name.strip_prefix(prefix)?.to_owned(), stored.shape())));
    under.map(|(name, shape)| (name, shape.to_vec())).collect()
}

/// Splits `tensors` into those under `prefix`, without it, and the names of all others.
pub(super) fn split(tensors: Tensors, prefix: &str) -> (Tensors, Vec<String>) {
    let (mut inside, mut others) = (Vec::new(), Vec::new());
    for (name, stored) in tensors {
        match name.strip_prefix(prefix) {
            Some(rest) => inside.push((rest.to_owned(), stored)),
            None => others.push(name),
        }
    }
    (inside, others)
}

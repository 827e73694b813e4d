//! Parts of a data set, recognised by the names of their folders: `train` and `val`, `Training` and `Testing`, `seg_train` and
//! `seg_test`.

use std::{collections::BTreeMap, path::Path};

use repvgg::error::{Problem, expected};
use repvgg::{Error, Result};

use super::listed;

/// What a part of a data set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Train,
    Validation,
    Test,
}

/// The names of each role, in lower case.
const NAMES: [(Role, &[&str]); 3] = [
    (Role::Train, &["train", "training", "trn"]),
    (Role::Validation, &["val", "valid", "validation"]),
    (Role::Test, &["test", "testing"]),
];

/// Words that say nothing more about a part: `train_set`, `valdata`.
const FILLERS: [&str; 9] = ["dataset", "set", "data", "images", "image", "imgs", "img", "split", "folder"];

/// The folders under a root, sorted by their role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    /// None of them is a part: they are classes.
    Classes,
    Parts(Parts),
}

/// The parts of a data set by the names of their folders. At least one is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Parts {
    roles: BTreeMap<Role, String>,
    /// The other folders beside the parts.
    pub(super) others: Vec<String>,
}

/// A name that contains that of a part.
struct Part<'a> {
    name: &'a str,
    role: Role,
    /// The other words of the name, without fillers.
    rest: Vec<String>,
}

impl Layout {
    /// Recognises the parts among the `folders` of `root`.
    ///
    /// A folder whose whole name says that it is a part, such as `Training` or `val_set`, is one. A longer name, such as
    /// `seg_train`, is one only beside its counterpart `seg_test` or `seg_val`: there are classes called `bullet_train`.
    ///
    /// # Errors
    /// When two folders have the same role.
    pub(super) fn of(root: &Path, folders: &[String]) -> Result<Self> {
        let named: Vec<Part<'_>> = folders.iter().filter_map(|name| part(name)).collect();
        let mut groups: BTreeMap<&[String], Vec<&Part<'_>>> = BTreeMap::new();
        for part in &named {
            groups.entry(&part.rest).or_default().push(part);
        }
        groups.retain(|rest, parts| {
            let has = |role| parts.iter().any(|part| part.role == role);
            rest.is_empty() || (has(Role::Train) && (has(Role::Validation) || has(Role::Test)))
        });
        let mut groups = groups.into_values();
        let Some(parts) = groups.next() else { return Ok(Self::Classes) };
        if let Some(second) = groups.next() {
            let found = format_args!("{} and {}", names(&parts), names(&second));
            return Err(Error::format(root.display(), expected("the parts of one data set").found(found)));
        }
        let mut roles = BTreeMap::new();
        for part in &parts {
            if let Some(first) = roles.insert(part.role, part.name.to_owned()) {
                let problem = expected(format_args!("one {} part", part.role.noun()));
                return Err(Error::format(root.display(), problem.found(format_args!("{first} and {}", part.name))));
            }
        }
        let others = folders.iter().filter(|name| !roles.values().any(|part| part == *name)).cloned().collect();
        Ok(Self::Parts(Parts { roles, others }))
    }
}

impl Parts {
    /// The names of the training part and of the part that validates it: the validation part, or else the test part.
    ///
    /// # Errors
    /// When either is missing.
    pub(super) fn for_training(&self, root: &Path) -> Result<[&str; 2]> {
        let refuse = |problem: Problem| Err(Error::format(root.display(), problem));
        match (self.roles.get(&Role::Train), self.held_out()) {
            (Some(train), Some(held_out)) => Ok([train, held_out]),
            (Some(train), None) => {
                let problem = expected(format_args!("one of val, valid, validation, test next to {train}"));
                refuse(self.advise(problem.found(listed(&self.others)), train))
            }
            (None, held_out) => {
                let name = held_out.unwrap_or_default();
                let problem = expected(format_args!("one of train, training next to {name}"));
                refuse(self.advise(problem.found(listed(&self.others)), name))
            }
        }
    }

    /// The name of the part that a model is judged on: the validation part, or else the test part. It needs no training part,
    /// unless there are folders that may be classes.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn for_evaluation(&self, root: &Path) -> Result<&str> {
        match self.held_out() {
            Some(held_out) if self.others.is_empty() => Ok(held_out),
            _ => self.for_training(root).map(|[_, held_out]| held_out),
        }
    }

    /// Whether there is a validation part. Otherwise the test part takes its place.
    pub(super) fn has_validation(&self) -> bool {
        self.roles.contains_key(&Role::Validation)
    }

    /// The name of the training part.
    pub(super) fn train(&self) -> Option<&str> {
        self.roles.get(&Role::Train).map(String::as_str)
    }

    fn held_out(&self) -> Option<&str> {
        self.roles.get(&Role::Validation).or_else(|| self.roles.get(&Role::Test)).map(String::as_str)
    }

    /// Adds what to do about a part without its counterpart, `name`.
    fn advise(&self, problem: Problem, name: &str) -> Problem {
        if self.others.is_empty() {
            problem.with_hint(format_args!("to use {name} alone, give its own path"))
        } else {
            problem.with_hint(format_args!("if {name} is a class, rename it"))
        }
    }
}

impl Role {
    fn noun(self) -> &'static str {
        match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

fn names(parts: &[&Part<'_>]) -> String {
    listed(&parts.iter().map(|part| part.name.to_owned()).collect::<Vec<_>>())
}

/// Whether a folder's name is that of a part, or contains one.
pub(super) fn speaks_of_a_part(name: &str) -> bool {
    part(name).is_some()
}

/// The part that a folder's name speaks of, if exactly one of its words is the name of a part.
fn part(name: &str) -> Option<Part<'_>> {
    let lower = name.to_lowercase();
    let mut role = None;
    let mut rest = Vec::new();
    for word in words(&lower) {
        match role_of(word) {
            Some(found) if role.is_none() => role = Some(found),
            Some(_) => return None,
            None if FILLERS.contains(&word) => {}
            None => rest.push(word.to_owned()),
        }
    }
    role.map(|role| Part { name, role, rest })
}

/// The role that a word names, with or without a filler at its end.
fn role_of(word: &str) -> Option<Role> {
    let is_named = |names: &[&str]| {
        let fills = |end: &str| end.is_empty() || FILLERS.contains(&end);
        names.iter().any(|name| word.strip_prefix(name).is_some_and(fills))
    };
    NAMES.iter().find(|(_, names)| is_named(names)).map(|&(role, _)| role)
}

/// The runs of letters and the runs of digits of `text`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let runs = text.split(|c: char| !c.is_alphanumeric());
    runs.flat_map(|run| {
        let digits = run.find(|c: char| c.is_ascii_digit()).unwrap_or(run.len());
        [&run[..digits], &run[digits..]]
    })
    .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(folders: &[&str]) -> Result<Layout> {
        let folders: Vec<String> = folders.iter().map(|&name| name.to_owned()).collect();
        Layout::of(Path::new("data"), &folders)
    }

    fn for_training(folders: &[&str]) -> Result<[String; 2]> {
        match layout(folders)? {
            Layout::Classes => panic!("{folders:?} are taken for classes"),
            Layout::Parts(parts) => parts.for_training(Path::new("data")).map(|names| names.map(str::to_owned)),
        }
    }

    #[test]
    fn names_in_any_case_and_spelling_are_parts() {
        for [train, validation] in [
            ["train", "val"],
            ["Train", "Test"],
            ["TRAIN", "VALID"],
            ["Training", "Testing"],
            ["train_set", "val_set"],
            ["training", "validation"],
            ["trainset", "testset"],
            ["Training Set", "Validation Set"],
            ["train-images", "test-images"],
            ["TrainData", "ValData"],
            ["seg_train", "seg_test"],
            ["train2017", "val2017"],
            ["images.train", "images.val"],
        ] {
            assert_eq!(for_training(&[train, validation]).unwrap(), [train, validation]);
            assert_eq!(for_training(&[validation, train]).unwrap(), [train, validation]);
        }
        assert_eq!(for_training(&["test", "train", "val"]).unwrap(), ["train", "val"]);
        assert_eq!(for_training(&["Test", "Train", "annotations"]).unwrap(), ["Train", "Test"]);
        let Layout::Parts(parts) = layout(&["seg_pred", "seg_test", "seg_train"]).unwrap() else { panic!("classes") };
        assert_eq!(parts.others, ["seg_pred"]);
    }

    #[test]
    fn other_names_are_classes() {
        for folders in [
            ["bullet_train", "bus"].as_slice(),
            &["bus station", "train station"],
            &["test tube", "bullet_train"],
            &["trainer", "contest", "value"],
            &["train_test", "cat"],
            &["invalid", "other"],
            &[],
        ] {
            assert_eq!(layout(folders).unwrap(), Layout::Classes, "{folders:?}");
        }
    }

    #[test]
    fn names_that_form_no_data_set_are_refused() {
        let error = |folders: &[&str]| for_training(folders).unwrap_err().to_string();
        for (folders, message) in [
            (
                ["Training"].as_slice(),
                "data: expected one of val, valid, validation, test next to Training, found none (to use Training alone, give its own path)",
            ),
            (
                &["cat", "dog", "train"],
                "data: expected one of val, valid, validation, test next to train, found cat, dog (if train is a class, rename it)",
            ),
            (
                &["a", "b", "c", "d", "e", "f", "Testing"],
                "data: expected one of train, training next to Testing, found a, b, c, d and 2 others (if Testing is a class, rename it)",
            ),
            (&["train", "val", "valid"], "data: expected one validation part, found val and valid"),
            (&["Train", "train", "test"], "data: expected one training part, found Train and train"),
            (
                &["cats_test", "cats_train", "dogs_test", "dogs_train"],
                "data: expected the parts of one data set, found cats_test, cats_train and dogs_test, dogs_train",
            ),
        ] {
            assert_eq!(error(folders), message);
        }
    }

    #[test]
    fn evaluation_needs_no_training_part() {
        let judged = |folders: &[&str]| match layout(folders).unwrap() {
            Layout::Classes => panic!("{folders:?} are taken for classes"),
            Layout::Parts(parts) => parts.for_evaluation(Path::new("data")).map(str::to_owned),
        };
        assert_eq!(judged(&["test"]).unwrap(), "test");
        assert_eq!(judged(&["test", "validation"]).unwrap(), "validation");
        assert_eq!(judged(&["other", "test", "train"]).unwrap(), "test");
        assert!(judged(&["cat", "test"]).is_err());
        assert!(judged(&["train"]).is_err());
    }
}

//! Which class of a model each class of a data set is.

use std::{collections::BTreeMap, path::Path};

use repvgg::classify::Outputs;
use repvgg::error::{Problem, expected};
use repvgg::{Error, Model, Result};

use super::listed;

/// The classes of a data set among those of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matching {
    /// The model's class of each class of the data set.
    pub(super) classes: Vec<usize>,
    /// The name of each class of the model.
    pub(super) labels: Vec<String>,
    /// What had to be assumed, because the model has no labels.
    pub(super) assumption: Option<String>,
}

impl Matching {
    /// Matches the classes called `names` with those of `model`: by name if the model has labels; else by number if all names
    /// are numbers; else by place in `order`, the names of all classes that the model should have. Labels that only count the
    /// classes, `LABEL_0` and so on, are as good as none, and numbers among labels may have leading zeros.
    ///
    /// # Errors
    /// When the model does not have one of the classes, or which one it is cannot be known. The error's place is `place`.
    pub(super) fn of(model: &Model, names: &[String], order: &[String], place: &Path) -> Result<Self> {
        let classes = Outputs::of(model.graph()).classes(model.classes());
        let numbers: Option<Vec<usize>> = names.iter().map(|name| number(name)).collect();
        let matching = match numbers {
            _ if !model.labels.is_empty() && !is_counted(&model.labels) => Self::by_name(&model.labels, names),
            Some(numbers) => Self::by_number(classes, names, numbers),
            None => Self::by_order(classes, names, order),
        };
        matching.map_err(|problem| Error::format(place.display(), problem))
    }

    fn by_name(labels: &[String], names: &[String]) -> Result<Self, Problem> {
        let are_numbers = labels.iter().chain(names).all(|name| number(name).is_some());
        let key =
            |name: &String| number(name).filter(|_| are_numbers).map_or_else(|| name.clone(), |key| key.to_string());
        let mut known: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (class, label) in labels.iter().enumerate() {
            known.entry(key(label)).or_default().push(class);
        }
        let unknown: Vec<String> = names.iter().filter(|&name| !known.contains_key(&key(name))).cloned().collect();
        if !unknown.is_empty() {
            return Err(expected(format_args!("classes of the model ({})", listed(labels))).found(listed(&unknown)));
        }
        if let Some(name) = names.iter().find(|&name| known[&key(name)].len() > 1) {
            return Err(expected(format_args!("one class of the model called {name}")).found(known[&key(name)].len()));
        }
        let classes = names.iter().map(|name| known[&key(name)][0]).collect();
        Ok(Self { classes, labels: labels.to_vec(), assumption: None })
    }

    fn by_number(classes: usize, names: &[String], numbers: Vec<usize>) -> Result<Self, Problem> {
        let advice = "give the model labels";
        let mut labels: Vec<Option<&String>> = vec![None; classes];
        for (name, &number) in names.iter().zip(&numbers) {
            match labels.get_mut(number) {
                None => {
                    let problem = expected(format_args!("numbers of the model's classes, 0 to {}", classes - 1));
                    return Err(problem.found(name).with_hint(advice));
                }
                Some(Some(first)) => {
                    return Err(expected(format_args!("one folder of class {number}"))
                        .found(format_args!("{first} and {name}")));
                }
                Some(label) => *label = Some(name),
            }
        }
        let label = |(class, name): (usize, Option<&String>)| name.cloned().unwrap_or_else(|| class.to_string());
        let assumption = "the model has no labels: each folder is taken for the class of its number";
        Ok(Self {
            classes: numbers,
            labels: labels.into_iter().enumerate().map(label).collect(),
            assumption: Some(assumption.to_owned()),
        })
    }

    fn by_order(classes: usize, names: &[String], order: &[String]) -> Result<Self, Problem> {
        if order.len() != classes {
            let problem = expected(format_args!("all {classes} classes of the model, which has no labels"));
            let problem = problem.found(format_args!("{}: {}", order.len(), listed(order)));
            return Err(problem.with_hint("give the model labels"));
        }
        let mut known = Vec::with_capacity(names.len());
        for name in names {
            let class = order.iter().position(|ordered| ordered == name);
            let unknown = || expected(format_args!("classes of the training part ({})", listed(order))).found(name);
            known.push(class.ok_or_else(unknown)?);
        }
        let assumption =
            format!("the model has no labels: its classes are taken to be, in this order, {}", listed(order));
        Ok(Self { classes: known, labels: order.to_vec(), assumption: Some(assumption) })
    }
}

/// Whether labels only count the classes, as those of a transformers configuration without labels do.
fn is_counted(labels: &[String]) -> bool {
    labels.iter().enumerate().all(|(class, label)| *label == format!("LABEL_{class}"))
}

/// The number that a folder's name is: digits alone, with or without leading zeros.
fn number(name: &str) -> Option<usize> {
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok())?
}

#[cfg(test)]
mod tests {
    use repvgg::zoo::RepVgg;

    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn model(classes: usize, labels: &[&str]) -> Model {
        let spec = RepVgg { depths: [1; 4], width: [0.1; 4], classes, ..RepVgg::default() };
        let mut model = Model::initialise(spec.into(), 0).unwrap();
        model.labels = strings(labels);
        model
    }

    fn matching(model: &Model, names: &[&str]) -> Result<Matching> {
        let names = strings(names);
        Matching::of(model, &names, &names, Path::new("data"))
    }

    fn refusal(model: &Model, names: &[&str]) -> String {
        matching(model, names).unwrap_err().to_string()
    }

    #[test]
    fn labels_match_by_name() {
        let model = model(5, &["ape", "bee", "cat", "dog", "cat"]);
        let found = matching(&model, &["dog", "ape"]).unwrap();
        assert_eq!((found.classes, found.labels, found.assumption), (vec![3, 0], model.labels.clone(), None));
        assert_eq!(
            refusal(&model, &["ape", "Bee", "fox"]),
            "data: expected classes of the model (ape, bee, cat, dog and 1 other), found Bee, fox"
        );
        assert_eq!(refusal(&model, &["cat"]), "data: expected one class of the model called cat, found 2");
        let numbers = self::model(4, &["0", "1", "10", "2"]);
        assert_eq!(matching(&numbers, &["00", "02", "10"]).unwrap().classes, [0, 3, 2]);
    }

    #[test]
    fn numbers_match_by_number() {
        let model = model(12, &[]);
        let names = ["0", "1", "10", "11", "2"];
        let found = matching(&model, &names).unwrap();
        assert_eq!(found.classes, [0, 1, 10, 11, 2]);
        assert_eq!(found.labels[3], "3");
        assert!(found.assumption.unwrap().contains("the class of its number"));
        let counted = self::model(3, &["LABEL_0", "LABEL_1", "LABEL_2"]);
        assert_eq!(matching(&counted, &["2"]).unwrap().classes, [2]);
        let found = matching(&model, &["00000", "00007"]).unwrap();
        assert_eq!((found.classes.as_slice(), found.labels[7].as_str()), ([0, 7].as_slice(), "00007"));
        assert_eq!(
            refusal(&model, &["1", "12"]),
            "data: expected numbers of the model's classes, 0 to 11, found 12 (give the model labels)"
        );
        assert_eq!(refusal(&model, &["01", "1"]), "data: expected one folder of class 1, found 01 and 1");
    }

    #[test]
    fn names_without_labels_match_by_order() {
        let model = model(3, &[]);
        let found = matching(&model, &["ape", "bee", "cat"]).unwrap();
        assert_eq!(found.classes, [0, 1, 2]);
        assert!(found.assumption.unwrap().ends_with("in this order, ape, bee, cat"));
        let order = strings(&["ape", "bee", "cat"]);
        assert_eq!(Matching::of(&model, &order[2..], &order, Path::new("data")).unwrap().classes, [2]);
        let error = Matching::of(&model, &strings(&["fox"]), &order, Path::new("data")).unwrap_err();
        assert_eq!(error.to_string(), "data: expected classes of the training part (ape, bee, cat), found fox");
        assert_eq!(
            refusal(&model, &["ape", "bee"]),
            "data: expected all 3 classes of the model, which has no labels, found 2: ape, bee (give the model labels)"
        );
    }
}

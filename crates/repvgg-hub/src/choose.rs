//! Chooses the file of weights in a repository.

use repvgg::error::expected;
use repvgg::{Error, Result};

use crate::repository::is_plain;

/// A way to choose the file of weights.
enum Choice {
    /// The file of this name.
    Named(&'static str),
    /// The only file with one of these endings.
    Only(&'static [&'static str]),
}

/// All choices, in order of preference.
const CHOICES: [Choice; 4] = [
    Choice::Named("model.safetensors"),
    Choice::Only(&[".safetensors"]),
    Choice::Named("pytorch_model.bin"),
    Choice::Only(&[".pth", ".bin", ".onnx"]),
];

/// The most names that a message lists.
const LISTED: usize = 12;

/// Chooses the file of weights among `files`, the paths in a repository. Files in folders are ignored.
///
/// # Errors
/// When there is none, when there are several without a preferred one, or when the weights are split.
pub(crate) fn choose_weights<'a>(files: &[&'a str]) -> Result<&'a str> {
    let plain = || files.iter().copied().filter(|name| is_plain(name));
    for choice in CHOICES {
        let fits = |name: &&str| match choice {
            Choice::Named(wanted) => *name == wanted,
            Choice::Only(endings) => endings.iter().any(|ending| name.ends_with(ending)),
        };
        let mut fitting = plain().filter(fits);
        if let (Some(name), None) = (fitting.next(), fitting.next()) {
            return Ok(name);
        }
    }
    if let Some(index) = plain().find(|name| name.ends_with(".index.json")) {
        return Err(Error::format(
            "weights",
            expected("one file").found(format_args!("several parts listed in {index}")),
        ));
    }
    Err(Error::format("weights", expected("model.safetensors or one other file of weights").found(first_names(files))))
}

/// The first few `names`, safe to print.
fn first_names(names: &[&str]) -> String {
    if names.is_empty() {
        return "no file".into();
    }
    let shown = names.iter().take(LISTED).map(|name| {
        let short: String = name.chars().take(80).collect();
        if is_plain(&short) { short } else { format!("{short:?}") }
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    if names.len() > LISTED { format!("{shown} and {} more", names.len() - LISTED) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_usual_name_precedes_an_only_file() {
        for (files, expected) in [
            (&["README.md", "other.safetensors", "model.safetensors", "pytorch_model.bin"][..], "model.safetensors"),
            (&["repvgg.safetensors", "pytorch_model.bin"], "repvgg.safetensors"),
            (&["a.safetensors", "b.safetensors", "pytorch_model.bin"], "pytorch_model.bin"),
            (&["training_args.bin", "pytorch_model.bin"], "pytorch_model.bin"),
            (&["config.json", "RepVGG-A0-train.pth"], "RepVGG-A0-train.pth"),
            (&["onnx/model.onnx", "repvgg.onnx"], "repvgg.onnx"),
            (&["model.safetensors", "pytorch_model.bin.index.json"], "model.safetensors"),
        ] {
            assert_eq!(choose_weights(files).unwrap(), expected);
        }
    }

    #[test]
    fn errors_list_the_candidates() {
        let refusal = |files: &[&str]| choose_weights(files).unwrap_err().to_string();
        let start = "weights: expected model.safetensors or one other file of weights, found ";
        assert_eq!(refusal(&[]), format!("{start}no file"));
        assert_eq!(refusal(&["a.pth", "b.pth", "sub/c.pth"]), format!("{start}a.pth, b.pth, \"sub/c.pth\""));
        let many: Vec<_> = (0..30).map(|index| format!("{index}.txt")).collect();
        assert!(refusal(&many.iter().map(String::as_str).collect::<Vec<_>>()).ends_with("11.txt and 18 more"));
    }

    #[test]
    fn hostile_names_are_never_chosen_and_are_printed_escaped() {
        for hostile in
            ["../../x.pth", "/etc/x.pth", "..\\x.pth", ".x.pth", "a\n.pth", "a\u{1b}[31m.pth", "x?y.pth", "C:x.pth"]
        {
            let error = choose_weights(&[hostile]).unwrap_err().to_string();
            assert!(!error.contains(['\n', '\u{1b}']), "{error}");
        }
    }

    #[test]
    fn weights_in_parts_are_refused() {
        let files =
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"];
        let sentence = "weights: expected one file, found several parts listed in model.safetensors.index.json";
        assert_eq!(choose_weights(&files).unwrap_err().to_string(), sentence);
    }
}

//! Every command has completions and a manual page.

use std::fs;
use std::path::Path;

use repvgg_testing::Binary;

fn repvgg(folder: &Path, arguments: &[&str]) -> String {
    Binary::new(env!("CARGO_BIN_EXE_repvgg")).done(folder, arguments)
}

/// The commands that `repvgg --help` lists.
fn commands(folder: &Path) -> Vec<String> {
    let help = repvgg(folder, &["--help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let names = commands(folder.path());
    assert!(names.len() >= 15 && names.contains(&"train".to_owned()), "{names:?}");
    repvgg(folder.path(), &["man", "pages/man1"]);
    let page = |name: &str| fs::read_to_string(folder.path().join("pages/man1").join(name)).unwrap();
    assert!(page("repvgg.1").contains("repvgg\\-train(1)"));
    for name in &names {
        let page = page(&format!("repvgg-{name}.1"));
        assert!(page.contains(&format!(".TH repvgg-{name} 1")), "{page}");
        assert!(page.contains("\\-\\-help"), "{page}");
    }
    assert!(page("repvgg-train.1").contains("\\-\\-label\\-smoothing"));
    assert!(!folder.path().join("pages/man1/repvgg-observe.1").exists());
}

#[test]
fn completions_include_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = repvgg(folder.path(), &["completions", shell]);
        for name in commands(folder.path()) {
            assert!(script.contains(&name), "{shell}: {name}");
        }
        assert!(script.contains("label-smoothing"), "{shell}");
    }
}

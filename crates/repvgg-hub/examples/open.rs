//! Opens models by any name: `open [NAME...]`, such as a file, `hf:timm/repvgg_a0.rvgg_in1k` or `resnet-50`.

use repvgg::{Model, Result, Specification};
use repvgg_hub::{ModelName, OpenOptions, Transfer, open_or_initialise};

fn main() -> Result<()> {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    if names.is_empty() {
        let file = folder.path().join("model.safetensors");
        let specification = folder.path().join("small.toml");
        std::fs::write(&specification, "depths = [1, 1, 1, 1]\nclasses = 10\n").expect("small.toml");
        Model::initialise(Specification::from_spec_file(&specification)?, 0)?.save(&file)?;
        names = vec![file.display().to_string(), specification.display().to_string(), "repvgg-a0".to_owned()];
    }
    for name in &names {
        let kind = match ModelName::parse(name)? {
            ModelName::File(_) => "file",
            ModelName::Repository(_) => "repository of the hub",
            ModelName::Specification(_) => "architecture with initial weights",
            _ => "model",
        };
        let opened = open_or_initialise(name, &OpenOptions::default(), &mut |Transfer { file, done, size }| {
            eprint!("\r{file}: {done} of {size} bytes");
        })?;
        let model = &opened.model;
        let origin = opened.origin.map_or_else(String::new, |origin| format!(", {origin}"));
        println!("{name}: {kind}{origin}");
        println!("  {} in {} for {} classes", model.name(), model.form(), model.classes());
        assert_eq!(opened.origin.is_none(), kind.starts_with("architecture"));
        model.weights.check(model.graph())?;
    }
    Ok(())
}

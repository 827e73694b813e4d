//! Fine-tunes a model on images of other classes: `fine_tune [MODEL DATA FOLDER]`. Without arguments, it first trains a small network
//! on drawn images.

use std::path::{Path, PathBuf};

use repvgg::{Model, Result, Specification};
use repvgg_train::data::{Dataset, Shapes, shapes::Part};
use repvgg_train::recipe::{Preset, Recipe};
use repvgg_train::run::{Control, Pretrained, Run, Setup};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if let [model, data, folder] = &arguments[..] {
        let pretrained = Pretrained { name: model.display().to_string(), model: Model::load(model)? };
        let setup = Setup::fine_tune(data, Preset::named("quick")?.recipe, pretrained)?;
        print_last("fine-tuned", &trained(&setup, folder)?);
        return Ok(());
    }
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| temporary.path().join(name);
    let labels = Shapes::labels();
    let (many, few) = labels.split_at(labels.len() - 2);
    draw(&path("many"), many)?;
    draw(&path("few"), few)?;

    let Preset { recipe, .. } = Preset::named("demo")?;
    let recipe = Recipe { batch: 20, ..recipe };
    let spec = "depths = [1, 1, 1, 1]\nwidth = [0.25, 0.25, 0.25, 0.125]\nstrides = [1, 2, 2, 2, 2]";
    let preset = Preset { recipe: recipe.clone().with_epochs(4), model: Specification::from_toml(spec, "small")? };
    let first = trained(&Setup::new(path("many"), preset.clone()), &path("run"))?;
    print_last("trained on many classes", &first);

    let pretrained = Pretrained { name: "run/last.safetensors".to_owned(), model: first.model()? };
    let recipe = Recipe { learning_rate: 0.2 * recipe.learning_rate, ..recipe.with_epochs(2) };
    let setup = Setup::fine_tune(path("few"), recipe, pretrained)?;
    let start = setup.assemble()?;
    println!(
        "{} of {} parameters transferred; the head starts from random weights",
        start.transferred,
        start.weights.len()
    );
    assert_eq!(start.transferred, start.weights.len() - 2);
    assert_eq!(start.config.labels, few);
    print_last("fine-tuned on two other classes", &trained(&setup, &path("fine-tuned"))?);
    Ok(())
}

fn trained(setup: &Setup, folder: &Path) -> Result<Run> {
    let mut run = setup.start(folder)?;
    run.train(|_| Control::Continue)?;
    Ok(run)
}

fn print_last(what: &str, run: &Run) {
    let top1 = run.position().metrics.last().and_then(|metrics| metrics.validation_top1);
    println!("{what}: validation top-1 {:.1} %", 100.0 * top1.unwrap_or(f64::NAN));
}

/// Draws images into one folder per class.
fn draw(folder: &Path, classes: &[String]) -> Result<()> {
    let shapes = Shapes { part: Part::Train, count: 250, side: 32, seed: 0 };
    for index in 0..shapes.len() {
        let label = &Shapes::labels()[shapes.label(index)];
        if classes.contains(label) {
            std::fs::create_dir_all(folder.join(label)).expect("a class folder");
            shapes.image(index)?.save(folder.join(label).join(format!("{index}.png"))).expect("an image");
        }
    }
    Ok(())
}

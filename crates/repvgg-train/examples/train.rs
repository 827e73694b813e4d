//! Trains a network on images and evaluates it fused: `train [DATA FOLDER]`. Without arguments, it draws images in a temporary folder.

use std::path::PathBuf;

use repvgg::zoo::RepVgg;
use repvgg::{Result, Specification, check};
use repvgg_train::data::{Dataset, Shapes, shapes::Part};
use repvgg_train::evaluate::{EvaluationSettings, evaluate};
use repvgg_train::recipe::{Preset, Recipe};
use repvgg_train::run::{Control, Event, Outcome, Setup};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let setup = match &arguments[..] {
        [data, ..] => Setup::new(data, Preset::named("quick")?),
        [] => small(&temporary.path().join("images"))?,
    };
    let folder = arguments.get(1).cloned().unwrap_or_else(|| temporary.path().join("run"));

    // The run folder holds configuration, metrics, curves and models. `Run::resume` continues a stopped run.
    let mut run = setup.start(&folder)?;
    let outcome = run.train(|event| {
        if let Event::Epoch(metrics) = event {
            let top1 = 100.0 * metrics.validation_top1.unwrap_or(f64::NAN);
            println!("epoch {}: training loss {:.3}, validation top-1 {top1:.1} %", metrics.epoch, metrics.train_loss);
        }
        Control::Continue
    })?;
    assert_eq!(outcome, Outcome::Finished);

    // Deployment: fuse, check against the training form, evaluate on the engine.
    let plain = check::fuse(&run.model()?, run.config().preprocessing.size, |_| ())?.accept()?;
    let evaluation = evaluate(&plain, &run.data().validation, &EvaluationSettings::default(), |_| ())?;
    println!("fused: top-1 {:.1} % on {} images", 100.0 * evaluation.top1(), evaluation.images());

    let metrics = &run.position().metrics;
    assert!(metrics.last().is_some_and(|last| last.train_loss < metrics[0].train_loss), "the network learns");
    assert_eq!(Some(evaluation.top1()), metrics.last().and_then(|last| last.validation_top1));
    Ok(())
}

/// Draws images into one folder per class and sets up a small network for them.
fn small(images: &std::path::Path) -> Result<Setup> {
    let shapes = Shapes { part: Part::Train, count: 300, side: 32, seed: 0 };
    for index in 0..shapes.len() {
        let class = images.join(&Shapes::labels()[shapes.label(index)]);
        std::fs::create_dir_all(&class).expect("a class folder");
        shapes.image(index)?.save(class.join(format!("{index}.png"))).expect("an image");
    }
    let Preset { recipe, .. } = Preset::named("demo")?;
    let spec = RepVgg { depths: [1, 1, 1, 1], width: [0.25, 0.25, 0.25, 0.125], ..RepVgg::default() };
    let model = Specification::from(RepVgg { strides: [1, 2, 2, 2, 2], name: "small".to_owned(), ..spec });
    Ok(Setup::new(images, Preset { recipe: Recipe { batch: 30, ..recipe.with_epochs(4) }, model }))
}

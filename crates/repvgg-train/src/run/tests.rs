use repvgg::image::RgbImage;
use repvgg::zoo::RepVgg;

use super::*;
use crate::recipe::{Preset, Recipe};

/// A `Stop` that answers a single event of validation is honoured at the end of the epoch.
#[test]
fn a_stop_during_validation_ends_the_run_after_the_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let preset = Preset::named("quick").unwrap();
    let spec = RepVgg { depths: [1; 4], width: [0.1; 4], strides: [2; 5], ..RepVgg::default() };
    let preset = Preset { recipe: preset.recipe.with_epochs(2), model: spec.into() };
    let mut run = Setup::new("shapes", preset).start(&folder.path().join("run")).unwrap();
    let mut stopped = false;
    let outcome = run.train(|event| {
        let stops = matches!(event, Event::Validation { .. }) && !std::mem::replace(&mut stopped, true);
        if stops { Control::Stop } else { Control::Continue }
    });
    assert_eq!(outcome.unwrap(), Outcome::Stopped);
    assert_eq!(run.position().epoch, 1);
}

/// A run of `epochs` epochs without warm-up, with a learning rate of 0.02, on 40 small images, of which it holds out 8.
fn short_run(folder: &Path, epochs: usize) -> Run {
    let photos = folder.join("photos");
    for (at, class) in ["dark", "light"].into_iter().cycle().take(40).enumerate() {
        let value = if class == "dark" { 60 } else { 190 } + at as u8;
        std::fs::create_dir_all(photos.join(class)).unwrap();
        let image = RgbImage::from_pixel(16, 16, ::image::Rgb([value; 3]));
        image.save(photos.join(class).join(format!("{at}.png"))).unwrap();
    }
    let Preset { recipe, .. } = Preset::named("quick").unwrap();
    let recipe = Recipe { batch: 8, learning_rate: 0.02, warmup_epochs: 0.0, size: 16, ..recipe.with_epochs(epochs) };
    let spec = RepVgg { depths: [1; 4], width: [0.1; 4], strides: [2; 5], ..RepVgg::default() };
    let setup = Setup::new(photos, Preset { recipe, model: spec.into() });
    Setup { size: Some(16), threads: 1, ..setup }.start(&folder.join("run")).unwrap()
}

fn rates(run: &Run) -> Vec<f64> {
    run.position().metrics.iter().map(|metrics| metrics.learning_rate).collect()
}

#[test]
fn an_extended_run_goes_on_along_the_longer_schedule() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut run = short_run(folder.path(), 2);
    assert!(!run.is_finished());
    run.train(|_| Control::Continue).unwrap();
    assert!(run.is_finished());
    assert_eq!(rates(&run), [0.02, 0.01]);
    drop(run);

    let mut run = Run::resume(&path).unwrap();
    let message = run.extend(1).unwrap_err().to_string();
    assert_eq!(message, "epochs: expected at least the run's 2 epochs, found 1");
    run.extend(2).unwrap();
    assert!(run.is_finished());
    run.extend(4).unwrap();
    assert!(!run.is_finished());
    assert!((run.learning_rate() - 0.01).abs() < 1e-12, "{}", run.learning_rate());
    drop(run);

    // The number is kept in the folder.
    let mut run = Run::resume(&path).unwrap();
    assert_eq!(run.config().recipe.epochs, 4);
    run.train(|_| Control::Continue).unwrap();
    assert_eq!(run.position().epoch, 4);
    // At the start, the middle of a cosine over 2 epochs, and the middle and three quarters of one over 4.
    let expected = [0.02, 0.01, 0.01, 0.002_928_932_188_134_524];
    for (found, expected) in rates(&run).into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-15, "{found}, expected {expected}");
    }
    assert_eq!(run.model().unwrap().training.unwrap()["recipe"]["epochs"], 4);
}

#[test]
fn a_run_whose_images_have_moved_says_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    drop(short_run(folder.path(), 1));
    std::fs::rename(folder.path().join("photos"), folder.path().join("moved")).unwrap();
    let message = Run::resume(&folder.path().join("run")).err().unwrap().to_string();
    assert!(message.contains("/photos: ") && message.ends_with("change its path in config.toml)"), "{message}");
}

#[test]
fn a_model_records_how_its_data_were_divided() {
    let folder = tempfile::tempdir().unwrap();
    let run = short_run(folder.path(), 1);
    let record = run.model().unwrap().training.unwrap();
    assert_eq!(record["split"], serde_json::json!({"rule": "held-out", "one_in": 5, "seed": 0}));
    assert_eq!(record["training_images"]["count"], 32);
    assert_eq!(record["training_images"]["files"].as_array().unwrap().len(), 32);
}

//! Compare two models: `verify [A B]`. Without arguments, a small network is compared with its fused form and with another
//! network.

use std::path::Path;

use repvgg::check::{Comparison, Inputs, Parts, compare};
use repvgg::{Model, Result, Specification};

/// The largest allowed difference of a logit between two forms of one network, relative to the largest logit.
const TOLERANCE: f64 = 1e-5;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [a, b] = &arguments[..] {
        let [a, b] = [Model::load(Path::new(a))?, Model::load(Path::new(b))?];
        print(&comparison([&a, &b])?);
        return Ok(());
    }
    let spec = "depths = [1, 1, 1, 1]\nwidth = [0.25, 0.25, 0.25, 0.25]\nclasses = 10";
    let architecture = Specification::from_toml(spec, "small")?;
    let training = Model::initialise(architecture.clone(), 0)?;

    println!("a network and its fused form");
    let same = comparison([&training, &training.fuse()?])?;
    print(&same);
    assert!(same.logits.relative_difference() < TOLERANCE && same.logits.same_top1 == same.logits.images);
    assert!(matches!(same.parts, Parts::Regions(_)));

    println!("two networks of one architecture");
    let different = comparison([&training, &Model::initialise(architecture, 1)?])?;
    print(&different);
    assert!(different.logits.relative_difference() > TOLERANCE);
    Ok(())
}

fn comparison(models: [&Model; 2]) -> Result<Comparison> {
    compare(models, &Inputs::Random { images: 8, size: [64, 64] }, 2, |_| ())
}

fn print(comparison: &Comparison) {
    let logits = comparison.logits;
    let verdict = if logits.relative_difference() <= TOLERANCE { "the same network" } else { "not the same network" };
    println!("  logits differ by {:.1e} of the largest: {verdict}", logits.relative_difference());
    println!("  the first choice is the same for {} of {} images", logits.same_top1, logits.images);
    match &comparison.parts {
        Parts::Regions(report) => {
            println!("  {} fused blocks, the worst error {:.3} bounds", report.regions.len(), report.worst_error());
        }
        Parts::Layers(layers) => {
            let largest = layers.iter().map(|layer| layer.largest_difference).fold(0.0, f64::max);
            println!("  the parameters of {} layers differ by at most {largest:.1e}", layers.len());
        }
        _ => println!("  their graphs differ"),
    }
}

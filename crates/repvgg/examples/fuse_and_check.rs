//! Fuse a model and prove the fusion: `fuse_and_check [TRAINING.safetensors PLAIN.safetensors]`. Without arguments, the model
//! is a small generated network.

use std::path::Path;

use repvgg::graph::Role;
use repvgg::random::Normal;
use repvgg::{Model, Result, Specification, check};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let training = match arguments.first() {
        Some(path) => Model::load(Path::new(path))?,
        None => small()?,
    };

    let checked = check::fuse(&training, check::image_size(&training), |_| ())?;
    println!("{:<28} {:>5}  {:>13}  {:>9}", "block", "nodes", "error / bound", "max |Δ|");
    for region in &checked.report.regions {
        println!("{:<28} {:>5}  {:>13.3}  {:>9.1e}", region.name, region.nodes, region.error, region.absolute_error);
    }
    for obstacle in checked.fusion.obstacles() {
        println!("not fused: {}: {}", obstacle.sum, obstacle.why);
    }
    println!("logits of the whole network differ by {:.1e} of the largest", checked.report.network_error);

    // One bound is the largest error that rounding the fused weights once to single precision can cause.
    let plain = checked.accept()?;
    let values = |model: &Model| model.weights.iter().map(|(_, tensor)| tensor.data().len()).sum::<usize>();
    println!("{} values become {}", values(&training), values(&plain));
    assert!(values(&plain) < values(&training));
    match arguments.get(1) {
        Some(path) => plain.save(Path::new(path)),
        None => Ok(()),
    }
}

/// An untrained network with random batch norms: the batch norms of a new network would hide an error.
fn small() -> Result<Model> {
    let spec = "depths = [1, 2, 2, 1]\nwidth = [0.25, 0.25, 0.25, 0.25]\ngroups = 2";
    let mut model = Model::initialise(Specification::from_toml(spec, "small")?, 0)?;
    let mut noise = Normal::new(1);
    for (name, parameter) in model.graph().clone().parameters() {
        let Some(tensor) = model.weights.get_mut(&name) else { continue };
        for value in tensor.data_mut() {
            match parameter.role {
                Role::NormScale | Role::RunningVar => *value = (0.3 * noise.sample()).exp() as f32,
                Role::NormShift | Role::RunningMean => *value = 0.3 * noise.sample() as f32,
                _ => {}
            }
        }
    }
    Ok(model)
}

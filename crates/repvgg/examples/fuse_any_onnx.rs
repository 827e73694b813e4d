//! Fuses the linear parts of any ONNX network: `cargo run --release --example fuse_any_onnx -- in.onnx out.onnx`.
//!
//! Without arguments it exports a small network unfused, and fuses that.

use std::path::{Path, PathBuf};

use repvgg::file::write_atomically;
use repvgg::formats::onnx::{self, ExternalData, WriteOptions};
use repvgg::{Model, Specification};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [input, output] => fuse(input, output),
        [] => {
            let folder = tempfile::tempdir()?;
            let input = folder.path().join("unfused.onnx");
            let spec = "depths = [1, 2, 1, 1]\nwidth = [0.25, 0.25, 0.25, 0.25]\nclasses = 3";
            let model = Model::initialise(Specification::from_toml(spec, "small")?, 0)?;
            model.save_onnx(&input, &WriteOptions::default())?;
            fuse(&input, &folder.path().join("fused.onnx"))
        }
        _ => Err("expected an ONNX file and the file to write".into()),
    }
}

fn fuse(input: &Path, output: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let fusion = onnx::fuse(std::fs::read(input)?, input.parent(), ExternalData::Inline, |_| {})?;
    write_atomically(output, |file| file.write_all(&fusion.bytes))?;
    let [before, after] = fusion.report.convolutions;
    assert!(after <= before);
    println!("{} regions fused, {before} convolutions reduced to {after}", fusion.report.regions.len());
    for obstacle in &fusion.report.obstacles {
        println!("not fused: {}: {} ({})", obstacle.sum, obstacle.why, obstacle.by);
    }
    Ok(())
}

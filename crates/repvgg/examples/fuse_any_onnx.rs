//! Fuses the linear parts of any ONNX network: `cargo run --release --example fuse_any_onnx -- in.onnx out.onnx`.

use std::path::Path;

use repvgg::file::write_atomically;
use repvgg::formats::onnx::{self, ExternalData};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("expected an ONNX file and the file to write".into());
    };
    let folder = Path::new(&input).parent();
    let fusion = onnx::fuse(std::fs::read(&input)?, folder, ExternalData::Inline, |_| {})?;
    write_atomically(Path::new(&output), |file| file.write_all(&fusion.bytes))?;
    let [before, after] = fusion.report.convolutions;
    println!("{} regions fused, {before} convolutions reduced to {after}", fusion.report.regions.len());
    for obstacle in &fusion.report.obstacles {
        println!("not fused: {}: {} ({})", obstacle.sum, obstacle.why, obstacle.by);
    }
    Ok(())
}

//! Decodes image files to 8-bit RGB and writes them as PNG, with what was wrong in them.
//!
//! ```text
//! cargo run --release --example decode -- photos/ decoded/
//! ```
//!
//! Without arguments it decodes a picture of its own.

use std::error::Error;
use std::path::{Path, PathBuf};

use repvgg::image::{self, Orientation, RgbImage};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [from, to] => decode_all(from, to),
        [] => decode_own(),
        _ => Err("usage: decode FROM TO".into()),
    }
}

/// Writes a picture, decodes it, and compares the two.
fn decode_own() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let picture = RgbImage::from_fn(40, 30, |x, y| [x as u8, y as u8, 7].into());
    picture.save(folder.path().join("own.ppm"))?;
    decode_all(folder.path(), folder.path())?;
    assert_eq!(image::decode(folder.path().join("own.ppm.png"))?, picture);
    println!("a picture of {}x{} pixels came back as it was", picture.height(), picture.width());
    Ok(())
}

fn decode_all(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    for file in image::list(from)?.files {
        match image::read(&file, Orientation::Upright) {
            Ok(decoded) => {
                if let Some(warning) = decoded.warning {
                    println!("warning: {}: {warning}", file.display());
                }
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                decoded.image.save(to.join(format!("{name}.png")))?;
            }
            Err(error) => println!("error: {error}"),
        }
    }
    Ok(())
}

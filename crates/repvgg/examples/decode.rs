//! Decodes image files to 8-bit RGB and writes them as PNG, with what was wrong in them.
//!
//! ```text
//! cargo run --release --example decode -- photos/ decoded/
//! ```

use std::error::Error;
use std::path::PathBuf;

use repvgg::image::{self, Orientation};

fn main() -> Result<(), Box<dyn Error>> {
    let [from, to] = std::env::args_os()
        .skip(1)
        .map(PathBuf::from)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: decode FROM TO")?;
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

//! From image files to network inputs: decoding, resizing, cropping, normalising.
//!
//! ```text
//! file ──decode──► RgbImage [H, W, 3] u8 ──Preprocessing──► Tensor [C, S, S] f32
//! ```
//!
//! [`decode`] reads PNG, JPEG, GIF, WebP, BMP and TIFF by content, never by extension, and refuses what is truncated, foreign
//! or larger than [`MAX_PIXELS`] before it allocates. [`Preprocessing`] reproduces the evaluation transform of torchvision and
//! timm, so a network sees here what it saw in training there.

mod decode;
mod list;
mod preprocess;
mod resize;

pub use ::image::RgbImage;

pub use decode::{MAX_PIXELS, decode, decode_bytes};
pub use list::{files, list};
pub use preprocess::{Preprocessing, normalise};
pub use resize::{Interpolation, Region, resize};

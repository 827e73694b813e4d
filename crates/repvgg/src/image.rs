//! From image files to network inputs: decoding, resizing, cropping, normalising.
//!
//! ```text
//! file ──decode──► RgbImage [H, W, 3] u8 ──Preprocessing──► Tensor [C, S, S] f32
//! ```
//!
//! [`decode`] detects PNG, JPEG, GIF, WebP, BMP, TIFF and PNM by content, never by extension, and refuses truncated, foreign and
//! oversized files ([`MAX_BYTES`]) before it allocates. [`Preprocessing`] reproduces the evaluation transform of torchvision and
//! timm, so a network sees the same inputs as in training.
//!
//! ```
//! use image::RgbImage;
//! use repvgg::image::Preprocessing;
//!
//! let input = Preprocessing { size: [32; 2], ..Preprocessing::default() }.apply(&RgbImage::new(48, 40));
//! assert_eq!(input.shape(), [3, 32, 32]);
//! ```

mod decode;
mod list;
mod preprocess;
mod resize;

pub use ::image::RgbImage;

pub use decode::{Decoded, MAX_BYTES, Orientation, decode, decode_bytes, read, read_bytes};
pub use list::{Listing, PassedOver, files, is_hidden, is_image, list};
pub use preprocess::{Preprocessing, normalise};
pub use resize::{Interpolation, PixelRect, resize};

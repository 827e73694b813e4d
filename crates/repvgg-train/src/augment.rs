//! Random views of training images, described as data.
//!
//! ```
//! use repvgg_train::augment::{Augmentation, Crop};
//!
//! let augmentation = Augmentation { crop: "resized:0.35-1".parse()?, cutout: 8, ..Augmentation::cifar() };
//! augmentation.check(32)?;
//! assert!(matches!(augmentation.crop, Crop::RandomResized { scale: [0.35, 1.0], .. }));
//! # Ok::<(), repvgg::Error>(())
//! ```

mod parse;

use image::imageops::flip_horizontal_in_place;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use repvgg::error::{Problem, expected};
use repvgg::{
    Error, Result,
    image::{PixelRect, Preprocessing, RgbImage, normalise, resize},
};
use serde::{Deserialize, Serialize};

/// Turns an image into a network input, by the evaluation transform or as a random view. A random view has the size, filter, mean and
/// deviation of the evaluation transform.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    /// The evaluation transform.
    pub preprocessing: Preprocessing,
    /// The random view; `None` for evaluation.
    pub augmentation: Option<Augmentation>,
}

impl Transform {
    /// Writes the input `[C, S, S]` of `image` to `out`, a pure function of the image and the state of `rng`.
    ///
    /// # Panics
    /// When the settings do not pass their checks, the image has no pixels, or `out` does not hold `C · S · S` values.
    pub fn apply(&self, image: &RgbImage, rng: &mut ChaCha8Rng, out: &mut [f32]) {
        match &self.augmentation {
            Some(augmentation) => augmentation.apply(image, &self.preprocessing, rng, out),
            None => self.preprocessing.apply_into(image, out),
        }
    }
}

/// The augmentation of training images: a crop, then a random flip, then an optional cutout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// The part of the image that the network sees.
    pub crop: Crop,
    /// The probability of mirroring left to right.
    pub flip: f64,
    /// The side of a square set to the mean, in pixels of the input; 0 for none (Cutout, DeVries and Taylor 2017).
    #[serde(default)]
    pub cutout: usize,
}

/// The part of an image that the network sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Crop {
    /// The central part, as in evaluation.
    Centre,
    /// The evaluation crop, shifted by up to `padding` pixels in each direction.
    Shift {
        /// The largest shift, in pixels of the input.
        padding: usize,
        /// How pixels beyond the edge are filled.
        border: Border,
    },
    /// A random rectangle, resized to the input (torchvision's `RandomResizedCrop`; Szegedy et al. 2014).
    RandomResized {
        /// The range of its area, as a fraction of the image's.
        scale: [f64; 2],
        /// The range of its aspect ratio, width over height, drawn on a logarithmic scale.
        ratio: [f64; 2],
    },
}

/// The fill of the area beyond the edge of a shifted image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Border {
    /// Black, like the padding of torchvision's `RandomCrop`.
    Black,
    /// The image mirrored at its outermost pixel.
    Reflect,
}

impl Augmentation {
    /// The RepVGG paper's augmentation for ImageNet (§4.1): 8 % to 100 % of the area, aspect ratios of 3/4 to 4/3, mirrored half of the
    /// time.
    pub fn imagenet() -> Self {
        let crop = Crop::RandomResized { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] };
        Self { crop, flip: 0.5, cutout: 0 }
    }

    /// The usual augmentation for CIFAR: shifted by up to 4 pixels with black borders, mirrored half of the time.
    pub fn cifar() -> Self {
        Self { crop: Crop::Shift { padding: 4, border: Border::Black }, flip: 0.5, cutout: 0 }
    }

    /// Checks that the settings are valid for square inputs of `size` pixels a side.
    ///
    /// # Errors
    /// When a range is empty or not positive, a scale is above 1, the probability is outside 0 to 1, or the padding or the cutout does
    /// not fit the size.
    pub fn check(&self, size: usize) -> Result<()> {
        let refuse = |problem: Problem| Err(Error::spec("augmentation", problem));
        match self.crop {
            Crop::Shift { padding, .. } if padding >= size => {
                return refuse(expected(format_args!("a padding below the input's {size} pixels")).found(padding));
            }
            Crop::RandomResized { scale, ratio } => {
                let range = |[low, high]: [f64; 2]| 0.0 < low && low <= high && high.is_finite();
                if !range(scale) || scale[1] > 1.0 {
                    return refuse(expected("a scale within 0 to 1").found(format_args!("{scale:?}")));
                }
                if !range(ratio) {
                    return refuse(expected("a positive range of ratios").found(format_args!("{ratio:?}")));
                }
            }
            Crop::Centre | Crop::Shift { .. } => {}
        }
        if !(0.0..=1.0).contains(&self.flip) {
            return refuse(expected("a flip probability of 0 to 1").found(self.flip));
        }
        if self.cutout > size {
            return refuse(expected(format_args!("a cutout of at most the input's {size} pixels")).found(self.cutout));
        }
        Ok(())
    }

    /// Writes a random view `[C, S, S]` of `image` to `out`.
    ///
    /// # Panics
    /// When the settings do not pass [`check`](Self::check), the image has no pixels, or `out` does not hold `C · S · S` values.
    pub fn apply(&self, image: &RgbImage, preprocessing: &Preprocessing, rng: &mut ChaCha8Rng, out: &mut [f32]) {
        let mut view = self.crop.view(image, preprocessing, rng);
        if rng.random_bool(self.flip) {
            flip_horizontal_in_place(&mut view);
        }
        normalise(&view, &preprocessing.mean, &preprocessing.std, out);
        if self.cutout > 0 {
            cut_out(out, preprocessing.size[0], self.cutout, rng);
        }
    }
}

impl Crop {
    /// The part of `image` that the network sees, `[S, S, 3]`.
    fn view(&self, image: &RgbImage, preprocessing: &Preprocessing, rng: &mut ChaCha8Rng) -> RgbImage {
        match *self {
            Self::Centre => preprocessing.crop(image),
            Self::Shift { padding, border } => {
                let mut draw = || rng.random_range(0..=2 * padding as i64) - padding as i64;
                let offset = [draw(), draw()];
                shift(&preprocessing.crop(image), offset, border)
            }
            Self::RandomResized { scale, ratio } => {
                let region = random_region(image, scale, ratio, rng);
                let [height, width] = preprocessing.size.map(|side| side as u32);
                resize(image, region, [width, height], preprocessing.interpolation)
            }
        }
    }
}

/// The image whose pixel (x, y) is that of `image` at (x, y) + `offset`.
fn shift(image: &RgbImage, offset: [i64; 2], border: Border) -> RgbImage {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let reflect = |at: i64, length: i64| if at < 0 { -at } else { at.min(2 * (length - 1) - at) };
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (x, y) = (i64::from(x) + offset[0], i64::from(y) + offset[1]);
        let inside = (0..width).contains(&x) && (0..height).contains(&y);
        match border {
            Border::Black if !inside => image::Rgb([0; 3]),
            _ => *image.get_pixel(reflect(x, width) as u32, reflect(y, height) as u32),
        }
    })
}

/// A random rectangle with an area and an aspect ratio in the given ranges. After ten attempts that do not fit, the largest central
/// rectangle whose ratio is in range.
fn random_region(image: &RgbImage, scale: [f64; 2], ratio: [f64; 2], rng: &mut ChaCha8Rng) -> PixelRect {
    let (width, height) = image.dimensions();
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * rng.random_range(scale[0]..=scale[1]);
        let aspect = rng.random_range(ratio[0].ln()..=ratio[1].ln()).exp();
        let columns = (target * aspect).sqrt().round_ties_even() as u32;
        let rows = (target / aspect).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&columns) && (1..=height).contains(&rows) {
            let top = rng.random_range(0..=height - rows);
            let left = rng.random_range(0..=width - columns);
            return PixelRect { left, top, width: columns, height: rows };
        }
    }
    let (wide, high) = (f64::from(width), f64::from(height));
    let columns = (high * (wide / high).min(ratio[1])).round_ties_even().clamp(1.0, wide) as u32;
    let rows = (wide / (wide / high).max(ratio[0])).round_ties_even().clamp(1.0, high) as u32;
    PixelRect { left: (width - columns) / 2, top: (height - rows) / 2, width: columns, height: rows }
}

/// Sets a square of `side` pixels around a uniformly drawn centre to zero, the mean. The square is clipped at the edges.
fn cut_out(input: &mut [f32], size: usize, side: usize, rng: &mut ChaCha8Rng) {
    let mut span = || {
        let centre = rng.random_range(0..size);
        centre.saturating_sub(side / 2)..(centre + side.div_ceil(2)).min(size)
    };
    let (rows, columns) = (span(), span());
    for plane in input.chunks_exact_mut(size * size) {
        for row in plane.chunks_exact_mut(size).take(rows.end).skip(rows.start) {
            row[columns.clone()].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests;

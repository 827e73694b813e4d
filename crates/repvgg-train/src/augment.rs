//! Random views of training images, as data.
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

/// From an image to a network input: the evaluation transform, or a random view with the same size, filter, mean and deviation.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    /// The evaluation transform.
    pub preprocessing: Preprocessing,
    /// The random view; `None` to evaluate.
    pub augmentation: Option<Augmentation>,
}

impl Transform {
    /// Writes the input `[C, S, S]` of `image` to `out`; a pure function of the image and the state of `rng`.
    ///
    /// # Panics
    /// When the settings do not pass their checks, the image has no pixel, or `out` does not hold `C · S · S` values.
    pub fn apply(&self, image: &RgbImage, rng: &mut ChaCha8Rng, out: &mut [f32]) {
        match &self.augmentation {
            Some(augmentation) => augmentation.apply(image, &self.preprocessing, rng, out),
            None => self.preprocessing.apply_into(image, out),
        }
    }
}

/// How a training image is varied: cropped, then perhaps mirrored, then perhaps covered in part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Which part of the image is seen.
    pub crop: Crop,
    /// The probability of mirroring left and right.
    pub flip: f64,
    /// The side of a square set to the mean, in pixels of the input; 0 for none (Cutout, DeVries and Taylor 2017).
    #[serde(default)]
    pub cutout: usize,
}

/// Which part of an image is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Crop {
    /// The central part, as in evaluation.
    Centre,
    /// The evaluation crop, shifted by up to `padding` pixels each way.
    Shift {
        /// The largest shift, in pixels of the input.
        padding: usize,
        /// What enters from outside.
        border: Border,
    },
    /// A random rectangle, resized to the input (torchvision's `RandomResizedCrop`; Szegedy et al. 2014).
    RandomResized {
        /// The range of its area, over the image's.
        scale: [f64; 2],
        /// The range of its width over its height, drawn on a logarithmic scale.
        ratio: [f64; 2],
    },
}

/// What lies beyond the edge of a shifted image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Border {
    /// Black, as torchvision's `RandomCrop` pads.
    Black,
    /// The image mirrored at its outermost pixel.
    Reflect,
}

impl Augmentation {
    /// The view of the RepVGG paper on ImageNet (§4.1): an area of 8 % to all, a ratio of 3/4 to 4/3, mirrored half of the time.
    pub fn imagenet() -> Self {
        let crop = Crop::RandomResized { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] };
        Self { crop, flip: 0.5, cutout: 0 }
    }

    /// The usual view on CIFAR: shifted by up to 4 pixels over black, mirrored half of the time.
    pub fn cifar() -> Self {
        Self { crop: Crop::Shift { padding: 4, border: Border::Black }, flip: 0.5, cutout: 0 }
    }

    /// Checks that the settings describe views of inputs of `size` pixels a side.
    ///
    /// # Errors
    /// When a range is empty or not positive, a scale is above 1, the probability is outside 0 to 1, or the padding or the covered square
    /// does not fit the size.
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
    /// When the settings do not pass [`check`](Self::check), the image has no pixel, or `out` does not hold `C · S · S` values.
    pub fn apply(&self, image: &RgbImage, preprocessing: &Preprocessing, rng: &mut ChaCha8Rng, out: &mut [f32]) {
        let mut view = self.crop.view(image, preprocessing, rng);
        if rng.random_bool(self.flip) {
            flip_horizontal_in_place(&mut view);
        }
        normalise(&view, &preprocessing.mean, &preprocessing.std, out);
        if self.cutout > 0 {
            cut_out(out, preprocessing.size, self.cutout, rng);
        }
    }
}

impl Crop {
    /// The part of `image` that is seen, `[S, S, 3]`.
    fn view(&self, image: &RgbImage, preprocessing: &Preprocessing, rng: &mut ChaCha8Rng) -> RgbImage {
        match *self {
            Self::Centre => preprocessing.crop(image),
            Self::Shift { padding, border } => {
                let mut draw = || rng.random_range(0..=2 * padding as i64) - padding as i64;
                let (right, down) = (draw(), draw());
                shift(&preprocessing.crop(image), (right, down), border)
            }
            Self::RandomResized { scale, ratio } => {
                let region = random_region(image, scale, ratio, rng);
                let side = preprocessing.size as u32;
                resize(image, region, [side; 2], preprocessing.interpolation)
            }
        }
    }
}

/// The image whose pixel (x, y) is `image`'s at (x + right, y + down).
fn shift(image: &RgbImage, (right, down): (i64, i64), border: Border) -> RgbImage {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let reflect = |at: i64, length: i64| if at < 0 { -at } else { at.min(2 * (length - 1) - at) };
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (x, y) = (i64::from(x) + right, i64::from(y) + down);
        let inside = (0..width).contains(&x) && (0..height).contains(&y);
        match border {
            Border::Black if !inside => image::Rgb([0; 3]),
            _ => *image.get_pixel(reflect(x, width) as u32, reflect(y, height) as u32),
        }
    })
}

/// A random rectangle of the wanted area and ratio; after ten that do not fit, the largest central one of a fitting ratio.
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

/// Sets a square of `side` around a uniform centre to zero, the mean; the part beyond the edge is lost.
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

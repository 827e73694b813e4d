//! The built-in images: twelve kinds of figure, drawn by the program, so that training can be tried without a download.
//!
//! Position, size, rotation, colour, background, clutter and noise have the same distribution for every class. Only the outline
//! distinguishes the classes, and no weighted sum of pixels detects an outline of any rotation and colour. On the built-in set, softmax
//! regression on pixels reaches 12.7 % (chance: 8.3 %). A plain network of six 3×3 convolutions (24 to 128 channels, batch norm) reaches
//! about 95 % after 13 epochs.
//!
//! ```
//! use repvgg_train::data::shapes::{Part, Shapes};
//! use repvgg_train::data::Dataset;
//!
//! let shapes = Shapes { part: Part::Train, count: 24, side: 48, seed: 3 };
//! println!("{}", Shapes::labels()[shapes.label(1)]);
//! assert_eq!(shapes.image(1)?.dimensions(), (48, 48));
//! # Ok::<(), repvgg::Error>(())
//! ```

mod outline;
mod raster;

use std::{f32::consts::TAU, sync::Arc};

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use repvgg::{Result, image::RgbImage};

use super::{
    Beside, Data, Dataset, Fingerprint, Split,
    random::{Purpose, stream},
};
use outline::{CLASSES, Point};
use raster::{Canvas, Colour};

/// The numbers of training and validation images of the built-in set, and their side in pixels.
const TRAIN: usize = 6000;
const VALIDATION: usize = 1200;
const SIDE: usize = 32;

/// One of two disjoint sequences of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Training images.
    Train,
    /// Validation images.
    Validation,
}

/// Drawn figures. Image `i` has class `i mod 12` and is a pure function of the fields and `i`, bit for bit on one kind of machine.
#[derive(Debug, Clone)]
pub struct Shapes {
    /// The sequence of images.
    pub part: Part,
    /// The number of images.
    pub count: usize,
    /// The side of an image in pixels, at least 16.
    pub side: usize,
    /// The random seed of the images.
    pub seed: u64,
}

impl Shapes {
    /// The names of the classes.
    pub fn labels() -> Vec<String> {
        CLASSES.iter().map(|(name, _)| (*name).to_owned()).collect()
    }
}

/// The built-in set, always the same: 6,000 training and 1,200 validation images.
pub(super) fn built_in() -> Data {
    let part = |part, count| Arc::new(Shapes { part, count, side: SIDE, seed: 0 });
    Data {
        labels: Shapes::labels(),
        train: part(Part::Train, TRAIN),
        validation: part(Part::Validation, VALIDATION),
        side: Some(SIDE),
        split: Split::Parts { train: "training".to_owned(), validation: "validation".to_owned() },
        beside: Beside::default(),
    }
}

impl Dataset for Shapes {
    fn len(&self) -> usize {
        self.count
    }

    fn label(&self, index: usize) -> usize {
        assert!(index < self.count, "image {index} of {}", self.count);
        index % CLASSES.len()
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        let purpose = match self.part {
            Part::Train => Purpose::DrawTrain,
            Part::Validation => Purpose::DrawValidation,
        };
        Ok(draw(self.label(index), self.side, &mut stream(self.seed, purpose, 0, index as u64)))
    }

    fn place(&self, index: usize) -> String {
        format!("{} {:?} {index}", super::BUILT_IN, self.part).to_lowercase()
    }

    fn identify(&self, fingerprint: &mut Fingerprint) -> Result<()> {
        for number in [self.seed, self.side as u64, self.part as u64] {
            fingerprint.number(number);
        }
        // One image of each class detects changes of the drawing code.
        for index in 0..self.count.min(CLASSES.len()) {
            fingerprint.bytes(self.image(index)?.as_raw());
        }
        Ok(())
    }
}

/// Draws the background, one to three strokes, the figure, a stroke on top, and noise.
fn draw(class: usize, side: usize, rng: &mut ChaCha8Rng) -> RgbImage {
    let unit = side as f32;
    let from = colour(rng);
    let to = from.map(|value| (value + rng.random_range(-60.0..60.0f32)).clamp(0.0, 255.0));
    let mut canvas = Canvas::gradient(side, [from, to], rng.random_range(0.0..TAU));
    for _ in 0..rng.random_range(1..=3) {
        let ink = colour(rng);
        canvas.fill(&[stroke(unit, rng)], ink);
    }

    let radius = unit * rng.random_range(0.28..0.43);
    let mut place = || rng.random_range(radius * 0.9..=unit - radius * 0.9);
    let centre = [place(), place()];
    let (angle, stretch) = (rng.random_range(0.0..TAU), rng.random_range(0.9..1.1f32));
    let (sine, cosine) = angle.sin_cos();
    let place = |[x, y]: Point| {
        let (x, y) = (x * radius * stretch, y * radius / stretch);
        [centre[0] + cosine * x - sine * y, centre[1] + sine * x + cosine * y]
    };
    let figure: Vec<Vec<Point>> =
        CLASSES[class].1().into_iter().map(|contour| contour.into_iter().map(place).collect()).collect();
    canvas.fill(&figure, contrasting(from, to, rng));

    let ink = colour(rng);
    canvas.fill(&[stroke(unit, rng)], ink);
    let strength = rng.random_range(3.0..12.0);
    canvas.finish(|| strength * normal(rng))
}

fn colour(rng: &mut ChaCha8Rng) -> Colour {
    std::array::from_fn(|_| rng.random_range(0.0..255.0))
}

/// A colour far from both ends of the background gradient.
fn contrasting(from: Colour, to: Colour, rng: &mut ChaCha8Rng) -> Colour {
    let distance = |a: Colour, b: Colour| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
    // This terminates soon: for any colour, much of the colour cube is more than 110 away.
    loop {
        let ink = colour(rng);
        if distance(ink, from).min(distance(ink, to)) > 110.0 {
            return ink;
        }
    }
}

/// A thin straight stroke between two random points.
fn stroke(unit: f32, rng: &mut ChaCha8Rng) -> Vec<Point> {
    let mut point = || [rng.random_range(0.0..unit), rng.random_range(0.0..unit)];
    let (a, b) = (point(), point());
    let along = [b[0] - a[0], b[1] - a[1]];
    let half = unit * rng.random_range(0.008..0.025) / along[0].hypot(along[1]).max(1.0);
    let across = [-along[1] * half, along[0] * half];
    let corner = |p: Point, sign: f32| [p[0] + sign * across[0], p[1] + sign * across[1]];
    vec![corner(a, 1.0), corner(b, 1.0), corner(b, -1.0), corner(a, -1.0)]
}

/// A nearly normal value of variance 1: the sum of four uniform bytes (Irwin–Hall), each of variance (256² − 1) / 12.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let sum: u32 = rng.next_u32().to_le_bytes().into_iter().map(u32::from).sum();
    (sum as f32 - 510.0) / 147.8
}

#[cfg(test)]
mod tests;

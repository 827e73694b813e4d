use std::path::PathBuf;

use ::image::Rgb;

use super::*;
use crate::image::{PixelRect, decode, list, resize};

/// The formula of `tools/golden_images.py`.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|c| ((x * x * 3 + y * 29 + x * y * 5 + c * 91) % 256) as u8))
    })
}

fn largest_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn crops_are_within_one_of_torchvision() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/images"));
    let mut cases = 0;
    for file in list(folder).unwrap().files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let Some(case) = name.strip_prefix("crop-") else { continue };
        let [shape, size, percent, filter] = case.split('-').collect::<Vec<_>>().try_into().unwrap();
        let (width, height) = shape.split_once('x').unwrap();
        let preprocessing = Preprocessing {
            size: [size.parse().unwrap(); 2],
            crop_fraction: percent.parse::<f32>().unwrap() / 100.0,
            interpolation: if filter == "bicubic" { Interpolation::Bicubic } else { Interpolation::Bilinear },
            ..Preprocessing::default()
        };
        let found = preprocessing.crop(&picture(width.parse().unwrap(), height.parse().unwrap()));
        let difference = largest_difference(&found, &decode(&file).unwrap());
        assert!(difference <= 1, "{name}: {difference}");
        cases += 1;
    }
    assert_eq!(cases, 8);
}

#[test]
fn a_crop_equals_the_crop_of_the_resized_image() {
    let image = picture(61, 40);
    let preprocessing = Preprocessing { size: [20; 2], crop_fraction: 0.8, ..Preprocessing::default() };
    let resized = resize(&image, PixelRect::whole(&image), [38, 25], Interpolation::Bilinear);
    let central = PixelRect { left: 9, top: 2, width: 20, height: 20 };
    let expected = resize(&resized, central, [20, 20], Interpolation::Bilinear);
    assert!(largest_difference(&preprocessing.crop(&image), &expected) <= 1);
}

#[test]
fn a_strip_needs_no_more_memory_than_its_crop() {
    let strip = RgbImage::from_fn(60_000, 1, |x, _| Rgb([(x % 251) as u8, 7, 9]));
    assert_eq!(Preprocessing::default().apply(&strip).shape(), [3, 224, 224]);
}

#[test]
fn a_region_is_not_blended_with_its_surroundings() {
    let image = RgbImage::from_fn(20, 10, |x, _| if x < 10 { Rgb([10; 3]) } else { Rgb([250; 3]) });
    let left = PixelRect { left: 0, top: 0, width: 10, height: 10 };
    let resized = resize(&image, left, [4, 4], Interpolation::Bilinear);
    assert!(resized.iter().all(|&value| value == 10));
}

#[test]
fn values_are_normalised_by_channel() {
    let image = RgbImage::from_pixel(3, 3, Rgb([255, 0, 51]));
    let preprocessing = Preprocessing {
        size: [3; 2],
        crop_fraction: 1.0,
        mean: vec![0.5, 0.25, 0.2],
        std: vec![0.5, 0.5, 2.0],
        ..Default::default()
    };
    let input = preprocessing.apply(&image);
    assert_eq!(input.shape(), [3, 3, 3]);
    let expected = [1.0, -0.5, 0.0];
    for (plane, expected) in input.data().chunks_exact(9).zip(expected) {
        assert!(plane.iter().all(|&value| (value - expected).abs() <= 2.0 * f32::EPSILON), "{plane:?}");
    }
    let batch = preprocessing.batch(&[image.clone(), image]);
    assert_eq!(batch.shape(), [2, 3, 3, 3]);
    assert_eq!(&batch.data()[27..], input.data());
    assert_eq!(preprocessing.batch(&[]).shape(), [0, 3, 3, 3]);
}

#[test]
fn one_mean_gives_one_channel() {
    let grey =
        Preprocessing { size: [2; 2], crop_fraction: 1.0, mean: vec![0.0], std: vec![1.0], ..Default::default() };
    let input = grey.apply(&RgbImage::from_pixel(2, 2, Rgb([200, 100, 50])));
    assert_eq!(input.shape(), [1, 2, 2]);
    // Pillow: Image.new("RGB", (1, 1), (200, 100, 50)).convert("L") is 124.
    assert_eq!(input.data(), [124.0 / 255.0; 4]);
    assert!((0..=255).all(|value| luma([value; 3]) == value));
}

/// The short sides that timm's `int(floor(size / crop_pct))` gives.
#[test]
fn the_short_side_is_floored() {
    for (size, fraction, expected) in
        [(224, 0.875, 256), (224, 0.9, 248), (224, 0.8, 280), (320, 1.0, 320), (288, 0.95, 303)]
    {
        // The picture differs from pixel to pixel, so its crop shows the position: compare with an explicit resize.
        let image = picture(50, 50);
        let preprocessing = Preprocessing { size: [size; 2], crop_fraction: fraction, ..Preprocessing::default() };
        let resized = resize(&image, PixelRect::whole(&image), [expected; 2], Interpolation::Bilinear);
        let start = (f64::from(expected - size as u32) / 2.0).round_ties_even() as u32;
        let region = PixelRect { left: start, top: start, width: size as u32, height: size as u32 };
        let expected = resize(&resized, region, [size as u32; 2], Interpolation::Bilinear);
        assert!(largest_difference(&preprocessing.crop(&image), &expected) <= 1, "{size} {fraction}");
    }
}

#[test]
fn settings_are_checked() {
    let good = Preprocessing::default();
    assert!(good.check().is_ok());
    let refused = [
        Preprocessing { size: [0, 8], ..good.clone() },
        Preprocessing { size: [8, usize::MAX], ..good.clone() },
        Preprocessing { crop_fraction: 1.1, ..good.clone() },
        Preprocessing { crop_fraction: f32::NAN, ..good.clone() },
        Preprocessing { mean: vec![0.0; 2], std: vec![1.0; 2], ..good.clone() },
        Preprocessing { std: vec![1.0; 1], ..good.clone() },
        Preprocessing { std: vec![1.0, 0.0, 1.0], ..good.clone() },
        Preprocessing { mean: vec![f32::INFINITY; 3], ..good.clone() },
    ];
    for settings in refused {
        assert!(settings.check().is_err(), "{settings:?}");
    }
    let zero = Preprocessing { size: [0, 8], ..good.clone() }.check().unwrap_err();
    assert_eq!(zero.to_string(), "preprocessing: expected a size of 1 to 8192, found 0");
    let json = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<Preprocessing>(&json).unwrap(), good);
}

use image::Rgb;

use super::*;
use crate::data::random::sample_rng;

/// A picture whose pixels all differ.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x * 7 + y * 13) as u8]))
}

/// Preprocessing whose inputs are the bytes themselves.
fn plain(size: usize) -> Preprocessing {
    Preprocessing {
        size: [size; 2],
        crop_fraction: 1.0,
        mean: vec![0.0; 3],
        std: vec![1.0 / 255.0; 3],
        ..Preprocessing::default()
    }
}

fn apply(augmentation: &Augmentation, image: &RgbImage, size: usize, index: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; 3 * size * size];
    augmentation.apply(image, &plain(size), &mut sample_rng(1, 0, index), &mut out);
    out
}

fn crop_only(crop: Crop) -> Augmentation {
    Augmentation { crop, flip: 0.0, cutout: 0 }
}

#[test]
fn a_view_is_a_function_of_its_generator() {
    let image = picture(40, 30);
    for augmentation in [Augmentation::imagenet(), Augmentation { cutout: 5, ..Augmentation::cifar() }] {
        let first = apply(&augmentation, &image, 16, 0);
        assert_eq!(first, apply(&augmentation, &image, 16, 0));
        assert_ne!(first, apply(&augmentation, &image, 16, 1));
        assert!(first.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn the_centre_is_the_evaluation_crop() {
    let image = picture(40, 30);
    let preprocessing = plain(16);
    assert_eq!(apply(&crop_only(Crop::Centre), &image, 16, 0), preprocessing.apply(&image).data());
    let transform = Transform { preprocessing: preprocessing.clone(), augmentation: None };
    let mut out = vec![0.0; 3 * 16 * 16];
    transform.apply(&image, &mut sample_rng(0, 0, 0), &mut out);
    assert_eq!(out, preprocessing.apply(&image).data());
}

#[test]
fn shifts_pad_with_black_or_reflect() {
    let image = RgbImage::from_fn(4, 1, |x, _| Rgb([x as u8 + 1; 3]));
    let row = |right, border| shift(&image, [right, 0], border).pixels().map(|pixel| pixel.0[0]).collect::<Vec<_>>();
    assert_eq!(row(2, Border::Black), [3, 4, 0, 0]);
    assert_eq!(row(-3, Border::Black), [0, 0, 0, 1]);
    assert_eq!(row(2, Border::Reflect), [3, 4, 3, 2]);
    assert_eq!(row(-3, Border::Reflect), [4, 3, 2, 1]);
    let tall = RgbImage::from_fn(1, 3, |_, y| Rgb([y as u8 + 1; 3]));
    assert_eq!(*shift(&tall, [0, 1], Border::Black).as_raw(), [2, 2, 2, 3, 3, 3, 0, 0, 0]);
}

/// Exactly the offsets −2..=2 occur along each axis.
#[test]
fn shifts_reach_the_whole_padding() {
    let image = picture(8, 8);
    let augmentation = crop_only(Crop::Shift { padding: 2, border: Border::Reflect });
    let mut seen = std::collections::BTreeSet::new();
    for index in 0..400 {
        // The pixel (3, 3) of the view holds the coordinates it came from.
        let view = apply(&augmentation, &image, 8, index);
        seen.insert([view[3 * 8 + 3].round() as i32 - 3, view[64 + 3 * 8 + 3].round() as i32 - 3]);
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.iter().flatten().all(|offset| (-2..=2).contains(offset)));
}

#[test]
fn flips_mirror_left_and_right() {
    let image = picture(8, 8);
    let straight = apply(&crop_only(Crop::Centre), &image, 8, 0);
    let mirrored = apply(&Augmentation { crop: Crop::Centre, flip: 1.0, cutout: 0 }, &image, 8, 0);
    for (row, mirror) in straight.chunks_exact(8).zip(mirrored.chunks_exact(8)) {
        assert!(row.iter().rev().eq(mirror));
    }
    let half = Augmentation { crop: Crop::Centre, flip: 0.5, cutout: 0 };
    let count = (0..1000).filter(|&index| apply(&half, &image, 8, index) == mirrored).count();
    // Five standard deviations of a fair coin thrown 1,000 times.
    assert!(count.abs_diff(500) <= 79, "{count}");
}

#[test]
fn a_cutout_covers_a_square() {
    let image = RgbImage::from_pixel(16, 16, Rgb([200; 3]));
    let augmentation = Augmentation { crop: Crop::Centre, flip: 0.0, cutout: 5 };
    let mut largest = 0;
    for index in 0..200 {
        let view = apply(&augmentation, &image, 16, index);
        let covered = view.iter().filter(|&&value| value == 0.0).count();
        assert!((1..=3 * 25).contains(&covered) && covered % 3 == 0, "{covered}");
        largest = largest.max(covered);
    }
    assert_eq!(largest, 75);
}

#[test]
fn regions_are_within_the_image_and_their_ranges() {
    let (scale, ratio) = ([0.08, 1.0], [3.0 / 4.0, 4.0 / 3.0]);
    for (width, height) in [(1, 1), (1, 100), (100, 1), (3, 2), (50, 50), (640, 480)] {
        let image = RgbImage::new(width, height);
        for index in 0..300 {
            let region = random_region(&image, scale, ratio, &mut sample_rng(0, 0, index));
            assert!(region.width >= 1 && region.left + region.width <= width, "{region:?} of {width}");
            assert!(region.height >= 1 && region.top + region.height <= height, "{region:?} of {height}");
            if width == 640 {
                // Rounding moves each side by at most half a pixel of at least 130.
                let aspect = f64::from(region.width) / f64::from(region.height);
                assert!(aspect > 0.75 * 0.99 && aspect < 4.0 / 3.0 * 1.01, "{region:?}");
                let share = f64::from(region.width) * f64::from(region.height) / f64::from(width * height);
                assert!(share > 0.08 * 0.98, "{region:?}");
            }
        }
    }
}

/// Squares of a square always fit, so the share of the area is uniform: mean 0.54, deviation 0.92 / √12.
#[test]
fn areas_are_uniform() {
    let image = RgbImage::new(1000, 1000);
    let area = |index| {
        let region = random_region(&image, [0.08, 1.0], [1.0, 1.0], &mut sample_rng(3, 0, index));
        f64::from(region.width) * f64::from(region.height) / 1e6
    };
    let mean = (0..2000).map(area).sum::<f64>() / 2000.0;
    // Five standard errors.
    assert!((mean - 0.54).abs() <= 5.0 * 0.92 / 12f64.sqrt() / 2000f64.sqrt(), "{mean}");
}

/// torchvision's fallback for an image that no region fits: the central part with the nearest allowed aspect ratio.
#[test]
fn strips_fall_back_to_their_centre() {
    let fallback = |width, height| {
        random_region(&RgbImage::new(width, height), [1.0, 1.0], [0.75, 4.0 / 3.0], &mut sample_rng(0, 0, 0))
    };
    assert_eq!(fallback(100, 30), PixelRect { left: 30, top: 0, width: 40, height: 30 });
    assert_eq!(fallback(30, 100), PixelRect { left: 0, top: 30, width: 30, height: 40 });
}

#[test]
fn invalid_settings_are_refused_and_valid_ones_round_trip_through_toml() {
    let resized = |scale, ratio| crop_only(Crop::RandomResized { scale, ratio });
    let refused = [
        crop_only(Crop::Shift { padding: 8, border: Border::Black }),
        resized([0.0, 1.0], [1.0, 1.0]),
        resized([0.5, 1.5], [1.0, 1.0]),
        resized([0.9, 0.5], [1.0, 1.0]),
        resized([0.5, 1.0], [f64::NAN, 1.0]),
        Augmentation { flip: 1.5, ..Augmentation::cifar() },
        Augmentation { cutout: 9, ..Augmentation::cifar() },
    ];
    for augmentation in refused {
        assert!(augmentation.check(8).is_err(), "{augmentation:?}");
    }
    for augmentation in [Augmentation::cifar(), Augmentation::imagenet(), crop_only(Crop::Centre)] {
        augmentation.check(32).unwrap();
        let text = toml::to_string(&augmentation).unwrap();
        assert_eq!(toml::from_str::<Augmentation>(&text).unwrap(), augmentation);
    }
}

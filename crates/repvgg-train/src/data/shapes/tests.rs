use super::*;

fn shapes(part: Part, count: usize) -> Shapes {
    Shapes { part, count, side: 32, seed: 0 }
}

#[test]
fn an_image_is_a_function_of_settings_and_index() {
    let (few, many) = (shapes(Part::Train, 13), shapes(Part::Train, 100));
    assert_eq!(few.image(12).unwrap(), many.image(12).unwrap());
    let others = [
        many.image(13),
        many.image(24),
        shapes(Part::Validation, 100).image(12),
        Shapes { seed: 1, ..many.clone() }.image(12),
    ];
    for other in others {
        assert_ne!(other.unwrap(), many.image(12).unwrap());
    }
    assert_eq!(Shapes { side: 64, ..many }.image(3).unwrap().dimensions(), (64, 64));
}

#[test]
fn figures_fill_the_unit_disc() {
    for (name, figure) in CLASSES {
        let reach = figure().iter().flatten().map(|[x, y]| x.hypot(*y)).fold(0.0, f32::max);
        assert!((0.8..=1.0001).contains(&reach), "{name} reaches {reach}");
    }
}

/// Coverage is exact along a scan line, with 4 lines per pixel: the area errs by at most 1/8 pixel for each row that an edge crosses.
#[test]
fn filled_area_is_the_area_of_the_polygon() {
    for (name, figure) in CLASSES {
        let contours: Vec<Vec<Point>> = figure()
            .into_iter()
            .map(|contour| contour.into_iter().map(|[x, y]| [40.0 + 30.0 * x, 40.0 + 30.0 * y]).collect())
            .collect();
        let mut canvas = Canvas::gradient(80, [[0.0; 3]; 2], 0.0);
        canvas.fill(&contours, [250.0; 3]);
        let filled: f32 = canvas.finish(|| 0.0).pixels().map(|pixel| f32::from(pixel.0[0]) / 250.0).sum();
        let areas: Vec<f32> = contours.iter().map(|contour| shoelace(contour)).collect();
        let expected = areas[0] - areas.get(1).copied().unwrap_or(0.0);
        assert!((filled - expected).abs() <= 0.01 * expected, "{name}: {filled} of {expected}");
    }
}

/// The area of a simple polygon.
fn shoelace(contour: &[Point]) -> f32 {
    let next = contour.iter().cycle().skip(1);
    contour.iter().zip(next).map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum::<f32>().abs() / 2.0
}

/// Softmax regression on pixels must fail, so that a network's accuracy measures its recognition of outlines.
#[test]
fn a_linear_classifier_fails() {
    let (train, validation) = (shapes(Part::Train, 1200), shapes(Part::Validation, 600));
    let accuracy = linear_accuracy(&train, &validation);
    assert!(accuracy < 0.3, "{accuracy}");
}

fn linear_accuracy(train: &Shapes, validation: &Shapes) -> f32 {
    let classes = CLASSES.len();
    let pixels = |shapes: &Shapes, index: usize| -> Vec<f32> {
        shapes.image(index).unwrap().iter().map(|&value| f32::from(value) / 127.5 - 1.0).collect()
    };
    let inputs: Vec<Vec<f32>> = (0..train.len()).map(|index| pixels(train, index)).collect();
    let mut weights = vec![vec![0.0f32; inputs[0].len()]; classes];
    let score = |weights: &[Vec<f32>], input: &[f32]| -> Vec<f32> {
        weights.iter().map(|row| row.iter().zip(input).map(|(w, x)| w * x).sum()).collect()
    };
    for _ in 0..10 {
        for (index, input) in inputs.iter().enumerate() {
            let scores = score(&weights, input);
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shares: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f32 = shares.iter().sum();
            for (class, row) in weights.iter_mut().enumerate() {
                let target = if class == train.label(index) { 1.0 } else { 0.0 };
                let step = 0.0005 * (target - shares[class] / total);
                row.iter_mut().zip(input).for_each(|(weight, x)| *weight += step * x);
            }
        }
    }
    let correct = |index: &usize| {
        let scores = score(&weights, &pixels(validation, *index));
        let best = (0..classes).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        best == Some(validation.label(*index))
    };
    (0..validation.len()).filter(correct).count() as f32 / validation.len() as f32
}

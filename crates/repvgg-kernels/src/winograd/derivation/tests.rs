//! The matrices of the textbook, much larger sizes, invalid points, and proofs that must fail.

use super::*;
use crate::cases::Random;

/// A matrix from rows of numbers separated by blanks.
fn matrix(rows: &[&str]) -> Matrix {
    rows.iter().map(|row| parse_points(&row.split_whitespace().collect::<Vec<_>>().join(",")).unwrap()).collect()
}

fn assert_proved(derivation: &Derivation) {
    let coefficients = derivation.outputs() * derivation.taps() * derivation.products();
    assert_eq!(derivation.prove(), Ok(coefficients), "F({}, {})", derivation.outputs(), derivation.taps());
}

/// Approximately standard normal values, as sums of twelve uniform ones.
fn normal(seed: u64) -> impl FnMut() -> f64 {
    let mut random = Random(seed);
    move || random.floats(12).into_iter().map(f64::from).sum::<f64>() / 2.0
}

#[test]
fn two_outputs_of_three_taps_are_the_textbook() {
    let derivation = Derivation::standard(2, 3).unwrap();
    assert_eq!(derivation.output(), &matrix(&["1 1 1 0", "0 1 -1 -1"]));
    assert_eq!(derivation.filter(), &matrix(&["1 0 0", ".5 .5 .5", ".5 -.5 .5", "0 0 1"]));
    assert_eq!(derivation.input(), &matrix(&["1 0 -1 0", "0 1 1 0", "0 -1 1 0", "0 1 0 -1"]));
    assert_eq!((derivation.multiplications(), derivation.direct_multiplications()), (16, 36));
    // Lavin & Gray count 32, 28 and 24.
    assert_eq!(derivation.transforms().map(|operations| operations.additions), [32, 28, 24]);
    assert_eq!(derivation.transforms().map(|operations| operations.multiplications), [0, 42, 0]);
    assert_proved(&derivation);
}

#[test]
fn four_outputs_of_three_taps_are_the_textbook() {
    let derivation = Derivation::standard(4, 3).unwrap();
    let output = ["1 1 1 1 1 0", "0 1 -1 2 -2 0", "0 1 1 4 4 0", "0 1 -1 8 -8 1"];
    let filter = ["1/4 0 0", "-1/6 -1/6 -1/6", "-1/6 1/6 -1/6", "1/24 1/12 1/6", "1/24 -1/12 1/6", "0 0 1"];
    let input = ["4 0 -5 0 1 0", "0 -4 -4 1 1 0", "0 4 -4 -1 1 0", "0 -2 -1 2 1 0", "0 2 -1 -2 1 0", "0 4 0 -5 0 1"];
    assert_eq!(derivation.output(), &matrix(&output));
    assert_eq!(derivation.filter(), &matrix(&filter));
    assert_eq!(derivation.input(), &matrix(&input));
    assert_eq!((derivation.multiplications(), derivation.direct_multiplications()), (36, 144));
    assert_proved(&derivation);
}

#[test]
fn six_outputs_of_three_taps_are_the_usual_matrices() {
    let derivation = Derivation::standard(6, 3).unwrap();
    let filter = [
        "1 0 0",
        "-2/9 -2/9 -2/9",
        "-2/9 2/9 -2/9",
        "1/90 1/45 2/45",
        "1/90 -1/45 2/45",
        "32/45 16/45 8/45",
        "32/45 -16/45 8/45",
        "0 0 1",
    ];
    assert_eq!(derivation.filter(), &matrix(&filter));
    assert_eq!(derivation.input()[0], matrix(&["1 0 -21/4 0 21/4 0 -1 0"])[0]);
    assert_eq!(derivation.input()[7], matrix(&["0 1 0 -21/4 0 21/4 0 -1"])[0]);
    assert_eq!(derivation.output()[5], matrix(&["0 1 -1 32 -32 1/32 -1/32 -1"])[0]);
    assert_proved(&derivation);
}

#[test]
fn one_output_of_one_tap_is_a_product() {
    let derivation = Derivation::standard(1, 1).unwrap();
    let one = matrix(&["1"]);
    assert_eq!((derivation.output(), derivation.filter(), derivation.input()), (&one, &one, &one));
    assert_eq!(derivation.points(), []);
    assert_proved(&derivation);
}

#[test]
fn every_size_is_proved() {
    for products in [1, 2, 3, 6, 9, MAX_PRODUCTS] {
        let step = if products == MAX_PRODUCTS { 15 } else { 1 };
        for outputs in (1..=products).step_by(step) {
            assert_proved(&Derivation::standard(outputs, products + 1 - outputs).unwrap());
        }
    }
}

/// Compares the matrices applied to integers with the sums of a direct convolution.
#[test]
fn five_taps_on_integers_equal_direct_convolution() {
    let derivation = Derivation::standard(2, 5).unwrap();
    assert_proved(&derivation);
    let integers = |from: i64, count: usize| -> Vec<BigRational> {
        (0..count as i64).map(|i| BigRational::from_integer(((from + i * i * 7) % 23 - 11).into())).collect()
    };
    let (d, g) = (integers(3, 6), integers(8, 5));
    let apply = |matrix: &Matrix, x: &[BigRational]| -> Vec<BigRational> {
        matrix.iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect()
    };
    let (u, v) = (apply(derivation.filter(), &g), apply(derivation.input(), &d));
    let products: Vec<BigRational> = u.iter().zip(&v).map(|(u, v)| u * v).collect();
    let direct: Vec<BigRational> = d.windows(5).map(|d| g.iter().zip(d).map(|(g, d)| g * d).sum()).collect();
    assert_eq!(apply(derivation.output(), &products), direct);
}

#[test]
fn given_points_are_used() {
    let points = parse_points(" -7/2,0.625 , 3,-.25").unwrap();
    assert_eq!(points, matrix(&["-7/2 5/8 3 -1/4"])[0]);
    let derivation = Derivation::new(2, 4, points.clone()).unwrap();
    assert_eq!(derivation.points(), points);
    assert_eq!(derivation.output(), &matrix(&["1 1 1 1 0", "-7/2 5/8 3 -1/4 1"]));
    assert_proved(&derivation);
    assert_eq!(parse_points(" "), Ok(Vec::new()));
    assert_eq!(
        point::standard(12),
        matrix(&["0 1 -1 2 -2 1/2 -1/2 3 -3 1/3 -1/3 3/2"])[0],
        "simple numbers come first"
    );
}

#[test]
fn invalid_points_are_errors() {
    let number =
        |text: &str| format!("points: expected numbers such as 2, -3/2 or 0.625, of up to 18 digits, found {text:?}");
    for text in ["one", "", "1e3", "--1", "+1", "1.", ".", "1/", "1/2/3", "1.5/2", "inf", "1234567890123456789"] {
        assert_eq!(parse_points(&format!("0,{text}")).unwrap_err().to_string(), number(text));
    }
    let zero = "points: expected a denominator other than 0, found 1/0";
    assert_eq!(parse_points("1/0").unwrap_err().to_string(), zero);
    let new = |outputs, taps, points| {
        let derivation = Derivation::new(outputs, taps, parse_points(points).unwrap());
        derivation.unwrap_err().to_string()
    };
    assert_eq!(new(2, 3, "0,1"), "points: expected 3 beside infinity for F(2, 3), found 2");
    assert_eq!(new(1, 1, "0"), "points: expected 0 beside infinity for F(1, 1), found 1");
    assert_eq!(new(2, 3, "0,1/2,0.5"), "points: expected distinct numbers, found 1/2 twice");
    for (outputs, taps) in [(0, 3), (3, 0), (30, 4), (usize::MAX, usize::MAX)] {
        let size = format!(
            "size: expected M and R of at least 1 with M + R - 1 of at most 32, found M = {outputs}, R = {taps}"
        );
        assert_eq!(new(outputs, taps, "0"), size);
        assert_eq!(Derivation::standard(outputs, taps).unwrap_err().to_string(), size);
    }
    let engine = "points: expected a size that the engine has, F(1, 3) to F(8, 3) or F(1, 2) to F(4, 2), found F(5, 2)";
    assert_eq!(Derivation::engine(5, 2).unwrap_err().to_string(), engine);
}

#[test]
fn the_proof_fails_if_any_entry_changes() {
    let derivation = Derivation::standard(3, 2).unwrap();
    let mut refuted = 0;
    for index in 0.. {
        let mut changed = derivation.clone();
        let mut entries = changed.output.iter_mut().chain(&mut changed.filter).chain(&mut changed.input).flatten();
        let Some(entry) = entries.nth(index) else { break };
        *entry += BigRational::new(1.into(), 1_000_000_007.into());
        assert!(matches!(changed.prove(), Err(DerivationError::Refuted { .. })), "{changed:?}");
        refuted += 1;
    }
    assert_eq!(refuted, 3 * 4 + 4 * 2 + 4 * 4);
    let mut changed = derivation;
    changed.input[0][0] += BigRational::one();
    let message = "output 0: expected tap 0 times input 0 with coefficient 1, found 2";
    assert_eq!(changed.prove().unwrap_err().to_string(), message);
}

#[test]
fn the_engine_points_are_more_accurate() {
    let rms = |derivation: Derivation| derivation.rounding(64, 64, normal(1)).winograd.rms;
    let [standard, engine] = [Derivation::standard(4, 3), Derivation::engine(4, 3)].map(|four| rms(four.unwrap()));
    assert!(engine * 1.5 < standard, "{engine} and {standard}");
    let two = Derivation::engine(2, 3).unwrap().rounding(64, 64, normal(1));
    assert!(two.winograd.rms < engine && two.winograd.rms > 1e-8 && two.direct.rms > 1e-8, "{two:?}");
    assert!(two.winograd.max < 1e-6 && two.direct.max < 2e-6, "{two:?}");
}

#[test]
fn deviations_are_those_of_single_precision() {
    let one = Derivation::standard(1, 1).unwrap().rounding(1, 500, normal(2));
    assert_eq!(one.winograd, one.direct, "both are the same product");
    assert!(one.winograd.max > 1e-9 && one.winograd.max <= f64::from(f32::EPSILON) / 2.0, "{one:?}");
    let points = parse_points("100000000,200000000,300000000").unwrap();
    let large = Derivation::new(2, 3, points).unwrap();
    assert_proved(&large);
    let large = large.rounding(1, 1, normal(3));
    assert_eq!((large.winograd.max, large.winograd.rms), (f64::INFINITY, f64::INFINITY), "{large:?}");
    assert!(large.direct.max < 1e-6);
}

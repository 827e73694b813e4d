//! The constants of every tile compared with its derivation, which is proved.

use num_rational::BigRational;

use super::Points;
use crate::winograd::Derivation;
use crate::winograd::derivation::to_f64;
use crate::winograd::families::Family;

#[test]
fn every_tile_has_the_matrices_of_its_derivation() {
    for family in Family::ALL {
        let Family { taps, largest, .. } = *family;
        let points = Points::of(family);
        for outputs in 1..=largest {
            let what = format!("F({outputs}, {taps}) of {largest}");
            let derivation = Derivation::of(&points, outputs);
            assert_eq!(derivation.prove(), Ok(outputs * taps * points.count(outputs)), "{what}");
            let slots = points.count(outputs);
            // In the derivation, infinity comes last.
            let row = |slot: usize| match slot {
                0 => 0,
                Points::INFINITY => slots - 1,
                _ => slot - 1,
            };
            let exactly = |x: f64| {
                assert_eq!(f64::from(x as f32), x, "{what}: entries are exact in f32");
                BigRational::from_float(x).unwrap()
            };
            let (input, output, filter) = (points.input(outputs), points.output(outputs), points.filter());
            let rounded = to_f64(derivation.filter());
            for slot in 0..slots {
                for (position, exact) in derivation.input()[row(slot)].iter().enumerate() {
                    assert_eq!(&exactly(input[slot][position]), exact, "{what}: Bᵀ, slot {slot}, input {position}");
                }
                for (j, exact) in derivation.output().iter().enumerate() {
                    assert_eq!(exactly(output[j][slot]), exact[row(slot)], "{what}: Aᵀ, output {j}, slot {slot}");
                }
                for (tap, &exact) in rounded[row(slot)].iter().enumerate() {
                    let error = (filter[slot][tap] - exact).abs();
                    assert!(error <= 4.0 * f64::EPSILON * exact.abs(), "{what}: G, slot {slot}, tap {tap}");
                }
            }
        }
    }
}

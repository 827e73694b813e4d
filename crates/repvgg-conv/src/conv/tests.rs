use proptest::prelude::*;

use super::{Activation, Conv2d, Pass};
use crate::cases::{Case, any_case, assert_close, fixed_seed, interesting, levels, pools, to_f64};
use crate::{Geometry, GeometryError, Level, ThreadPool, reference};

/// Rounding errors add up like a random walk; its length is bounded by the reduction, at most a few thousand here.
const BOUND: f64 = 16.0;

fn run(level: Level, pool: &ThreadPool, case: &Case, activation: Activation) -> Vec<f32> {
    let operands = case.operands(7);
    let parameters = (&*operands.weights, Some(&*operands.bias));
    let conv = Conv2d::with_level(level, case.geometry, parameters, activation).expect("cases are valid");
    let mut output = vec![f32::NAN; operands.output_gradient.len()];
    let mut workspace = vec![f32::NAN; conv.workspace_len(case.batch, case.size, pool.threads())];
    let (input, output_slice) = (&*operands.input, &mut *output);
    let (batch, size) = (case.batch, case.size);
    conv.run(pool, Pass { batch, size, input, output: output_slice, workspace: &mut workspace });
    output
}

fn check(case: &Case) {
    let pool = ThreadPool::new(1);
    let operands = case.operands(7);
    let [input, weights, bias] = [&operands.input, &operands.weights, &operands.bias].map(|x| to_f64(x));
    let mut want = reference::conv2d(&case.geometry, &input, case.size, &weights, Some(&bias));
    for level in levels() {
        assert_close(&(level, case), &run(level, &pool, case, Activation::Identity), &want, BOUND);
    }
    want.values.iter_mut().for_each(|value| *value = value.max(0.0));
    assert_close(&case, &run(Level::detect(), &pool, case, Activation::Relu), &want, BOUND);
}

#[test]
fn interesting_cases_match_the_reference() {
    interesting().iter().for_each(check);
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn any_case_matches_the_reference(case in any_case()) {
        check(&case);
    }
}

#[test]
fn thread_counts_are_bit_equal() {
    let pools = pools();
    for case in interesting() {
        let want = run(Level::detect(), &pools[0], &case, Activation::Relu);
        for pool in &pools[1..] {
            let got = run(Level::detect(), pool, &case, Activation::Relu);
            assert!(got == want, "{case:?}: {} threads differ from one", pool.threads());
        }
    }
}

#[test]
fn wrong_parameters_are_reported() {
    let geometry = Case::new([2, 3], 3, 1, [4, 4]).geometry;
    let error = |geometry: Geometry, weights: &[f32], bias: Option<&[f32]>| {
        Conv2d::new(geometry, weights, bias, Activation::Identity).expect_err("parameters are wrong")
    };
    let weights = [0.0; 54];
    assert_eq!(
        error(geometry, &weights[..53], None),
        GeometryError::Length { name: "weights", expected: 54, found: 53 }
    );
    assert_eq!(
        error(geometry, &weights, Some(&[0.0; 2])),
        GeometryError::Length { name: "bias", expected: 3, found: 2 }
    );
    assert_eq!(error(Geometry { groups: 0, ..geometry }, &weights, None), GeometryError::Zero { name: "groups" });
}

#[test]
fn an_empty_batch_is_no_work() {
    let case = Case::new([2, 3], 3, 0, [4, 4]);
    assert!(run(Level::detect(), &ThreadPool::new(2), &case, Activation::Relu).is_empty());
}

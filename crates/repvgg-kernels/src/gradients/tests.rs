use proptest::prelude::*;

use super::Problem;
use crate::cases::{Case, any_case, assert_close, fixed_seed, interesting, levels, pools, to_f64};
use crate::{Level, ThreadPool, reference};

/// As for inference; the longest reductions are those over a batch.
const BOUND: f64 = 16.0;

fn problem(level: Level, case: &Case) -> Problem {
    Problem::new(case.geometry, case.batch, case.size).expect("cases are valid").with_level(level)
}

fn forward(level: Level, pool: &ThreadPool, case: &Case) -> Vec<f32> {
    let operands = case.operands(3);
    let mut output = vec![f32::NAN; operands.output_gradient.len()];
    problem(level, case).forward(pool, &operands.input, &operands.weights, &mut output);
    output
}

fn gradient_input(level: Level, pool: &ThreadPool, case: &Case) -> Vec<f32> {
    let operands = case.operands(3);
    let mut gradient = vec![f32::NAN; operands.input.len()];
    problem(level, case).gradient_input(pool, &operands.output_gradient, &operands.weights, &mut gradient);
    gradient
}

fn gradient_weights(level: Level, pool: &ThreadPool, case: &Case) -> Vec<f32> {
    let operands = case.operands(3);
    let mut gradient = vec![f32::NAN; operands.weights.len()];
    problem(level, case).gradient_weights(pool, &operands.input, &operands.output_gradient, &mut gradient);
    gradient
}

fn check(case: &Case) {
    let pool = ThreadPool::new(2);
    let operands = case.operands(3);
    let [x, w, dy] = [&operands.input, &operands.weights, &operands.output_gradient].map(|x| to_f64(x));
    let y = reference::conv2d(&case.geometry, &x, case.size, &w, None);
    let dx = reference::gradient_input(&case.geometry, &dy, case.size, &w);
    let dw = reference::gradient_weights(&case.geometry, &x, case.size, &dy);
    for level in levels() {
        assert_close(&("forward", level, case), &forward(level, &pool, case), &y, BOUND);
        assert_close(&("gradient_input", level, case), &gradient_input(level, &pool, case), &dx, BOUND);
        assert_close(&("gradient_weights", level, case), &gradient_weights(level, &pool, case), &dw, BOUND);
    }
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
fn an_empty_batch_has_no_gradient() {
    let case = Case::new([2, 3], 3, 0, [4, 4]);
    let pool = ThreadPool::new(2);
    assert_eq!(gradient_weights(Level::detect(), &pool, &case), [0.0; 54]);
    assert!(gradient_input(Level::detect(), &pool, &case).is_empty());
}

#[test]
fn thread_counts_are_bit_equal() {
    let pools = pools();
    for case in interesting() {
        for product in [forward, gradient_input, gradient_weights] {
            let want = product(Level::detect(), &pools[0], &case);
            for pool in &pools[1..] {
                let got = product(Level::detect(), pool, &case);
                assert!(got == want, "{case:?}: {} threads differ from one", pool.threads());
            }
        }
    }
}

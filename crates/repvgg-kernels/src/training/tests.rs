use proptest::prelude::*;

use super::TrainingConv2d;
use crate::cases::{Case, any_case, assert_close, border_cases, fixed_seed, levels, pools, to_f64};
use crate::{Level, ThreadPool, reference};

/// The error bound in units of `ε · Σ|x||w|`, as for direct convolution in inference. The longest reductions are over a batch.
const BOUND: f64 = 16.0;

fn conv(level: Level, case: &Case) -> TrainingConv2d {
    TrainingConv2d::new(case.geometry, case.batch, case.size).expect("cases are valid").with_level(level)
}

fn forward(level: Level, pool: &ThreadPool, case: &Case) -> Vec<f32> {
    let operands = case.operands(3);
    let mut output = vec![f32::NAN; operands.output_gradient.len()];
    conv(level, case).forward(pool, &operands.input, &operands.weights, &mut output);
    output
}

fn input_gradient(level: Level, pool: &ThreadPool, case: &Case) -> Vec<f32> {
    let operands = case.operands(3);
    let mut gradient = vec![f32::NAN; operands.input.len()];
    conv(level, case).input_gradient(pool, &operands.output_gradient, &operands.weights, &mut gradient);
    gradient
}

fn weight_gradient(level: Level, pool: &ThreadPool, case: &Case) -> Vec<f32> {
    let operands = case.operands(3);
    let mut gradient = vec![f32::NAN; operands.weights.len()];
    conv(level, case).weight_gradient(pool, &operands.input, &operands.output_gradient, &mut gradient);
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
        assert_close(&("input_gradient", level, case), &input_gradient(level, &pool, case), &dx, BOUND);
        assert_close(&("weight_gradient", level, case), &weight_gradient(level, &pool, case), &dw, BOUND);
    }
}

#[test]
fn border_cases_match_the_reference() {
    border_cases().iter().for_each(check);
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn any_case_matches_the_reference(case in any_case()) {
        check(&case);
    }
}

#[test]
fn an_empty_batch_has_zero_gradients() {
    let case = Case::new([2, 3], 3, 0, [4, 4]);
    let pool = ThreadPool::new(2);
    assert_eq!(weight_gradient(Level::detect(), &pool, &case), [0.0; 54]);
    assert!(input_gradient(Level::detect(), &pool, &case).is_empty());
}

#[test]
fn results_are_bit_equal_for_any_number_of_threads() {
    let pools = pools();
    for case in border_cases() {
        for kernel in [forward, input_gradient, weight_gradient] {
            let want = kernel(Level::detect(), &pools[0], &case);
            for pool in &pools[1..] {
                let got = kernel(Level::detect(), pool, &case);
                assert!(got == want, "{case:?}: {} threads differ from one", pool.threads());
            }
        }
    }
}

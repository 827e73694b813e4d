use proptest::prelude::*;

use super::{Accuracy, Activation, Algorithm, Conv2d, Estimate, Machine, Parameters, Pass, Site};
use crate::cases::{Case, any_case, assert_close, fixed_seed, interesting, levels, pools, spread, to_f64};
use crate::{Addend, Blocked, Geometry, GeometryError, Layout, Level, ThreadPool, reference};

/// The error of an algorithm in units of `ε · Σ|x||w|`, the sum taken where it is largest within the reach of a tile.
///
/// Rounding errors add up like a random walk, whose length is bounded by the reduction, at most a few thousand here; the
/// transforms of larger tiles amplify them. The worst over all cases were 5 for direct convolution, 18 for tiles of up to 4,
/// 33 and 57 for tiles of 5 and 6, 472 for 7 and 8, and 63 and 920 where weights are transformed in `f32`.
fn bound(algorithm: Algorithm) -> f64 {
    match algorithm {
        Algorithm::Direct | Algorithm::Depthwise => 16.0,
        Algorithm::Winograd(2) | Algorithm::WinogradRaw(2) => 32.0,
        Algorithm::Winograd(3 | 4) | Algorithm::WinogradRaw(3 | 4) => 40.0,
        Algorithm::Winograd(5 | 6) | Algorithm::WinogradRaw(5 | 6) => 100.0,
        Algorithm::Winograd(_) | Algorithm::WinogradRaw(_) => 1000.0,
    }
}

/// How a case is run.
#[derive(Debug, Clone, Copy)]
struct Setup {
    level: Level,
    layout: Layout,
    algorithm: Algorithm,
    activation: Activation,
    has_addend: bool,
}

impl Setup {
    fn new(level: Level, layout: Layout, algorithm: Algorithm) -> Self {
        Self { level, layout, algorithm, activation: Activation::Identity, has_addend: false }
    }

    fn site(&self, case: &Case) -> Site {
        Site { batch: case.batch, size: case.size, layout: self.layout }
    }

    /// `[N, K, P, Q]`.
    fn run(&self, pool: &ThreadPool, case: &Case) -> Vec<f32> {
        let operands = case.operands(7);
        let parameters = Parameters {
            weights: &operands.weights,
            bias: Some(&operands.bias),
            addend_scale: Some(&operands.bias),
            activation: self.activation,
        };
        let shape = (case.geometry, self.site(case));
        let conv = Conv2d::new(pool, self.level, shape, self.algorithm, parameters).expect("cases are valid");
        let lanes = self.level.lanes();
        let input = Blocked { shape: case.shape(case.geometry.in_channels, case.size), lanes };
        let output = conv.output(case.batch);
        let mut blocked = vec![f32::NAN; input.len()];
        input.pack(&operands.input, &mut blocked);
        let input = if self.layout == Layout::Planar { &operands.input } else { &blocked };
        let mut addend = vec![f32::NAN; output.len()];
        output.pack(&operands.output_gradient, &mut addend);
        let mut workspace = vec![f32::NAN; conv.workspace_len(pool.threads())];
        let mut result = vec![f32::NAN; output.len()];
        let addend = self.has_addend.then_some(Addend { values: &addend });
        conv.run(pool, Pass { images: case.batch, input, addend, output: &mut result, workspace: &mut workspace });
        assert!(result.iter().all(|y| y.is_finite()), "{self:?} {case:?}: lanes beyond K stay finite");
        let mut planar = vec![f32::NAN; operands.output_gradient.len()];
        output.unpack(&result, &mut planar);
        planar
    }
}

fn algorithms(case: &Case, layout: Layout) -> impl Iterator<Item = Algorithm> {
    let site = Site { batch: case.batch, size: case.size, layout };
    let geometry = case.geometry;
    Algorithm::ALL.into_iter().filter(move |algorithm| algorithm.fits(&geometry, site))
}

fn check(case: &Case) {
    let pool = ThreadPool::new(2);
    let operands = case.operands(7);
    let [input, weights, bias, addend] =
        [&operands.input, &operands.weights, &operands.bias, &operands.output_gradient].map(|x| to_f64(x));
    let mut want = reference::conv2d(&case.geometry, &input, case.size, &weights, Some(&bias));
    let magnitudes = want.magnitudes.clone();
    let judge = |setup: Setup, want: &mut reference::Reference| {
        // A tile's error depends on all of its inputs.
        let reach = setup.algorithm.tile().map_or(0, |tile| tile + 1);
        want.magnitudes = spread(&magnitudes, case.output_size(), reach);
        if setup.has_addend {
            want.magnitudes.iter_mut().zip(&addend).for_each(|(magnitude, addend)| *magnitude += addend.abs());
        }
        assert_close(&(setup, case), &setup.run(&pool, case), want, bound(setup.algorithm));
    };
    for level in levels() {
        for layout in [Layout::Planar, Layout::Blocked] {
            for algorithm in algorithms(case, layout) {
                judge(Setup::new(level, layout, algorithm), &mut want);
            }
        }
    }
    let plane: usize = case.output_size().iter().product();
    let channel = |i: usize| i / plane.max(1) % case.geometry.out_channels;
    want.values.iter_mut().enumerate().for_each(|(i, y)| *y = (*y + bias[channel(i)] * addend[i]).max(0.0));
    for algorithm in algorithms(case, Layout::Blocked) {
        let setup = Setup::new(Level::detect(), Layout::Blocked, algorithm);
        judge(Setup { activation: Activation::Relu, has_addend: true, ..setup }, &mut want);
    }
}

#[test]
fn interesting_cases_match_the_reference() {
    interesting().iter().for_each(check);
}

/// Every way that extents of up to two of the largest tiles and one more are covered, with either stride.
#[test]
fn every_cover_matches_the_reference() {
    for extent in 1..=19 {
        for stride in [1, 2] {
            for padding in 0..=2 {
                let case = Case::new([3, 2], 3, 1, [extent, 20 - extent]);
                let case = case.with(|g| (g.stride, g.padding) = ([stride; 2], [padding, 1]));
                if case.geometry.output_size(case.size).is_ok() {
                    check(&case);
                }
            }
        }
    }
    check(&Case::new([8, 9], 3, 1, [13, 70]));
    check(&Case::new([8, 9], 3, 1, [11, 150]).with(|g| g.stride = [2, 1]));
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
        for algorithm in algorithms(&case, Layout::Blocked) {
            let setup = Setup::new(Level::detect(), Layout::Blocked, algorithm);
            let want = setup.run(&pools[0], &case);
            for pool in &pools[1..] {
                let got = setup.run(pool, &case);
                assert!(got == want, "{setup:?} {case:?}: {} threads differ from one", pool.threads());
            }
        }
    }
}

/// A plan for many images gives the same for fewer.
#[test]
fn fewer_images_than_planned() {
    let pool = ThreadPool::new(2);
    let case = Case::new([9, 17], 3, 9, [14, 14]);
    let operands = case.operands(3);
    for algorithm in algorithms(&case, Layout::Blocked) {
        let level = Level::detect();
        let parameters =
            Parameters { weights: &operands.weights, bias: None, addend_scale: None, activation: Activation::Identity };
        let site = Site { batch: 9, size: case.size, layout: Layout::Blocked };
        let conv = Conv2d::new(&pool, level, (case.geometry, site), algorithm, parameters).unwrap();
        let input: Vec<f32> = (0..conv.input_len(9)).map(|i| (i % 13) as f32).collect();
        let mut workspace = vec![f32::NAN; conv.workspace_len(2)];
        let mut run = |images: usize| {
            let mut output = vec![f32::NAN; conv.output(images).len()];
            let input = &input[..conv.input_len(images)];
            conv.run(&pool, Pass { images, input, addend: None, output: &mut output, workspace: &mut workspace });
            output
        };
        let all = run(9);
        for images in 0..9 {
            let some = run(images);
            assert!(some == all[..some.len()], "{algorithm}: {images} of 9 images");
        }
    }
}

#[test]
fn not_a_number_is_not_hidden() {
    let case = Case::new([3, 2], 3, 1, [9, 9]);
    let pool = ThreadPool::new(1);
    let weights = vec![f32::NAN; case.geometry.weight_len()];
    let parameters = Parameters { weights: &weights, bias: None, addend_scale: None, activation: Activation::Relu };
    for level in levels() {
        for algorithm in algorithms(&case, Layout::Blocked) {
            let site = Site { batch: 1, size: case.size, layout: Layout::Blocked };
            let conv = Conv2d::new(&pool, level, (case.geometry, site), algorithm, parameters).unwrap();
            let input = vec![1.0; conv.input_len(1)];
            let mut output = vec![0.0; conv.output(1).len()];
            let mut workspace = vec![0.0; conv.workspace_len(1)];
            conv.run(
                &pool,
                Pass { images: 1, input: &input, addend: None, output: &mut output, workspace: &mut workspace },
            );
            assert!(output[0].is_nan(), "{level:?} {algorithm}");
        }
    }
}

#[test]
fn wrong_parameters_are_reported() {
    let geometry = Case::new([2, 3], 3, 1, [4, 4]).geometry;
    let site = Site { batch: 1, size: [4, 4], layout: Layout::Blocked };
    let error = |geometry: Geometry, algorithm, weights: &[f32], bias: Option<&[f32]>| {
        let parameters = Parameters { weights, bias, addend_scale: None, activation: Activation::Identity };
        let pool = ThreadPool::new(1);
        Conv2d::new(&pool, Level::detect(), (geometry, site), algorithm, parameters).expect_err("parameters are wrong")
    };
    let weights = [0.0; 54];
    assert_eq!(
        error(geometry, Algorithm::Direct, &weights[..53], None),
        GeometryError::Length { name: "weights", expected: 54, found: 53 }
    );
    assert_eq!(
        error(geometry, Algorithm::Direct, &weights, Some(&[0.0; 2])),
        GeometryError::Length { name: "bias", expected: 3, found: 2 }
    );
    assert_eq!(
        error(Geometry { groups: 0, ..geometry }, Algorithm::Direct, &weights, None),
        GeometryError::Zero { name: "groups" }
    );
    for algorithm in [Algorithm::Depthwise, Algorithm::Winograd(1), Algorithm::Winograd(9)] {
        assert_eq!(error(geometry, algorithm, &weights, None), GeometryError::Algorithm { algorithm });
    }
    let strided = Geometry { stride: [2, 2], ..geometry };
    let algorithm = Algorithm::Winograd(6);
    assert_eq!(error(strided, algorithm, &weights, None), GeometryError::Algorithm { algorithm });
}

#[test]
fn sizes_that_wrap_around_are_refused() {
    let geometry = Geometry {
        in_channels: 1,
        out_channels: 1,
        kernel: [9, 1],
        stride: [1, 1],
        padding: [1 << 59, 0],
        dilation: [1 << 57, 1],
        groups: 1,
    };
    let parameters =
        Parameters { weights: &[1.0; 9], bias: None, addend_scale: None, activation: Activation::Identity };
    for algorithm in [Algorithm::Direct, Algorithm::Depthwise] {
        let site = Site { batch: 1, size: [1, 1], layout: Layout::Blocked };
        let conv = Conv2d::new(&ThreadPool::new(1), Level::detect(), (geometry, site), algorithm, parameters);
        assert_eq!(conv.err(), Some(GeometryError::Overflow), "{algorithm}");
    }
}

#[test]
fn names_lead_back_to_algorithms() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
    }
    assert_eq!(
        "fft".parse::<Algorithm>(),
        Err("expected one of direct, depthwise, winograd2, winograd3, winograd4, winograd5, winograd6, winograd7, winograd8, winograd2-raw, \
         winograd3-raw, winograd4-raw, winograd5-raw, winograd6-raw, winograd7-raw, winograd8-raw, found fft".to_owned())
    );
}

#[test]
fn an_accuracy_bounds_the_tiles() {
    let level = Level::detect();
    let case = Case::new([64, 64], 3, 1, [56, 56]);
    let site = Site { batch: 1, size: case.size, layout: Layout::Blocked };
    for (accuracy, largest) in [(Accuracy::Strict, 2), (Accuracy::Default, 6), (Accuracy::Fast, 8)] {
        let all = Estimate::all(level, Machine::typical(level), (&case.geometry, site), accuracy);
        let tiles = all.iter().filter_map(|estimate| estimate.algorithm.tile());
        assert_eq!(tiles.max(), Some(largest));
        assert!(all.is_sorted_by(|a, b| a.time <= b.time));
    }
}

#[test]
fn tiles_do_fewer_multiplications() {
    let level = Level::detect();
    let case = Case::new([64, 64], 3, 1, [14, 14]);
    let macs = |case: Case, algorithm| {
        let site = Site { batch: 1, size: case.size, layout: Layout::Blocked };
        Estimate::new(level, Machine::typical(level), (&case.geometry, site), algorithm).macs
    };
    let per_channels = |case, algorithm| macs(case, algorithm) / (64 * 64);
    assert_eq!(per_channels(case, Algorithm::Direct), 9 * 14 * 14);
    assert_eq!(per_channels(case, Algorithm::Winograd(2)), 28 * 28);
    assert_eq!(per_channels(case, Algorithm::Winograd(3)), 24 * 24);
    assert_eq!(per_channels(case, Algorithm::Winograd(4)), 22 * 22);
    assert_eq!(per_channels(case, Algorithm::Winograd(5)), 20 * 20);
    assert_eq!(per_channels(case, Algorithm::Winograd(6)), 20 * 20);
    let strided = case.with(|g| g.stride = [2, 2]);
    assert_eq!(per_channels(strided, Algorithm::Winograd(2)), 18 * 18);
    assert_eq!(per_channels(strided, Algorithm::Winograd(4)), 16 * 16);
}

use proptest::prelude::*;

use super::{Activation, ConvPlan, PackedConv2d, Parameters, Pass};
use crate::cases::{Case, any_case, assert_close, border_cases, fixed_seed, levels, neighbourhood_max, pools, to_f64};
use crate::{
    Accuracy, Algorithm, Blocked, ConvSpec, Estimate, Geometry, GeometryError, Layout, Level, Machine, Packing, Site,
    ThreadPool, TileSize, reference,
};

/// The error bound of an algorithm in units of `ε · Σ|x||w|`, with the largest sum within reach of a tile.
///
/// Rounding errors add up like a random walk of at most a few thousand steps, the length of the reduction. The transforms of
/// larger tiles amplify them. The worst errors over all cases were 5 for direct convolution, 18 for tiles of up to 4, 33 and
/// 57 for tiles of 5 and 6, 472 for tiles of 7 and 8, and 63 and 920 where weights are transformed in `f32`.
fn error_bound(algorithm: Algorithm) -> f64 {
    match algorithm.tile().map(TileSize::outputs) {
        None => 16.0,
        Some(2) => 32.0,
        Some(3 | 4) => 40.0,
        Some(5 | 6) => 100.0,
        Some(_) => 1000.0,
    }
}

/// The algorithm and options that a case runs with.
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

    fn spec(&self, case: &Case) -> ConvSpec {
        ConvSpec { geometry: case.geometry, layout: self.layout }
    }

    /// Runs the case and returns its output `[N, K, P, Q]`.
    fn run(&self, pool: &ThreadPool, case: &Case) -> Vec<f32> {
        let operands = case.operands(7);
        let parameters = Parameters {
            weights: &operands.weights,
            bias: Some(&operands.bias),
            addend_scale: Some(&operands.bias),
            activation: self.activation,
        };
        let spec = self.spec(case);
        let packing = Packing::of(self.algorithm, &spec, case.size).expect("cases are valid");
        let conv = PackedConv2d::new(pool, self.level, &spec, packing, parameters).expect("cases are valid");
        let plan = ConvPlan::new(&conv, case.site(), pool.threads()).expect("cases are valid");
        let lanes = self.level.lanes();
        let input = Blocked { shape: case.shape(case.geometry.in_channels, case.size), lanes };
        let output = plan.output(case.batch);
        let mut blocked = vec![f32::NAN; input.len()];
        input.pack(&operands.input, &mut blocked);
        let input = if self.layout == Layout::Planar { &operands.input } else { &blocked };
        let mut addend = vec![f32::NAN; output.len()];
        output.pack(&operands.output_gradient, &mut addend);
        let mut workspace = vec![f32::NAN; plan.workspace_len()];
        let mut result = vec![f32::NAN; output.len()];
        let addend = self.has_addend.then_some(&*addend);
        conv.run(
            &plan,
            pool,
            Pass { images: case.batch, input, addend, output: &mut result, workspace: &mut workspace },
        );
        assert!(result.iter().all(|y| y.is_finite()), "{self:?} {case:?}: lanes beyond K stay finite");
        let mut planar = vec![f32::NAN; operands.output_gradient.len()];
        output.unpack(&result, &mut planar);
        planar
    }
}

fn algorithms(case: &Case, layout: Layout) -> impl Iterator<Item = Algorithm> {
    let spec = ConvSpec { geometry: case.geometry, layout };
    Algorithm::ALL.into_iter().filter(move |algorithm| algorithm.fits(&spec))
}

fn check(case: &Case) {
    let pool = ThreadPool::new(2);
    let operands = case.operands(7);
    let [input, weights, bias, addend] =
        [&operands.input, &operands.weights, &operands.bias, &operands.output_gradient].map(|x| to_f64(x));
    let mut want = reference::conv2d(&case.geometry, &input, case.size, &weights, Some(&bias));
    let magnitudes = want.magnitudes.clone();
    let run_and_compare = |setup: Setup, want: &mut reference::Reference| {
        // The error of an output depends on all inputs of its tile.
        let reach = setup.algorithm.tile().map_or(0, |tile| tile.outputs() + 1);
        want.magnitudes = neighbourhood_max(&magnitudes, case.output_size(), reach);
        if setup.has_addend {
            want.magnitudes.iter_mut().zip(&addend).for_each(|(magnitude, addend)| *magnitude += addend.abs());
        }
        assert_close(&(setup, case), &setup.run(&pool, case), want, error_bound(setup.algorithm));
    };
    for level in levels() {
        for layout in [Layout::Planar, Layout::Blocked] {
            for algorithm in algorithms(case, layout) {
                run_and_compare(Setup::new(level, layout, algorithm), &mut want);
            }
        }
    }
    let plane: usize = case.output_size().iter().product();
    let channel = |i: usize| i / plane.max(1) % case.geometry.out_channels;
    want.values.iter_mut().enumerate().for_each(|(i, y)| *y = (*y + bias[channel(i)] * addend[i]).max(0.0));
    for algorithm in algorithms(case, Layout::Blocked) {
        let setup = Setup::new(Level::detect(), Layout::Blocked, algorithm);
        run_and_compare(Setup { activation: Activation::Relu, has_addend: true, ..setup }, &mut want);
    }
}

#[test]
fn border_cases_match_the_reference() {
    border_cases().iter().for_each(check);
}

/// Covers every extent up to two of the largest tiles plus three, with both strides.
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
fn results_are_bit_equal_for_any_number_of_threads() {
    let pools = pools();
    for case in border_cases() {
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

#[test]
fn a_plan_computes_the_same_for_fewer_images() {
    let pool = ThreadPool::new(2);
    let case = Case::new([9, 17], 3, 9, [14, 14]);
    let operands = case.operands(3);
    for algorithm in algorithms(&case, Layout::Blocked) {
        let level = Level::detect();
        let parameters =
            Parameters { weights: &operands.weights, bias: None, addend_scale: None, activation: Activation::Identity };
        let spec = ConvSpec { geometry: case.geometry, layout: Layout::Blocked };
        let packing = Packing::of(algorithm, &spec, case.size).unwrap();
        let conv = PackedConv2d::new(&pool, level, &spec, packing, parameters).unwrap();
        let plan = ConvPlan::new(&conv, case.site(), 2).unwrap();
        let input: Vec<f32> = (0..plan.input_len(9)).map(|i| (i % 13) as f32).collect();
        let mut workspace = vec![f32::NAN; plan.workspace_len()];
        let mut run = |images: usize| {
            let mut output = vec![f32::NAN; plan.output(images).len()];
            let input = &input[..plan.input_len(images)];
            let pass = Pass { images, input, addend: None, output: &mut output, workspace: &mut workspace };
            conv.run(&plan, &pool, pass);
            output
        };
        let all = run(9);
        for images in 0..9 {
            let fewer = run(images);
            assert!(fewer == all[..fewer.len()], "{algorithm}: {images} of 9 images");
        }
    }
}

#[test]
fn relu_propagates_nan() {
    let case = Case::new([3, 2], 3, 1, [9, 9]);
    let pool = ThreadPool::new(1);
    let weights = vec![f32::NAN; case.geometry.weight_len()];
    let parameters = Parameters { weights: &weights, bias: None, addend_scale: None, activation: Activation::Relu };
    for level in levels() {
        for algorithm in algorithms(&case, Layout::Blocked) {
            let spec = ConvSpec { geometry: case.geometry, layout: Layout::Blocked };
            let packing = Packing::of(algorithm, &spec, case.size).unwrap();
            let conv = PackedConv2d::new(&pool, level, &spec, packing, parameters).unwrap();
            let plan = ConvPlan::new(&conv, case.site(), 1).unwrap();
            let input = vec![1.0; plan.input_len(1)];
            let mut output = vec![0.0; plan.output(1).len()];
            let mut workspace = vec![0.0; plan.workspace_len()];
            let pass = Pass { images: 1, input: &input, addend: None, output: &mut output, workspace: &mut workspace };
            conv.run(&plan, &pool, pass);
            assert!(output[0].is_nan(), "{level:?} {algorithm}");
        }
    }
}

#[test]
fn slices_of_the_wrong_length_are_reported() {
    let spec = ConvSpec { geometry: Case::new([2, 3], 3, 1, [4, 4]).geometry, layout: Layout::Blocked };
    let error = |spec: ConvSpec, weights: &[f32], bias: Option<&[f32]>| {
        let parameters = Parameters { weights, bias, addend_scale: None, activation: Activation::Identity };
        let packing = Packing::of(Algorithm::Direct, &spec, [4, 4])?;
        PackedConv2d::new(&ThreadPool::new(1), Level::detect(), &spec, packing, parameters).map(|_| ())
    };
    let weights = [0.0; 54];
    assert_eq!(
        error(spec, &weights[..53], None),
        Err(GeometryError::Length { name: "weights", expected: 54, found: 53 })
    );
    assert_eq!(
        error(spec, &weights, Some(&[0.0; 2])),
        Err(GeometryError::Length { name: "bias", expected: 3, found: 2 })
    );
    let no_groups = ConvSpec { geometry: Geometry { groups: 0, ..spec.geometry }, ..spec };
    assert_eq!(error(no_groups, &weights, None), Err(GeometryError::Zero { name: "groups" }));
}

#[test]
fn algorithms_that_do_not_fit_are_reported() {
    let spec = ConvSpec { geometry: Case::new([2, 3], 3, 1, [4, 4]).geometry, layout: Layout::Blocked };
    let strided = ConvSpec { geometry: Geometry { stride: [2, 2], ..spec.geometry }, ..spec };
    let planar = ConvSpec { layout: Layout::Planar, ..spec };
    let [four, six] = [4, 6].map(|outputs| Algorithm::Winograd(TileSize::new(outputs).unwrap()));
    for (spec, algorithm) in [(spec, Algorithm::Depthwise), (strided, six), (planar, four)] {
        assert_eq!(Packing::of(algorithm, &spec, [4, 4]), Err(GeometryError::Algorithm { algorithm }));
    }
    assert!([0, 1, 9, 42].into_iter().all(|outputs| TileSize::new(outputs).is_none()));
}

/// An engine relies on this when it shares weights between sites.
#[test]
fn packed_weights_serve_every_batch_size_and_thread_count() {
    for algorithm in algorithms(&Case::new([9, 17], 3, 1, [14, 14]), Layout::Blocked) {
        let level = Level::detect();
        let case = Case::new([9, 17], 3, 1, [14, 14]);
        let spec = ConvSpec { geometry: case.geometry, layout: Layout::Blocked };
        let packing = Packing::of(algorithm, &spec, case.size).unwrap();
        let operands = case.operands(3);
        let parameters =
            Parameters { weights: &operands.weights, bias: None, addend_scale: None, activation: Activation::Identity };
        let conv = PackedConv2d::new(&ThreadPool::new(3), level, &spec, packing, parameters).unwrap();
        for (batch, size, threads) in [(1, [14, 14], 1), (9, [14, 14], 2), (2, [3, 25], 3), (1, [1, 1], 1)] {
            let pool = ThreadPool::new(threads);
            let plan = ConvPlan::new(&conv, Site { batch, size }, threads).unwrap();
            let planar: Vec<f32> = (0..batch * 9 * size[0] * size[1]).map(|i| (i % 13) as f32 - 6.0).collect();
            let blocked = Blocked { shape: [batch, 9, size[0], size[1]], lanes: level.lanes() };
            let mut input = vec![0.0; blocked.len()];
            blocked.pack(&planar, &mut input);
            let mut output = vec![f32::NAN; plan.output(batch).len()];
            let mut workspace = vec![f32::NAN; plan.workspace_len()];
            let (target, workspace) = (&mut *output, &mut *workspace);
            conv.run(&plan, &pool, Pass { images: batch, input: &input, addend: None, output: target, workspace });
            let mut got = vec![f32::NAN; plan.output(batch).shape.iter().product()];
            plan.output(batch).unpack(&output, &mut got);
            let weights = to_f64(&operands.weights);
            let mut want = reference::conv2d(&case.geometry, &to_f64(&planar), size, &weights, None);
            want.magnitudes =
                neighbourhood_max(&want.magnitudes, size, algorithm.tile().map_or(0, |tile| tile.outputs() + 1));
            assert_close(&(algorithm, batch, size), &got, &want, error_bound(algorithm));
        }
    }
}

#[test]
fn packings_are_equal_where_weights_can_be_shared() {
    let spec = ConvSpec { geometry: Case::new([9, 17], 3, 1, [14, 14]).geometry, layout: Layout::Blocked };
    let of = |outputs, size| Packing::of(Algorithm::Winograd(TileSize::new(outputs).unwrap()), &spec, size).unwrap();
    // 14 outputs are 5 + 5 + 4 in tiles of up to 5 or 6, and 4 + 4 + 4 + 2 in tiles of up to 4.
    assert_eq!(of(6, [14, 14]), of(5, [14, 14]));
    assert_ne!(of(6, [14, 14]), of(4, [14, 14]));
    assert_eq!(of(4, [14, 14]), of(4, [56, 28]));
    assert_eq!(of(6, [14, 14]).tiles([14, 14]), Some([vec![5, 5, 4], vec![5, 5, 4]]));
    assert_eq!(Packing::of(Algorithm::Direct, &spec, [14, 14]).unwrap().tiles([14, 14]), None);
}

#[test]
fn sizes_that_wrap_around_are_errors() {
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
    let spec = ConvSpec { geometry, layout: Layout::Blocked };
    for algorithm in [Algorithm::Direct, Algorithm::Depthwise] {
        let packing = Packing::of(algorithm, &spec, [1, 1]).unwrap();
        let conv = PackedConv2d::new(&ThreadPool::new(1), Level::detect(), &spec, packing, parameters);
        assert_eq!(conv.err(), Some(GeometryError::Overflow), "{algorithm}");
    }
    let spec = ConvSpec { geometry: Case::new([1, 1], 3, 1, [1, 1]).geometry, layout: Layout::Blocked };
    let packing = Packing::of(Algorithm::Direct, &spec, [1, 1]).unwrap();
    let conv = PackedConv2d::new(&ThreadPool::new(1), Level::detect(), &spec, packing, parameters).unwrap();
    for site in [Site { batch: 1 << 50, size: [1 << 4; 2] }, Site { batch: 1, size: [1 << 30, 1 << 30] }] {
        assert_eq!(ConvPlan::new(&conv, site, 1).err(), Some(GeometryError::Overflow), "{site:?}");
    }
}

#[test]
fn names_round_trip() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
    }
    let error = "fft".parse::<Algorithm>().unwrap_err();
    let names = "direct, depthwise, winograd2, winograd3, winograd4, winograd5, winograd6, winograd7, winograd8, winograd2-raw, \
                 winograd3-raw, winograd4-raw, winograd5-raw, winograd6-raw, winograd7-raw, winograd8-raw";
    assert_eq!(error.to_string(), format!("expected one of {names}, found fft"));
}

#[test]
fn accuracy_bounds_the_tile_size() {
    let level = Level::detect();
    let case = Case::new([64, 64], 3, 1, [56, 56]);
    let spec = ConvSpec { geometry: case.geometry, layout: Layout::Blocked };
    for (accuracy, largest) in [(Accuracy::Strict, 2), (Accuracy::Default, 6), (Accuracy::Fast, 8)] {
        let all = Estimate::all(level, Machine::typical(level), &spec, case.site(), accuracy);
        let tiles = all.iter().filter_map(|estimate| estimate.algorithm.tile().map(TileSize::outputs));
        assert_eq!(tiles.max(), Some(largest));
        assert!(all.is_sorted_by(|a, b| a.time <= b.time));
    }
}

#[test]
fn larger_tiles_need_fewer_multiplications() {
    let level = Level::detect();
    let case = Case::new([64, 64], 3, 1, [14, 14]);
    let macs = |case: Case, algorithm| {
        let spec = ConvSpec { geometry: case.geometry, layout: Layout::Blocked };
        Estimate::new(level, Machine::typical(level), &spec, case.site(), algorithm).macs
    };
    let winograd = |outputs| Algorithm::Winograd(TileSize::new(outputs).unwrap());
    let per_channels = |case, algorithm| macs(case, algorithm) / (64 * 64);
    assert_eq!(per_channels(case, Algorithm::Direct), 9 * 14 * 14);
    assert_eq!(per_channels(case, winograd(2)), 28 * 28);
    assert_eq!(per_channels(case, winograd(3)), 24 * 24);
    assert_eq!(per_channels(case, winograd(4)), 22 * 22);
    assert_eq!(per_channels(case, winograd(5)), 20 * 20);
    assert_eq!(per_channels(case, winograd(6)), 20 * 20);
    let strided = case.with(|g| g.stride = [2, 2]);
    assert_eq!(per_channels(strided, winograd(2)), 18 * 18);
    assert_eq!(per_channels(strided, winograd(4)), 16 * 16);
}

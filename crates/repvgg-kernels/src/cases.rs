//! Test convolutions that straddle every tile and block border, and the comparison of kernels with the reference.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use crate::reference::Reference;
use crate::{Geometry, Level, Site, ThreadPool};

/// A geometry and the images it is applied to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) geometry: Geometry,
    pub(crate) batch: usize,
    pub(crate) size: [usize; 2],
}

/// Operands of a convolution and the gradient of its output.
pub(crate) struct Operands {
    pub(crate) input: Vec<f32>,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) output_gradient: Vec<f32>,
}

impl Case {
    /// A plain convolution with stride 1, a square kernel, and padding that preserves the size.
    pub(crate) fn new([in_channels, out_channels]: [usize; 2], kernel: usize, batch: usize, size: [usize; 2]) -> Self {
        let geometry = Geometry {
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
            groups: 1,
        };
        Self { geometry, batch, size }
    }

    pub(crate) fn with(self, change: impl Fn(&mut Geometry)) -> Self {
        let mut case = self;
        change(&mut case.geometry);
        case
    }

    pub(crate) fn site(&self) -> Site {
        Site { batch: self.batch, size: self.size }
    }

    /// `[N, channels, H, W]`.
    pub(crate) fn shape(&self, channels: usize, size: [usize; 2]) -> [usize; 4] {
        [self.batch, channels, size[0], size[1]]
    }

    pub(crate) fn output_size(&self) -> [usize; 2] {
        self.geometry.output_size(self.size).expect("cases are valid")
    }

    pub(crate) fn operands(&self, seed: u64) -> Operands {
        let mut random = Random(seed);
        let Geometry { in_channels, out_channels, .. } = self.geometry;
        let pixels = |size: [usize; 2]| self.batch * size[0] * size[1];
        Operands {
            input: random.floats(pixels(self.size) * in_channels),
            weights: random.floats(self.geometry.weight_len()),
            bias: random.floats(out_channels),
            output_gradient: random.floats(pixels(self.output_size()) * out_channels),
        }
    }
}

/// Sizes one below, at and one above the borders of tiles (4, 8, 16, 24, 32, 48), windows (256 columns) and reduction blocks
/// (256 steps: 28 channels of 3×3), and every kind of geometry.
pub(crate) fn border_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for width in [1, 2, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 33, 47, 48, 49, 64] {
        cases.push(Case::new([3, 5], 3, 1, [2, width]));
    }
    for filters in [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 48] {
        cases.push(Case::new([2, filters], 3, 2, [4, 5]));
        cases.push(Case::new([filters, 3], 3, 2, [4, 5]));
    }
    for channels in [27, 28, 29, 56, 57, 85] {
        cases.push(Case::new([channels, 9], 3, 1, [5, 6]));
    }
    for channels in [255, 256, 257, 513] {
        cases.push(Case::new([channels, 4], 1, 2, [3, 3]));
    }
    for batch in 1..=9 {
        cases.push(Case::new([3, 4], 3, batch, [7, 7]));
        cases.push(Case::new([5, 10], 1, batch, [1, 1]));
        cases.push(Case::new([4, 6], 3, batch, [1, 1]));
    }
    for rows in [15, 16, 17, 33] {
        cases.push(Case::new([2, 3], 3, 1, [rows, 16]));
        cases.push(Case::new([2, 3], 1, 2, [rows, 17]));
    }
    cases.push(Case::new([3, 2], 1, 1, [2, 300]));
    cases.push(Case::new([3, 2], 3, 70, [2, 2]));
    cases.push(Case::new([4, 4], 3, 70, [3, 1]));
    for kernel in [[1, 1], [2, 2], [3, 3], [5, 5], [1, 3], [3, 1], [2, 5]] {
        for (stride, padding, dilation) in
            [([1, 1], [0, 0], [1, 1]), ([2, 2], [1, 1], [1, 1]), ([1, 2], [3, 2], [2, 1]), ([3, 2], [0, 1], [1, 2])]
        {
            let case = Case::new([5, 6], 3, 2, [13, 11]);
            cases
                .push(case.with(|g| (g.kernel, g.stride, g.padding, g.dilation) = (kernel, stride, padding, dilation)));
        }
    }
    for size in [[7, 7], [8, 8], [9, 12], [32, 31]] {
        cases.push(Case::new([17, 18], 3, 2, size).with(|g| g.stride = [2; 2]));
        cases.push(
            Case::new([17, 18], 3, 2, size.map(|side| side + 3)).with(|g| (g.stride, g.padding) = ([2; 2], [0; 2])),
        );
        cases.push(Case::new([17, 18], 1, 2, size).with(|g| g.stride = [2; 2]));
        cases.push(Case::new([4, 4], 3, 1, size).with(|g| (g.stride, g.dilation) = ([2; 2], [2; 2])));
    }
    // Rows of direct convolution that exceed a window, in one row and in several.
    for size in [[1, 2100], [2, 2100], [3, 1100]] {
        cases.push(Case::new([3, 5], 3, 1, size).with(|g| g.stride = [2; 2]));
    }
    cases.push(Case::new([64, 3], 5, 1, [1, 1100]));
    cases.push(Case::new([256, 3], 3, 1, [1, 300]));
    cases.push(Case::new([256, 3], 1, 1, [1, 300]));
    for (channels, groups) in [([6, 4], 2), ([4, 4], 4), ([9, 9], 9), ([5, 10], 5), ([34, 36], 2), ([32, 64], 4)] {
        for stride in [1, 2] {
            cases.push(Case::new(channels, 3, 2, [9, 8]).with(|g| (g.groups, g.stride) = (groups, [stride; 2])));
        }
    }
    cases
}

/// Generates small convolutions of any kind.
pub(crate) fn any_case() -> impl Strategy<Value = Case> {
    let channels = (1..=4_usize, 1..=20_usize, 1..=20_usize);
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    let kernel = (pair(1..=5), pair(1..=3), pair(0..=3), pair(1..=2));
    let images = (1..=5_usize, pair(1..=20));
    (channels, kernel, images).prop_filter_map("the kernel fits the image", |(channels, kernel, (batch, size))| {
        let (groups, in_channels, out_channels) = channels;
        let (kernel, stride, padding, dilation) = kernel;
        let geometry = Geometry {
            in_channels: groups * in_channels,
            out_channels: groups * out_channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
        };
        geometry.output_size(size).is_ok().then_some(Case { geometry, batch, size })
    })
}

/// A configuration that generates the same cases in every run.
pub(crate) fn fixed_seed() -> Config {
    Config { cases: 64, rng_seed: RngSeed::Fixed(20_260_101), failure_persistence: None, ..Config::default() }
}

/// A linear congruential generator (Knuth's MMIX constants). A seed always yields the same numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Uniform in [-1, 1).
    pub(crate) fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next() as f32 / (1_u64 << 30) as f32 - 1.0).collect()
    }
}

/// For each element of the planes `[height, width]`, the largest value at most `reach` rows and columns away.
pub(crate) fn neighbourhood_max(values: &[f64], [height, width]: [usize; 2], reach: usize) -> Vec<f64> {
    let largest = |plane: &[f64], y: usize, x: usize| {
        let rows = y.saturating_sub(reach)..(y + reach + 1).min(height);
        let columns = x.saturating_sub(reach)..(x + reach + 1).min(width);
        rows.flat_map(|row| &plane[row * width..][columns.clone()]).fold(0.0, |a: f64, &b| a.max(b))
    };
    let planes = values.chunks_exact((height * width).max(1));
    planes.flat_map(|plane| (0..height * width).map(move |i| largest(plane, i / width, i % width))).collect()
}

pub(crate) fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Asserts `|got − value| ≤ c · ε · magnitude` everywhere, `ε` being half a unit in the last place of 1.
pub(crate) fn assert_close(what: &dyn std::fmt::Debug, got: &[f32], want: &Reference, c: f64) {
    const EPSILON: f64 = f32::EPSILON as f64 / 2.0;
    assert_eq!(got.len(), want.values.len(), "{what:?}");
    let error = |i: usize| (f64::from(got[i]) - want.values[i]).abs() / (EPSILON * want.magnitudes[i]).max(1e-300);
    let wrong: Vec<usize> = (0..got.len()).filter(|&i| error(i).is_nan() || error(i) > c).collect();
    if let Some(&worst) = wrong.iter().max_by(|&&a, &&b| error(a).total_cmp(&error(b))) {
        panic!(
            "{what:?}: {} of {} elements beyond {c} ε·magnitude, the worst at {worst}: got {}, want {}, {} ε·magnitude",
            wrong.len(),
            got.len(),
            got[worst],
            want.values[worst],
            error(worst),
        );
    }
}

/// Every level of this CPU. A missing level is skipped, or fails the test where it is required.
pub(crate) fn levels() -> Vec<Level> {
    repvgg_testing::available_levels(Level::NAMES, Level::named)
}

/// Pools of one to four threads.
pub(crate) fn pools() -> Vec<ThreadPool> {
    (1..=4).map(ThreadPool::new).collect()
}

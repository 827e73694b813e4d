use super::*;
use crate::cases::{Random, levels, pools};

/// Shapes whose planes straddle the lanes of a sum, with one and several images and channels.
const SHAPES: [[usize; 3]; 6] = [[1, 1, 2], [2, 3, 15], [3, 2, 16], [3, 7, 35], [1, 4, 17], [5, 1, 1]];

struct Case {
    shape: [usize; 3],
    inputs: Vec<Vec<f32>>,
    scales: Vec<Vec<f32>>,
    shift: Vec<f32>,
    gradient: Vec<f32>,
    activation: Activation,
}

/// The results of both passes.
#[derive(Debug, PartialEq)]
struct Results {
    output: Vec<f32>,
    statistics: BatchStatistics,
    inputs: Vec<Vec<f32>>,
    gradients: NormGradients,
}

const EPSILON: f64 = 1e-5;

impl Case {
    fn new(shape: [usize; 3], branches: usize, activation: Activation) -> Self {
        let mut random = Random(7);
        let len = shape.iter().product();
        Self {
            shape,
            inputs: (0..branches).map(|_| random.floats(len)).collect(),
            scales: (0..branches).map(|_| random.floats(shape[1])).collect(),
            shift: random.floats(shape[1]),
            gradient: random.floats(len),
            activation,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        SHAPES.into_iter().flat_map(|shape| {
            let activations = [Activation::Identity, Activation::Relu];
            (1..=NormSum::MAX_BRANCHES)
                .flat_map(move |branches| activations.map(|activation| Self::new(shape, branches, activation)))
        })
    }

    fn run(&self, pool: &ThreadPool, level: Level) -> Results {
        let branches: Vec<NormBranch<'_>> =
            self.inputs.iter().zip(&self.scales).map(|(input, scale)| NormBranch { input, scale }).collect();
        let sum = NormSum::new(self.shape, &branches, EPSILON);
        let mut output = vec![f32::NAN; self.gradient.len()];
        let statistics = sum.forward(pool, level, &self.shift, self.activation, &mut output);
        let relu = (self.activation == Activation::Relu).then_some(&*output);
        let gradient = OutputGradient { values: &self.gradient, relu };
        let mut inputs = vec![vec![f32::NAN; output.len()]; branches.len()];
        let gradients = sum.backward(pool, level, &statistics, &gradient, &mut inputs);
        Results { output, statistics, inputs, gradients }
    }

    /// The elements of a channel, as indices into `[N, C, H·W]`.
    fn channel(&self, channel: usize) -> impl Iterator<Item = usize> + Clone {
        let [images, channels, plane] = self.shape;
        (0..images).flat_map(move |image| (0..plane).map(move |i| (image * channels + channel) * plane + i))
    }

    /// Compares `found` with the equations in double precision, channel by channel.
    fn check(&self, found: &Results) {
        // The rounding of a few operations on values near 1; 1 / √variance amplifies it where a channel has few values.
        const BOUND: f64 = 64.0 * f32::EPSILON as f64;
        let [images, channels, plane] = self.shape;
        let count = (images * plane) as f64;
        for channel in 0..channels {
            let elements = self.channel(channel);
            let moments: Vec<[f64; 2]> = (self.inputs.iter())
                .map(|input| {
                    let values = elements.clone().map(|i| f64::from(input[i]));
                    let mean = values.clone().sum::<f64>() / count;
                    [mean, values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / count]
                })
                .collect();
            let inverse_std = |branch: usize| 1.0 / (moments[branch][1] + EPSILON).sqrt();
            let largest = (0..moments.len()).map(inverse_std).fold(1.0, f64::max);
            let normalised = |branch: usize, i: usize| {
                (f64::from(self.inputs[branch][i]) - moments[branch][0]) * inverse_std(branch)
            };
            let scale = |branch: usize| f64::from(self.scales[branch][channel]);
            let assert_near = |what: &str, found: f32, want: f64, bound: f64| {
                let error = (f64::from(found) - want).abs();
                assert!(error <= bound, "{what} of {:?}: expected {want} within {bound}, found {found}", self.shape);
            };
            // Near zero, rounding decides whether a ReLU passes a gradient, so the computed output is used.
            let passes = |i: usize| self.activation == Activation::Identity || found.output[i] > 0.0;
            let g = |i: usize| if passes(i) { f64::from(self.gradient[i]) } else { 0.0 };
            let total: f64 = elements.clone().map(g).sum();
            assert_near("shift", found.gradients.shift[channel], total, BOUND * count);
            for i in elements.clone() {
                let terms = (0..moments.len()).map(|branch| scale(branch) * normalised(branch, i));
                let sum = f64::from(self.shift[channel]) + terms.sum::<f64>();
                let want = if self.activation == Activation::Relu { sum.max(0.0) } else { sum };
                assert_near("output", found.output[i], want, BOUND * largest);
            }
            for (branch, [mean, variance]) in moments.iter().enumerate() {
                let at = branch * channels + channel;
                assert_near("mean", found.statistics.mean[at], *mean, BOUND);
                assert_near("variance", found.statistics.variance[at], *variance, BOUND);
                let product: f64 = elements.clone().map(|i| g(i) * normalised(branch, i)).sum();
                assert_near("scale", found.gradients.scale[at], product, BOUND * count * largest);
                for i in elements.clone() {
                    let centred = g(i) - total / count - normalised(branch, i) * product / count;
                    let want = scale(branch) * inverse_std(branch) * centred;
                    assert_near("input", found.inputs[branch][i], want, BOUND * largest * largest);
                }
            }
        }
    }
}

#[test]
fn results_match_the_equations() {
    let pool = ThreadPool::new(2);
    for case in Case::all() {
        for level in levels() {
            case.check(&case.run(&pool, level));
        }
    }
}

#[test]
fn results_are_bit_equal_for_any_number_of_threads_and_level() {
    let pools = pools();
    for case in Case::all() {
        let want = case.run(&pools[0], Level::detect());
        for (pool, level) in pools.iter().flat_map(|pool| levels().into_iter().map(move |level| (pool, level))) {
            assert_eq!(case.run(pool, level), want, "{} threads, {level:?}", pool.threads());
        }
    }
}

#[test]
fn relu_propagates_nan() {
    let mut case = Case::new([1, 1, 20], 2, Activation::Relu);
    case.inputs[0][3] = f32::NAN;
    assert!(case.run(&ThreadPool::new(1), Level::detect()).output.iter().all(|y| y.is_nan()));
}

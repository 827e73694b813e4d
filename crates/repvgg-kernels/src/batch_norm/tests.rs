use super::{BatchNormBackward, BatchNormForward, batch_norm_backward, batch_norm_forward};
use crate::ThreadPool;
use crate::cases::{Random, assert_close, pools};
use crate::reference::Reference;

const EPSILON: f32 = 1e-5;
const SHAPES: [[usize; 3]; 8] =
    [[1, 1, 2], [2, 1, 1], [3, 5, 1], [4, 3, 7], [5, 8, 9], [7, 9, 16], [16, 17, 25], [2, 4, 1000]];

/// Operands and results of both directions.
struct Pass {
    shape: [usize; 3],
    x: Vec<f32>,
    y_gradient: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    /// `y`, `∂L/∂x`: `[N, C, H·W]`.
    tensors: [Vec<f32>; 2],
    /// `mean`, `inverse_std`, `∂L/∂γ`, `∂L/∂β`: `[C]`.
    vectors: [Vec<f32>; 4],
}

fn pass(pool: &ThreadPool, shape: [usize; 3]) -> Pass {
    let mut random = Random(11);
    let len = shape.iter().product();
    // Far from centred, so that a sloppy variance would show.
    let x: Vec<f32> = random.floats(len).iter().map(|x| 2.0 * x + 5.0).collect();
    let (y_gradient, scale, shift) = (random.floats(len), random.floats(shape[1]), random.floats(shape[1]));
    let mut tensors = [(); 2].map(|()| vec![f32::NAN; len]);
    let mut vectors = [(); 4].map(|()| vec![f32::NAN; shape[1]]);
    let [y, x_gradient] = &mut tensors;
    let [mean, inverse_std, scale_gradient, shift_gradient] = &mut vectors;
    let operands = BatchNormForward { x: &x, scale: &scale, shift: &shift, epsilon: EPSILON, y, mean, inverse_std };
    batch_norm_forward(pool, shape, operands);
    let (x_slice, y_slice) = (&x, &y_gradient);
    let operands = BatchNormBackward {
        x: x_slice,
        y_gradient: y_slice,
        scale: &scale,
        mean,
        inverse_std,
        x_gradient,
        scale_gradient,
        shift_gradient,
    };
    batch_norm_backward(pool, shape, operands);
    Pass { shape, x, y_gradient, scale, shift, tensors, vectors }
}

impl Pass {
    fn channel(&self, c: usize, tensor: &[f32]) -> Vec<f64> {
        let [_, channels, len] = self.shape;
        let elements = tensor.iter().enumerate().filter(|(i, _)| i / len % channels == c);
        elements.map(|(_, &value)| f64::from(value)).collect()
    }

    /// The elements of channel `c`: value and magnitude of the forward result, then of the gradient.
    fn want(&self, c: usize) -> [Reference; 2] {
        let (x, dy) = (self.channel(c, &self.x), self.channel(c, &self.y_gradient));
        let count = x.len() as f64;
        let average = |values: &[f64]| values.iter().sum::<f64>() / count;
        let mean = average(&x);
        let variance = average(&x.iter().map(|x| (x - mean).powi(2)).collect::<Vec<_>>());
        let inverse_std = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        let (scale, shift) = (f64::from(self.scale[c]), f64::from(self.shift[c]));
        let centred: Vec<f64> = x.iter().map(|x| (x - mean) * inverse_std).collect();
        let products: Vec<f64> = dy.iter().zip(&centred).map(|(dy, x)| dy * x).collect();
        let (dy_mean, product_mean) = (average(&dy), average(&products));
        let factor = scale * inverse_std;
        // The mean is rounded to a float, which moves every element by up to ε·|mean|.
        let slack: Vec<f64> = centred.iter().map(|x| x.abs() + mean.abs() * inverse_std).collect();
        [
            Reference {
                values: centred.iter().map(|x| scale * x + shift).collect(),
                magnitudes: slack.iter().map(|slack| scale.abs() * slack + shift.abs()).collect(),
            },
            Reference {
                values: dy.iter().zip(&centred).map(|(dy, x)| factor * (dy - dy_mean - x * product_mean)).collect(),
                magnitudes: dy
                    .iter()
                    .zip(&slack)
                    .map(|(dy, slack)| factor.abs() * (dy.abs() + dy_mean.abs() + slack * (product_mean.abs() + slack)))
                    .collect(),
            },
        ]
    }
}

#[test]
fn both_directions_match_double_precision() {
    let pool = ThreadPool::new(2);
    for shape in SHAPES {
        let pass = pass(&pool, shape);
        for c in 0..shape[1] {
            for (direction, (got, want)) in ["forward", "backward"].iter().zip(pass.tensors.iter().zip(pass.want(c))) {
                let got: Vec<f32> = pass.channel(c, got).iter().map(|&value| value as f32).collect();
                assert_close(&(direction, shape, c), &got, &want, 8.0);
            }
        }
    }
}

#[test]
fn statistics_and_parameter_gradients_match_double_precision() {
    let pool = ThreadPool::new(2);
    for shape in SHAPES {
        let pass = pass(&pool, shape);
        for c in 0..shape[1] {
            let (x, dy) = (pass.channel(c, &pass.x), pass.channel(c, &pass.y_gradient));
            let count = x.len() as f64;
            let mean = x.iter().sum::<f64>() / count;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let inverse_std = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            let terms: Vec<f64> = x.iter().zip(&dy).map(|(x, dy)| dy * (x - mean) * inverse_std).collect();
            let lengths = x.iter().zip(&dy).map(|(x, dy)| dy.abs() * ((x - mean).abs() + mean.abs()) * inverse_std);
            let want = Reference {
                values: vec![mean, inverse_std, terms.iter().sum(), dy.iter().sum()],
                magnitudes: vec![mean.abs(), inverse_std, lengths.sum(), dy.iter().map(|dy| dy.abs()).sum()],
            };
            let got: Vec<f32> = pass.vectors.iter().map(|vector| vector[c]).collect();
            assert_close(&(shape, c), &got, &want, 4.0);
        }
    }
}

#[test]
fn thread_counts_are_bit_equal() {
    let pools = pools();
    for shape in SHAPES {
        let want = pass(&pools[0], shape);
        for pool in &pools[1..] {
            let got = pass(pool, shape);
            assert!(
                got.tensors == want.tensors && got.vectors == want.vectors,
                "{shape:?}, {} threads",
                pool.threads()
            );
        }
    }
}

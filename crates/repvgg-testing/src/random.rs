use repvgg::graph::{Parameter, Role};
use repvgg::{Graph, Tensor, Weights};

/// A pseudo-random number in `[-1, 1)`, determined by its arguments (SplitMix64).
pub fn noise(seed: u64, index: usize) -> f32 {
    let mut x = (seed ^ (index as u64) << 32).wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Random parameters: variances and factors in `[0.5, 1.5)`, all others in `[-0.5, 0.5)`. The ones and zeros of a fresh network
/// would hide errors.
pub fn random_weights(graph: &Graph, seed: u64) -> Weights {
    fill(graph, |number, role, i, _| {
        let x = 0.5 * noise(seed.wrapping_add(number as u64), i);
        match role {
            Role::RunningVar | Role::NormScale | Role::Scale => 1.0 + x,
            _ => x,
        }
    })
}

/// Random parameters similar to trained ones, but with mostly positive kernels: sums rarely cancel, so `Σ|x||w|` stays a useful
/// bound through many layers.
pub fn positive_weights(graph: &Graph, seed: u64) -> Weights {
    fill(graph, |number, role, i, fan_in| {
        let x = noise(seed.wrapping_add(number as u64), i);
        match role {
            Role::Kernel | Role::Matrix => (x + 0.5) * 2.0 / fan_in as f32,
            Role::Bias | Role::NormShift => 0.5 * x,
            Role::NormScale | Role::Scale => 0.75 + 0.5 * x,
            Role::RunningMean => 0.3 * x,
            Role::RunningVar => 1.0 + 0.75 * x,
        }
    })
}

/// Fills every parameter of a graph with `value(number of the parameter, role, element, elements per filter)`.
fn fill(graph: &Graph, value: impl Fn(usize, Role, usize, usize) -> f32) -> Weights {
    let tensor = |(number, (name, parameter)): (usize, (String, Parameter))| {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let element = |i| value(number, parameter.role, i, fan_in);
        (name, Tensor::from_fn(parameter.shape.clone(), element))
    };
    graph.parameters().enumerate().map(tensor).collect()
}

//! Initial parameters: PyTorch's defaults, drawn from a seed.

use std::collections::HashSet;

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::graph::{Op, Parameter, Role};
use crate::{Graph, NodeId, Tensor, Weights};

impl Weights {
    /// Every parameter of `graph` as PyTorch initialises its layers: kernels, matrices and their biases uniform in
    /// `±1/√fan_in` (`kaiming_uniform_` with `a = √5`), γ = 1, β = 0, running mean 0 and variance 1. Factors start as their
    /// operation says; the 1×1 convolution of a residual `I + W` starts at 0 (2103.13425, Sect. 3.3).
    ///
    /// Each parameter draws from its own stream, keyed by `seed` and its name: adding or removing a layer leaves all
    /// other parameters unchanged.
    ///
    /// ```
    /// use repvgg::{Specification, Weights};
    ///
    /// let graph = Specification::from_toml("depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]", "tiny")?.training_graph()?;
    /// let weights = Weights::initialise(&graph, 0);
    /// weights.check(&graph)?;
    /// assert_eq!(weights, Weights::initialise(&graph, 0));
    /// # Ok::<(), repvgg::Error>(())
    /// ```
    pub fn initialise(graph: &Graph, seed: u64) -> Self {
        let residuals = identity_residuals(graph);
        let nodes = graph.iter();
        nodes
            .flat_map(|(id, node)| node.parameters().map(move |(name, parameter)| (id, name, parameter)))
            .map(|(id, name, parameter)| {
                let tensor = match residuals.contains(&id) {
                    true => Tensor::full(parameter.shape, 0.0),
                    false => initial(&graph.node(id).op, parameter, stream(seed, &name)),
                };
                (name, tensor)
            })
            .collect()
    }
}

/// The 1×1 convolutions of residuals `I + W`: those whose value a sum adds to their own input and nothing else.
fn identity_residuals(graph: &Graph) -> HashSet<NodeId> {
    let mut residuals = HashSet::new();
    for (_, sum) in graph.iter().filter(|(_, node)| node.op == Op::Add) {
        for (conv, other) in [(0, 1), (1, 0)].map(|(conv, other)| (sum.inputs[conv], sum.inputs[other])) {
            let is_pointwise = matches!(&graph.node(conv).op, Op::Conv2d(conv) if conv.geometry.kernel == [1, 1]);
            if sum.inputs.len() == 2 && is_pointwise && graph.node(conv).inputs == [other] {
                residuals.insert(conv);
            }
        }
    }
    residuals
}

fn initial(op: &Op, parameter: Parameter, mut stream: ChaCha8Rng) -> Tensor {
    match parameter.role {
        Role::Kernel | Role::Matrix | Role::Bias => {
            let bound = 1.0 / (fan_in(op) as f64).sqrt();
            Tensor::from_fn(parameter.shape, |_| stream.random_range(-bound..bound) as f32)
        }
        Role::Scale => match op {
            Op::Scale { initial, .. } => Tensor::full(parameter.shape, *initial),
            other => panic!("{}: has no factors", other.kind()),
        },
        Role::NormScale | Role::RunningVar => Tensor::full(parameter.shape, 1.0),
        Role::NormShift | Role::RunningMean => Tensor::full(parameter.shape, 0.0),
    }
}

/// The number of inputs that one output of a weighted layer sums over.
fn fan_in(op: &Op) -> usize {
    match op {
        Op::Conv2d(conv) | Op::NormalizedConv2d(conv) => {
            let g = conv.geometry;
            g.in_channels / g.groups * g.kernel[0] * g.kernel[1]
        }
        Op::Linear(linear) => linear.in_features,
        other => panic!("{}: has no fan-in", other.kind()),
    }
}

/// The random stream of one parameter: ChaCha keyed by the seed and the name's 128-bit FNV-1a hash.
fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = name.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..24].copy_from_slice(&hash.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Conv2d, Linear};

    fn network(groups: usize) -> Graph {
        let mut graph = Graph::new();
        let input = graph.add("input", Op::Input { channels: 32 }, &[]);
        let conv = graph.add("conv", Op::conv(Conv2d::square(32, 64, 3).groups(groups).with_bias()), &[input]);
        let norm = graph.add("norm", Op::batch_norm(64), &[conv]);
        let pool = graph.add("pool", Op::GlobalAvgPool, &[norm]);
        let linear = Op::Linear(Linear { in_features: 64, out_features: 100, bias: true });
        let linear = graph.add("linear", linear, &[pool]);
        graph.output("main", linear);
        graph
    }

    /// The values fill `±bound` and have the variance `bound²/3` of the uniform distribution. The variance of n uniform
    /// draws deviates by a relative `√(4/5n)` (one standard deviation); five of them are allowed.
    fn assert_uniform(tensor: &Tensor, bound: f64) {
        let values: Vec<f64> = tensor.data().iter().map(|&x| f64::from(x)).collect();
        let n = values.len() as f64;
        let largest = values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        assert!(largest <= bound && largest > bound * (1.0 - 10.0 / n), "largest {largest}, bound {bound}");
        let variance = values.iter().map(|x| x * x).sum::<f64>() / n;
        assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 5.0 * (0.8 / n).sqrt(), "variance {variance}");
        let mean = values.iter().sum::<f64>() / n;
        assert!(mean.abs() < 5.0 * bound / (3.0 * n).sqrt(), "mean {mean}");
    }

    #[test]
    fn kernels_and_matrices_are_uniform_within_the_fan_in_bound() {
        for groups in [1, 4] {
            let weights = Weights::initialise(&network(groups), 7);
            assert_uniform(weights.get("conv.weight").unwrap(), 1.0 / (32.0 / groups as f64 * 9.0).sqrt());
            assert_uniform(weights.get("linear.weight").unwrap(), 0.125);
            let bias = weights.get("linear.bias").unwrap().data();
            assert!(bias.iter().all(|x| x.abs() <= 0.125) && bias.iter().any(|x| x.abs() > 0.1));
        }
    }

    #[test]
    fn batch_norms_start_as_the_identity() {
        let weights = Weights::initialise(&network(1), 7);
        for (suffix, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            assert_eq!(weights.get(&format!("norm.{suffix}")).unwrap(), &Tensor::full([64], value));
        }
    }

    #[test]
    fn a_parameter_depends_on_the_seed_and_its_name_alone() {
        let (a, b) = (Weights::initialise(&network(1), 7), Weights::initialise(&network(4), 7));
        assert_eq!(a.get("linear.weight"), b.get("linear.weight"));
        assert_ne!(a.get("linear.weight"), Weights::initialise(&network(1), 8).get("linear.weight"));
        assert_eq!(a, Weights::initialise(&network(1), 7));
    }
}

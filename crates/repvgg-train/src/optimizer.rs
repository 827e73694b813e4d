//! Stochastic gradient descent with momentum, by PyTorch's definition.

use std::collections::{BTreeMap, HashSet};

use burn::tensor::{Device as BurnDevice, Tensor as BurnTensor};
use repvgg::error::expected;
use repvgg::graph::{Op, Role};
use repvgg::{Error, Graph, Result, Weights};

use crate::device::Device;
use crate::tensors::{Tensors, download, upload};

/// The hyperparameters of SGD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdSettings {
    /// The momentum μ.
    pub momentum: f64,
    /// Whether to use Nesterov's look-ahead: the step is `g + μ v` rather than `v`.
    pub nesterov: bool,
    /// The weight decay λ.
    pub weight_decay: f64,
    /// The parameters that decay.
    pub decayed: Decayed,
}

impl Default for SgdSettings {
    /// The paper's values: momentum 0.9, weight decay 1e-4.
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: false, weight_decay: 1e-4, decayed: Decayed::KernelsAndIdentities }
    }
}

/// The parameters that weight decay applies to. Biases, β, learned factors and all other γ never decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decayed {
    /// Only convolution kernels and matrices, as the paper's text says (2101.03697, §4.1).
    Kernels,
    /// Also the γ of a batch norm on an identity branch, which acts as that branch's kernel. RepVGG's published code does this.
    KernelsAndIdentities,
}

impl Decayed {
    /// The names of the parameters of `graph` that decay.
    fn names(self, graph: &Graph) -> HashSet<String> {
        let mut names = HashSet::new();
        let users = graph.users();
        for (id, node) in graph.iter() {
            // A batch norm on an identity branch is a term of a sum and shares its input with the other branches.
            let is_identity = matches!(node.op, Op::BatchNorm(_))
                && users[id.index()].iter().any(|user| graph.node(*user).op == Op::Add)
                && users[node.inputs[0].index()].len() > 1;
            let decays = |role| match role {
                Role::Kernel | Role::Matrix => true,
                Role::NormScale => is_identity && self == Self::KernelsAndIdentities,
                _ => false,
            };
            names.extend(node.parameters().filter(|(_, parameter)| decays(parameter.role)).map(|(name, _)| name));
        }
        names
    }
}

/// SGD with its velocities: `d = g + λw`, `v ← μv + d`, `w ← w − ηv`. The first velocity is the first `d`.
#[derive(Debug)]
pub struct Sgd {
    settings: SgdSettings,
    decayed: HashSet<String>,
    shapes: BTreeMap<String, Vec<usize>>,
    device: BurnDevice,
    velocities: Tensors,
}

impl Sgd {
    /// An optimizer for the parameters of `graph` on `device`, without velocities.
    pub fn new(settings: SgdSettings, graph: &Graph, device: Device) -> Self {
        let trained = graph.parameters().filter(|(_, parameter)| parameter.role.is_trained());
        Self {
            settings,
            decayed: settings.decayed.names(graph),
            shapes: trained.map(|(name, parameter)| (name, parameter.shape)).collect(),
            device: device.open(),
            velocities: Tensors::new(),
        }
    }

    /// The velocity of each updated parameter, by the parameter's name. Together with the weights, it allows an exact resume.
    pub fn state(&self) -> Weights {
        let velocities = self.velocities.iter();
        velocities.map(|(name, velocity)| (name.clone(), download(velocity, self.shapes[name].clone()))).collect()
    }

    /// Restores the velocities of [`state`](Self::state).
    ///
    /// # Errors
    /// When a tensor does not belong to a parameter. The optimizer is then unchanged.
    pub fn load_state(&mut self, state: &Weights) -> Result<()> {
        for (name, tensor) in state.iter() {
            match self.shapes.get(name) {
                None => return Err(Error::weights(name, "unexpected, the network has no such parameter")),
                Some(shape) if shape != tensor.shape() => {
                    return Err(Error::weights(
                        name,
                        expected(format_args!("{shape:?}")).found(format_args!("{:?}", tensor.shape())),
                    ));
                }
                Some(_) => {}
            }
        }
        self.velocities = state.iter().map(|(name, tensor)| (name.to_owned(), upload(tensor, &self.device))).collect();
        Ok(())
    }

    /// Returns the parameter after one update by its gradient.
    pub(crate) fn update(
        &mut self,
        name: &str,
        parameter: BurnTensor<1>,
        gradient: BurnTensor<1>,
        learning_rate: f64,
    ) -> BurnTensor<1> {
        let SgdSettings { momentum, nesterov, weight_decay, .. } = self.settings;
        let gradient = match self.decayed.contains(name) && weight_decay != 0.0 {
            true => gradient + parameter.clone() * weight_decay,
            false => gradient,
        };
        let velocity = match self.velocities.remove(name) {
            Some(velocity) => velocity * momentum + gradient.clone(),
            None => gradient.clone(),
        };
        self.velocities.insert(name.to_owned(), velocity.clone());
        let direction = if nesterov { gradient + velocity * momentum } else { velocity };
        parameter - direction * learning_rate
    }
}

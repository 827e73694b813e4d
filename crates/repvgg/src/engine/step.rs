//! A step bound to its memory and its constants.

use std::sync::Arc;

use repvgg_kernels::maps::{self, Cpu, Divisor, MapMut, Pointwise, PoolWindow, ResizeTap, SoftmaxForm, Term};
use repvgg_kernels::{ConvPlan, PackedConv2d, Pass};

use super::memory::{ReadView, Slot};
use super::parameters::Affine;
use crate::graph::{ActivationKind, Pool, Softmax};
use crate::program::{Operation, Sum};

/// A step of a program, bound to the memory of a session.
pub(super) struct BoundStep {
    /// Its index in the program.
    pub(super) index: usize,
    pub(super) constants: Constants,
    pub(super) inputs: Vec<Slot>,
    pub(super) output: Slot,
}

/// The engine's constants for an operation.
pub(super) enum Constants {
    /// No constants.
    None,
    /// The packed weights of a convolution, and its plan for the session's images.
    Convolution { packed: Arc<PackedConv2d>, plan: Box<ConvPlan> },
    /// The batch norm or factor of each term of a sum.
    Affines(Vec<Option<Arc<Affine>>>),
    /// For each output channel, the index of the input channel.
    Channels(Vec<usize>),
    /// For each output row, and for each output column, where it comes from.
    Taps([Vec<ResizeTap>; 2]),
}

/// The arguments of one run of a step.
pub(super) struct StepRun<'a> {
    pub(super) cpu: Cpu<'a>,
    pub(super) images: usize,
    pub(super) readable: ReadView<'a>,
    pub(super) output: &'a mut [f32],
    pub(super) workspace: &'a mut [f32],
}

impl Constants {
    /// Bytes of packed weights.
    pub(super) fn packed_bytes(&self) -> usize {
        match self {
            Self::Convolution { packed, .. } => packed.bytes(),
            Self::Affines(affines) => affines.iter().flatten().map(|affine| affine.bytes()).sum(),
            Self::None | Self::Channels(_) | Self::Taps(_) => 0,
        }
    }

    /// Elements of workspace that a run needs.
    pub(super) fn workspace_len(&self) -> usize {
        if let Self::Convolution { plan, .. } = self { plan.workspace_len() } else { 0 }
    }
}

impl BoundStep {
    /// Computes `operation`, which is the step's operation in the program, and writes its output.
    pub(super) fn run(&self, operation: &Operation, run: StepRun<'_>) {
        let StepRun { cpu, images, readable, output, workspace } = run;
        if let Constants::Convolution { packed, plan } = &self.constants {
            let input = readable.data(self.inputs[0]);
            let addend = self.inputs.get(1).map(|&addend| readable.data(addend));
            return packed.run(plan, cpu.pool, Pass { images, input, addend, output, workspace });
        }
        let output = MapMut::new(output, self.output.layout(images));
        let input = readable.map(self.inputs[0]);
        match (operation, &self.constants) {
            (Operation::Sum(sum), Constants::Affines(affines)) => self.add(cpu, sum, affines, readable, output),
            (Operation::Product(activation), _) => {
                maps::product(cpu, input, readable.map(self.inputs[1]), activation.map(pointwise), output);
            }
            (Operation::Concat, _) => maps::concat(cpu, self.inputs.iter().map(|&input| readable.map(input)), output),
            (Operation::Shuffle { .. } | Operation::Slice { .. }, Constants::Channels(sources)) => {
                maps::gather(cpu, input, sources, output);
            }
            (Operation::Pad { padding }, _) => maps::pad(cpu, input, padding.map(|[begin, _]| begin), output),
            (Operation::Resize(_), Constants::Taps([rows, columns])) => {
                maps::resize(cpu, input, [rows, columns], output)
            }
            (Operation::MaxPool(pool), _) => maps::max_pool(cpu, window(pool), input, output),
            (Operation::AvgPool(pool), _) => maps::mean_pool(cpu, window(pool), Divisor::Window, input, output),
            (Operation::AvgPoolInside(pool), _) => maps::mean_pool(cpu, window(pool), Divisor::Inside, input, output),
            (Operation::GlobalAvgPool, _) => maps::global_mean(cpu, input, output),
            (Operation::Flatten, _) => maps::flatten(cpu, input, output),
            (Operation::Softmax(Softmax::Probabilities), _) => {
                maps::softmax(cpu, SoftmaxForm::Probabilities, input, output);
            }
            (Operation::Softmax(Softmax::Logarithms), _) => maps::softmax(cpu, SoftmaxForm::Logarithms, input, output),
            (other, _) => unreachable!("{other:?} needs other constants"),
        }
    }

    fn add(
        &self,
        cpu: Cpu<'_>,
        sum: &Sum,
        affines: &[Option<Arc<Affine>>],
        readable: ReadView<'_>,
        output: MapMut<'_>,
    ) {
        let terms = affines.iter().zip(&self.inputs).map(|(affine, &input)| {
            let affine = affine.as_deref().map(|Affine { scale, shift }| maps::Affine { scale, shift });
            Term { map: readable.map(input), affine }
        });
        maps::sum(cpu, terms, sum.activation.map(pointwise), output);
    }
}

fn window(pool: &Pool) -> PoolWindow {
    let Pool { kernel, stride, dilation, padding } = *pool;
    PoolWindow { kernel, stride, dilation, padding: padding.map(|[begin, _]| begin) }
}

fn pointwise(activation: ActivationKind) -> Pointwise {
    match activation {
        ActivationKind::Relu => Pointwise::Relu,
        ActivationKind::Sigmoid => Pointwise::Sigmoid,
        ActivationKind::Silu => Pointwise::Silu,
        ActivationKind::Clip { low, high } => Pointwise::Clip { low, high },
        ActivationKind::LeakyRelu { slope } => Pointwise::LeakyRelu { slope },
        ActivationKind::HardSigmoid { slope, offset } => Pointwise::HardSigmoid { slope, offset },
        ActivationKind::Tanh => Pointwise::Tanh,
        ActivationKind::Erf => Pointwise::Erf,
        ActivationKind::Gelu => Pointwise::Gelu,
        ActivationKind::GeluTanh => Pointwise::GeluTanh,
        ActivationKind::Softplus => Pointwise::Softplus,
        ActivationKind::Mish => Pointwise::Mish,
        ActivationKind::Elu { scale } => Pointwise::Elu { scale },
    }
}

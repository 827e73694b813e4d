//! Convolution on the CPU, with gradients.

use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::Tensor as BurnTensor;
use repvgg_kernels::{Geometry, ThreadPool, TrainingConv2d};

use super::buffers::{acquire, release};
use super::cpu::{Threads, tensor, values};

/// [`super::convolution`] on the CPU. Either both tensors are tracked for differentiation or neither.
pub(super) fn convolution(
    threads: &Threads,
    input: BurnTensor<4>,
    kernel: BurnTensor<4>,
    geometry: Geometry,
) -> BurnTensor<4> {
    let pool = Arc::clone(&threads.kernels);
    if !input.is_autodiff() {
        let [input, kernel] = [input, kernel]
            .map(|tensor| tensor.try_into_primitive::<Flex>().expect("the caller chose the CPU").to_contiguous());
        return BurnTensor::from_primitive::<Flex>(SavedConvolution { input, kernel, geometry, pool }.forward());
    }
    let [(input, input_node), (kernel, kernel_node)] = [input, kernel].map(|tensor| {
        let tensor = tensor.try_into_primitive::<Autodiff<Flex>>().expect("the caller chose the CPU");
        let (primitive, node) = tensor.into_parts();
        (primitive.to_contiguous(), node)
    });
    let saved = SavedConvolution { input, kernel, geometry, pool };
    let output = saved.forward();
    let nodes = [input_node, kernel_node];
    let output = match ConvolutionBackward.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(saved, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    BurnTensor::from_primitive::<Autodiff<Flex>>(output)
}

/// A convolution with its inputs, saved for the backward pass.
#[derive(Debug, Clone)]
struct SavedConvolution {
    input: FlexTensor,
    kernel: FlexTensor,
    geometry: Geometry,
    pool: Arc<ThreadPool>,
}

impl SavedConvolution {
    fn conv(&self) -> TrainingConv2d {
        let [n, _, h, w] = self.input.shape().dims();
        TrainingConv2d::new(self.geometry, n, [h, w]).expect("the graph's shapes were checked")
    }

    fn forward(&self) -> FlexTensor {
        let conv = self.conv();
        let [n, ..] = self.input.shape().dims::<4>();
        let [p, q] = conv.output_size();
        let shape = [n, self.geometry.out_channels, p, q];
        let mut output = acquire(shape.iter().product());
        conv.forward(&self.pool, values(&self.input), values(&self.kernel), &mut output);
        tensor(output, shape)
    }

    fn input_gradient(&self, output_gradient: &FlexTensor) -> FlexTensor {
        let shape = self.input.shape().dims::<4>();
        let mut gradient = acquire(shape.iter().product());
        self.conv().input_gradient(&self.pool, values(output_gradient), values(&self.kernel), &mut gradient);
        tensor(gradient, shape)
    }

    fn kernel_gradient(&self, output_gradient: &FlexTensor) -> FlexTensor {
        let shape = self.kernel.shape().dims::<4>();
        let mut gradient = acquire(shape.iter().product());
        self.conv().weight_gradient(&self.pool, values(&self.input), values(output_gradient), &mut gradient);
        tensor(gradient, shape)
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

impl Backward<Flex, 2> for ConvolutionBackward {
    type State = SavedConvolution;

    fn backward(self, ops: Ops<SavedConvolution, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let [input, kernel] = ops.parents.map(|parent| parent.map(|node| node.id));
        let mut register = |node: NodeId, gradient| gradients.register::<Flex>(node, gradient);
        if let Some(node) = input {
            register(node, ops.state.input_gradient(&output_gradient));
        }
        if let Some(node) = kernel {
            register(node, ops.state.kernel_gradient(&output_gradient));
        }
        release(output_gradient);
        release(ops.state.input);
    }
}

//! A network to train: its program interpreted on the framework's tensors, with gradients.

mod forward;
mod loss;

use burn::tensor::{Device as BurnDevice, Tensor as BurnTensor, TensorData};
use repvgg::error::expected;
use repvgg::graph::{Parameter, Role};
use repvgg::program::Program;
use repvgg::{Error, Graph, Result, Tensor, Weights};

use crate::device::Device;
use crate::optimizer::Sgd;
use crate::tensors::{Tensors, download, upload};
use forward::{Forward, Norms};
pub use loss::LossSettings;

/// The weight of a new batch in the running statistics of a batch norm, PyTorch's default.
const STATISTICS_MOMENTUM: f64 = 0.1;

/// A network with its parameters on a device.
#[derive(Debug)]
pub struct Network {
    program: Program,
    device: BurnDevice,
    trained: Tensors,
    running: Tensors,
}

/// Images with their labels.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Pixels `[N, C, H, W]`, normalised.
    pub images: &'a [f32],
    /// Height and width.
    pub size: [usize; 2],
    /// The class of each image.
    pub labels: &'a [usize],
}

/// What one training step saw, before its update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The loss that was differentiated: the mean over the batch, auxiliary heads included.
    pub loss: f64,
    /// Images whose largest main logit is that of their label.
    pub correct: usize,
    /// Images in the batch.
    pub images: usize,
}

impl Network {
    /// The network of `graph` with `weights`, on `device`.
    ///
    /// # Errors
    /// When the weights are not those of the graph.
    pub fn new(graph: Graph, weights: &Weights, device: Device) -> Result<Self> {
        weights.check(&graph)?;
        let device = device.open();
        let (mut trained, mut running) = (Tensors::new(), Tensors::new());
        for (name, Parameter { role, .. }) in graph.parameters() {
            let tensor = upload(weights.require(&name)?, &device);
            let home = if role.is_trained() { &mut trained } else { &mut running };
            home.insert(name, tensor);
        }
        Ok(Self { program: Program::training(&graph), device, trained, running })
    }

    /// The network as data.
    pub fn graph(&self) -> &Graph {
        self.program.graph()
    }

    /// Parameters and running statistics, as they are now.
    pub fn weights(&self) -> Weights {
        let home = |role: Role| if role.is_trained() { &self.trained } else { &self.running };
        let parameters = self.graph().parameters();
        parameters.map(|(name, p)| (name.clone(), download(&home(p.role)[&name], p.shape))).collect()
    }

    /// One training step: forward with the statistics of the batch, the loss, backward, update of parameters and
    /// running statistics.
    ///
    /// # Errors
    /// When images or labels do not fit the network, or the loss is not finite; the network is then unchanged.
    pub fn step(
        &mut self,
        batch: &Batch<'_>,
        loss: &LossSettings,
        optimizer: &mut Sgd,
        learning_rate: f64,
    ) -> Result<StepReport> {
        let images = self.images(batch.images, batch.size)?;
        let tracked: Tensors = self
            .trained
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.clone().autodiff().require_grad()))
            .collect();
        let mut forward = Forward::new(&self.program, &tracked, Norms::Batch(Vec::new()));
        let outputs = forward.run(images.autodiff());
        let statistics = forward.into_statistics();
        let (objective, report) = loss.evaluate(outputs, batch.labels)?;
        if !report.loss.is_finite() {
            return Err(Error::weights("loss", expected("a finite number").found(report.loss)));
        }
        let mut gradients = objective.backward();
        for (name, tensor) in tracked {
            let Some(gradient) = tensor.grad_remove(&mut gradients) else { continue };
            drop(tensor);
            let parameter = self.trained.remove(&name).expect("tracked parameters are the trained ones");
            let parameter = optimizer.update(&name, parameter, gradient, learning_rate);
            self.trained.insert(name, parameter);
        }
        for seen in statistics {
            self.advance(format!("{}.running_mean", seen.name), seen.mean);
            self.advance(format!("{}.running_var", seen.name), seen.variance);
        }
        Ok(report)
    }

    /// The main logits `[N, classes]` of `images` `[N, C, H, W]`, by the running statistics.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn logits(&self, images: &[f32], size: [usize; 2]) -> Result<Tensor> {
        let images = self.images(images, size)?;
        let outputs = Forward::new(&self.program, &self.trained, Norms::Running(&self.running)).run(images);
        let [n, classes, ..] = outputs[0].dims();
        Ok(download(&outputs[0].clone().flatten(0, 3), vec![n, classes]))
    }

    /// Moves one running statistic towards what the batch had.
    fn advance(&mut self, name: String, observed: BurnTensor<1>) {
        let running = self.running.remove(&name).expect("every batch norm has running statistics");
        let moved = running * (1.0 - STATISTICS_MOMENTUM) + observed * STATISTICS_MOMENTUM;
        self.running.insert(name, moved);
    }

    /// A batch of pixels on the device, checked against the graph.
    fn images(&self, pixels: &[f32], size: [usize; 2]) -> Result<BurnTensor<4>> {
        let shapes = self.graph().shapes(size)?;
        if let Some(output) = self.graph().outputs().iter().find(|output| shapes[output.node.index()][1..] != [1, 1]) {
            let found = shapes[output.node.index()];
            return Err(Error::shape(
                &output.name,
                expected("logits [classes, 1, 1]").found(format_args!("{found:?}")),
            ));
        }
        let [height, width] = size;
        let channels = self.graph().input_channels();
        let image = channels * height * width;
        if pixels.is_empty() || !pixels.len().is_multiple_of(image) {
            let what =
                expected(format_args!("a multiple of {channels} x {height} x {width} pixels")).found(pixels.len());
            return Err(Error::shape("images", what));
        }
        let data = TensorData::new(pixels.to_vec(), [pixels.len() / image, channels, height, width]);
        Ok(BurnTensor::from_data(data, &self.device))
    }
}

//! Networks in training: programs interpreted on the framework's tensors, with gradients.

mod forward;
mod loss;
mod maps;

use std::sync::Arc;

use burn::tensor::{Device as BurnDevice, Tensor as BurnTensor, TensorData};
use repvgg::error::expected;
use repvgg::graph::{Parameter, Role};
use repvgg::program::Program;
use repvgg::{Error, Graph, Result, Tensor, Weights};
use repvgg_kernels::ThreadPool;

use crate::device::Device;
use crate::ops::Threads;
use crate::optimizer::Sgd;
use crate::tensors::{Tensors, download, upload};
use forward::{Forward, NormStatistics};
pub use loss::LossSettings;

/// The weight of a new batch in the running statistics of a batch norm (PyTorch's default).
const STATISTICS_MOMENTUM: f64 = 0.1;

/// A network with its parameters on a device.
///
/// ```
/// use repvgg::engine::thread_pool;
/// use repvgg::{Specification, Weights};
/// use repvgg_train::{Batch, Device, LossSettings, Network, Sgd, SgdSettings};
///
/// let spec = "depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]\nclasses = 2";
/// let graph = Specification::from_toml(spec, "tiny")?.training_graph()?;
/// let device = Device::cpu();
/// let mut network = Network::new(graph.clone(), &Weights::initialise(&graph, 0), device, &thread_pool(2)?)?;
/// let mut sgd = Sgd::new(SgdSettings::default(), &graph, device);
///
/// let images: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| (i as f32 * 0.1).sin()).collect();
/// let batch = Batch { images: &images, size: [32, 32], labels: &[0, 1] };
/// let report = network.step(&batch, &LossSettings::default(), &mut sgd, 0.1)?;
/// assert!(report.loss > 0.0 && report.images == 2);
/// # Ok::<(), repvgg::Error>(())
/// ```
#[derive(Debug)]
pub struct Network {
    program: Program,
    device: BurnDevice,
    threads: Threads,
    trained: Tensors,
    running: Tensors,
}

/// A batch of images with their labels.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Pixels `[N, C, H, W]`, normalised.
    pub images: &'a [f32],
    /// Height and width.
    pub size: [usize; 2],
    /// The class of each image.
    pub labels: &'a [usize],
}

/// The loss and accuracy of one training step, measured before its update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The differentiated loss: the mean over the batch, auxiliary heads included.
    pub loss: f64,
    /// Correctly classified images: the largest logit of the main head is that of the label.
    pub correct: usize,
    /// Images in the batch.
    pub images: usize,
}

impl Network {
    /// Builds the network of `graph` with `weights` on `device`. Computation on the CPU runs on the threads of `pool`.
    ///
    /// # Errors
    /// When the weights are not those of the graph, or the system cannot create threads for the framework.
    pub fn new(graph: Graph, weights: &Weights, device: Device, pool: &Arc<ThreadPool>) -> Result<Self> {
        weights.check(&graph)?;
        let device = device.open();
        let (mut trained, mut running) = (Tensors::new(), Tensors::new());
        for (name, Parameter { role, .. }) in graph.parameters() {
            let tensor = upload(weights.require(&name)?, &device);
            let tensors = if role.is_trained() { &mut trained } else { &mut running };
            tensors.insert(name, tensor);
        }
        let threads = Threads::new(pool)?;
        Ok(Self { program: Program::training(&graph), device, threads, trained, running })
    }

    /// The network's graph.
    pub fn graph(&self) -> &Graph {
        self.program.graph()
    }

    /// The current parameters and running statistics.
    pub fn weights(&self) -> Weights {
        let tensors = |role: Role| if role.is_trained() { &self.trained } else { &self.running };
        let parameters = self.graph().parameters();
        parameters.map(|(name, p)| (name.clone(), download(&tensors(p.role)[&name], p.shape))).collect()
    }

    /// Makes one training step: a forward pass with the statistics of the batch, the loss, a backward pass, and an update of
    /// parameters and running statistics.
    ///
    /// # Errors
    /// When images or labels do not fit the network, or the loss is not finite. The network is then unchanged.
    pub fn step(
        &mut self,
        batch: &Batch<'_>,
        loss: &LossSettings,
        optimizer: &mut Sgd,
        learning_rate: f64,
    ) -> Result<StepReport> {
        let threads = self.threads.clone();
        threads.scope(|| self.step_in_scope(batch, loss, optimizer, learning_rate))
    }

    fn step_in_scope(
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
        let mut forward = Forward::new(&self.program, &tracked, &self.threads, NormStatistics::Batch(Vec::new()));
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
        for observed in statistics {
            self.update_running(format!("{}.running_mean", observed.name), observed.mean);
            self.update_running(format!("{}.running_var", observed.name), observed.variance);
        }
        Ok(report)
    }

    /// The logits `[N, classes]` of the main head for `images` `[N, C, H, W]`, computed with the running statistics.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn logits(&self, images: &[f32], size: [usize; 2]) -> Result<Tensor> {
        let images = self.images(images, size)?;
        let statistics = NormStatistics::Running(&self.running);
        let mut forward = Forward::new(&self.program, &self.trained, &self.threads, statistics);
        self.threads.scope(|| {
            let outputs = forward.run(images);
            let [n, classes, ..] = outputs[0].dims();
            Ok(download(&outputs[0].clone().flatten(0, 3), vec![n, classes]))
        })
    }

    /// Moves one running statistic towards the batch's.
    fn update_running(&mut self, name: String, observed: BurnTensor<1>) {
        let running = self.running.remove(&name).expect("every batch norm has running statistics");
        let updated = running * (1.0 - STATISTICS_MOMENTUM) + observed * STATISTICS_MOMENTUM;
        self.running.insert(name, updated);
    }

    /// Checks a batch of pixels against the graph and copies it to the device.
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
            let problem =
                expected(format_args!("a multiple of {channels} x {height} x {width} values")).found(pixels.len());
            return Err(Error::shape("images", problem));
        }
        let data = TensorData::new(pixels.to_vec(), [pixels.len() / image, channels, height, width]);
        Ok(BurnTensor::from_data(data, &self.device))
    }
}

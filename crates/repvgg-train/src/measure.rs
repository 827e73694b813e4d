//! Inference workloads on any device, for timing.
//!
//! ```
//! use repvgg::engine::{BatchShape, Engine};
//! use repvgg::measure::Protocol;
//! use repvgg::{Model, Specification};
//! use repvgg_train::measure::{Runner, workload};
//!
//! let spec = "depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]";
//! let model = Model::initialise(Specification::from_toml(spec, "tiny")?, 0)?.fuse()?;
//! let runner = Runner::Engine(Engine::with_threads(1)?);
//! let shape = BatchShape { batch: 4, size: [32, 32] };
//! let mut network = workload(model.graph(), &model.weights, &runner, shape)?;
//! let times = Protocol::default().measure_one(&mut *network, |_| ())?;
//! println!("{:.0} images per second", times.speed(4).images_per_second);
//! # Ok::<(), repvgg::Error>(())
//! ```

use std::sync::Arc;

use repvgg::engine::{BatchShape, Engine};
use repvgg::measure::{Workload, engine, images};
use repvgg::{Graph, Result, Weights};
use repvgg_kernels::ThreadPool;

use crate::{Device, Network};

/// The backend that runs a network.
#[derive(Debug, Clone)]
pub enum Runner {
    /// The engine, on the CPU.
    Engine(Engine),
    /// The training framework, on a device.
    Framework {
        /// The device.
        device: Device,
        /// The threads of computation on the CPU.
        pool: Arc<ThreadPool>,
    },
}

/// A workload that runs `graph` with `weights` on a full batch of [`images`]. Runs of the training framework include the transfer of
/// images to the device and of logits back.
///
/// # Errors
/// When the weights do not fit the graph, or the graph does not accept images of this shape.
pub fn workload(graph: &Graph, weights: &Weights, runner: &Runner, shape: BatchShape) -> Result<Box<dyn Workload>> {
    match runner {
        Runner::Engine(cpu) => Ok(Box::new(engine(cpu, graph, weights, shape)?)),
        Runner::Framework { device, pool } => {
            let BatchShape { batch, size } = shape;
            let input = images(batch * graph.input_channels() * size[0] * size[1]);
            let network = Network::new(graph.clone(), weights, *device, pool)?;
            Ok(Box::new(move || network.logits(&input, size).map(drop)))
        }
    }
}

#[cfg(test)]
mod tests {
    use repvgg::engine::thread_pool;
    use repvgg::measure::Protocol;
    use repvgg::{Model, Specification};

    use super::*;

    #[test]
    fn the_engine_and_the_framework_run_the_same_network() {
        let architecture =
            Specification::from_toml("depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]", "small").unwrap();
        let plain = Model::initialise(architecture, 0).unwrap().fuse().unwrap();
        let graph = plain.graph();
        let runners = [
            Runner::Engine(Engine::with_threads(1).unwrap()),
            Runner::Framework { device: Device::cpu(), pool: thread_pool(1).unwrap() },
        ];
        let shape = BatchShape { batch: 2, size: [32, 64] };
        let prepare = |index: usize| workload(graph, &plain.weights, &runners[index], shape);
        let protocol = Protocol { warmup: 1, iterations: 3, rounds: 1 };
        for times in protocol.measure(2, prepare, |_| ()).unwrap() {
            assert!(times.samples().count() == 3 && !times.least().is_zero(), "{times:?}");
        }
    }
}

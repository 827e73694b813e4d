//! Inference on any device, ready to be timed.

use repvgg::engine::Settings;
use repvgg::measure::{Workload, engine, images};
use repvgg::{Graph, Result, Weights};

use crate::{Device, Network};

/// `graph` with `weights` on `device` with a full batch of [`images`]: on the CPU the engine, elsewhere the training
/// framework, whose runs include the transfer of images to the device and of logits back.
///
/// # Errors
/// When the weights do not fit the graph, or the graph cannot take images of the settings' size.
pub fn workload(graph: &Graph, weights: &Weights, settings: Settings, device: Device) -> Result<Box<dyn Workload>> {
    if device == Device::cpu() {
        return Ok(Box::new(engine(graph, weights, settings)?));
    }
    Ok(Box::new(framework(graph, weights, settings, device)?))
}

fn framework(graph: &Graph, weights: &Weights, settings: Settings, device: Device) -> Result<impl Workload + use<>> {
    let Settings { batch, size, .. } = settings;
    let input = images(batch * graph.input_channels() * size[0] * size[1]);
    let network = Network::new(graph.clone(), weights, device)?;
    Ok(move || network.logits(&input, size).map(drop))
}

#[cfg(test)]
mod tests {
    use repvgg::measure::Protocol;
    use repvgg::{Architecture, Model};

    use super::*;

    #[test]
    fn the_engine_and_the_framework_run_the_same_network() {
        let architecture =
            Architecture::from_toml("depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]", "small").unwrap();
        let plain = Model::initialise(architecture, 0).unwrap().fuse().unwrap();
        let graph = plain.graph().unwrap();
        let settings = Settings { batch: 2, size: [32, 64], ..Settings::default() };
        let prepare = |index: usize| -> Result<Box<dyn Workload>> {
            match index {
                0 => workload(&graph, &plain.weights, settings, Device::cpu()),
                _ => Ok(Box::new(framework(&graph, &plain.weights, settings, Device::cpu())?)),
            }
        };
        let protocol = Protocol { warmup: 1, iterations: 3, rounds: 1 };
        for times in protocol.measure(2, prepare, |_| ()).unwrap() {
            assert!(times.samples().count() == 3 && !times.least().is_zero(), "{times:?}");
        }
    }
}

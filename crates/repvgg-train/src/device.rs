//! Where training computes.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device as BurnDevice;
use repvgg::{Error, Result};

/// A processor that this build can compute on: `cpu`, `vulkan:0`, `wgpu:0`, `metal`, `cuda:0`, `rocm:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Device {
    kind: Kind,
    index: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Cpu,
    Vulkan,
    Wgpu,
    Metal,
    Cuda,
    Rocm,
}

/// Each kind, its name (also the name of the cargo feature), and whether this build has it.
const KINDS: [(Kind, &str, bool); 6] = [
    (Kind::Cpu, "cpu", true),
    (Kind::Vulkan, "vulkan", cfg!(feature = "vulkan")),
    (Kind::Wgpu, "wgpu", cfg!(feature = "wgpu")),
    (Kind::Metal, "metal", cfg!(feature = "metal")),
    (Kind::Cuda, "cuda", cfg!(feature = "cuda")),
    (Kind::Rocm, "rocm", cfg!(feature = "rocm")),
];

impl Device {
    /// The processor cores.
    pub fn cpu() -> Self {
        Self::default()
    }

    /// The framework's handle.
    pub(crate) fn open(self) -> BurnDevice {
        match self.kind {
            Kind::Cpu => BurnDevice::flex(),
            #[cfg(feature = "vulkan")]
            Kind::Vulkan => BurnDevice::vulkan(burn::tensor::DeviceKind::DiscreteGpu(self.index)),
            #[cfg(feature = "wgpu")]
            Kind::Wgpu => BurnDevice::wgpu(burn::tensor::DeviceKind::DiscreteGpu(self.index)),
            #[cfg(feature = "metal")]
            Kind::Metal => BurnDevice::metal(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "cuda")]
            Kind::Cuda => BurnDevice::cuda(self.index),
            #[cfg(feature = "rocm")]
            Kind::Rocm => BurnDevice::rocm(self.index),
            #[allow(unreachable_patterns, reason = "which kinds are left depends on the features of the build")]
            absent => unreachable!("{absent:?}: parsing refuses devices that the build does not have"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// # Errors
    /// For a name that is no device, an index that is no number, or a device that this build was made without.
    fn from_str(text: &str) -> Result<Self> {
        let (name, index) = text.split_once(':').map_or((text, None), |(name, index)| (name, Some(index)));
        let Some(&(kind, _, present)) = KINDS.iter().find(|(_, known, _)| *known == name) else {
            let known: Vec<&str> = KINDS.iter().map(|&(_, known, _)| known).collect();
            return Err(Error::spec("device", format!("expected one of {}, found {name}", known.join(", "))));
        };
        if !present {
            let what = format!(
                "this program was built without {name}; build it with `cargo build --release --features {name}`"
            );
            return Err(Error::spec("device", what));
        }
        let index = match (kind, index) {
            (_, None) => 0,
            (Kind::Cpu | Kind::Metal, Some(index)) => {
                return Err(Error::spec("device", format!("{name} takes no index, found {index}")));
            }
            (_, Some(index)) => index
                .parse()
                .map_err(|_| Error::spec("device", format!("expected an index such as {name}:0, found {text}")))?,
        };
        Ok(Self { kind, index })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name, _) = KINDS.iter().find(|(kind, ..)| *kind == self.kind).expect("every kind has a name");
        match self.kind {
            Kind::Cpu | Kind::Metal => f.write_str(name),
            _ => write!(f, "{name}:{}", self.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!("cpu".parse::<Device>().unwrap(), Device::cpu());
        assert_eq!(Device::cpu().to_string(), "cpu");
    }

    #[test]
    fn an_unknown_device_lists_the_known_ones() {
        let error = "tpu:0".parse::<Device>().unwrap_err();
        assert_eq!(error.to_string(), "device: expected one of cpu, vulkan, wgpu, metal, cuda, rocm, found tpu");
        assert_eq!("cpu:1".parse::<Device>().unwrap_err().to_string(), "device: cpu takes no index, found 1");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn an_absent_device_says_how_to_build_it() {
        let error = "cuda:0".parse::<Device>().unwrap_err();
        assert!(error.to_string().contains("--features cuda"), "{error}");
    }
}

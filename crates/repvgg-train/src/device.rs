//! Devices to train on.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device as BurnDevice;
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
use burn::tensor::DeviceKind;
use repvgg::error::{Problem, expected};
use repvgg::{Error, Result};

/// A device that this build can compute on, parsed from `cpu`, `vulkan`, `vulkan:0`, `wgpu:0`, `metal`, `cuda:0` or `rocm:0`.
///
/// ```
/// use repvgg_train::Device;
///
/// assert_eq!("cpu".parse::<Device>()?, Device::cpu());
/// # Ok::<(), repvgg::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Device {
    kind: Kind,
    /// The index among several devices of this kind, if one was given.
    index: Option<usize>,
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

/// Each kind, its name (also the name of its cargo feature), and whether this build has it.
const KINDS: [(Kind, &str, bool); 6] = [
    (Kind::Cpu, "cpu", true),
    (Kind::Vulkan, "vulkan", cfg!(feature = "vulkan")),
    (Kind::Wgpu, "wgpu", cfg!(feature = "wgpu")),
    (Kind::Metal, "metal", cfg!(feature = "metal")),
    (Kind::Cuda, "cuda", cfg!(feature = "cuda")),
    (Kind::Rocm, "rocm", cfg!(feature = "rocm")),
];

impl Device {
    /// The CPU.
    pub fn cpu() -> Self {
        Self::default()
    }

    /// The framework's handle.
    pub(crate) fn open(self) -> BurnDevice {
        #[cfg(any(feature = "wgpu", feature = "vulkan"))]
        let adapter = self.index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu);
        match self.kind {
            Kind::Cpu => BurnDevice::flex(),
            #[cfg(feature = "vulkan")]
            Kind::Vulkan => BurnDevice::vulkan(adapter),
            #[cfg(feature = "wgpu")]
            Kind::Wgpu => BurnDevice::wgpu(adapter),
            #[cfg(feature = "metal")]
            Kind::Metal => BurnDevice::metal(DeviceKind::DefaultDevice),
            #[cfg(feature = "cuda")]
            Kind::Cuda => BurnDevice::cuda(self.index.unwrap_or(0)),
            #[cfg(feature = "rocm")]
            Kind::Rocm => BurnDevice::rocm(self.index.unwrap_or(0)),
            #[allow(unreachable_patterns, reason = "the remaining kinds depend on the features of the build")]
            absent => unreachable!("{absent:?}: parsing refuses devices that the build lacks"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// # Errors
    /// For an unknown name, an index that is not a number, or a device that this build lacks.
    fn from_str(text: &str) -> Result<Self> {
        let (name, index) = text.split_once(':').map_or((text, None), |(name, index)| (name, Some(index)));
        let refuse = |problem: Problem| Err(Error::spec("device", problem));
        let Some(&(kind, _, present)) = KINDS.iter().find(|(_, known, _)| *known == name) else {
            let known = KINDS.map(|(_, known, _)| known).join(", ");
            return refuse(expected(format_args!("one of {known}")).found(name));
        };
        if !present {
            let problem = expected("a device of this build").found(name);
            return refuse(problem.with_hint(format_args!("enable the cargo feature `{name}`")));
        }
        match (kind, index) {
            (Kind::Cpu | Kind::Metal, Some(index)) => refuse(format!("{name} takes no index, found {index}").into()),
            (_, None) => Ok(Self { kind, index: None }),
            (_, Some(digits)) => match digits.parse() {
                Ok(index) => Ok(Self { kind, index: Some(index) }),
                Err(_) => refuse(expected(format_args!("an index such as {name}:0")).found(text)),
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name, _) = KINDS.iter().find(|(kind, ..)| *kind == self.kind).expect("every kind has a name");
        match self.index {
            None => f.write_str(name),
            Some(index) => write!(f, "{name}:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_available() {
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
    fn the_error_for_an_absent_device_names_its_feature() {
        let error = "cuda:0".parse::<Device>().unwrap_err();
        assert!(error.to_string().contains("enable the cargo feature `cuda`"), "{error}");
    }
}

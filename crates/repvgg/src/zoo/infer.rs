//! The architecture of a checkpoint that does not say: read off its names and shapes.

use super::{Architecture, RepVgg, SqueezeExcite, VARIANTS};
use crate::{Error, Result, Weights};

/// Which of a network's two graphs a set of weights belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The multi-branch graph that is trained.
    Training,
    /// The graph that fusing makes of it.
    Plain,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Training => "training form",
            Self::Plain => "plain form",
        })
    }
}

/// The RepVGG network that weights under official names belong to, and its form.
///
/// Strides leave no trace in a checkpoint: the paper's stride of 2 in each stage is assumed.
///
/// # Errors
/// When the names are not those of a RepVGG, or no choice of depths, widths and groups explains the shapes.
pub fn infer(weights: &Weights) -> Result<(Architecture, Form)> {
    let form = match (weights.get("stage0.rbr_dense.conv.weight"), weights.get("stage0.rbr_reparam.weight")) {
        (Some(_), None) => Form::Training,
        (None, Some(_)) => Form::Plain,
        (Some(_), Some(_)) => {
            return Err(Error::weights(
                "stage0",
                "expected one form, found parameters of both the training and the plain form",
            ));
        }
        (None, None) => {
            let found = weights.iter().next().map_or("nothing".to_owned(), |(name, _)| name.to_owned());
            return Err(Error::weights(
                "weights",
                format!("expected RepVGG's official names (stage0.rbr_dense.conv.weight, …), found {found}"),
            ));
        }
    };
    let kernel = match form {
        Form::Training => "rbr_dense.conv.weight",
        Form::Plain => "rbr_reparam.weight",
    };
    let stages = Stages { weights, kernel };
    let spec = stages.spec()?;
    let known = VARIANTS.iter().find(|row| {
        RepVgg { classes: spec.classes, ..row.spec() } == RepVgg { name: row.name.to_owned(), ..spec.clone() }
    });
    let name = known.map_or_else(|| "custom".to_owned(), |row| row.name.to_owned());
    Ok((Architecture::RepVgg(RepVgg { name, ..spec }), form))
}

/// A checkpoint's blocks by their official names.
struct Stages<'a> {
    weights: &'a Weights,
    kernel: &'static str,
}

impl Stages<'_> {
    fn spec(&self) -> Result<RepVgg> {
        let auxiliary_heads = self.kernel_shape("stage1.blocks.0").is_some();
        let prefixes: [&[&str]; 4] = match auxiliary_heads {
            true => [
                &["stage1.blocks"],
                &["stage2.blocks"],
                &["stage3_first.blocks", "stage3_second.blocks"],
                &["stage4.blocks"],
            ],
            false => [&["stage1"], &["stage2"], &["stage3"], &["stage4"]],
        };
        let stem = self.kernel_shape("stage0").ok_or_else(|| shapeless("stage0"))?;
        let mut channels = Vec::new();
        let mut depths = [0; 4];
        let mut groups = 1;
        for (stage, prefixes) in prefixes.iter().enumerate() {
            let mut input = channels.last().copied().unwrap_or(stem[0]);
            for block in prefixes.iter().flat_map(|prefix| {
                (0..)
                    .map(move |index| format!("{prefix}.{index}"))
                    .map_while(|name| self.kernel_shape(&name).map(|shape| (name, shape)))
            }) {
                let (name, [out, per_group, ..]) = block;
                if per_group == 0 || input % per_group != 0 {
                    return Err(Error::weights(
                        name,
                        format!("expected input channels that divide {input}, found {per_group}"),
                    ));
                }
                groups = groups.max(input / per_group);
                input = out;
                depths[stage] += 1;
            }
            if depths[stage] == 0 {
                return Err(Error::weights(format!("stage{}", stage + 1), "expected at least one block, found none"));
            }
            channels.push(input);
        }
        let classes = self.weights.require("linear.weight")?.shape().first().copied().unwrap_or(0);
        let bases = [64.0, 128.0, 256.0, 512.0];
        let spec = RepVgg {
            depths,
            width: std::array::from_fn(|stage| channels[stage] as f64 / bases[stage]),
            groups,
            se: self.squeeze_excite(),
            auxiliary_heads,
            classes,
            input_channels: stem[1],
            ..RepVgg::default()
        };
        spec.validate()?;
        Ok(spec)
    }

    /// The shape `[K, C/G, 3, 3]` of a block's 3×3 kernel.
    fn kernel_shape(&self, block: &str) -> Option<[usize; 4]> {
        self.weights.get(&format!("{block}.{}", self.kernel))?.shape().try_into().ok()
    }

    fn squeeze_excite(&self) -> SqueezeExcite {
        if self.weights.get("stage0.se.down.weight").is_some() {
            SqueezeExcite::BeforeRelu
        } else if self.weights.get("stage0.post_se.down.weight").is_some() {
            SqueezeExcite::AfterRelu
        } else {
            SqueezeExcite::None
        }
    }
}

fn shapeless(block: &str) -> Error {
    Error::weights(block, "expected a 3×3 kernel [K, C, 3, 3]")
}

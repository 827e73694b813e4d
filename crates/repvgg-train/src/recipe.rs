//! Training recipes: all hyperparameters as data, and presets of them.
//!
//! ```
//! use repvgg_train::recipe::{Preset, Recipe};
//!
//! let recipe = Preset::named("cifar10")?.recipe.with_batch(256).with_epochs(100);
//! let recipe = Recipe { label_smoothing: 0.0, ..recipe };
//! assert_eq!(recipe.learning_rate, 0.4);
//! recipe.check(32)?;
//! # Ok::<(), repvgg::Error>(())
//! ```

use std::collections::BTreeMap;
use std::sync::LazyLock;

use repvgg::error::{Problem, expected};
use repvgg::{Error, Result, Specification};
use serde::{Deserialize, Serialize};

use crate::augment::Augmentation;
use crate::network::LossSettings;
use crate::optimizer::{Decayed, SgdSettings};

/// The hyperparameters of a training run: everything except the data, the network and the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// Side of the square network input in pixels, for data sets whose images differ in size.
    pub size: usize,
    /// The learning rate after warm-up. From there it decays to 0 along a cosine, step by step.
    pub learning_rate: f64,
    /// Epochs over which the learning rate rises linearly from 0.
    pub warmup_epochs: f64,
    /// SGD's momentum.
    pub momentum: f64,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
    /// The weight decay of kernels and matrices.
    pub weight_decay: f64,
    /// Whether the scale of an identity branch's batch norm decays too, because it acts as that branch's kernel. Every
    /// known implementation decays it, although the paper's text does not mention it.
    pub decay_identity_scale: bool,
    /// The share of the target that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// The augmentation of training images.
    pub augmentation: Augmentation,
}

/// A recipe with a default network.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// The recipe.
    pub recipe: Recipe,
    /// The default network of the recipe.
    pub model: Specification,
}

static PRESETS: LazyLock<BTreeMap<String, Preset>> = LazyLock::new(|| {
    let table: BTreeMap<String, toml::Table> =
        toml::from_str(include_str!("presets.toml")).expect("presets.toml is TOML");
    table.into_iter().map(|(name, table)| (name.clone(), preset(table, &name))).collect()
});

fn preset(mut table: toml::Table, name: &str) -> Preset {
    let model = table.remove("model").unwrap_or_else(|| panic!("presets.toml: {name} has no model"));
    Preset {
        model: model.try_into().unwrap_or_else(|error| panic!("presets.toml: {name}.model: {error}")),
        recipe: table.try_into().unwrap_or_else(|error| panic!("presets.toml: {name}: {error}")),
    }
}

impl Preset {
    /// The preset called `name`.
    ///
    /// # Errors
    /// When there is none. The error lists the known names.
    pub fn named(name: &str) -> Result<Self> {
        PRESETS.get(name).cloned().ok_or_else(|| {
            let known = Self::names().collect::<Vec<_>>().join(", ");
            Error::spec("preset", expected(format_args!("one of {known}")).found(name))
        })
    }

    /// The names of all presets.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.keys().map(String::as_str)
    }
}

impl Recipe {
    /// The recipe with another batch size and a proportionally scaled learning rate (Goyal et al., 1706.02677, Sect. 2.1).
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        Self { learning_rate: self.learning_rate * batch as f64 / self.batch as f64, batch, ..self }
    }

    /// The recipe with another number of epochs. The warm-up takes at most a quarter of them, so that a preset's warm-up
    /// does not fill a short run.
    #[must_use]
    pub fn with_epochs(self, epochs: usize) -> Self {
        Self { epochs, warmup_epochs: self.warmup_epochs.min(epochs as f64 / 4.0), ..self }
    }

    /// Checks that all fields are valid for inputs of `size` pixels a side.
    ///
    /// # Errors
    /// When a field is out of range. The error names the field and its range.
    pub fn check(&self, size: usize) -> Result<()> {
        let refuse = |field: &str, problem: Problem| Err(Error::spec(field, problem).within("recipe"));
        for (field, count, max) in [("epochs", self.epochs, 1 << 20), ("batch", self.batch, 1 << 16)] {
            if !(1..=max).contains(&count) {
                return refuse(field, expected(format_args!("1 to {max}")).found(count));
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return refuse("learning_rate", expected("a number above 0").found(self.learning_rate));
        }
        for (field, value, max) in [
            ("warmup_epochs", self.warmup_epochs, self.epochs as f64),
            ("weight_decay", self.weight_decay, 1.0),
            ("momentum", self.momentum, 0.9999),
            ("label_smoothing", self.label_smoothing, 0.9999),
        ] {
            if !(0.0..=max).contains(&value) {
                return refuse(field, expected(format_args!("0 to {max}")).found(value));
            }
        }
        self.augmentation.check(size)
    }

    pub(crate) fn sgd(&self) -> SgdSettings {
        let decayed = if self.decay_identity_scale { Decayed::KernelsAndIdentities } else { Decayed::Kernels };
        let Self { momentum, nesterov, weight_decay, .. } = *self;
        SgdSettings { momentum, nesterov, weight_decay, decayed }
    }

    pub(crate) fn loss(&self) -> LossSettings {
        LossSettings { label_smoothing: self.label_smoothing, ..LossSettings::default() }
    }

    /// The learning rate of step `step` of `steps`, with `steps_per_epoch` steps in each epoch: a linear warm-up, then half
    /// a cosine down to 0 (Loshchilov & Hutter, 1608.03983, Eq. 5, without restarts).
    pub fn learning_rate_at(&self, step: usize, steps: usize, steps_per_epoch: usize) -> f64 {
        let warmup = (self.warmup_epochs * steps_per_epoch as f64).round() as usize;
        if step < warmup {
            return self.learning_rate * (step + 1) as f64 / (warmup + 1) as f64;
        }
        let progress = (step - warmup) as f64 / (steps - warmup).max(1) as f64;
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid() {
        assert_eq!(
            Preset::names().collect::<Vec<_>>(),
            ["ablation", "ablation-quick", "cifar10", "demo", "imagenet-120", "quick"]
        );
        for name in Preset::names() {
            let preset = Preset::named(name).unwrap();
            preset.recipe.check(preset.recipe.size).unwrap();
            let graph = preset.model.training_graph().unwrap();
            graph.shapes([preset.recipe.size; 2]).unwrap();
        }
        let error = Preset::named("slow").unwrap_err().to_string();
        assert_eq!(
            error,
            "preset: expected one of ablation, ablation-quick, cifar10, demo, imagenet-120, quick, found slow"
        );
    }

    #[test]
    fn the_learning_rate_warms_up_and_follows_a_cosine() {
        let recipe =
            Recipe { learning_rate: 1.0, warmup_epochs: 2.0, epochs: 10, ..Preset::named("quick").unwrap().recipe };
        let rate = |step| recipe.learning_rate_at(step, 100, 10);
        assert!((0..20).all(|step| rate(step) < rate(step + 1)));
        assert!((20..99).all(|step| rate(step) > rate(step + 1)));
        assert_eq!(rate(20), 1.0);
        assert!((rate(60) - 0.5).abs() < 1e-12);
        assert!(rate(99) < 1e-3);
    }

    #[test]
    fn the_learning_rate_scales_with_the_batch_size() {
        let recipe = Preset::named("imagenet-120").unwrap().recipe.with_batch(1024);
        assert_eq!((recipe.batch, recipe.learning_rate), (1024, 0.4));
    }
}

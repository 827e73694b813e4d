//! The figures that the paper prints, kept as data in `paper.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

/// What the paper or the official repository publishes about one network, in its own units.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The network.
    pub name: String,
    /// Where the figures stand: a table of the paper, or the repository's README.
    pub source: String,
    /// ImageNet top-1 in percent.
    pub top1: f64,
    /// Examples per second on a GTX 1080Ti, fp32, batch 128.
    pub speed: Option<f64>,
    /// Parameters of the fused network in millions, truncated to two decimals.
    pub parameters: Option<f64>,
    /// Multiply-adds in 10⁹.
    pub flops: Option<f64>,
    /// Winograd multiplies in 10⁹.
    pub winograd_multiplies: Option<f64>,
}

#[derive(Deserialize)]
struct Table {
    network: Vec<Published>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(include_str!("paper.toml")).expect("paper.toml is well formed"));

/// The published figures of the network called `name`.
pub fn published(name: &str) -> Option<&'static Published> {
    TABLE.network.iter().find(|row| row.name == name)
}

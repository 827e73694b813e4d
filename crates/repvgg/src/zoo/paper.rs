//! The published figures (Ding et al., 2101.03697), stored as data in `paper.toml`, and their comparison with exact counts.
//!
//! ```
//! use repvgg::zoo::published;
//!
//! let row = published("repvgg-a0").unwrap();
//! assert_eq!((row.source.as_str(), row.parameters), ("Table 4", Some(8.30)));
//! ```

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::BlockKind;
use crate::Form;
use crate::cost::Cost;

/// A row of a table of the paper or of the official repository, in its own units.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The network in the zoo.
    pub name: String,
    /// Its name in the row.
    pub title: String,
    /// The source of the figures: a table of the paper, or the repository's README.
    pub source: String,
    /// Height and width of the images.
    #[serde(default = "default_size")]
    pub size: [usize; 2],
    /// ImageNet top-1 accuracy in percent.
    pub top1: f64,
    /// Examples per second of the plain form on a GTX 1080Ti, fp32, batch 128.
    #[serde(rename = "speed")]
    pub plain_speed: Option<f64>,
    /// Examples per second of the training form, under the same conditions.
    pub training_speed: Option<f64>,
    /// Parameters of the plain form in millions, truncated to two decimals.
    pub parameters: Option<f64>,
    /// Multiply-adds of the plain form in 10⁹, rounded to one decimal.
    pub flops: Option<f64>,
    /// Winograd multiplies of the plain form in 10⁹, rounded to one decimal.
    pub winograd_multiplies: Option<f64>,
    #[serde(default)]
    notes: BTreeMap<NoteSubject, String>,
}

fn default_size() -> [usize; 2] {
    [224; 2]
}

impl Published {
    /// The kind of block that the network is built from.
    pub fn block(&self) -> Option<BlockKind> {
        let block = self.name.split_once(':').map(|(_, block)| block);
        block.map_or_else(|| Some(BlockKind::default()), BlockKind::named)
    }
}

/// A figure that can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Figure {
    /// Parameters.
    Parameters,
    /// Multiply-adds.
    Flops,
    /// Winograd multiplies.
    WinogradMultiplies,
}

/// The subject of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NoteSubject {
    Parameters,
    Flops,
    WinogradMultiplies,
    /// A speed measured with this crate.
    Measured,
}

impl Figure {
    /// Every figure, in the order of the paper's columns.
    pub const ALL: [Self; 3] = [Self::Parameters, Self::Flops, Self::WinogradMultiplies];

    /// The figure's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::Flops => "multiply-adds",
            Self::WinogradMultiplies => "Winograd multiplies",
        }
    }

    /// The exact count.
    pub fn count(self, cost: &Cost) -> u64 {
        match self {
            Self::Parameters => cost.parameters,
            Self::Flops => cost.macs,
            Self::WinogradMultiplies => cost.winograd_multiplies,
        }
    }

    /// Formats a count as the paper does: parameters in millions, truncated to two decimals; the others in 10⁹, rounded to one.
    pub fn printed(self, count: u64) -> f64 {
        match self {
            Self::Parameters => (count / 10_000) as f64 / 100.0,
            Self::Flops | Self::WinogradMultiplies => (count.saturating_add(50_000_000) / 100_000_000) as f64 / 10.0,
        }
    }

    fn note_subject(self) -> NoteSubject {
        match self {
            Self::Parameters => NoteSubject::Parameters,
            Self::Flops => NoteSubject::Flops,
            Self::WinogradMultiplies => NoteSubject::WinogradMultiplies,
        }
    }
}

impl Published {
    /// The figure as printed.
    pub fn figure(&self, figure: Figure) -> Option<f64> {
        match figure {
            Figure::Parameters => self.parameters,
            Figure::Flops => self.flops,
            Figure::WinogradMultiplies => self.winograd_multiplies,
        }
    }

    /// Whether the printed figure, if there is one, differs from that of `cost`, the cost of the plain form.
    pub fn differs(&self, figure: Figure, cost: &Cost) -> bool {
        self.figure(figure).is_some_and(|printed| printed != figure.printed(figure.count(cost)))
    }

    /// A note on the difference between the printed figure and the count.
    pub fn note(&self, figure: Figure) -> Option<&'static str> {
        self.note_for(figure.note_subject())
    }

    /// The printed speed and the form that it was measured for: the plain form, unless the row is about branches.
    pub fn speed(&self) -> (Form, Option<f64>) {
        match self.training_speed {
            None => (Form::Plain, self.plain_speed),
            training => (Form::Training, training),
        }
    }

    /// A note for a speed measured with this crate, next to the printed one.
    pub fn note_on_measured(&self) -> Option<&'static str> {
        self.note_for(NoteSubject::Measured)
    }

    fn note_for(&self, note_subject: NoteSubject) -> Option<&'static str> {
        self.notes.get(&note_subject).map(|key| PAPER.notes[key].as_str())
    }
}

/// A row of Table 2: a stage of RepVGG-A and RepVGG-B.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Height and width of its output for images of 224×224.
    pub output_size: [usize; 2],
    /// Layers of RepVGG-A.
    pub layers_a: usize,
    /// Layers of RepVGG-B.
    pub layers_b: usize,
    /// Channels of a layer before multiplication.
    width: usize,
    of: Multiplier,
    at_most: Option<usize>,
}

/// The multiplier that scales a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Multiplier {
    A,
    B,
}

impl Stage {
    /// The width in the table's notation: `64a`, `min(64, 64a)`.
    pub fn formula(&self) -> String {
        let product = match self.of {
            Multiplier::A => format!("{}a", self.width),
            Multiplier::B => format!("{}b", self.width),
        };
        self.at_most.map_or(product.clone(), |most| format!("min({most}, {product})"))
    }

    /// The channels of a layer of `model`.
    pub fn channels(&self, model: &Variant) -> usize {
        let factor = match self.of {
            Multiplier::A => model.a,
            Multiplier::B => model.b,
        };
        let channels = (self.width as f64 * factor) as usize;
        self.at_most.map_or(channels, |most| channels.min(most))
    }
}

/// A row of Table 3: a model defined by its multipliers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The network in the zoo.
    pub name: String,
    /// Its name in the row.
    pub title: String,
    /// Layers of each stage.
    pub layers: [usize; 5],
    /// The multiplier of the first four stages.
    pub a: f64,
    /// The multiplier of the last.
    pub b: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paper {
    notes: BTreeMap<String, String>,
    stage: Vec<Stage>,
    model: Vec<Variant>,
    network: Vec<Published>,
}

static PAPER: LazyLock<Paper> =
    LazyLock::new(|| toml::from_str(include_str!("paper.toml")).expect("paper.toml is well formed"));

/// The first published row of the network called `name`: that of Table 4 rather than of later tables.
pub fn published(name: &str) -> Option<&'static Published> {
    PAPER.network.iter().find(|row| row.name == name)
}

/// The rows of one of Tables 4 to 7, in the paper's order; none for another number.
pub fn networks(table: u8) -> impl Iterator<Item = &'static Published> {
    let source = format!("Table {table}");
    PAPER.network.iter().filter(move |row| row.source == source)
}

/// The row of Table 6 or 7 about a kind of block.
pub fn of_block(block: BlockKind) -> Option<&'static Published> {
    (6..=7).flat_map(networks).find(|row| row.block() == Some(block))
}

/// The rows of Table 2.
pub fn stages() -> &'static [Stage] {
    &PAPER.stage
}

/// The rows of Table 3.
pub fn models() -> &'static [Variant] {
    &PAPER.model
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_truncated_and_operations_rounded() {
        assert_eq!(Figure::Parameters.printed(12_189_999), 12.18);
        assert_eq!(Figure::Flops.printed(3_050_000_000), 3.1);
        assert_eq!(Figure::WinogradMultiplies.printed(3_049_999_999), 3.0);
    }

    #[test]
    fn notes_and_their_uses_match() {
        let used = || PAPER.network.iter().flat_map(|row| row.notes.values());
        assert!(used().all(|key| PAPER.notes.contains_key(key)));
        assert!(PAPER.notes.keys().all(|key| used().any(|used| used == key)));
    }

    #[test]
    fn every_table_has_its_rows() {
        assert_eq!((stages().len(), models().len()), (5, 7));
        assert_eq!([1, 4, 5, 6, 7, 8].map(|table| networks(table).count()), [0, 19, 5, 4, 8, 0]);
        assert_eq!(published("repvgg-b2g4").unwrap().source, "Table 4");
    }
}

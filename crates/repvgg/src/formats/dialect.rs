//! Names of RepVGG's parameters in other code bases.
//!
//! Inside this crate, parameters carry the names of the official PyTorch code. One table translates all others when a file is
//! read or written.
//!
//! ```
//! use repvgg::formats::Dialect;
//!
//! let official = Dialect::Timm.official("stages.0.1.conv_kxk.bn.weight").unwrap();
//! assert_eq!(official, "stage1.1.rbr_dense.bn.weight");
//! assert_eq!(Dialect::Mmpretrain.spell(&official).unwrap(), "backbone.stage_1.1.branch_3x3.norm.weight");
//! ```

use serde::{Deserialize, Serialize};

use crate::weights::MERGED;

/// A code base's naming convention for RepVGG's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dialect {
    /// The authors' PyTorch code: `stage1.0.rbr_dense.conv.weight`.
    Official,
    /// PyTorch image models: `stages.0.0.conv_kxk.conv.weight`.
    Timm,
    /// OpenMMLab's pre-training toolbox: `backbone.stage_1.0.branch_3x3.conv.weight`.
    Mmpretrain,
}

/// The names of a block's parts: official, timm, mmpretrain.
pub(super) const PARTS: [[&str; 3]; 8] = [
    ["rbr_dense.conv", "conv_kxk.conv", "branch_3x3.conv"],
    ["rbr_dense.bn", "conv_kxk.bn", "branch_3x3.norm"],
    ["rbr_1x1.conv", "conv_1x1.conv", "branch_1x1.conv"],
    ["rbr_1x1.bn", "conv_1x1.bn", "branch_1x1.norm"],
    ["rbr_identity", "identity", "branch_norm"],
    ["se.down", "attn.fc1", "se_layer.conv1.conv"],
    ["se.up", "attn.fc2", "se_layer.conv2.conv"],
    [MERGED, "reparam_conv", "branch_reparam"],
];

/// Prefixes that a wrapping module adds to parameter names.
const WRAPPERS: [&str; 4] = ["module.", "_orig_mod.", "model.", "backbone."];

impl Dialect {
    /// Every dialect, the official one first.
    pub const ALL: [Self; 3] = [Self::Official, Self::Timm, Self::Mmpretrain];

    /// The code base's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::Timm => "timm",
            Self::Mmpretrain => "mmpretrain",
        }
    }

    /// The dialect that most of `names` follow, if they follow any.
    pub fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let count = |dialect: Self| names.clone().filter(|name| dialect.official(name).is_some()).count();
        let counts = Self::ALL.map(|dialect| (count(dialect), dialect));
        // Ties go to the first, where `max_by_key` would take the last.
        let (count, dialect) = counts.into_iter().rev().max_by_key(|(count, _)| *count)?;
        (count > 0).then_some(dialect)
    }

    /// Translates a name of this dialect, with or without wrapper prefixes, into the official one; `None` for other names.
    pub fn official(self, name: &str) -> Option<String> {
        let name = unwrapped(name);
        let head = match self {
            Self::Official => "linear.",
            Self::Timm | Self::Mmpretrain => "head.fc.",
        };
        if let Some(leaf) = name.strip_prefix(head) {
            return Some(format!("linear.{leaf}"));
        }
        let (block, rest) = self.block(name)?;
        if self == Self::Official {
            return Some(format!("{block}.{rest}"));
        }
        let (part, leaf) = rest.rsplit_once('.')?;
        let row = PARTS.iter().find(|row| row[self as usize] == part)?;
        Some(format!("{block}.{}.{leaf}", row[0]))
    }

    /// Splits a name into the block's official name and the rest.
    fn block(self, name: &str) -> Option<(String, &str)> {
        let numbered = |rest: &str| rest.split('.').next().is_some_and(is_number);
        match self {
            Self::Official => {
                let (stage, rest) = name.split_once('.')?;
                stage.starts_with("stage").then(|| (stage.to_owned(), rest))
            }
            Self::Timm | Self::Mmpretrain => {
                if let Some(rest) = name.strip_prefix("stem.") {
                    return Some(("stage0".to_owned(), rest));
                }
                let rest = name.strip_prefix(if self == Self::Timm { "stages." } else { "stage_" })?;
                let (stage, rest) = rest.split_once('.')?;
                let stage = stage.parse::<u8>().ok().filter(|_| is_number(stage))?;
                let stage = if self == Self::Timm { stage.checked_add(1)? } else { stage };
                let (block, rest) = rest.split_once('.').filter(|_| numbered(rest))?;
                Some((format!("stage{stage}.{block}"), rest))
            }
        }
    }

    /// Translates an official name into this dialect; `None` if the dialect has no such name.
    pub fn spell(self, official: &str) -> Option<String> {
        if self == Self::Official {
            return Some(official.to_owned());
        }
        if let Some(leaf) = official.strip_prefix("linear.") {
            return Some(format!("head.fc.{leaf}"));
        }
        let (stage, rest) = official.strip_prefix("stage")?.split_once('.')?;
        let stage = stage.parse::<u8>().ok()?;
        let (block, rest) = match (self, stage) {
            (Self::Timm, 0) => ("stem".to_owned(), rest),
            (_, 0) => ("backbone.stem".to_owned(), rest),
            _ => {
                let (index, rest) = rest.split_once('.').filter(|(index, _)| is_number(index))?;
                let block = match self {
                    Self::Timm => format!("stages.{}.{index}", stage - 1),
                    _ => format!("backbone.stage_{stage}.{index}"),
                };
                (block, rest)
            }
        };
        let (part, leaf) = rest.rsplit_once('.')?;
        let row = PARTS.iter().find(|row| row[0] == part)?;
        Some(format!("{block}.{}.{leaf}", row[self as usize]))
    }
}

/// The parts of a MobileOne block under the authors' names and timm's, which its graph has.
const MOBILEONE: [[&str; 2]; 5] = [
    ["rbr_skip", "identity"],
    ["rbr_scale", "conv_scale"],
    ["rbr_conv", "conv_kxk"],
    ["se.reduce", "attn.fc1"],
    ["se.expand", "attn.fc2"],
];

/// Whether the names are those of MobileOne in its authors' code.
pub(super) fn is_mobileone<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|name| name.contains(".rbr_conv.0."))
}

/// Translates a name of MobileOne's authors, without prefixes, into timm's; other names stay.
pub(super) fn mobileone(name: &str) -> String {
    let translated = || {
        if let Some(leaf) = name.strip_prefix("linear.") {
            return Some(format!("head.fc.{leaf}"));
        }
        let (stage, rest) = name.strip_prefix("stage")?.split_once('.')?;
        let (block, rest) = match stage.parse::<usize>().ok()? {
            0 => ("stem".to_owned(), rest),
            stage => {
                let (index, rest) = rest.split_once('.')?;
                (format!("stages.{}.{index}", stage - 1), rest)
            }
        };
        let part = MOBILEONE.iter().find_map(|[own, timm]| Some((timm, rest.strip_prefix(own)?)));
        part.map(|(timm, leaf)| format!("{block}.{timm}{leaf}"))
    };
    translated().unwrap_or_else(|| name.to_owned())
}

/// Strips wrapper prefixes from a name.
pub(super) fn unwrapped(mut name: &str) -> &str {
    while let Some(inner) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = inner;
    }
    name
}

/// Whether `text` is a number as PyTorch's module lists write it: without leading zeros, so that a block has one spelling.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::VARIANTS;

    #[test]
    fn every_parameter_name_survives_a_round_trip_through_every_dialect() {
        for row in VARIANTS.iter().filter(|row| !row.auxiliary_heads) {
            let graph = row.spec().training_graph().unwrap();
            let plain = crate::fuse::Fusion::new(&graph).into_graph();
            for (name, _) in graph.parameters().chain(plain.parameters()) {
                for dialect in Dialect::ALL {
                    let spelled = dialect.spell(&name).unwrap();
                    assert_eq!(dialect.official(&spelled).as_ref(), Some(&name), "{dialect:?} {spelled}");
                    assert_eq!(dialect.official(&format!("module.{spelled}")).as_ref(), Some(&name));
                }
            }
        }
    }

    #[test]
    fn names_match_those_of_the_code_bases() {
        let official =
            ["stage0.rbr_1x1.bn.running_var", "stage3.13.rbr_identity.bias", "stage4.0.se.up.weight", "linear.bias"];
        let timm =
            ["stem.conv_1x1.bn.running_var", "stages.2.13.identity.bias", "stages.3.0.attn.fc2.weight", "head.fc.bias"];
        let mmpretrain = [
            "backbone.stem.branch_1x1.norm.running_var",
            "backbone.stage_3.13.branch_norm.bias",
            "backbone.stage_4.0.se_layer.conv2.conv.weight",
            "head.fc.bias",
        ];
        for (dialect, names) in [(Dialect::Timm, timm), (Dialect::Mmpretrain, mmpretrain)] {
            assert_eq!(official.map(|name| dialect.spell(name).unwrap()), names);
            assert_eq!(Dialect::of(names.into_iter()), Some(dialect));
        }
        assert_eq!(Dialect::of(official.into_iter()), Some(Dialect::Official));
        assert_eq!(Dialect::of(["conv1.weight"].into_iter()), None);
    }

    #[test]
    fn a_parameter_has_one_spelling() {
        for name in [
            "stages.00.1.identity.bias",
            "stages.0.01.identity.bias",
            "stages.+0.1.identity.bias",
            "stages.255.0.identity.bias",
        ] {
            assert_eq!(Dialect::Timm.official(name), None, "{name}");
        }
    }
}

//! The configuration of a run: fixed at its start, stored in its folder, and read again to resume.

use std::path::PathBuf;

use repvgg::error::expected;
use repvgg::image::{Orientation, Preprocessing};
use repvgg::{Error, Result, Specification};
use serde::{Deserialize, Serialize};

use crate::data::Data;
use crate::recipe::Recipe;

/// The configuration of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data set: `shapes`, or the absolute path of a folder.
    pub data: PathBuf,
    /// The [`fingerprint`] of the data set.
    pub fingerprint: String,
    /// The seed of everything random: initial weights, order, augmentation, the split of a single folder.
    pub seed: u64,
    /// The number of compute threads. Images are decoded on the same number of further threads.
    pub threads: usize,
    /// The device to train on: `cpu`, `vulkan:0`, ….
    pub device: String,
    /// Whether images that cannot be read are skipped and counted. Otherwise they stop the run.
    pub skip_unreadable: bool,
    /// What is done about the orientation that a camera notes beside the pixels.
    #[serde(default)]
    pub orientation: Orientation,
    /// The name of the model whose weights the run starts from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<String>,
    /// The class names, in the order of the logits.
    pub labels: Vec<String>,
    /// The training recipe.
    pub recipe: Recipe,
    /// The evaluation transform from an image to a network input.
    pub preprocessing: Preprocessing,
    /// The network.
    pub architecture: Specification,
}

impl Config {
    /// Checks that this configuration can be trained on `data`, before anything is written or computed.
    ///
    /// # Errors
    /// When a setting does not fit. The error names the first one.
    pub(crate) fn check(&self, data: &Data) -> Result<()> {
        self.preprocessing.check()?;
        let [size, width] = self.preprocessing.size;
        if size != width {
            let problem = expected("a square input").found(format_args!("{size}x{width} pixels"));
            return Err(Error::spec("size", problem));
        }
        self.recipe.check(size)?;
        self.preprocessing.check_channels(self.architecture.input_channels())?;
        if self.labels != data.labels || self.labels.len() != self.architecture.classes() {
            let problem =
                expected(format_args!("the {} classes of the data", data.labels.len())).found(self.labels.len());
            return Err(Error::spec("labels", problem));
        }
        self.architecture.training_graph()?.shapes(self.preprocessing.size)?;
        Ok(())
    }

    /// Checks that `data` is the data set that the run was started on.
    ///
    /// # Errors
    /// When images, names, sizes or labels have changed.
    pub(crate) fn check_data(&self, data: &Data) -> Result<()> {
        let found = fingerprint(data)?;
        if found != self.fingerprint {
            let problem =
                expected(format_args!("the images that the run started with (fingerprint {})", self.fingerprint))
                    .found(format_args!("other images (fingerprint {found})"));
            return Err(Error::format(self.data.display(), problem));
        }
        Ok(())
    }
}

/// The fingerprint of a data set in hexadecimal, as stored in [`Config`].
///
/// # Errors
/// Those of [`Data::fingerprint`].
pub fn fingerprint(data: &Data) -> Result<String> {
    Ok(format!("{:016x}", data.fingerprint()?))
}

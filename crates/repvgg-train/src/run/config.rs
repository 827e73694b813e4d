//! What a run is: fixed when it starts, kept in its folder, read again to resume.

use std::path::PathBuf;

use repvgg::error::expected;
use repvgg::image::Preprocessing;
use repvgg::{Error, Result, Specification};
use serde::{Deserialize, Serialize};

use crate::data::Data;
use crate::recipe::Recipe;

/// The configuration of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data set: `shapes`, or a folder by its full path.
    pub data: PathBuf,
    /// What identifies the data set's images and labels, in hexadecimal.
    pub fingerprint: String,
    /// Determines everything random: initial weights, order, augmentation, the split of a single folder.
    pub seed: u64,
    /// Threads that compute; as many decode images.
    pub threads: usize,
    /// Where it computes: `cpu`, `vulkan:0`, ….
    pub device: String,
    /// Whether images that cannot be read are left out, and counted, or stop the run.
    pub skip_unreadable: bool,
    /// The model whose weights it starts from, as it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<String>,
    /// The class names, in the order of the logits.
    pub labels: Vec<String>,
    /// How images are varied and weights changed.
    pub recipe: Recipe,
    /// How an image becomes an input when the network is used.
    pub preprocessing: Preprocessing,
    /// The network.
    pub architecture: Specification,
}

/// The most threads, as the engine has it.
const THREAD_LIMIT: usize = 1 << 10;

impl Config {
    /// Checks that this can be trained on `data`, before anything is written or computed.
    ///
    /// # Errors
    /// Names the first setting that does not fit.
    pub(crate) fn check(&self, data: &Data) -> Result<()> {
        self.preprocessing.check()?;
        self.recipe.check(self.preprocessing.size)?;
        self.preprocessing.check_channels(self.architecture.input_channels())?;
        if !(1..=THREAD_LIMIT).contains(&self.threads) {
            return Err(Error::spec("threads", expected(format_args!("1 to {THREAD_LIMIT}")).found(self.threads)));
        }
        if self.labels != data.labels || self.labels.len() != self.architecture.classes() {
            let what = expected(format_args!("the {} classes of the data", data.labels.len())).found(self.labels.len());
            return Err(Error::spec("labels", what));
        }
        self.architecture.training_graph()?.shapes([self.preprocessing.size; 2])?;
        Ok(())
    }

    /// Refuses data that are not those the run was started on.
    ///
    /// # Errors
    /// When images, names, sizes or labels have changed.
    pub(crate) fn check_data(&self, data: &Data) -> Result<()> {
        let found = fingerprint(data)?;
        if found != self.fingerprint {
            let what =
                expected(format_args!("the images that the run was started on (fingerprint {})", self.fingerprint))
                    .found(format_args!("others ({found})"));
            return Err(Error::format(self.data.display(), what));
        }
        Ok(())
    }
}

/// The fingerprint of a data set as the configuration keeps it.
///
/// # Errors
/// When a file's size cannot be read.
pub fn fingerprint(data: &Data) -> Result<String> {
    Ok(format!("{:016x}", data.fingerprint()?))
}

//! How commands read image files.

use repvgg::image::Orientation;

/// Options of the commands that read image files.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ImageOptions {
    /// Leave photographs as they are stored instead of turning them upright, as the loaders of timm and torchvision do
    #[arg(long)]
    no_orient: bool,
}

impl ImageOptions {
    pub(crate) fn orientation(self) -> Orientation {
        if self.no_orient { Orientation::Stored } else { Orientation::Upright }
    }
}

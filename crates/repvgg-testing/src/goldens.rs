use std::path::{Path, PathBuf};

use crate::skip;

/// The folder of golden checkpoints, written by PyTorch from the public reference implementation; `None` if it is absent.
///
/// # Panics
/// When it is absent and `REQUIRE_GOLDENS` is set.
pub fn goldens() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let folder = std::env::var_os("REPVGG_GOLDENS").map_or_else(default, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let place = folder.display();
    assert!(std::env::var_os("REQUIRE_GOLDENS").is_none(), "REQUIRE_GOLDENS: no golden checkpoints at {place}");
    skip(&format!("no golden checkpoints at {place}"));
    None
}

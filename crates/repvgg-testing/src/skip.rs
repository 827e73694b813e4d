use std::fs::OpenOptions;
use std::io::Write;

/// Reports a skipped check on standard error, and in the file that `SKIPPED_CHECKS` names.
///
/// # Panics
/// When that file cannot be written.
pub fn skip(check: &str) {
    eprintln!("skipped: {check}");
    if let Some(path) = std::env::var_os("SKIPPED_CHECKS") {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(format!("{check}\n").as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

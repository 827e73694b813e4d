use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A binary under test, called as users call it.
pub struct Binary(PathBuf);

impl Binary {
    /// The binary at `path`; tests pass `env!("CARGO_BIN_EXE_NAME")`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Runs it in `folder`, without standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, folder: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.0);
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().expect("the binary starts")
    }

    /// The standard output of a call that must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn done(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run(folder, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("standard output is UTF-8")
    }
}

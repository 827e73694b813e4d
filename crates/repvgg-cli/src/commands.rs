//! The subcommands, one file each: parse arguments, call the library, print the result.

pub(crate) mod ablate;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod cost;
pub(crate) mod demo;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod fuse;
pub(crate) mod info;
pub(crate) mod man;
pub(crate) mod models;
pub(crate) mod predict;
pub(crate) mod run;
pub(crate) mod table;
pub(crate) mod train;
pub(crate) mod verify;
pub(crate) mod winograd;

/// The exit code of a subcommand, or its error.
pub(crate) type CommandResult = anyhow::Result<std::process::ExitCode>;

//! `repvgg man`: manual pages, generated from the definitions of `--help`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;
use repvgg::file::write_atomically;

use super::CommandResult;

/// Write manual pages for the program and each command: repvgg.1, repvgg-train.1, …
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  repvgg man ~/.local/share/man/man1 && man repvgg-train")]
pub(crate) struct Arguments {
    /// Output folder, which is created if it does not exist
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, mut program: Command) -> CommandResult {
    let folder = &arguments.folder;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    program.build();
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    for page in std::iter::once(&program).chain(commands) {
        // The display name is `repvgg-train` where the synopsis says `repvgg train`.
        let name = page.get_display_name().unwrap_or(page.get_name());
        let path = folder.join(format!("{name}.1"));
        let mut text = Vec::new();
        Man::new(page.clone()).render(&mut text).with_context(|| path.display().to_string())?;
        write_atomically(&path, |file| file.write_all(&text))?;
    }
    Ok(ExitCode::SUCCESS)
}

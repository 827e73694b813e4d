//! `repvgg completions`: shell completions, generated from the definitions of `--help`.

use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::CommandResult;
use crate::output::print_script;

/// Print a shell completion script
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg completions bash > ~/.local/share/bash-completion/completions/repvgg
  repvgg completions zsh > ~/.zfunc/_repvgg
  repvgg completions fish > ~/.config/fish/completions/repvgg.fish")]
pub(crate) struct Arguments {
    /// Shell to complete for
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, mut program: Command) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "repvgg", &mut script);
    print_script(&script)?;
    Ok(ExitCode::SUCCESS)
}

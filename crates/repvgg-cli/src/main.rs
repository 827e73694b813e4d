//! The `repvgg` command line.
#![forbid(unsafe_code)]

mod commands;
mod contact_sheet;
mod engine;
mod images;
mod listed;
mod live_plot;
mod measure;
mod notation;
mod observe;
mod output;
mod progress;
mod report;
mod scatter;
mod sheet;
mod source;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Train RepVGG networks on images, fuse them exactly into plain 3×3 convolutions, check the fusion, and run the result
#[derive(Parser)]
#[command(name = "repvgg", version, propagate_version = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Try it on built-in images:   repvgg demo
Use your own images:         repvgg train photos/ -o run
                             repvgg fuse run/best.safetensors -o plain.safetensors
                             repvgg predict plain.safetensors photo.jpg
Reproduce the paper:         repvgg table 4
                             repvgg ablate photos/ -o ablation

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 stopped by Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    Demo(commands::demo::Arguments),
    Train(Box<commands::train::Arguments>),
    Fuse(commands::fuse::Arguments),
    Predict(commands::predict::Arguments),
    Eval(commands::eval::Arguments),
    Run(commands::run::Arguments),
    Export(commands::export::Arguments),
    Verify(commands::verify::Arguments),
    Bench(commands::bench::Arguments),
    Models(commands::models::Arguments),
    Info(commands::info::Arguments),
    Table(Box<commands::table::Arguments>),
    Ablate(Box<commands::ablate::Arguments>),
    Cost(commands::cost::Arguments),
    Winograd(commands::winograd::Arguments),
    Completions(commands::completions::Arguments),
    Man(commands::man::Arguments),
    /// Prepare and run one graph and report the memory used; for internal use by `cost --measure`
    #[command(hide = true)]
    Observe,
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    if !matches!(command, Command::Demo(_) | Command::Train(_) | Command::Ablate(_)) {
        // Training finishes its step and saves. Everything else stops immediately and leaves no partial file.
        let _ = ctrlc::set_handler(|| {
            repvgg::file::remove_unfinished();
            std::process::exit(130);
        });
    }
    let result = match command {
        Command::Demo(arguments) => commands::demo::run(&arguments),
        Command::Train(arguments) => commands::train::run(&arguments),
        Command::Fuse(arguments) => commands::fuse::run(&arguments),
        Command::Predict(arguments) => commands::predict::run(&arguments),
        Command::Eval(arguments) => commands::eval::run(&arguments),
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Export(arguments) => commands::export::run(&arguments),
        Command::Verify(arguments) => commands::verify::run(&arguments),
        Command::Bench(arguments) => commands::bench::run(&arguments),
        Command::Models(arguments) => commands::models::run(&arguments),
        Command::Info(arguments) => commands::info::run(&arguments),
        Command::Table(arguments) => commands::table::run(&arguments),
        Command::Ablate(arguments) => commands::ablate::run(&arguments),
        Command::Cost(arguments) => commands::cost::run(&arguments),
        Command::Winograd(arguments) => commands::winograd::run(&arguments),
        Command::Completions(arguments) => commands::completions::run(&arguments, Arguments::command()),
        Command::Man(arguments) => commands::man::run(&arguments, Arguments::command()),
        Command::Observe => observe::run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", output::line(&output::message(&error)));
            ExitCode::from(output::exit_code(&error))
        }
    }
}

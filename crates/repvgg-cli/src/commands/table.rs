//! `repvgg table`: the paper's tables next to figures counted and measured here.

use std::path::PathBuf;
use std::process::ExitCode;

use repvgg::Error;
use repvgg::file::write_atomically;
use serde_json::Value;

use super::CommandResult;
use crate::engine::EngineOptions;
use crate::measure::ProtocolOptions;
use crate::scatter::{Chart, svg};
use crate::sheet::{Format, Sheet};

mod networks;
mod order;
mod specification;

/// Print one of the paper's Tables 2 to 7, next to figures counted or measured here
///
/// Table 2: the layers of each stage. Table 3: the multipliers of each model. Tables 4 and 5: accuracy, speed, parameters,
/// multiply-adds and Winograd multiplies of RepVGG and its baselines. Table 6: RepVGG-B0 without some of its branches. Table 7: variants
/// of RepVGG-B0, and whether they fuse.
///
/// Speeds in Table 6 are those of the training form. All other figures are those of fused networks. A footnote explains each figure
/// that differs from the paper's.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, mut_group("ProtocolOptions", |group| group.requires("measure")))]
pub(crate) struct Arguments {
    /// Number of the table in the paper, 2 to 7
    #[arg(value_name = "N")]
    number: u8,
    #[command(flatten)]
    format: Format,
    /// Plot accuracy against the paper's speed or, with --measure, against the speed measured here
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Measure the speeds of the networks in Tables 4 to 7 on this machine
    ///
    /// The networks have random weights and take turns. They are fused, except in Table 6.
    #[arg(long)]
    measure: bool,
    #[command(flatten)]
    protocol: ProtocolOptions,
    #[command(flatten)]
    engine: EngineOptions,
}

const AFTER_HELP: &str = "\
Columns of Tables 4 to 7 with --csv (with --json, the paper's figures are under `paper` and
measured speeds under `measured`):
  name, title                      name of the network in `repvgg models` and in the paper
  size                             image size that costs are counted for
  paper_top1                       ImageNet top-1 in percent; never measured here
  paper_images_per_second          on a GTX 1080Ti, fp32, batch 128; Table 6: in training form
  paper_parameters_millions, paper_flops_billions, paper_winograd_multiplies_billions
  parameters, macs, winograd_multiplies
                                   exact counts of the plain form
  training_parameters, training_macs
                                   exact counts of the training form
  images_per_second                measured speed, from the median of all runs
  slowest_round, fastest_round     speed of the slowest and fastest round, from its median run
  times_direct                     speed relative to a perfect direct convolution, with all
                                   multiply-adds at the processor's peak rate
  rank, paper_rank                 rank by speed, here and in the paper
  measured_form, measured_size, batch, threads, device
  fuses                            Table 7: yes if no branch remains after fusion
  notes                            footnotes of the row

Examples:
  repvgg table 4
  repvgg table 5 --markdown
  repvgg table 4 --measure --plot speed.svg";

/// A table for people and programs, and its chart.
struct Page {
    sheet: Sheet,
    /// The rows as JSON.
    values: Vec<Value>,
    /// Accuracy against speed; none if the table has no speeds.
    chart: Option<Chart>,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let page = page(arguments)?;
    if let Some(path) = &arguments.plot {
        let problem =
            || format!("expected a table with speeds (4, 5, 6, or 7 with --measure), found Table {}", arguments.number);
        let picture = svg(page.chart.as_ref().ok_or_else(|| Error::spec("plot", problem()))?);
        write_atomically(path, |file| file.write_all(picture.as_bytes()))?;
    }
    arguments.format.print(&Value::Array(page.values), &page.sheet)?;
    Ok(ExitCode::SUCCESS)
}

fn page(arguments: &Arguments) -> repvgg::Result<Page> {
    let measuring = arguments.measure.then_some((&arguments.protocol, &arguments.engine));
    match (arguments.number, measuring) {
        (2 | 3, Some(_)) => Err(Error::spec(
            "measure",
            format!("expected one of Tables 4 to 7, whose rows are networks, found {}", arguments.number),
        )),
        (2, None) => specification::of_stages(),
        (3, None) => specification::of_models(),
        (4..=7, measuring) => networks::of_networks(arguments.number, measuring),
        (other, _) => Err(Error::spec("table", format!("expected one of the paper's Tables 2 to 7, found {other}"))),
    }
}

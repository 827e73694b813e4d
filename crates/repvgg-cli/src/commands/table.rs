//! `repvgg table`: the tables of the paper, counted and measured here.

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

/// Print one of the paper's Tables 2 to 7 with the paper's figures beside those counted and measured here
///
/// Table 2: the layers of each stage. Table 3: the multipliers of each model. Tables 4 and 5: accuracy, speed, parameters,
/// multiply-adds and Winograd multiplies of RepVGG and its baselines. Table 6: RepVGG-B0 without branches, timed in training form.
/// Table 7: variants of RepVGG-B0, and whether they fuse. All other figures are those of fused networks. A figure that differs from the
/// paper's is marked and explained in a footnote.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, mut_group("ProtocolOptions", |group| group.requires("measure")))]
pub(crate) struct Arguments {
    /// Number of the table in the paper, 2 to 7
    #[arg(value_name = "N")]
    number: u8,
    #[command(flatten)]
    format: Format,
    /// Plot accuracy against speed: the paper's or, with --measure, the speed measured here
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Measure speeds here (Tables 4 to 7): all networks in turn with random weights, fused except in Table 6
    #[arg(long)]
    measure: bool,
    #[command(flatten)]
    protocol: ProtocolOptions,
    #[command(flatten)]
    engine: EngineOptions,
}

const AFTER_HELP: &str = "\
Columns of Tables 4 to 7 as comma-separated values (as JSON the paper's are under `paper`, speeds
here under `measured`):
  name, title                      the network in `repvgg models`, and in the paper
  size                             of the images that are counted for
  paper_top1                       ImageNet top-1 in percent, never measured here
  paper_images_per_second          GTX 1080Ti, fp32, batch 128; Table 6: in training form
  paper_parameters_millions, paper_flops_billions, paper_winograd_multiplies_billions
  parameters, macs, winograd_multiplies
                                   of the plain form, exact
  training_parameters, training_macs
                                   of the training form, exact
  images_per_second                here, by the median of all runs
  slowest_round, fastest_round     here, by the median of the round's runs
  times_direct                     over the speed of a perfect direct convolution, all
                                   multiply-adds at the processor's rate
  rank, paper_rank                 place by speed, here and in the paper
  measured_form, measured_size, batch, threads, device
  fuses                            Table 7: whether no branch remains
  notes                            the row's footnotes

Examples:
  repvgg table 4
  repvgg table 5 --markdown
  repvgg table 4 --measure --plot speed.svg";

/// A table in all its formats, and its chart.
struct Page {
    sheet: Sheet,
    /// The rows as JSON.
    values: Vec<Value>,
    /// Accuracy against speed; none where the table has no speeds.
    chart: Option<Chart>,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let page = page(arguments)?;
    if let Some(path) = &arguments.plot {
        let what =
            || format!("expected a table with speeds, 4, 5 or 6, or 7 with --measure, found {}", arguments.number);
        let picture = svg(page.chart.as_ref().ok_or_else(|| Error::spec("plot", what()))?);
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
            format!("expected one of Tables 4 to 7, which name networks, found {}", arguments.number),
        )),
        (2, None) => specification::of_stages(),
        (3, None) => specification::of_models(),
        (4..=7, measuring) => networks::of_networks(arguments.number, measuring),
        (other, _) => Err(Error::spec("table", format!("expected one of the paper's Tables 2 to 7, found {other}"))),
    }
}

//! `repvgg models`: all architectures with their costs and the paper's figures.

use std::process::ExitCode;

use repvgg::cost::{self, Cost, cost};
use repvgg::fuse::Fusion;
use repvgg::zoo::{BLOCKS, Published, published};
use repvgg::{Result, Specification};
use serde_json::json;

use super::CommandResult;
use crate::output::{print, print_json, table, thousands};
use crate::source::parse_size;

/// List all architectures with parameters, multiply-adds and Winograd multiplies, next to the paper's figures
///
/// Every name in the list is valid where a command accepts an architecture, such as `repvgg train --model NAME` or `repvgg info NAME`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Image size in pixels: S for a square, or HxW [default: each network's own]
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

struct ListedNetwork {
    name: &'static str,
    size: [usize; 2],
    training_parameters: u64,
    parameters: u64,
    /// The cost of the plain form; none if the network does not accept images of this size.
    plain: Option<Cost>,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let rows = Specification::names().map(|name| row(name, arguments.size)).collect::<Result<Vec<_>>>()?;
    if arguments.json {
        print_json(&rows.iter().map(json_row).collect())?;
    } else {
        print(&text(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(name: &'static str, size: Option<[usize; 2]>) -> Result<ListedNetwork> {
    let architecture = Specification::named(name).expect("every listed name has an architecture");
    let size = size.unwrap_or([architecture.image_size(); 2]);
    let training = architecture.training_graph()?;
    let fusion = Fusion::new(&training);
    Ok(ListedNetwork {
        name,
        size,
        training_parameters: cost::parameters(&training),
        parameters: cost::parameters(fusion.graph()),
        plain: cost(fusion.graph(), size).ok(),
    })
}

fn json_row(row: &ListedNetwork) -> serde_json::Value {
    let paper = published(row.name).map(|paper| {
        json!({
            "source": paper.source, "top1": paper.top1, "parameters_millions": paper.parameters,
            "flops_billions": paper.flops, "winograd_multiplies_billions": paper.winograd_multiplies,
            "images_per_second_1080ti": paper.plain_speed,
        })
    });
    json!({
        "name": row.name,
        "size": row.size,
        "parameters": row.parameters,
        "training_parameters": row.training_parameters,
        "macs": row.plain.as_ref().map(|plain| plain.macs),
        "winograd_multiplies": row.plain.as_ref().map(|plain| plain.winograd_multiplies),
        "peak_activation_bytes": row.plain.as_ref().map(|plain| plain.peak_activation_bytes),
        "paper": paper,
    })
}

fn text(rows: &[ListedNetwork]) -> String {
    let header = [
        "name",
        "image",
        "parameters",
        "training",
        "GMACs",
        "Winograd G",
        "paper: M",
        "GMACs",
        "Winograd G",
        "top-1 %",
        "source",
    ];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let billions = |count: fn(&Cost) -> u64| {
                row.plain.as_ref().map_or("-".to_owned(), |plain| format!("{:.3}", count(plain) as f64 / 1e9))
            };
            let paper = published(row.name);
            let of = |field: fn(&Published) -> Option<f64>, decimals: usize| {
                paper.and_then(field).map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
            };
            vec![
                row.name.to_owned(),
                format!("{}x{}", row.size[0], row.size[1]),
                thousands(row.parameters),
                thousands(row.training_parameters),
                billions(|plain| plain.macs),
                billions(|plain| plain.winograd_multiplies),
                of(|paper| paper.parameters, 2),
                of(|paper| paper.flops, 1),
                of(|paper| paper.winograd_multiplies, 1),
                of(|paper| Some(paper.top1), 2),
                paper.map_or("-".to_owned(), |paper| paper.source.clone()),
            ]
        })
        .collect();
    let blocks: Vec<Vec<String>> =
        BLOCKS.iter().map(|block| [block.name, block.about, block.source].map(str::to_owned).to_vec()).collect();
    format!(
        "{}\nCounted for one image in plain (fused) form. Training parameters include the branches, the scales and shifts of their\n\
         batch norms, and auxiliary classifiers. GMACs and Winograd multiplies are in 10^9. The paper's figures are for 224x224\n\
         (top-1 of RepVGG-D2se and RepVGGplus at 320x320), and its parameters are truncated. `repvgg info NAME` shows one\n\
         network layer by layer.\n\n\
         Any RepVGG can be built from another kind of block, as NAME:BLOCK. Example: repvgg-b0:acb\n\n{}",
        table(&header, &cells),
        table(&["block", "training form", "source"], &blocks)
    )
}

//! `repvgg models`: every architecture with what it costs, beside what the paper prints.

use std::process::ExitCode;

use repvgg::cost::{Cost, cost};
use repvgg::fuse::Plan;
use repvgg::zoo::{Published, published};
use repvgg::{Architecture, Result};
use serde_json::json;

use super::Outcome;
use crate::output::{print, print_json, table, thousands};
use crate::source::parse_size;

/// List every architecture: parameters, multiply-adds and Winograd multiplies beside the paper's figures
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Image size in pixels, S or HxW
    #[arg(long, default_value = "224", value_parser = parse_size)]
    size: [usize; 2],
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

struct Row {
    name: &'static str,
    training_parameters: u64,
    plain: Cost,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let rows = Architecture::names().map(|name| row(name, arguments.size)).collect::<Result<Vec<_>>>()?;
    if arguments.json {
        print_json(&rows.iter().map(json_row).collect())?;
    } else {
        print(&text(&rows, arguments.size))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(name: &'static str, size: [usize; 2]) -> Result<Row> {
    let training = Architecture::named(name).expect("a listed name has an architecture").training_graph()?;
    Ok(Row {
        name,
        training_parameters: cost(&training, size)?.parameters,
        plain: cost(Plan::new(&training).graph(), size)?,
    })
}

fn json_row(row: &Row) -> serde_json::Value {
    let paper = published(row.name).map(|paper| {
        json!({
            "source": paper.source, "top1": paper.top1, "parameters_millions": paper.parameters,
            "flops_billions": paper.flops, "winograd_multiplies_billions": paper.winograd_multiplies,
            "images_per_second_1080ti": paper.plain_speed,
        })
    });
    json!({
        "name": row.name,
        "parameters": row.plain.parameters,
        "training_parameters": row.training_parameters,
        "macs": row.plain.macs,
        "winograd_multiplies": row.plain.winograd_multiplies,
        "peak_activation_bytes": row.plain.peak_activation_bytes,
        "paper": paper,
    })
}

fn text(rows: &[Row], [height, width]: [usize; 2]) -> String {
    let header = [
        "name",
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
            let billions = |count: u64| format!("{:.3}", count as f64 / 1e9);
            let paper = published(row.name);
            let of = |field: fn(&Published) -> Option<f64>, decimals: usize| {
                paper.and_then(field).map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
            };
            vec![
                row.name.to_owned(),
                thousands(row.plain.parameters),
                thousands(row.training_parameters),
                billions(row.plain.macs),
                billions(row.plain.winograd_multiplies),
                of(|paper| paper.parameters, 2),
                of(|paper| paper.flops, 1),
                of(|paper| paper.winograd_multiplies, 1),
                of(|paper| Some(paper.top1), 2),
                paper.map_or("-".to_owned(), |paper| paper.source.clone()),
            ]
        })
        .collect();
    format!(
        "{}\nCounted for one {height}x{width} image in plain (fused) form; training parameters count the branches and their batch\n\
         norms' scales and shifts. GMACs and Winograd multiplies in 10^9. The paper's figures are for 224x224 (top-1 of the last\n\
         two at 320x320), its parameters truncated. `repvgg info NAME` shows one network layer by layer.\n",
        table(&header, &cells)
    )
}

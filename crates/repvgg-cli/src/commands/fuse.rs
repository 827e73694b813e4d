//! `repvgg fuse`: fusion of the training form into the plain form, checked before the file is written.

mod onnx;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use repvgg::check::{self, CheckedFusion, RegionProgress, RegionReport};
use repvgg::file::write_atomically;
use repvgg::formats::blocks::{LooseTensors, fuse_blocks};
use repvgg::formats::safetensors;
use repvgg::{Error, Model, Precision, Result};
use serde_json::json;

use super::CommandResult;
use crate::output::{print, print_json, table, thousands};
use crate::progress::bar;
use crate::source::ModelOptions;

/// Fuse the branches of each block into one 3×3 convolution, and check the result
///
/// The fusion is computed in double precision and rounded once. Before the file is written, every block and the whole network are
/// compared with the training form on random inputs. A fusion that deviates is not written.
///
/// From an ONNX file to an ONNX file (`-o fused.onnx`), the network may be any: its linear parts are fused, each compared with its
/// branches, and all other operators are kept as they are.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg fuse run/best.safetensors -o plain.safetensors
  repvgg fuse detector.onnx -o fused.onnx")]
pub(crate) struct Arguments {
    #[command(flatten)]
    input: ModelOptions,
    /// Output file of the plain model, in safetensors format; from an ONNX file also ONNX (*.onnx)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Side in pixels of the random images that check the whole network [default: 64, or the only size that the network accepts]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    check_size: Option<u32>,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    arguments.input.refuse_overwrite(&arguments.output)?;
    if arguments.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
        return onnx::run(arguments);
    }
    let model = match arguments.input.open() {
        Ok(model) => model,
        // A backbone, or a larger network around one: its blocks are fused by themselves.
        Err(error) => return fuse_loose_blocks(arguments, error),
    };
    let size = arguments.check_size.map_or_else(|| check::image_size(&model), |size| [size as usize; 2]);
    let checked = fuse_checked(&model, size).with_context(|| arguments.input.model.clone())?;
    checked.report.accept().with_context(|| format!("{}: not written", arguments.output.display()))?;
    checked.model.save(&arguments.output)?;
    if arguments.json {
        print_json(&report_json(&checked, arguments))?;
    } else {
        print(&report_text(&checked, &model, arguments))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fuses the blocks of a file that no known network has, or returns the error that says so.
fn fuse_loose_blocks(arguments: &Arguments, error: Error) -> CommandResult {
    let place = || arguments.input.model.clone();
    let loose = arguments.input.read_tensors().ok().flatten();
    let Some(LooseTensors { weights, others, .. }) = loose.filter(|_| error.is_weights() || error.is_format()) else {
        return Err(error.into());
    };
    let fused = fuse_blocks(weights, arguments.input.unstated.eps).with_context(place)?;
    if fused.blocks.is_empty() {
        return Err(error.into());
    }
    if let Some((option, _)) = arguments.input.unstated.of_images().into_iter().find(|(_, is_given)| *is_given) {
        let problem = "expected no such option with a file that is no whole network: only its blocks are fused";
        return Err(Error::spec(option, problem).into());
    }
    // The counters of batch norms are part of the blocks or of no use without training.
    let others: Vec<String> = others.into_iter().filter(|name| !name.ends_with(".num_batches_tracked")).collect();
    fused.accept().with_context(|| format!("{}: not written", arguments.output.display()))?;
    let bytes = safetensors::write(&fused.weights, Precision::Single, HashMap::new())?;
    write_atomically(&arguments.output, |file| file.write_all(&bytes))?;
    if arguments.json {
        let blocks = fused.blocks.iter().map(region_json).collect::<Vec<_>>();
        print_json(&json!({
            "output": arguments.output.display().to_string(), "blocks": blocks, "untouched": fused.untouched, "not_written": others,
            "worst_error": fused.blocks.iter().map(|block| block.error).fold(0.0, f64::max),
        }))?;
    } else {
        let mut text = region_table(&fused.blocks);
        text.push_str(&format!(
            "\n{}: no known network, so its RepVGG blocks were fused by themselves\n{} blocks fused, {} tensors left as they are{}: {}\n",
            arguments.input.model,
            fused.blocks.len(),
            fused.untouched.len(),
            match others.len() {
                0 => String::new(),
                count => format!(", {count} without floating-point elements not written ({})", listed(&others)),
            },
            arguments.output.display()
        ));
        if !fused.untouched.is_empty() {
            text.push_str(&format!("left as they are: {}\n", listed(&fused.untouched)));
        }
        print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The first few names of a list.
fn listed(names: &[String]) -> String {
    const LISTED: usize = 4;
    let shown = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED { format!("{shown} and {} more", names.len() - LISTED) } else { shown }
}

/// Fuses a model and checks the result, with a progress bar.
pub(crate) fn fuse_checked(model: &Model, size: [usize; 2]) -> Result<CheckedFusion> {
    let progress = bar(0, "checking");
    let checked = check::fuse(model, size, |RegionProgress { region, done, total }| {
        progress.set_length(total as u64);
        progress.set_message(region.name.clone());
        progress.set_position(done as u64);
    });
    progress.finish_and_clear();
    checked
}

fn region_json(region: &RegionReport) -> serde_json::Value {
    json!({
        "name": region.name, "nodes": region.nodes, "error": region.error, "absolute_error": region.absolute_error,
        "largest_weight": region.largest_weight, "largest_gain": region.largest_gain,
    })
}

fn region_table(regions: &[RegionReport]) -> String {
    let rows = regions.iter().map(|region| {
        vec![
            region.name.clone(),
            region.nodes.to_string(),
            format!("{:.3}", region.error),
            format!("{:.2e}", region.absolute_error),
            format!("{:.3}", region.largest_weight),
            format!("{:.3}", region.largest_gain),
        ]
    });
    table(&["block", "nodes", "error / bound", "max |Δ|", "max |w|", "max γ/σ"], &rows.collect::<Vec<_>>())
}

fn report_json(checked: &CheckedFusion, arguments: &Arguments) -> serde_json::Value {
    let CheckedFusion { fusion, report, .. } = checked;
    let blocks: Vec<serde_json::Value> = report.regions.iter().map(region_json).collect();
    let blocked: Vec<serde_json::Value> = fusion
        .obstacles()
        .iter()
        .map(|blocked| json!({"sum": blocked.sum, "by": blocked.by, "why": blocked.why}))
        .collect();
    json!({
        "output": arguments.output.display().to_string(),
        "blocks": blocks,
        "blocked": blocked,
        "worst_error": report.worst_error(),
        "network_error": report.network_error,
        "rounding": report.rounding,
        "network_input": report.network_input,
    })
}

fn report_text(checked: &CheckedFusion, training: &Model, arguments: &Arguments) -> String {
    let CheckedFusion { fusion, model: plain, report } = checked;
    let mut text = region_table(&report.regions);
    let worst = |value: fn(&RegionReport) -> f64| report.regions.iter().max_by(|a, b| value(a).total_cmp(&value(b)));
    text.push_str(&format!(
        "\nerror / bound: largest |fused - branches| relative to u·Σ|x||w| with u = 2^-24, on random activations in f64;\n\
         at most 1 means exact up to one rounding\n\
         network: on random images {2:?}, logits differ by {0:.2e} of the largest; rounding alone accounts for {1:.2e}\n",
        report.network_error, report.rounding, report.network_input
    ));
    if let (Some(weight), Some(gain)) = (worst(|r| r.largest_weight), worst(|r| r.largest_gain)) {
        text.push_str(&format!(
            "worst for quantization: |w| = {:.3} in {}, γ/σ = {:.3} in {}\n",
            weight.largest_weight, weight.name, gain.largest_gain, gain.name
        ));
    }
    for blocked in fusion.obstacles() {
        text.push_str(&format!("not fused: {}: {} ({})\n", blocked.sum, blocked.why, blocked.by));
    }
    let count = |model: &Model| model.weights.iter().map(|(_, tensor)| tensor.data().len() as u64).sum::<u64>();
    text.push_str(&format!(
        "{} regions fused, {} values reduced to {}: {}\n",
        report.regions.len(),
        thousands(count(training)),
        thousands(count(plain)),
        arguments.output.display()
    ));
    text
}

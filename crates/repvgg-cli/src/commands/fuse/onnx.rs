//! `repvgg fuse NETWORK.onnx -o FUSED.onnx`: any network, of which only the linear parts change.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use repvgg::check::RegionProgress;
use repvgg::file::{read_bounded, write_atomically};
use repvgg::formats::onnx::{self, ExternalData, FileReport};
use repvgg::{Error, Result};
use serde_json::json;

use super::{Arguments, region_json, region_table};
use crate::commands::CommandResult;
use crate::output::{print, print_json, thousands};
use crate::progress::bar;

/// Readers of ONNX accept no longer files.
const LONGEST: u64 = i32::MAX as u64;

pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let input = Path::new(&arguments.input.model);
    let own =
        [("--architecture", arguments.input.architecture.is_some()), ("--check-size", arguments.check_size.is_some())];
    let unstated = arguments.input.unstated.of_weights().into_iter().chain(arguments.input.unstated.of_images());
    for (option, is_given) in own.into_iter().chain(unstated) {
        if is_given {
            let problem = "expected no such option with an ONNX file as output: only its linear parts are computed";
            return Err(Error::spec(option, problem).into());
        }
    }
    let bytes = read(input, arguments)?;
    let folder = input.parent().unwrap_or(Path::new(""));
    let external = if is_same_folder(folder, &arguments.output) { ExternalData::Keep } else { ExternalData::Inline };
    let progress = bar(0, "checking");
    let fusion = onnx::fuse(bytes, Some(folder), external, |RegionProgress { region, done, total }| {
        progress.set_length(total as u64);
        progress.set_message(region.name.clone());
        progress.set_position(done as u64);
    });
    progress.finish_and_clear();
    let fusion = fusion.with_context(|| arguments.input.model.clone())?;
    write_atomically(&arguments.output, |file| file.write_all(&fusion.bytes))?;
    if arguments.json {
        print_json(&report_json(&fusion.report, arguments))?;
    } else {
        print(&report_text(&fusion.report, arguments))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the input, which must be an ONNX file.
fn read(input: &Path, arguments: &Arguments) -> Result<Vec<u8>> {
    let other = || {
        let problem = "expected a safetensors file; `repvgg export --form plain` fuses and writes ONNX";
        Error::spec(arguments.output.display(), problem)
    };
    // Names of architectures and of repositories are no files.
    if !input.is_file() {
        return if input.exists() || arguments.input.model.starts_with("hf:") {
            Err(other())
        } else {
            read_bounded(input, LONGEST)
        };
    }
    let bytes = read_bounded(input, LONGEST)?;
    let is_named_onnx = input.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    if is_named_onnx || onnx::is_onnx(&bytes) { Ok(bytes) } else { Err(other()) }
}

fn is_same_folder(folder: &Path, output: &Path) -> bool {
    let real = |folder: &Path| {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        folder.canonicalize().ok()
    };
    let target = output.parent().and_then(real);
    target.is_some() && target == real(folder)
}

fn report_json(report: &FileReport, arguments: &Arguments) -> serde_json::Value {
    let blocks: Vec<serde_json::Value> = report.regions.iter().map(region_json).collect();
    let blocked: Vec<serde_json::Value> = report
        .obstacles
        .iter()
        .map(|blocked| json!({"sum": blocked.sum, "by": blocked.by, "why": blocked.why}))
        .collect();
    let change = |[before, after]: [u64; 2]| json!({"before": before, "after": after});
    json!({
        "output": arguments.output.display().to_string(),
        "blocks": blocks,
        "blocked": blocked,
        "worst_error": report.worst_error(),
        "nodes": change(report.nodes.map(|count| count as u64)),
        "convolutions": change(report.convolutions.map(|count| count as u64)),
        "parameters": change(report.parameters),
        "multiply_adds": change(report.multiply_adds),
        "blocks_of_unknown_size": report.regions_of_unknown_size,
        "external_data": report.external,
        "inlined": report.inlined,
    })
}

fn report_text(report: &FileReport, arguments: &Arguments) -> String {
    let mut text = region_table(&report.regions);
    text.push_str(
        "\nerror / bound: largest |fused - branches| relative to u·Σ|x||w|, u = half a unit in the last place of a weight, on random\n\
         activations in f64; at most 1 means exact up to one rounding\n",
    );
    for blocked in &report.obstacles {
        text.push_str(&format!("not fused: {}: {} ({})\n", blocked.sum, blocked.why, blocked.by));
    }
    let change =
        |what: &str, [before, after]: [u64; 2]| format!("{what}: {} to {}\n", thousands(before), thousands(after));
    text.push_str(&change("nodes", report.nodes.map(|count| count as u64)));
    text.push_str(&change("convolutions", report.convolutions.map(|count| count as u64)));
    text.push_str(&change("parameters", report.parameters));
    if report.regions_of_unknown_size < report.regions.len() {
        text.push_str(&change("multiply-adds of the fused regions, one image", report.multiply_adds));
    }
    if report.regions_of_unknown_size > 0 {
        let (unknown, all) = (report.regions_of_unknown_size, report.regions.len());
        text.push_str(&format!(
            "multiply-adds not counted: {unknown} of {all} regions, whose sizes the file does not state\n"
        ));
    }
    if !report.external.is_empty() {
        text.push_str(&format!("external data: still read from {}\n", report.external.join(", ")));
    }
    if report.inlined > 0 {
        text.push_str(&format!("external data: {} constants are now inside the file\n", report.inlined));
    }
    text.push_str(&format!(
        "{} regions fused, everything else kept as it was: {}\n",
        report.regions.len(),
        arguments.output.display()
    ));
    text
}

//! Memory as the system sees it: a graph planned and run once in a process of its own.

use std::io::{Read, Write, stdin};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use repvgg::engine::{Plan, Settings};
use repvgg::{Error, Graph, Weights};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::commands::Outcome;
use crate::output::print_json;

/// What the process is to run. Weights are fresh ones: memory does not depend on their values.
#[derive(Serialize, Deserialize)]
struct Job {
    graph: Graph,
    batch: usize,
    size: [usize; 2],
}

/// Bytes that planning and running a graph took, on one thread.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Observed {
    /// The engine's arena: values, and workspace.
    pub(crate) arena_bytes: u64,
    /// The part of it that is workspace: what Winograd's algorithm keeps between its transforms, for one.
    pub(crate) workspace_bytes: u64,
    /// Weights as the engine keeps them, transformed and in blocks.
    pub(crate) packed_bytes: u64,
    /// The process's peak resident memory before planning: the program, and the weights as a file holds them.
    pub(crate) process_base_bytes: Option<u64>,
    /// The same after planning, which copies the weights before it packs them, and one run: packed weights, arena, images and logits
    /// in addition, in whole pages.
    pub(crate) process_peak_bytes: Option<u64>,
}

/// Has another process of this program plan `graph` and run it once.
pub(crate) fn observe(graph: &Graph, batch: usize, size: [usize; 2]) -> anyhow::Result<Observed> {
    let job = serde_json::to_vec(&Job { graph: graph.clone(), batch, size }).context("graph")?;
    let program = std::env::current_exe().context("this program")?;
    let mut child = Command::new(program)
        .arg("observe")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("a process to measure")?;
    // A process that ends before it has read everything says why.
    let _ = child.stdin.take().expect("standard input is a pipe").write_all(&job);
    let output = child.wait_with_output().context("a process to measure")?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).context("what the process measured");
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let told = told.trim().trim_start_matches("error: ");
    match output.status.code() {
        Some(2) => Err(Error::spec("measuring", told).into()),
        Some(_) => anyhow::bail!("measuring: {told}"),
        None => anyhow::bail!("measuring: expected memory enough for a run, found the process {}", output.status),
    }
}

/// The other process: a job from standard input, what it took to standard output.
pub(crate) fn run() -> Outcome {
    let place = "standard input";
    let mut text = String::new();
    stdin().lock().read_to_string(&mut text).map_err(|error| Error::io(place, error))?;
    let wrong = |error| Error::format(place, format!("expected a graph, batch and size, found {error}"));
    let Job { graph, batch, size } = serde_json::from_str(&text).map_err(wrong)?;
    let weights = Weights::initialise(&graph, 0);
    let base = peak_resident_bytes();
    let mut plan = Plan::new(&graph, &weights, Settings { batch, size, ..Settings::default() })?;
    let images = vec![0.5; batch * plan.input_shape().iter().product::<usize>()];
    let mut output = vec![0.0; batch * plan.output_shape().iter().product::<usize>()];
    plan.run(&images, &mut output);
    print_json(&json!({
        "arena_bytes": plan.arena_bytes(),
        "workspace_bytes": plan.workspace_bytes(),
        "packed_bytes": plan.packed_bytes(),
        "process_base_bytes": base,
        "process_peak_bytes": peak_resident_bytes(),
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// The most memory that this process has had resident so far, where the system tells.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

//! Measured memory: a graph is prepared and run once in a separate process.

use std::io::{Read, Write, stdin};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use repvgg::engine::BatchShape;
use repvgg::measure::{Memory, memory};
use repvgg::{Error, Graph};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::commands::CommandResult;
use crate::output::print_json;

/// The input of the measuring process.
#[derive(Serialize, Deserialize)]
struct Job {
    graph: Graph,
    batch: usize,
    size: [usize; 2],
}

/// Measures the memory that `graph` needs on one thread, in another process of this program.
pub(crate) fn observe(graph: &Graph, batch: usize, size: [usize; 2]) -> anyhow::Result<Memory> {
    let job = serde_json::to_vec(&Job { graph: graph.clone(), batch, size }).context("graph")?;
    let program = std::env::current_exe().context("this program")?;
    let mut child = Command::new(program)
        .arg("observe")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the measuring process")?;
    // A process that ends before it has read all input reports the reason on standard error.
    let _ = child.stdin.take().expect("standard input is a pipe").write_all(&job);
    let output = child.wait_with_output().context("the measuring process")?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).context("the output of the measuring process");
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let message = message.trim().trim_start_matches("error: ");
    match output.status.code() {
        Some(2) => Err(Error::spec("measuring", message).into()),
        Some(_) => anyhow::bail!("measuring: {message}"),
        None => {
            anyhow::bail!("measuring: expected enough memory for a run, found the process ended by {}", output.status)
        }
    }
}

/// The measuring process: reads a job from standard input and writes the memory it needed to standard output.
pub(crate) fn run() -> CommandResult {
    let place = "standard input";
    let mut text = String::new();
    stdin().lock().read_to_string(&mut text).map_err(|error| Error::io(place, error))?;
    let invalid = |error| Error::format(place, format!("expected a graph, batch and size, found {error}"));
    let Job { graph, batch, size } = serde_json::from_str(&text).map_err(invalid)?;
    let memory = memory(&graph, BatchShape { batch, size })?;
    print_json(&json!(memory))?;
    Ok(ExitCode::SUCCESS)
}

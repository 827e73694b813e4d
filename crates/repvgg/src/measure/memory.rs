//! The memory that a network needs, as counted by the engine and by the system.

use serde::{Deserialize, Serialize};

use super::buffers;
use crate::engine::{BatchShape, Engine};
use crate::{Graph, Result, Weights};

/// The memory for preparing and running a network, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The memory of a session: values and workspace.
    pub arena_bytes: u64,
    /// The part that is workspace, for example transformed tiles of Winograd's algorithm.
    pub workspace_bytes: u64,
    /// Packed weights: transformed and in blocks.
    pub packed_bytes: u64,
    /// The peak resident memory of the process before preparing: the program, and the weights as in a file.
    pub process_base_bytes: Option<u64>,
    /// The same after preparing and one run: in addition packed weights, arena, images and logits, in whole pages, and a copy
    /// of the weights of one layer while others are folded into it.
    pub process_peak_bytes: Option<u64>,
}

/// Prepares `graph` with initial weights, runs it once on one thread, and reports the memory used.
///
/// Memory does not depend on the values of the weights. The peak of a process never falls, so its two figures are meaningful
/// only in a process that has done little else.
///
/// # Errors
/// As [`Engine::session`].
pub fn memory(graph: &Graph, shape: BatchShape) -> Result<Memory> {
    let weights = Weights::initialise(graph, 0);
    let base = peak_resident_bytes();
    let mut session = Engine::with_threads(1)?.session(graph, &weights, shape)?;
    let (input, mut output) = buffers(&session);
    session.run(&input, &mut output)?;
    Ok(Memory {
        arena_bytes: session.arena_bytes() as u64,
        workspace_bytes: session.workspace_bytes() as u64,
        packed_bytes: session.packed_bytes() as u64,
        process_base_bytes: base,
        process_peak_bytes: peak_resident_bytes(),
    })
}

/// The peak resident memory of this process so far, if the system reports it.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

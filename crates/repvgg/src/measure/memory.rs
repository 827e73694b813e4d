//! The memory that a network takes, as the engine and as the system see it.

use serde::{Deserialize, Serialize};

use super::buffers;
use crate::engine::{BatchShape, Engine};
use crate::{Graph, Result, Weights};

/// Bytes that preparing and running a network took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The engine's arena: values and workspace.
    pub arena_bytes: u64,
    /// The part of the arena that is workspace: what Winograd's algorithm keeps between its transforms, for one.
    pub workspace_bytes: u64,
    /// Weights as the engine keeps them, transformed and in blocks.
    pub packed_bytes: u64,
    /// The peak resident memory of the process before preparing: the program, and the weights as a file holds them.
    pub process_base_bytes: Option<u64>,
    /// The same after preparing, which copies the weights of one layer at a time where it folds others into it, and one run:
    /// in addition packed weights, arena, images and logits, in whole pages.
    pub process_peak_bytes: Option<u64>,
}

/// Prepares `graph` with initial weights, runs it once on one thread, and reports the memory that this took.
///
/// Memory does not depend on the values of the weights. The peak of a process only grows: its two figures mean something
/// in a process that has done little else.
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

/// The most memory that this process has had resident so far, where the system says.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

//! Places for values in memory: values that are never alive together share it.

use super::{Program, ValueId};

/// The memory that a value needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// This many bytes of the arena. The machine copies the caller's images there before the first step.
    Arena(u64),
    /// None: the value stays in the caller's memory. Only for the caller's images.
    Caller,
    /// None: the value is identical to the first input of its step, so the step does nothing.
    SameAsInput,
}

/// The place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the caller's memory.
    Caller,
    /// In the arena, at this byte offset, a multiple of 64.
    Arena(u64),
}

/// The place of each value, and the size of the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// One for each of [`Program::values`].
    pub of: Vec<Place>,
    /// Bytes of the arena.
    pub len: u64,
}

impl Program {
    /// Assigns each value a place. Values that are alive at the same time do not overlap.
    ///
    /// Greedy by size, for offsets (Pisarchyk & Lee, 2001.03288): two buffers for a chain of equal maps.
    ///
    /// # Panics
    /// When `room` leaves a value other than the images to the caller.
    pub fn places(&self, room: impl Fn(ValueId) -> Room) -> Places {
        let rooms: Vec<Room> = (0..self.values.len()).map(|value| room(ValueId(value))).collect();
        let owners = self.owners(&rooms);
        let lifetimes = self.lifetimes(&owners);
        let owned: Vec<(usize, Buffer)> = rooms
            .iter()
            .enumerate()
            .filter_map(|(value, room)| match room {
                Room::Arena(len) => Some((value, Buffer { len: *len, alive: lifetimes[value] })),
                Room::Caller | Room::SameAsInput => None,
            })
            .collect();
        let buffers: Vec<Buffer> = owned.iter().map(|(_, buffer)| *buffer).collect();
        let Arena { offsets, len } = place(&buffers);
        let mut of_owner = vec![Place::Caller; rooms.len()];
        for ((value, _), offset) in owned.iter().zip(offsets) {
            of_owner[*value] = Place::Arena(offset);
        }
        Places { of: owners.into_iter().map(|owner| of_owner[owner]).collect(), len }
    }

    /// For each value, the value whose memory it shares.
    fn owners(&self, rooms: &[Room]) -> Vec<usize> {
        let mut owners: Vec<usize> = (0..rooms.len()).collect();
        for step in &self.steps {
            let output = step.output.index();
            match rooms[output] {
                Room::SameAsInput => owners[output] = owners[step.inputs[0].index()],
                Room::Arena(_) => {}
                Room::Caller => panic!("value {output}: a step writes it, so the caller cannot hold it"),
            }
        }
        owners
    }

    /// The lifetime of each owner's memory. The caller's images exist at time 0, step `i` runs at time `i + 1`, and the outputs
    /// are read after the last step.
    fn lifetimes(&self, owners: &[usize]) -> Vec<Alive> {
        let mut lifetimes = vec![Alive { first: 0, last: 0 }; owners.len()];
        for (time, step) in (1..).zip(&self.steps) {
            let output = step.output.index();
            if owners[output] != output {
                continue;
            }
            lifetimes[output] = Alive { first: time, last: time };
            for input in &step.inputs {
                lifetimes[owners[input.index()]].last = time;
            }
        }
        for output in &self.outputs {
            lifetimes[owners[output.index()]].last = self.steps.len() + 1;
        }
        lifetimes
    }
}

/// A value's size in bytes and its lifetime.
#[derive(Debug, Clone, Copy)]
struct Buffer {
    len: u64,
    alive: Alive,
}

/// The time from a value's write to its last read.
#[derive(Debug, Clone, Copy)]
struct Alive {
    first: usize,
    last: usize,
}

impl Alive {
    /// Whether both are alive at the same time.
    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The offset of each buffer, and the total size in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Arena {
    offsets: Vec<u64>,
    len: u64,
}

/// Bytes of a cache line, to which places are aligned.
const LINE: u64 = 64;

/// Places the largest buffers first, each at the lowest offset that is free during its lifetime.
fn place(buffers: &[Buffer]) -> Arena {
    let mut by_size: Vec<usize> = (0..buffers.len()).collect();
    by_size.sort_by_key(|&index| std::cmp::Reverse(buffers[index].len));
    let mut offsets = vec![0; buffers.len()];
    // Offset and index of each buffer placed so far, lowest offset first.
    let mut placed: Vec<(u64, usize)> = Vec::with_capacity(buffers.len());
    for index in by_size {
        let Buffer { len, alive } = buffers[index];
        let mut offset: u64 = 0;
        for &(start, other) in placed.iter().filter(|(_, other)| buffers[*other].alive.overlaps(alive)) {
            if offset.saturating_add(len) <= start {
                break;
            }
            offset = offset.max(start.saturating_add(buffers[other].len).div_ceil(LINE).saturating_mul(LINE));
        }
        offsets[index] = offset;
        placed.insert(placed.partition_point(|&(start, _)| start <= offset), (offset, index));
    }
    let ends = buffers.iter().zip(&offsets).map(|(buffer, offset)| offset.saturating_add(buffer.len));
    Arena { len: ends.max().unwrap_or(0), offsets }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buffer(len: u64, first: usize, last: usize) -> Buffer {
        Buffer { len, alive: Alive { first, last } }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<Buffer> = (0..9).map(|step| buffer(640, step, step + 1)).collect();
        assert_eq!(place(&chain), Arena { offsets: vec![0, 640, 0, 640, 0, 640, 0, 640, 0], len: 1280 });
    }

    #[test]
    fn a_value_read_late_keeps_its_place() {
        let mut residual: Vec<Buffer> = (0..4).map(|step| buffer(640, step, step + 1)).collect();
        residual[0].alive.last = 3;
        assert_eq!(place(&residual), Arena { offsets: vec![0, 640, 1280, 640], len: 1920 });
    }

    proptest! {
        #[test]
        fn buffers_alive_together_are_apart(spans in prop::collection::vec((1u64..500, 0usize..20, 0usize..6), 1..30)) {
            let buffers: Vec<Buffer> =
                spans.into_iter().map(|(len, first, more)| buffer(len, first, first + more)).collect();
            let Arena { offsets, len } = place(&buffers);
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(offsets[i] + a.len <= len && offsets[i] % LINE == 0);
                for (j, b) in buffers.iter().enumerate().filter(|(j, b)| *j != i && a.alive.overlaps(b.alive)) {
                    prop_assert!(offsets[i] + a.len <= offsets[j] || offsets[j] + b.len <= offsets[i]);
                }
            }
        }
    }
}

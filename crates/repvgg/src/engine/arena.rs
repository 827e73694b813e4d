//! Where values lie: buffers that are never alive together share memory.

/// A value's size in elements, and the steps from the one that writes it to the last one that reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer {
    pub(super) len: u64,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// The place of each buffer, and the elements of the whole arena.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) offsets: Vec<u64>,
    pub(super) len: u64,
}

/// Places begin on a cache line of their own.
const LINE: u64 = 64 / size_of::<f32>() as u64;

/// Places the largest buffer first, each at the lowest offset that is free for as long as it is alive.
///
/// Greedy by size, for offsets (Pisarchyk & Lee, 2001.03288): exactly two buffers for a chain of equal maps.
pub(super) fn place(buffers: &[Buffer]) -> Layout {
    let mut by_size: Vec<usize> = (0..buffers.len()).collect();
    by_size.sort_by_key(|&index| std::cmp::Reverse(buffers[index].len));
    let mut offsets = vec![0; buffers.len()];
    // Offset and index of each buffer placed so far, lowest offset first.
    let mut placed: Vec<(u64, usize)> = Vec::with_capacity(buffers.len());
    for index in by_size {
        let len = buffers[index].len;
        let mut offset: u64 = 0;
        for &(start, other) in placed.iter().filter(|(_, other)| buffers[*other].meets(&buffers[index])) {
            if offset.saturating_add(len) <= start {
                break;
            }
            offset = offset.max(start.saturating_add(buffers[other].len).div_ceil(LINE).saturating_mul(LINE));
        }
        offsets[index] = offset;
        placed.insert(placed.partition_point(|&(start, _)| start <= offset), (offset, index));
    }
    let ends = buffers.iter().zip(&offsets).map(|(buffer, offset)| offset.saturating_add(buffer.len));
    Layout { len: ends.max().unwrap_or(0), offsets }
}

impl Buffer {
    /// Whether both are alive during some step.
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<Buffer> = (0..9).map(|step| Buffer { len: 160, first: step, last: step + 1 }).collect();
        assert_eq!(place(&chain), Layout { offsets: vec![0, 160, 0, 160, 0, 160, 0, 160, 0], len: 320 });
    }

    #[test]
    fn a_value_read_late_keeps_its_place() {
        let mut residual: Vec<Buffer> = (0..4).map(|step| Buffer { len: 160, first: step, last: step + 1 }).collect();
        residual[0].last = 3;
        assert_eq!(place(&residual), Layout { offsets: vec![0, 160, 320, 160], len: 480 });
    }

    proptest! {
        #[test]
        fn buffers_alive_together_are_apart(spans in prop::collection::vec((1u64..500, 0usize..20, 0usize..6), 1..30)) {
            let buffers: Vec<Buffer> =
                spans.into_iter().map(|(len, first, more)| Buffer { len, first, last: first + more }).collect();
            let Layout { offsets, len } = place(&buffers);
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(offsets[i] + a.len <= len && offsets[i] % LINE == 0);
                for (j, b) in buffers.iter().enumerate().filter(|(j, b)| *j != i && a.meets(b)) {
                    prop_assert!(offsets[i] + a.len <= offsets[j] || offsets[j] + b.len <= offsets[i]);
                }
            }
        }
    }
}

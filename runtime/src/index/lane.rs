//! The places of one lane: a long list of (sequence, entity) that grows at the end, is walked in
//! order, and loses places anywhere.
//!
//! It is kept in chunks, so that a place costs 16 bytes, a removal moves at most one chunk, and
//! counting the places ahead of a channel does not visit each of them.

/// Maximum number of places in a chunk: a removal moves up to 8 KiB, and a count searches one chunk
/// of at most this length.
const CHUNK_MAX: usize = 512;
/// A chunk with fewer places than this is merged with the next one if both together fill at most
/// three quarters of a chunk.
const CHUNK_MIN: usize = CHUNK_MAX / 4;

/// The places of one lane, in ascending order of their sequences.
#[derive(Debug, Default)]
pub struct Places {
    /// No chunk is empty, and all sequences of a chunk are below those of the next.
    chunks: Vec<Vec<(u64, u32)>>,
}

impl Places {
    /// Appends a place; its sequence must be above all others.
    pub fn push(&mut self, sequence: u64, entity: u32) {
        debug_assert!(
            self.chunks
                .last()
                .and_then(|chunk| chunk.last())
                .is_none_or(|last| last.0 < sequence)
        );
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_MAX => chunk.push((sequence, entity)),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK_MAX);
                chunk.push((sequence, entity));
                self.chunks.push(chunk);
            }
        }
    }

    /// Removes the place with this sequence, if there is one.
    pub fn remove(&mut self, sequence: u64) {
        let Some(at) = self.chunk_of(sequence) else {
            return;
        };
        let Ok(within) = self.chunks[at].binary_search_by_key(&sequence, |place| place.0) else {
            return;
        };
        self.chunks[at].remove(within);
        let len = self.chunks[at].len();
        let next = self.chunks.get(at + 1).map_or(CHUNK_MAX, Vec::len);
        if len == 0 {
            self.chunks.remove(at);
        } else if len < CHUNK_MIN && len + next <= CHUNK_MAX * 3 / 4 {
            let next = self.chunks.remove(at + 1);
            self.chunks[at].extend(next);
        }
    }

    /// The places after a sequence, in order.
    pub fn after(&self, sequence: u64) -> impl Iterator<Item = (u64, u32)> {
        let at = self.chunk_of(sequence).unwrap_or(self.chunks.len());
        let within = self.chunks.get(at).map_or(0, |chunk| {
            chunk.partition_point(|place| place.0 <= sequence)
        });
        let first = self
            .chunks
            .get(at)
            .map_or(&[][..], |chunk| &chunk[within..]);
        let rest = self.chunks.get(at + 1..).unwrap_or_default();
        first.iter().chain(rest.iter().flatten()).copied()
    }

    /// The number of places after a sequence.
    pub fn count_after(&self, sequence: u64) -> u64 {
        let Some(at) = self.chunk_of(sequence) else {
            return 0;
        };
        let within =
            self.chunks[at].len() - self.chunks[at].partition_point(|place| place.0 <= sequence);
        (within + self.chunks[at + 1..].iter().map(Vec::len).sum::<usize>()) as u64
    }

    /// The first chunk whose last place is at or after the sequence.
    fn chunk_of(&self, sequence: u64) -> Option<usize> {
        let at = self
            .chunks
            .partition_point(|chunk| chunk.last().is_some_and(|last| last.0 < sequence));
        (at < self.chunks.len()).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::Places;

    proptest! {
        #[test]
        fn it_is_an_ordered_map(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..3000)) {
            let (mut places, mut plain, mut next) = (Places::default(), BTreeMap::new(), 0u64);
            for (push, which) in steps {
                if push || plain.is_empty() {
                    next += 1 + which.index(3) as u64;
                    places.push(next, next as u32);
                    plain.insert(next, next as u32);
                } else {
                    let gone = *plain.keys().nth(which.index(plain.len())).unwrap();
                    places.remove(gone);
                    plain.remove(&gone);
                }
            }
            for from in [0, next / 3, next / 2, next] {
                prop_assert_eq!(places.after(from).collect::<Vec<_>>(), plain.range(from + 1..).map(|(s, e)| (*s, *e)).collect::<Vec<_>>());
                prop_assert_eq!(places.count_after(from), plain.range(from + 1..).count() as u64);
            }
        }
    }
}

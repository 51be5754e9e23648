//! Entities whose facets are all deleted, the longest deleted first: the candidates for being
//! forgotten.

use std::collections::{BTreeMap, BTreeSet};

/// The deleted entities, by age.
#[derive(Debug, Default)]
pub(super) struct Graves {
    /// Entity → sequence of its last deletion.
    since: BTreeMap<u32, u64>,
    by_age: BTreeSet<(u64, u32)>,
    /// Where the last call of `next` stopped, so that entities that cannot be forgotten yet do not
    /// hide the others.
    looked_at: (u64, u32),
}

impl Graves {
    /// Adds an entity whose last facet was deleted with this sequence.
    pub(super) fn bury(&mut self, ordinal: u32, sequence: u64) {
        self.raise(ordinal);
        self.since.insert(ordinal, sequence);
        self.by_age.insert((sequence, ordinal));
    }

    /// Removes an entity because it exists again or has been forgotten.
    pub(super) fn raise(&mut self, ordinal: u32) {
        if let Some(sequence) = self.since.remove(&ordinal) {
            self.by_age.remove(&(sequence, ordinal));
        }
    }

    pub(super) fn contains(&self, ordinal: u32) -> bool {
        self.since.contains_key(&ordinal)
    }

    /// The next entities, up to `most`, whose sequence is `old`. After the last one it starts again
    /// with the longest deleted.
    pub(super) fn next(&mut self, most: usize, old: impl Fn(u64) -> bool) -> Vec<u32> {
        let after = (
            std::ops::Bound::Excluded(self.looked_at),
            std::ops::Bound::Unbounded,
        );
        let found: Vec<(u64, u32)> = self
            .by_age
            .range(after)
            .copied()
            .take_while(|(sequence, _)| old(*sequence))
            .take(most)
            .collect();
        self.looked_at = found
            .last()
            .copied()
            .filter(|_| found.len() == most)
            .unwrap_or_default();
        found.into_iter().map(|(_, ordinal)| ordinal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Graves;

    #[test]
    fn the_oldest_come_first_and_all_come_by_and_by() {
        let mut graves = Graves::default();
        for (ordinal, sequence) in [(1, 30), (2, 10), (3, 20), (4, 99)] {
            graves.bury(ordinal, sequence);
        }
        let old = |sequence: u64| sequence < 50;
        assert_eq!(graves.next(2, old), [2, 3]);
        graves.raise(3);
        graves.bury(2, 40);
        assert_eq!(graves.next(2, old), [1, 2]);
        assert!(graves.next(2, old).is_empty());
        assert_eq!(graves.next(9, old), [1, 2]);
        assert!(graves.contains(4) && !graves.contains(3));
    }
}

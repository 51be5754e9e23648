//! When a sequence was committed: accurate to less than half a second for recent ones and to about two
//! hundredths of their age for old ones, in bounded memory.

use crate::model::Timestamp;

/// Maximum number of marks; as a row on disk they stay under 32 KiB.
const MARKS_MAX: usize = 2_000;
/// Minimum interval between two marks, in milliseconds. A wait of a second until an entity is quiet
/// needs better than a second.
const MARK_EVERY_MS: u64 = 200;

/// Marks of (sequence, time), both ascending.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    marks: Vec<(u64, Timestamp)>,
    /// The newest sequence that was noted, with a mark or without.
    last: (u64, Timestamp),
}

impl Clock {
    /// A clock with marks that were read from disk.
    pub fn with(marks: Vec<(u64, Timestamp)>) -> Clock {
        let last = marks.last().copied().unwrap_or_default();
        Clock { marks, last }
    }

    /// The marks and the newest sequence, for writing to disk.
    pub fn marks(&self) -> impl Iterator<Item = (u64, Timestamp)> {
        let marked = self.marks.last().map_or(0, |mark| mark.0);
        let last = Some(self.last).filter(|last| last.0 > marked);
        self.marks.iter().copied().chain(last)
    }

    /// The newest sequence that was noted, with its time.
    pub fn last(&self) -> (u64, Timestamp) {
        self.last
    }

    /// Records that a sequence was committed at `now`.
    pub fn note(&mut self, sequence: u64, now: Timestamp) {
        if self
            .marks
            .last()
            .is_none_or(|last| last.1.0 + MARK_EVERY_MS <= now.0 && last.0 < sequence)
        {
            // Where nothing was committed for a while, the sequences before it must not be taken for as
            // young as those after it.
            let marked = self.marks.last().map_or(u64::MAX, |mark| mark.0);
            if self.last.0 > marked && self.last.1.0 + MARK_EVERY_MS <= now.0 {
                self.marks.push(self.last);
            }
            self.marks.push((sequence, now));
        }
        self.last = (self.last.0.max(sequence), self.last.1.max(now));
        if self.marks.len() > MARKS_MAX {
            self.thin_out(now);
        }
    }

    /// Keeps a mark only if its distance to the next younger one is at least a hundredth of its
    /// age, which leaves some 1,700 marks for a year.
    fn thin_out(&mut self, now: Timestamp) {
        let mut younger = None;
        let keep = |mark: &(u64, Timestamp)| {
            let age = now.0.saturating_sub(mark.1.0);
            let kept =
                younger.is_none_or(|younger: u64| younger.saturating_sub(mark.1.0) >= age / 100);
            if kept {
                younger = Some(mark.1.0);
            }
            kept
        };
        self.marks = std::mem::take(&mut self.marks)
            .into_iter()
            .rev()
            .filter(keep)
            .collect();
        self.marks.reverse();
        // If the time stood still or ran backwards, drop the oldest marks all the same.
        self.marks
            .drain(..self.marks.len().saturating_sub(MARKS_MAX));
    }

    /// The time of the newest mark that is not after the sequence, or of the oldest mark if all are
    /// after it; 0 for sequence 0 or without marks.
    pub fn time_of(&self, sequence: u64) -> Timestamp {
        let at = self.marks.partition_point(|mark| mark.0 <= sequence);
        self.marks
            .get(at.saturating_sub(1))
            .filter(|_| sequence > 0)
            .map_or(Timestamp(0), |mark| mark.1)
    }

    /// The time at which a sequence had certainly been committed: [`Clock::time_of`] is never later, and
    /// this is never earlier than the commit. For a sequence that is younger than everything known it
    /// is the newest time.
    pub fn by(&self, sequence: u64) -> Timestamp {
        let at = self.marks.partition_point(|mark| mark.0 < sequence);
        self.marks.get(at).map_or(self.last.1, |mark| mark.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_young_are_known_to_the_second_and_the_old_at_all() {
        let mut clock = Clock::default();
        for second in 1..=100_000u64 {
            clock.note(second * 10, Timestamp(second * 1_000));
        }
        assert!(clock.marks.len() <= MARKS_MAX);
        assert_eq!(clock.time_of(999_995), Timestamp(99_999_000));
        let old = clock.time_of(500_000).0;
        assert!((49_000_000..=50_000_000).contains(&old), "{old}");
        assert_eq!(clock.time_of(0), Timestamp(0));
    }

    // A burst of changes, an hour of silence, and another change: the last ones of the burst were an
    // hour old, and counted as new.
    #[test]
    fn a_commit_lies_between_the_two_times_that_are_told_of_it() {
        let mut clock = Clock::default();
        let mut commits = Vec::new();
        let mut now = 1_000;
        for (sequence, wait) in (1..).zip([0, 0, 90, 90, 90, 90, 0, 3_600_000, 0, 50, 700, 0]) {
            now += wait;
            clock.note(sequence, Timestamp(now));
            commits.push((sequence, now));
        }
        for (sequence, time) in commits {
            let (from, to) = (clock.time_of(sequence).0, clock.by(sequence).0);
            assert!(from <= time && time <= to, "{sequence}: {from} {time} {to}");
            assert!(
                to - from < 2 * MARK_EVERY_MS,
                "{sequence}: {from} {time} {to}"
            );
        }
        let marks = clock.marks().collect();
        let restored = Clock::with(marks);
        assert_eq!(restored.by(12), clock.by(12));
        assert_eq!(restored.last(), (12, Timestamp(now)));
    }
}

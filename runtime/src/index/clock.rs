//! When was a sequence committed? To about a second for what is young, coarser for what is old, in bounded memory.

use crate::model::Timestamp;

/// Marks kept at the most; as a row on disk they stay under 32 KiB.
const MARKS_MAX: usize = 2_000;
/// A new mark is made at most once in so many milliseconds.
const MARK_EVERY_MS: u64 = 1_000;

/// Marks of (sequence, time), both rising.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    marks: Vec<(u64, Timestamp)>,
}

impl Clock {
    /// A clock with the marks that another one had.
    pub fn with(marks: Vec<(u64, Timestamp)>) -> Clock {
        Clock { marks }
    }

    /// The marks, to be kept on disk.
    pub fn marks(&self) -> &[(u64, Timestamp)] {
        &self.marks
    }

    /// Notes that a sequence is committed at `now`.
    pub fn note(&mut self, sequence: u64, now: Timestamp) {
        if self.marks.last().is_none_or(|last| last.1.0 + MARK_EVERY_MS <= now.0 && last.0 < sequence) {
            self.marks.push((sequence, now));
        }
        if self.marks.len() > MARKS_MAX {
            // Every second mark of the older half goes: the past gets coarser, never lost.
            let half = self.marks.len() / 2;
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at > half || at % 2 == 1
            });
        }
    }

    /// The time of the newest mark that is not after the sequence.
    pub fn time_of(&self, sequence: u64) -> Timestamp {
        let at = self.marks.partition_point(|mark| mark.0 <= sequence);
        self.marks.get(at.saturating_sub(1)).filter(|_| sequence > 0).map_or(Timestamp(0), |mark| mark.1)
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
        assert!(clock.marks().len() <= MARKS_MAX);
        assert_eq!(clock.time_of(999_995), Timestamp(99_999_000));
        let old = clock.time_of(500_000).0;
        assert!((40_000_000..=50_000_000).contains(&old), "{old}");
        assert_eq!(clock.time_of(0), Timestamp(0));
    }
}

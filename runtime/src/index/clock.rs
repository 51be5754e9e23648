//! When a sequence was committed: accurate to about a second for recent ones and to about two
//! hundredths of their age for old ones, in bounded memory.

use crate::model::Timestamp;

/// Maximum number of marks; as a row on disk they stay under 32 KiB.
const MARKS_MAX: usize = 2_000;
/// Minimum interval between two marks, in milliseconds.
const MARK_EVERY_MS: u64 = 1_000;

/// Marks of (sequence, time), both ascending.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    marks: Vec<(u64, Timestamp)>,
}

impl Clock {
    /// A clock with marks that were read from disk.
    pub fn with(marks: Vec<(u64, Timestamp)>) -> Clock {
        Clock { marks }
    }

    /// The marks, for writing to disk.
    pub fn marks(&self) -> &[(u64, Timestamp)] {
        &self.marks
    }

    /// Records that a sequence was committed at `now`.
    pub fn note(&mut self, sequence: u64, now: Timestamp) {
        if self
            .marks
            .last()
            .is_none_or(|last| last.1.0 + MARK_EVERY_MS <= now.0 && last.0 < sequence)
        {
            self.marks.push((sequence, now));
        }
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
        assert!((49_000_000..=50_000_000).contains(&old), "{old}");
        assert_eq!(clock.time_of(0), Timestamp(0));
    }
}

//! When was a sequence committed? To about a second for what is young, to about two hundredths of
//! its age for what is old, in bounded memory.

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

    /// Keeps a mark only if it is at least a hundredth of its age away from the next younger one:
    /// some 1,700 marks a year.
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
        // Should time have stood still or run back, the oldest marks go all the same.
        self.marks
            .drain(..self.marks.len().saturating_sub(MARKS_MAX));
    }

    /// The time of the newest mark that is not after the sequence.
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

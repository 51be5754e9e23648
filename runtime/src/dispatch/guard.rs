//! The guard against mass withdrawal: a bug must not empty a shop. Pure: time is an argument.
//!
//! Every delete that a target would get for the first time counts, whatever its cause: the source's
//! own deletion, a filter, a missing need, a renderer that returns nothing, or a rendering that moves
//! to another key, whose old key is deleted. The repetition of a delete that was acknowledged does
//! not count. The counts are stored with the channel, so that restarts do not start them over.

use std::collections::VecDeque;

use super::WithdrawMax;
use crate::model::Timestamp;

/// Steps into which the time span is divided; a withdrawal is dropped from the count up to one step
/// late.
const STEPS: u64 = 60;

/// Counts the withdrawals and deletions of a channel in a sliding window of time.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Each step with its number of withdrawals, oldest first.
    counts: VecDeque<(u64, u64)>,
    total: u64,
}

impl Guard {
    /// Whether a channel that holds `holding` entities may send one more withdrawal now. If so, the
    /// withdrawal is counted.
    pub fn admits(&mut self, max: &WithdrawMax, holding: u64, now: Timestamp) -> bool {
        let step = now.0 / (max.per.as_millis() as u64 / STEPS).max(1);
        while let Some(&(oldest, count)) = self
            .counts
            .front()
            .filter(|(oldest, _)| oldest + STEPS < step)
        {
            debug_assert!(oldest < step);
            self.total -= count;
            self.counts.pop_front();
        }
        let limit = max
            .min
            .max((holding as f64 * max.share.clamp(0.0, 1.0)) as u64);
        if self.total >= limit {
            return false;
        }
        self.total += 1;
        match self.counts.back_mut() {
            Some((last, count)) if *last >= step => *count += 1,
            _ => self.counts.push_back((step, 1)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admitted(guard: &mut Guard, max: &WithdrawMax, holding: u64, now: u64) -> usize {
        (0..10_000)
            .filter(|_| guard.admits(max, holding, Timestamp(now)))
            .count()
    }

    #[test]
    fn a_share_of_what_is_held_may_go_within_the_time_and_some_always() {
        let max = WithdrawMax {
            share: 0.02,
            per: Duration::from_secs(3600),
            min: 100,
        };
        assert_eq!(admitted(&mut Guard::default(), &max, 200_000, 0), 4_000);
        assert_eq!(admitted(&mut Guard::default(), &max, 50, 0), 100);
        assert_eq!(
            admitted(
                &mut Guard::default(),
                &WithdrawMax {
                    share: 0.0,
                    min: 0,
                    ..max
                },
                1_000_000,
                0
            ),
            0
        );
    }

    #[test]
    fn what_went_is_forgotten_after_the_time_and_not_before() {
        let max = WithdrawMax {
            share: 0.0,
            per: Duration::from_secs(3600),
            min: 10,
        };
        let mut guard = Guard::default();
        assert!((0..4).all(|_| guard.admits(&max, 0, Timestamp(0))));
        assert_eq!(admitted(&mut guard, &max, 0, 1_800_000), 6);
        assert_eq!(admitted(&mut guard, &max, 0, 3_599_999), 0);
        assert_eq!(
            admitted(&mut guard, &max, 0, 3_600_000 + 60_000),
            4,
            "the four of the beginning"
        );
        assert_eq!(admitted(&mut guard, &max, 0, 10_000_000), 10);
    }
}

//! The guard against mass withdrawal: a bug must not empty a shop. Pure: time is an argument.
//!
//! Every delete that a target would get for the first time counts, whatever its cause: the source's
//! own deletion, a filter, a missing need, a renderer that returns nothing, or a rendering that moves
//! to another key, whose old key is deleted. The repetition of a delete that was acknowledged does
//! not count. The counts are stored with the channel, so that restarts do not start them over.

use std::collections::VecDeque;

use super::WithdrawMax;
use crate::model::Timestamp;
use crate::store::Withdrawals;

/// Steps into which the time span is divided; a withdrawal is dropped from the count up to one step
/// late.
const STEPS: u64 = 60;

/// Counts the deletes of a channel in a sliding window of time.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// The beginning of each step with its number of deletes, oldest first.
    counts: VecDeque<(Timestamp, u64)>,
    total: u64,
}

impl Guard {
    /// A guard that continues with the counts of an earlier run.
    pub fn restored(counts: Withdrawals) -> Guard {
        Guard {
            total: counts.iter().map(|(_, count)| count).sum(),
            counts: counts.into(),
        }
    }

    /// Whether a channel that holds `holding` entities may send this many more deletes now. If so,
    /// they are counted.
    pub fn admits(
        &mut self,
        max: &WithdrawMax,
        holding: u64,
        deletes: u64,
        now: Timestamp,
    ) -> bool {
        let span = max.per.as_millis() as u64;
        let step = (span / STEPS).max(1);
        while let Some((begun, count)) = self.counts.front().copied()
            && begun.0.saturating_add(span + step) <= now.0
        {
            self.total -= count;
            self.counts.pop_front();
        }
        let limit = max
            .min
            .max((holding as f64 * max.share.clamp(0.0, 1.0)) as u64);
        if self.total.saturating_add(deletes) > limit {
            return false;
        }
        self.total += deletes;
        match self.counts.back_mut() {
            Some((begun, count)) if now.0 < begun.0.saturating_add(step) => *count += deletes,
            _ => self.counts.push_back((now, deletes)),
        }
        true
    }

    /// The counts, to be stored.
    pub fn counts(&self) -> Withdrawals {
        self.counts.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admitted(guard: &mut Guard, max: &WithdrawMax, holding: u64, now: u64) -> usize {
        (0..10_000)
            .filter(|_| guard.admits(max, holding, 1, Timestamp(now)))
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
        assert!((0..4).all(|_| guard.admits(&max, 0, 1, Timestamp(0))));
        assert_eq!(admitted(&mut guard, &max, 0, 1_800_000), 6);
        assert_eq!(admitted(&mut guard, &max, 0, 3_599_999), 0);
        assert_eq!(
            admitted(&mut guard, &max, 0, 3_600_000 + 60_000),
            4,
            "the four of the beginning"
        );
        assert_eq!(admitted(&mut guard, &max, 0, 10_000_000), 10);
    }
    /// After a bug had deleted what the guard admits, each restart let as many go again.
    #[test]
    fn a_restart_does_not_start_the_counts_over() {
        let max = WithdrawMax {
            share: 0.0,
            per: Duration::from_secs(3600),
            min: 10,
        };
        let mut guard = Guard::default();
        assert!(
            guard.admits(&max, 0, 4, Timestamp(0)) && guard.admits(&max, 0, 6, Timestamp(90_000))
        );
        let mut guard = Guard::restored(guard.counts());
        assert_eq!(admitted(&mut guard, &max, 0, 100_000), 0);
        assert_eq!(admitted(&mut guard, &max, 0, 3_660_000), 4);
    }

    #[test]
    fn an_entity_with_several_deletes_goes_as_a_whole_or_not() {
        let max = WithdrawMax {
            share: 0.0,
            per: Duration::from_secs(3600),
            min: 10,
        };
        let mut guard = Guard::default();
        assert!(guard.admits(&max, 0, 8, Timestamp(0)));
        assert!(!guard.admits(&max, 0, 3, Timestamp(0)));
        assert!(guard.admits(&max, 0, 2, Timestamp(0)));
    }
}

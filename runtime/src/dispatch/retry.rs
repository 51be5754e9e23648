//! The time of the next attempt at a failed delivery, as a function of attempts and chance, and the
//! number of retries that a channel may make at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::{Ordinal, Sequence, Timestamp};
use crate::sync::lock;
use crate::targets::DeliveryId;

/// Retries allowed for each first attempt, in addition to [`RETRIES_PER_SECOND`].
const RETRY_SHARE: f64 = 0.2;
/// Retries a second that are always allowed, so that a quiet channel recovers.
const RETRIES_PER_SECOND: f64 = 10.0;
/// Token bucket size: a quiet time saves up ten seconds' worth.
const RETRIES_SAVED_MAX: f64 = 10.0 * RETRIES_PER_SECOND;

/// How many keys under which an entity may be at its target are remembered; more would need as many
/// failures in a row, each under a new key.
pub(crate) const KEYS_MAX: usize = 16;

/// A schedule of retries: `first`, then each time `factor` longer, up to `cap`; with full jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The longest wait before the first retry; 1 s.
    pub first: Duration,
    /// How much longer each next wait is; 2.
    pub factor: f64,
    /// The longest wait of all; 10 min.
    pub cap: Duration,
    /// Attempts after which the entity stays parked at `cap`; 12. It is never dropped.
    pub attempts: u8,
}

impl Options {
    /// How long to wait after that many counted attempts. `chance` from 0 to 1 spreads the wait over
    /// all of its length, because entities that failed together would else come back together.
    pub fn wait(&self, attempts: u8, chance: f64) -> Duration {
        let chance = chance.clamp(0.0, 1.0);
        if attempts >= self.attempts {
            // No hurry any more: the upper half only.
            return self.cap.mul_f64(0.5 + chance / 2.0);
        }
        let growth = self
            .factor
            .max(1.0)
            .powi(i32::from(attempts.saturating_sub(1)));
        let longest = (self.first.as_secs_f64() * growth).min(self.cap.as_secs_f64());
        Duration::from_secs_f64(longest.max(0.0) * chance)
    }
}

/// How many retries a channel may make: a fifth of its first attempts and ten a second, so that a
/// target in trouble sees at most 1.2 times its load.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    tokens: f64,
    at: Timestamp,
}

impl RetryBudget {
    /// A budget with one second's worth in it.
    pub fn new(now: Timestamp) -> RetryBudget {
        RetryBudget {
            tokens: RETRIES_PER_SECOND,
            at: now,
        }
    }

    /// A first attempt was made.
    pub fn earn(&mut self) {
        self.tokens = (self.tokens + RETRY_SHARE).min(RETRIES_SAVED_MAX);
    }

    /// Takes one retry out of the budget.
    ///
    /// # Errors
    /// How long until there is one, if there is none now.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        let elapsed = now.0.saturating_sub(self.at.0) as f64 / 1000.0;
        self.tokens = (self.tokens + elapsed * RETRIES_PER_SECOND).min(RETRIES_SAVED_MAX);
        self.at = self.at.max(now);
        if self.tokens < 1.0 {
            return Err(
                Duration::from_secs_f64((1.0 - self.tokens) / RETRIES_PER_SECOND)
                    + Duration::from_millis(1),
            );
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

/// The attempt before, so that the next one at the same rendering carries the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    /// `webhook-id` it had.
    pub(crate) id: DeliveryId,
    /// Digest of the rendering, none for a deletion.
    pub(crate) digest: Option<u64>,
    /// Newest change that was in it.
    pub(crate) newest: Sequence,
    /// The key it was sent under: it may be there.
    pub(crate) key: Arc<str>,
    /// Keys of attempts before it that may be there too, oldest first; at most [`KEYS_MAX`].
    pub(crate) older_keys: Vec<Arc<str>>,
}

/// A parked entity waiting for its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// When it may be tried.
    pub(crate) due: Timestamp,
    /// Whether an attempt failed. Else none was possible, and its return is no retry.
    pub(crate) failed: bool,
    /// The guard against mass withdrawal has let it pass.
    pub(crate) released: bool,
    /// The attempt before.
    pub(crate) tried: Option<Tried>,
}

/// When each parked entity of a channel is due, for those who look at the channel from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct DueTimes(Arc<Mutex<HashMap<Ordinal, Timestamp>>>);

impl DueTimes {
    /// When an entity may be tried again; none if it is not parked.
    pub(crate) fn of(&self, ordinal: Ordinal) -> Option<Timestamp> {
        self.lock().get(&ordinal).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ordinal, Timestamp>> {
        lock(&self.0)
    }
}

/// The parked entities of a channel by the time at which they are due.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    due_times: DueTimes,
    heap: BinaryHeap<Reverse<(Timestamp, Ordinal)>>,
    waiting: HashMap<Ordinal, Waiting>,
    failed: usize,
}

impl Schedule {
    /// An empty schedule that can be looked at through `due_times`.
    pub(crate) fn new(due_times: DueTimes) -> Schedule {
        Schedule {
            due_times,
            ..Schedule::default()
        }
    }

    /// Parks an entity; what was known of an earlier wait is replaced.
    pub(crate) fn park(&mut self, ordinal: Ordinal, waiting: Waiting) {
        self.remove(ordinal);
        self.failed += usize::from(waiting.failed);
        self.heap.push(Reverse((waiting.due, ordinal)));
        self.due_times.lock().insert(ordinal, waiting.due);
        self.waiting.insert(ordinal, waiting);
        // Entries that were replaced stay in the heap until their time; they must not outnumber the
        // others.
        if self.heap.len() > 64 + 4 * self.waiting.len() {
            self.heap = self
                .waiting
                .iter()
                .map(|(ordinal, waiting)| Reverse((waiting.due, *ordinal)))
                .collect();
        }
    }

    /// Takes an entity out, wherever it stands.
    pub(crate) fn remove(&mut self, ordinal: Ordinal) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ordinal)?;
        self.due_times.lock().remove(&ordinal);
        self.failed -= usize::from(waiting.failed);
        Some(waiting)
    }

    /// The one that is due first, with its time.
    pub(crate) fn first(&mut self) -> Option<(Ordinal, &Waiting)> {
        while let Some(&Reverse((due, ordinal))) = self.heap.peek() {
            if self
                .waiting
                .get(&ordinal)
                .is_some_and(|waiting| waiting.due == due)
            {
                return self.waiting.get(&ordinal).map(|waiting| (ordinal, waiting));
            }
            self.heap.pop();
        }
        None
    }

    /// The one that is due first among those that did not fail. Looks at all; for a probe, which is
    /// rare.
    pub(crate) fn first_that_did_not_fail(&self) -> Option<Ordinal> {
        let unfailed = self.waiting.iter().filter(|(_, waiting)| !waiting.failed);
        unfailed
            .min_by_key(|(ordinal, waiting)| (waiting.due, **ordinal))
            .map(|(ordinal, _)| *ordinal)
    }

    /// How many wait after a failed attempt.
    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.due_times.lock().clear();
        *self = Schedule::new(self.due_times.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        first: Duration::from_secs(1),
        factor: 2.0,
        cap: Duration::from_secs(600),
        attempts: 12,
    };

    #[test]
    fn waits_double_up_to_the_cap_and_are_spread_over_their_length() {
        let longest: Vec<u64> = (1..=13)
            .map(|attempts| OPTIONS.wait(attempts, 1.0).as_secs())
            .collect();
        assert_eq!(
            longest,
            [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]
        );
        assert_eq!(OPTIONS.wait(3, 0.0), Duration::ZERO);
        assert_eq!(OPTIONS.wait(3, 0.25), Duration::from_secs(1));
        assert_eq!(
            OPTIONS.wait(255, 0.0),
            Duration::from_secs(300),
            "after the last attempt it stays parked, in the upper half of the cap"
        );
    }

    #[test]
    fn retries_are_a_fifth_of_first_attempts_and_ten_a_second() {
        let mut budget = RetryBudget::new(Timestamp(0));
        let mut retries = 0;
        for millisecond in 0..10_000 {
            budget.earn(); // 1,000 first attempts a second
            while budget.take(Timestamp(millisecond)).is_ok() {
                retries += 1;
            }
        }
        assert!(
            (2_080..=2_115).contains(&retries),
            "{retries} retries to 10,000 first attempts in 10 s"
        );
        let wait = (0..3)
            .find_map(|_| budget.take(Timestamp(10_000)).err())
            .expect("the budget is used up");
        assert!(wait <= Duration::from_millis(101), "{wait:?}");
        assert_eq!(
            budget.take(Timestamp(10_000 + wait.as_millis() as u64)),
            Ok(())
        );
        let saved = (0..1_000)
            .filter(|_| budget.take(Timestamp(10_000_000)).is_ok())
            .count();
        assert_eq!(
            saved, 100,
            "a quiet time saves up ten seconds' worth and no more"
        );
    }

    #[test]
    fn the_schedule_gives_what_is_due_first_and_knows_each_entity_once() {
        let mut schedule = Schedule::default();
        let waiting = |due, failed| Waiting {
            due: Timestamp(due),
            failed,
            ..Waiting::default()
        };
        schedule.park(Ordinal(1), waiting(30, true));
        schedule.park(Ordinal(2), waiting(20, false));
        schedule.park(Ordinal(1), waiting(10, true));
        schedule.park(Ordinal(1), waiting(40, true));
        assert_eq!(schedule.due_times.of(Ordinal(1)), Some(Timestamp(40)));
        assert_eq!(schedule.failed(), 1);
        assert_eq!(
            schedule.first().map(|(ordinal, _)| ordinal),
            Some(Ordinal(2))
        );
        schedule.remove(Ordinal(2));
        assert_eq!(
            schedule
                .first()
                .map(|(ordinal, waiting)| (ordinal, waiting.due)),
            Some((Ordinal(1), Timestamp(40)))
        );
        schedule.remove(Ordinal(1));
        assert_eq!(schedule.due_times.of(Ordinal(1)), None);
        assert_eq!(schedule.first(), None);
        assert_eq!(schedule.failed(), 0);
        for due in 0..1_000 {
            schedule.park(Ordinal(7), waiting(due, false));
        }
        assert!(
            schedule.heap.len() < 100,
            "what was replaced does not pile up"
        );
    }
}

//! Retries: when the next attempt at a failed delivery is due, as a function of attempts and
//! chance, and how many retries a channel may make.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::{Ordinal, Sequence, Timestamp};
use crate::sync::lock;
use crate::targets::DeliveryId;

/// Retries allowed per first attempt, in addition to [`RETRIES_PER_SECOND`].
const RETRY_SHARE: f64 = 0.2;
/// Retries per second that are always allowed, so that an idle channel recovers.
const RETRIES_PER_SECOND: f64 = 10.0;
/// Token bucket size: an idle channel saves up at most ten seconds' worth.
const RETRIES_SAVED_MAX: f64 = 10.0 * RETRIES_PER_SECOND;

/// Maximum number of keys remembered under which the target may hold an entity. Exceeding it takes
/// that many failures in a row, each under a new key.
pub(crate) const KEYS_MAX: usize = 16;

/// Exponential backoff with full jitter: `first`, then `factor` times longer each time, up to
/// `cap`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Maximum wait before the first retry. Default 1 s.
    pub first: Duration,
    /// Growth of the wait from one attempt to the next. Default 2.
    pub factor: f64,
    /// Maximum wait before any retry. Default 10 min.
    pub cap: Duration,
    /// Attempts after which the entity stays parked and is retried about every `cap`, or is refused
    /// if the target answered 409 or 422. Default 12. It is never dropped.
    pub attempts: u8,
    /// How long an entity that the target refused stays so before it is tried once more. Default 1 h.
    pub refused: Duration,
}

impl Options {
    /// How long to wait after `attempts` counted attempts. `chance` from 0 to 1 spreads the wait
    /// over its whole length, because entities that failed together would otherwise be retried
    /// together.
    pub fn wait(&self, attempts: u8, chance: f64) -> Duration {
        let chance = chance.clamp(0.0, 1.0);
        if attempts >= self.attempts {
            // There is no hurry any more, so the wait is in the upper half of `cap`.
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

/// The retry budget of a channel in requests: a fifth of its first attempts plus ten per second, so that a
/// target in trouble sees little more than 1.2 times its normal load. An entity counts as its part of the
/// request that it was sent in. Until that is known it counts as its part of a usual one; those of a batch
/// that wait for a retry come due together ([`together`]).
#[derive(Clone, Debug)]
pub struct RetryBudget {
    tokens: f64,
    at: Timestamp,
    /// Entities of a request, mostly of the latest ones; 0 before the first.
    usual: f64,
}

/// Requests that have been made for some entities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Made {
    /// Requests; more than one if they could not be sent together.
    pub requests: usize,
    /// The entities in them.
    pub entities: usize,
    /// How many of these were sent for the first time.
    pub first: usize,
    /// How many of these were retries, and what they took out of the budget.
    pub retries: usize,
    /// See `retries`.
    pub taken: f64,
}

impl RetryBudget {
    /// A budget with one second's worth in it.
    pub fn new(now: Timestamp) -> RetryBudget {
        RetryBudget {
            tokens: RETRIES_PER_SECOND,
            at: now,
            usual: 0.0,
        }
    }

    /// Settles requests that have been made: those that hold first attempts earn retries, and retries
    /// cost what they really cost.
    pub fn settle(&mut self, made: Made) {
        if made.requests == 0 || made.entities == 0 {
            // Nothing was asked of the target, so nothing was used up.
            self.tokens = (self.tokens + made.taken).min(RETRIES_SAVED_MAX);
            return;
        }
        let (requests, entities) = (made.requests as f64, made.entities as f64);
        let earned = RETRY_SHARE * requests * made.first as f64 / entities;
        let cost = requests * made.retries as f64 / entities;
        // After many that cost more than was taken, retries pause for ten seconds and no longer.
        self.tokens =
            (self.tokens + earned + made.taken - cost).clamp(-RETRIES_SAVED_MAX, RETRIES_SAVED_MAX);
        self.usual = match self.usual {
            0.0 => entities / requests,
            usual => usual + (entities / requests - usual) / 8.0,
        };
    }

    /// Takes a retry of an entity out of the budget, and returns how much that was.
    ///
    /// # Errors
    /// The time until the next retry is available, if there is none now.
    pub fn take(&mut self, now: Timestamp) -> Result<f64, Duration> {
        let cost = 1.0 / self.usual.max(1.0);
        let elapsed = now.0.saturating_sub(self.at.0) as f64 / 1000.0;
        self.tokens = (self.tokens + elapsed * RETRIES_PER_SECOND).min(RETRIES_SAVED_MAX);
        self.at = self.at.max(now);
        if self.tokens < cost {
            return Err(
                Duration::from_secs_f64((cost - self.tokens) / RETRIES_PER_SECOND)
                    + Duration::from_millis(1),
            );
        }
        self.tokens -= cost;
        Ok(cost)
    }
}

/// When an entity that is due at `due` is tried again: where requests hold several, at the next full
/// tenth of a second, so that they fill requests again and do not come one by one.
pub(crate) fn together(due: Timestamp, batch: usize) -> Timestamp {
    match batch {
        1 => due,
        _ => Timestamp(due.0.next_multiple_of(1000 / RETRIES_PER_SECOND as u64)),
    }
}

/// The previous attempt, kept so that the next one at the same rendering carries the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    /// Its `webhook-id`.
    pub(crate) id: DeliveryId,
    /// Digest of the rendering; `None` for a deletion.
    pub(crate) digest: Option<u64>,
    /// Newest change that it included.
    pub(crate) newest: Sequence,
    /// The key it was sent under; the target may hold the entity there.
    pub(crate) key: Arc<str>,
    /// Keys of earlier attempts that the target may hold too, oldest first; at most [`KEYS_MAX`].
    pub(crate) older_keys: Vec<Arc<str>>,
}

/// A parked entity that waits for its next attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// When the next attempt is due.
    pub(crate) due: Timestamp,
    /// Whether an attempt failed. If not, no attempt was possible, and the next one does not count
    /// as a retry.
    pub(crate) failed: bool,
    /// Whether the guard against mass withdrawal has admitted it.
    pub(crate) released: bool,
    /// The previous attempt.
    pub(crate) tried: Option<Tried>,
    /// The target answered 409 or 422: a newer state of the entity is tried at once.
    pub(crate) awaits_change: bool,
    /// It was refused and is tried once more.
    pub(crate) once_more: bool,
}

/// When each parked entity of a channel is due, for readers outside the channel's task.
#[derive(Clone, Debug, Default)]
pub(crate) struct DueTimes(Arc<Mutex<HashMap<Ordinal, Timestamp>>>);

impl DueTimes {
    /// When an entity is due again; `None` if it is not parked.
    pub(crate) fn of(&self, ordinal: Ordinal) -> Option<Timestamp> {
        self.lock().get(&ordinal).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ordinal, Timestamp>> {
        lock(&self.0)
    }
}

/// The parked entities of a channel, ordered by due time.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    due_times: DueTimes,
    heap: BinaryHeap<Reverse<(Timestamp, Ordinal)>>,
    waiting: HashMap<Ordinal, Waiting>,
    failed: usize,
    /// Entities that wait for a change.
    awaiting: usize,
    /// Refused entities that wait to be tried once more.
    once_more: usize,
}

impl Schedule {
    /// An empty schedule that can be read from outside through `due_times`.
    pub(crate) fn new(due_times: DueTimes) -> Schedule {
        Schedule {
            due_times,
            ..Schedule::default()
        }
    }

    /// Parks an entity; this replaces an earlier wait of it.
    pub(crate) fn park(&mut self, ordinal: Ordinal, waiting: Waiting) {
        self.remove(ordinal);
        self.failed += usize::from(waiting.failed);
        self.awaiting += usize::from(waiting.awaits_change);
        self.once_more += usize::from(waiting.once_more);
        self.heap.push(Reverse((waiting.due, ordinal)));
        self.due_times.lock().insert(ordinal, waiting.due);
        self.waiting.insert(ordinal, waiting);
        // Replaced entries stay in the heap until they are due, so they must not outnumber the live
        // ones.
        if self.heap.len() > 64 + 4 * self.waiting.len() {
            self.heap = self
                .waiting
                .iter()
                .map(|(ordinal, waiting)| Reverse((waiting.due, *ordinal)))
                .collect();
        }
    }

    /// Removes an entity from the schedule.
    pub(crate) fn remove(&mut self, ordinal: Ordinal) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ordinal)?;
        self.due_times.lock().remove(&ordinal);
        self.failed -= usize::from(waiting.failed);
        self.awaiting -= usize::from(waiting.awaits_change);
        self.once_more -= usize::from(waiting.once_more);
        Some(waiting)
    }

    /// The entity that is due first.
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

    /// An entity that did not fail, by chance: neighbours often share a mistake, and the next one would look
    /// like the last. It examines all of them, which is fine for a probe.
    pub(crate) fn any_that_did_not_fail(&self, dice: &mut fastrand::Rng) -> Option<Ordinal> {
        let unfailed = self.waiting.iter().filter(|(_, waiting)| !waiting.failed);
        let number = dice.usize(..self.untried().max(1));
        unfailed.map(|(ordinal, _)| *ordinal).nth(number)
    }

    /// The number of entities that wait and did not fail.
    pub(crate) fn untried(&self) -> usize {
        self.waiting.len() - self.failed
    }

    /// The number of entities that wait after a failed attempt.
    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    /// The number of refused entities that wait to be tried once more.
    pub(crate) fn once_more(&self) -> usize {
        self.once_more
    }

    /// Whether an entity waits for a change.
    pub(crate) fn awaits_changes(&self) -> bool {
        self.awaiting > 0
    }

    /// The entities that wait for a change, each with the newest one that was tried.
    pub(crate) fn awaiting_change(&self) -> Vec<(Ordinal, Sequence)> {
        let awaiting = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.awaits_change);
        awaiting
            .filter_map(|(ordinal, waiting)| Some((*ordinal, waiting.tried.as_ref()?.newest)))
            .collect()
    }

    /// Makes an entity due at once, as for a first attempt.
    pub(crate) fn hurry(&mut self, ordinal: Ordinal, now: Timestamp) {
        if let Some(mut waiting) = self.remove(ordinal) {
            (waiting.due, waiting.failed, waiting.awaits_change) = (now, false, false);
            self.park(ordinal, waiting);
        }
    }

    /// Removes all entities.
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
        refused: Duration::from_secs(3600),
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

    /// A request that was sent for the first time, with this many entities.
    fn first(entities: usize) -> Made {
        Made {
            requests: 1,
            entities,
            first: entities,
            retries: 0,
            taken: 0.0,
        }
    }

    #[test]
    fn a_retry_that_was_not_made_costs_nothing() {
        let now = Timestamp(0);
        let mut budget = RetryBudget::new(now);
        for _ in 0..1_000 {
            let taken = budget.take(now).expect("nothing has been used up");
            budget.settle(Made {
                requests: 0,
                first: 0,
                retries: 1,
                taken,
                ..first(1)
            });
        }
    }

    #[test]
    fn retries_are_a_fifth_of_first_attempts_and_ten_a_second() {
        let mut budget = RetryBudget::new(Timestamp(0));
        let mut retries = 0;
        for millisecond in 0..10_000 {
            budget.settle(first(1)); // 1,000 first attempts per second
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
            Ok(1.0)
        );
        let saved = (0..1_000)
            .filter(|_| budget.take(Timestamp(10_000_000)).is_ok())
            .count();
        assert_eq!(
            saved, 100,
            "a quiet time saves up ten seconds' worth and no more"
        );
    }

    // A request of 500 documents was lost, and ten of them were tried again each second.
    #[test]
    fn a_request_of_many_entities_counts_as_one_retry() {
        let mut budget = RetryBudget::new(Timestamp(0));
        budget.settle(first(500));
        let retries = (0..10_000)
            .take_while(|_| budget.take(Timestamp(0)).is_ok())
            .count();
        assert!((4_990..=5_110).contains(&retries), "{retries}");
        let due = |at| together(Timestamp(at), 500).0;
        assert_eq!([due(1), due(99), due(100), due(101)], [100, 100, 100, 200]);
        assert_eq!(together(Timestamp(7), 1).0, 7);
    }

    // A channel that may send 500 entities in a request had two large ones in each. A retry cost a five
    // hundredth, and a shop in trouble got hundreds of them each second.
    #[test]
    fn a_retry_costs_its_part_of_the_request_that_was_made() {
        let mut budget = RetryBudget::new(Timestamp(0));
        budget.settle(first(500));
        let (mut made, mut taken) = (0, Vec::new());
        for second in 0..60 {
            while let Ok(cost) = budget.take(Timestamp(second * 1000)) {
                taken.push(cost);
            }
            for pair in std::mem::take(&mut taken).chunks(2) {
                made += 1;
                budget.settle(Made {
                    requests: 1,
                    entities: pair.len(),
                    first: 0,
                    retries: pair.len(),
                    taken: pair.iter().sum(),
                });
            }
        }
        // 2,500 were taken before the first was made, and 50 seconds' worth after a pause.
        assert!((2_900..=3_100).contains(&made), "{made}");
        for second in 1_000..1_060 {
            while let Ok(cost) = budget.take(Timestamp(second * 1000)) {
                taken.push(cost);
            }
        }
        let retries = taken.len();
        assert!((1_000..=1_500).contains(&retries), "{retries}");
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

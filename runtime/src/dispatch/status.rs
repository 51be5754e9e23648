//! How a channel stands: its state, what it owes, and its counters. Reading them disturbs nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::handle::TargetStatus;
use crate::model::Timestamp;
use crate::store::Owed;

/// The ways in which the flight of an entity ends, as metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The target has it.
    Delivered,
    /// The target has it no more.
    Withdrawn,
    /// The target had just this already.
    Suppressed,
    /// Not for this channel, and it was not there.
    Withheld,
    /// Rendered, counted and not sent.
    Counted,
    /// Failed; to be retried.
    Parked,
    /// Held by the guard against mass withdrawal.
    Held,
    /// The target, or a plugin, will not have it.
    Refused,
}

impl DeliveryResult {
    /// All of them.
    pub const ALL: [DeliveryResult; 8] = [
        DeliveryResult::Delivered,
        DeliveryResult::Withdrawn,
        DeliveryResult::Suppressed,
        DeliveryResult::Withheld,
        DeliveryResult::Counted,
        DeliveryResult::Parked,
        DeliveryResult::Held,
        DeliveryResult::Refused,
    ];

    /// The label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            DeliveryResult::Delivered => "delivered",
            DeliveryResult::Withdrawn => "withdrawn",
            DeliveryResult::Suppressed => "suppressed",
            DeliveryResult::Withheld => "withheld",
            DeliveryResult::Counted => "counted",
            DeliveryResult::Parked => "parked",
            DeliveryResult::Held => "held",
            DeliveryResult::Refused => "refused",
        }
    }
}

/// Upper bounds of the buckets in which seconds of an attempt are counted; one more is for what
/// took longer.
pub const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0,
];

/// What a channel counts; only ever rises.
#[derive(Debug, Default)]
pub struct Counters {
    endings: [AtomicU64; DeliveryResult::ALL.len()],
    buckets: [AtomicU64; SECONDS.len() + 1],
    micros: AtomicU64,
    turns: AtomicU64,
}

impl Counters {
    /// How many flights have ended that way.
    pub fn count(&self, ending: DeliveryResult) -> u64 {
        self.endings[ending as usize].load(Ordering::Relaxed)
    }

    /// Attempts by how long they took: one figure for each of [`SECONDS`] and one for the longer
    /// ones, not cumulative; and the sum in seconds.
    pub fn attempt_seconds(&self) -> ([u64; SECONDS.len() + 1], f64) {
        let buckets = std::array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed));
        (buckets, self.micros.load(Ordering::Relaxed) as f64 / 1e6)
    }

    /// Attempts made.
    #[cfg(test)]
    pub fn attempts(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// Turns of the channel's loop: far more than attempts means that it spins.
    #[cfg(test)]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(crate) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, ending: DeliveryResult) {
        self.endings[ending as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn attempt(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = SECONDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(SECONDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros
            .fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }
}

/// A channel's state, as people and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Deliveries flow.
    Flowing,
    /// The target is in trouble; it is tried again later.
    Tripped,
    /// One attempt is out to see whether the target is back.
    Probing,
    /// Somebody, or the target (410), has paused it.
    Paused,
    /// It has been stopped, or its task has ended.
    Stopped,
}

impl State {
    /// The label in metrics and answers.
    pub fn name(self) -> &'static str {
        match self {
            State::Flowing => "flowing",
            State::Tripped => "tripped",
            State::Probing => "probing",
            State::Paused => "paused",
            State::Stopped => "stopped",
        }
    }
}

/// How a channel stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Why it does not flow, for people; empty if it does.
    pub reason: String,
    /// How its target stands, shared with other channels.
    pub target: TargetStatus,
    /// What is before it.
    pub owed: Owed,
    /// Age of the oldest change owed; zero if nothing is.
    pub freshness: Duration,
    /// The objective for it.
    pub freshness_objective: Option<Duration>,
}

impl Status {
    /// The age of the oldest change owed, at `now`.
    pub(crate) fn freshness(owed: &Owed, now: Timestamp) -> Duration {
        owed.oldest_time.map_or(Duration::ZERO, |time| {
            Duration::from_millis(now.0.saturating_sub(time.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_how_long_they_took() {
        let counters = Counters::default();
        for millis in [1, 2, 30, 20_000] {
            counters.attempt(Duration::from_millis(millis));
        }
        let (buckets, sum) = counters.attempt_seconds();
        assert_eq!(buckets, [1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert!((sum - 20.033).abs() < 1e-9 && counters.attempts() == 4);
    }
}

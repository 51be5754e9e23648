//! The status of a channel: its state, what it owes, and its counters. Reading them never blocks
//! the channel.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::handle::TargetStatus;
use crate::model::Timestamp;
use crate::store::Owed;

/// The ways in which an entity's flight can end, as metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The target acknowledged the rendering.
    Delivered,
    /// The target acknowledged the deletion.
    Withdrawn,
    /// Not sent, because the target certainly holds the same rendering already.
    Suppressed,
    /// Not for this channel, and the target did not hold it.
    Withheld,
    /// Rendered and counted, but not sent.
    Counted,
    /// Failed; it will be retried.
    Parked,
    /// Held by the guard against mass withdrawal.
    Held,
    /// The target does not accept it, or a plugin failed on it (dead letter).
    Refused,
}

impl DeliveryResult {
    /// All results.
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

/// Upper bounds, in seconds, of the histogram buckets for the duration of an attempt. One more
/// bucket counts longer attempts.
pub const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0,
];

/// The counters of a channel; they only increase.
#[derive(Debug, Default)]
pub struct Counters {
    endings: [AtomicU64; DeliveryResult::ALL.len()],
    buckets: [AtomicU64; SECONDS.len() + 1],
    micros: AtomicU64,
    refused_tried: AtomicU64,
    turns: AtomicU64,
}

impl Counters {
    /// The number of flights that have ended this way.
    pub fn count(&self, ending: DeliveryResult) -> u64 {
        self.endings[ending as usize].load(Ordering::Relaxed)
    }

    /// The number of times that a refused entity was tried once more, because `retry.refused` had
    /// passed.
    pub fn refused_tried_count(&self) -> u64 {
        self.refused_tried.load(Ordering::Relaxed)
    }

    /// Attempts by duration: one count for each bucket of [`SECONDS`] and one for longer attempts,
    /// not cumulative, and the sum of all durations in seconds.
    pub fn attempt_seconds(&self) -> ([u64; SECONDS.len() + 1], f64) {
        let buckets = std::array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed));
        (buckets, self.micros.load(Ordering::Relaxed) as f64 / 1e6)
    }

    /// The number of attempts made.
    #[cfg(test)]
    pub fn attempts(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// Turns of the channel's loop. Far more turns than attempts mean that it spins.
    #[cfg(test)]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(crate) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused_tried(&self) {
        self.refused_tried.fetch_add(1, Ordering::Relaxed);
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

/// A channel's state, as users and metrics see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Deliveries flow.
    Flowing,
    /// The target is in trouble; a probe follows later (circuit open).
    Tripped,
    /// One attempt is in progress to find out whether the target is back (circuit half-open).
    Probing,
    /// Paused by an operator or by the target (410).
    Paused,
    /// The channel was stopped, or its task has ended.
    Stopped,
}

impl State {
    /// The label in metrics and responses.
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

/// The current status of a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Why it does not flow, as text; if it flows, which lanes wait for their hours, or empty.
    pub reason: String,
    /// The status of its target, which it shares with other channels.
    pub target: TargetStatus,
    /// What it owes.
    pub owed: Owed,
    /// Age of the oldest change owed; zero if nothing is owed.
    pub freshness: Duration,
    /// The objective for the freshness.
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

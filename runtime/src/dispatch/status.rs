//! The status of a channel: its state, what it owes, and its counters. Reading them never blocks
//! the channel.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::handle::TargetStatus;
use super::hours::{Hours, Span};
use crate::model::{Lane, Timestamp};
use crate::store::{Debounce, Ending, Owed};

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

    /// That of a flight that ended like this.
    pub(super) fn of(ending: &Ending) -> DeliveryResult {
        match ending {
            Ending::Delivered { .. } => DeliveryResult::Delivered,
            Ending::Withdrawn => DeliveryResult::Withdrawn,
            Ending::Suppressed => DeliveryResult::Suppressed,
            Ending::Withheld(_) => DeliveryResult::Withheld,
            Ending::Counted => DeliveryResult::Counted,
            Ending::Parked { .. } => DeliveryResult::Parked,
            Ending::Held => DeliveryResult::Held,
            Ending::Refused(_) => DeliveryResult::Refused,
        }
    }

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
    /// Those of them that settled a change which was committed since the channel was started.
    settled: [AtomicU64; DeliveryResult::ALL.len()],
    retried: AtomicU64,
    buckets: [AtomicU64; SECONDS.len() + 1],
    micros: AtomicU64,
    refused_tried: AtomicU64,
    late_millis: AtomicU64,
    turns: AtomicU64,
}

impl Counters {
    /// The number of flights that have ended this way.
    pub fn count(&self, ending: DeliveryResult) -> u64 {
        self.endings[ending as usize].load(Ordering::Relaxed)
    }

    /// The number of flights that settled a change committed since the channel was started, and ended this
    /// way. Older changes that it covered are not counted.
    pub fn settled(&self, ending: DeliveryResult) -> u64 {
        self.settled[ending as usize].load(Ordering::Relaxed)
    }

    /// The number of entities that were sent again, because an attempt had failed.
    pub fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// The number of times that a refused entity was tried once more, because `retry.refused` had
    /// passed.
    pub fn refused_tried_count(&self) -> u64 {
        self.refused_tried.load(Ordering::Relaxed)
    }

    /// The time during which the oldest change was owed for longer than the objective allows.
    pub fn late_time(&self) -> Duration {
        Duration::from_millis(self.late_millis.load(Ordering::Relaxed))
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

    pub(crate) fn late(&self, time: Duration) {
        let millis = time.as_millis() as u64;
        self.late_millis.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn refused_tried(&self) {
        self.refused_tried.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a flight, and whether it settled a change that is counted.
    pub(crate) fn add(&self, ending: DeliveryResult, change: bool) {
        self.endings[ending as usize].fetch_add(1, Ordering::Relaxed);
        if change {
            self.settled[ending as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn retry(&self, entities: usize) {
        self.retried.fetch_add(entities as u64, Ordering::Relaxed);
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
    /// The target is in trouble because it holds states that are newer than any of Weir's; a probe follows
    /// later.
    Ahead,
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
            State::Ahead => "ahead",
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
    /// Why it does not flow, as text; if it flows, what waits on purpose, or empty.
    pub reason: String,
    /// The status of its target, which it shares with other channels.
    pub target: TargetStatus,
    /// What it owes.
    pub owed: Owed,
    /// What waits on purpose.
    pub waiting: Waiting,
    /// Age of the oldest change owed, or of the oldest wish to send something once more; zero if nothing is owed.
    pub freshness: Duration,
    /// The same without the time in which the change waited on purpose, for its hours or to be quiet:
    /// this is late if it is above the objective.
    pub overdue: Duration,
    /// The objective for the freshness.
    pub freshness_objective: Option<Duration>,
}

/// The entities of a channel that wait on purpose, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Entities that wait until they are quiet.
    pub debounce: u64,
    /// Lanes that have something to send and wait for their hours: the lane, its hours, and an upper
    /// bound of the entities.
    pub hours: Vec<(Lane, Span, u64)>,
}

impl Waiting {
    pub(crate) fn new(owed: &Owed, hours: Option<&Hours>, now: Timestamp) -> Waiting {
        let waits = |(lane, span): (Lane, Span)| {
            let owed = owed.lanes[lane.index()];
            (owed > 0).then_some((lane, span, owed))
        };
        let closed = hours.into_iter().flat_map(|hours| hours.closed(now));
        Waiting {
            debounce: owed.waiting,
            hours: closed.filter_map(waits).collect(),
        }
    }

    /// In words; empty if nothing waits.
    pub(crate) fn reason(&self, hours: Option<&Hours>, debounce: Option<Debounce>) -> String {
        let zone = hours.map(Hours::zone_name).unwrap_or_default();
        let hours = self.hours.iter();
        let hours = hours
            .map(|(lane, span, _)| format!("{} waits for its hours, {span} {zone}", lane.name()));
        let quiet = debounce.filter(|_| self.debounce > 0).map(|debounce| {
            let (waiting, quiet) = (self.debounce, debounce.quiet);
            format!("entities that wait until they have not changed for {quiet:?}: {waiting}")
        });
        hours.chain(quiet).collect::<Vec<_>>().join("; ")
    }
}

impl Status {
    /// For how long the oldest change owed might have been sent by `now`. A lane that waits for its hours
    /// counts from their beginning.
    pub(crate) fn overdue(owed: &Owed, hours: Option<&Hours>, now: Timestamp) -> Duration {
        let since = |lane: Lane| {
            let at = lane.index();
            let untried = owed.due[at].filter(|_| hours.is_none_or(|hours| hours.open(lane, now)));
            let opened = hours.and_then(|hours| hours.opened(lane, now));
            let from = untried.into_iter().chain(owed.tried[at]).min()?;
            Some(from.max(opened.unwrap_or_default()))
        };
        let oldest = Lane::ALL.into_iter().filter_map(since).min();
        oldest.map_or(Duration::ZERO, |since| {
            Duration::from_millis(now.0.saturating_sub(since.0))
        })
    }

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

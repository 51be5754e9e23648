//! What a source has been doing: counts, the time of its last event, and its last events as samples.
//!
//! It outlives the source's configuration: a reload makes a new [`super::Source`] around the same activity.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::{ChangeCounts, EventCounts};
use crate::metrics::SourceMetrics;
use crate::model::{Event, Timestamp};

/// How many of the last events are kept, so that a new plugin can be tried on them.
const SAMPLES: usize = 16;
/// Larger events are not kept as samples, so that they cost at most 1 MiB a source.
const SAMPLE_BYTES_MAX: usize = 64 * 1024;
/// Counters that any thread may add to.
#[derive(Debug, Default)]
pub struct Activity {
    events: [AtomicU64; 5],
    changes: [AtomicU64; 3],
    last_event: AtomicU64,
    samples: Mutex<VecDeque<Event>>,
    metrics: Option<SourceMetrics>,
}

/// The counters at one moment; each rises for as long as Weir runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events by what became of them.
    pub events: EventCounts,
    /// Items that were no event.
    pub malformed: u64,
    /// Changes by what became of them.
    pub changes: ChangeCounts,
    /// When the last event was taken; none since the start.
    pub last_event: Option<Timestamp>,
}

impl Activity {
    /// An activity that counts into the metrics too.
    pub fn measured(metrics: SourceMetrics) -> Activity {
        Activity { metrics: Some(metrics), ..Activity::default() }
    }

    /// The counters now.
    pub fn counts(&self) -> Counts {
        let [accepted, filtered, quarantined, repeated, malformed] = self.events.each_ref().map(|count| count.load(Relaxed));
        let [committed, unchanged, stale] = self.changes.each_ref().map(|count| count.load(Relaxed));
        Counts {
            events: EventCounts { accepted, filtered, quarantined, repeated },
            malformed,
            changes: ChangeCounts { committed, unchanged, stale },
            last_event: Some(self.last_event.load(Relaxed)).filter(|time| *time > 0).map(Timestamp),
        }
    }

    /// The last events, oldest first; large ones are left out.
    pub fn samples(&self) -> Vec<Event> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn malformed(&self, count: usize) {
        self.events[4].fetch_add(count as u64, Relaxed);
    }

    pub(super) fn taken(&self, events: EventCounts, changes: ChangeCounts) {
        let EventCounts { accepted, filtered, quarantined, repeated } = events;
        for (counter, count) in self.events.iter().zip([accepted, filtered, quarantined, repeated]) {
            counter.fetch_add(count, Relaxed);
        }
        let ChangeCounts { committed, unchanged, stale } = changes;
        for (counter, count) in self.changes.iter().zip([committed, unchanged, stale]) {
            counter.fetch_add(count, Relaxed);
        }
        if let Some(metrics) = &self.metrics {
            let events = [(&metrics.accepted, accepted), (&metrics.filtered, filtered), (&metrics.quarantined, quarantined)];
            let changes = [(&metrics.committed, committed), (&metrics.unchanged, unchanged), (&metrics.stale, stale)];
            for (counter, count) in events.into_iter().chain(changes).chain([(&metrics.repeated, repeated)]) {
                counter.inc_by(count);
            }
        }
    }

    /// Notes that events have come: the source is not silent, and these are its newest samples.
    pub(super) fn seen(&self, events: &[Event], now: Timestamp) {
        self.last_event.fetch_max(now.0, Relaxed);
        let small = events.iter().rev().filter(|event| event.data.as_bytes().len() <= SAMPLE_BYTES_MAX).take(SAMPLES);
        let newest: Vec<Event> = small.cloned().collect();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.extend(newest.into_iter().rev());
        let surplus = samples.len().saturating_sub(SAMPLES);
        samples.drain(..surplus);
    }
}

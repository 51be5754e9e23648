//! The activity of a source: counts, the time of its last event, and its last events and entities
//! as samples.
//!
//! It outlives the source's configuration: a reload makes a new [`super::Source`] around the same
//! activity. Requests are not counted here but by their transport, which sends the responses.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use super::rate::Rate;
use super::{ChangeCounts, EventCounts};
use crate::happenings::Recorder;
use crate::model::{EntityId, Event, Timestamp};
use crate::sync::lock;
use crate::tap::Open;
use crate::traces::Traces;

/// Number of recent events, and of recently written entities, that are kept so that a new plugin
/// can be tried on them.
const SAMPLES: usize = 16;
/// Larger events are not kept as samples, so that the samples take at most 1 MiB per source.
const SAMPLE_BYTES_MAX: usize = 64 * 1024;

/// Counters that any thread may add to.
#[derive(Debug, Default)]
pub struct Activity {
    events: [AtomicU64; 5],
    changes: [AtomicU64; 3],
    last_event: AtomicU64,
    rate: Rate,
    samples: Mutex<VecDeque<Event>>,
    entities: Mutex<VecDeque<EntityId>>,
    recorder: OnceLock<Recorder>,
    traces: OnceLock<Arc<Traces>>,
}

/// The counters at one moment; each rises for as long as Weir runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events by result.
    pub events: EventCounts,
    /// Items that were not events.
    pub malformed: u64,
    /// Changes by result.
    pub changes: ChangeCounts,
    /// When the last event was taken; `None` if there was none since the start.
    pub last_event: Option<Timestamp>,
}

impl Activity {
    /// The counters now.
    pub fn counts(&self) -> Counts {
        let [accepted, filtered, quarantined, repeated, malformed] =
            self.events.each_ref().map(|count| count.load(Relaxed));
        let [committed, unchanged, stale] =
            self.changes.each_ref().map(|count| count.load(Relaxed));
        Counts {
            events: EventCounts {
                accepted,
                filtered,
                quarantined,
                repeated,
            },
            malformed,
            changes: ChangeCounts {
                committed,
                unchanged,
                stale,
            },
            last_event: Some(self.last_event.load(Relaxed))
                .filter(|time| *time > 0)
                .map(Timestamp),
        }
    }

    /// What happens to entities is recorded with this from now on.
    pub fn record_with(&self, recorder: Recorder) {
        // A source has one for as long as it is there.
        let _ = self.recorder.set(recorder);
    }

    /// The taps that are open on the source.
    pub(super) fn taps(&self) -> Option<Open> {
        self.recorder()?.taps()
    }

    /// Spans of requests and events go here from now on.
    pub fn trace_with(&self, traces: Arc<Traces>) {
        // There is one for as long as Weir runs.
        let _ = self.traces.set(traces);
    }

    pub(super) fn traces(&self) -> Option<&Arc<Traces>> {
        self.traces.get()
    }

    pub(super) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.get()
    }

    /// Events per second, averaged over the last minute.
    pub fn per_second(&self, now: Timestamp) -> f64 {
        self.rate.per_second(now)
    }

    /// The last events, oldest first; large ones are left out.
    pub fn samples(&self) -> Vec<Event> {
        lock(&self.samples).iter().cloned().collect()
    }

    /// Takes events of before the start as samples, as long as there are no newer ones.
    pub fn restore(&self, events: Vec<Event>) {
        let mut samples = lock(&self.samples);
        if samples.is_empty() {
            samples.extend(events.into_iter().take(SAMPLES));
        }
    }

    /// The entities written last, oldest first. Consecutive writes of the same entity count once.
    pub fn entities(&self) -> Vec<EntityId> {
        lock(&self.entities).iter().cloned().collect()
    }

    /// Records that these entities were written, the newest first.
    pub(super) fn written<'a>(&self, newest_first: impl Iterator<Item = &'a EntityId>) {
        let newest: Vec<&EntityId> = newest_first.take(SAMPLES).collect();
        let mut entities = lock(&self.entities);
        for id in newest.into_iter().rev() {
            if entities.back() != Some(id) {
                entities.push_back(id.clone());
            }
        }
        let surplus = entities.len().saturating_sub(SAMPLES);
        entities.drain(..surplus);
    }

    pub(super) fn malformed(&self, count: usize) {
        self.events[4].fetch_add(count as u64, Relaxed);
    }

    pub(super) fn taken(&self, events: EventCounts, changes: ChangeCounts) {
        let EventCounts {
            accepted,
            filtered,
            quarantined,
            repeated,
        } = events;
        for (counter, count) in self
            .events
            .iter()
            .zip([accepted, filtered, quarantined, repeated])
        {
            counter.fetch_add(count, Relaxed);
        }
        let ChangeCounts {
            committed,
            unchanged,
            stale,
        } = changes;
        for (counter, count) in self.changes.iter().zip([committed, unchanged, stale]) {
            counter.fetch_add(count, Relaxed);
        }
    }

    /// Records that events have arrived: the source is not silent, and these are its newest
    /// samples.
    pub(super) fn seen(&self, events: &[Event], now: Timestamp) {
        self.last_event.fetch_max(now.0, Relaxed);
        self.rate.count(events.len() as u64, now);
        let small = events
            .iter()
            .rev()
            .filter(|event| event.data.as_bytes().len() <= SAMPLE_BYTES_MAX)
            .take(SAMPLES);
        let newest: Vec<Event> = small.cloned().collect();
        let mut samples = lock(&self.samples);
        samples.extend(newest.into_iter().rev());
        let surplus = samples.len().saturating_sub(SAMPLES);
        samples.drain(..surplus);
    }
}

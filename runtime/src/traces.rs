//! Spans of what Weir does with events and deliveries, for a collector of traces.
//!
//! Whether a span is recorded is decided before anything of it is made: a span whose parent is known
//! follows the parent's flag `sampled`, and of the others a share is recorded. Finished spans wait in a queue
//! of bounded length until they are exported; when it is full, further ones are counted and dropped. While
//! tracing is off, all of this costs the look at one flag.
//!
//! A delivery has a trace of its own, because it may contain the changes of many events. It has links to the
//! spans of the events that it contains, as far as they are known ([`merged`]).

mod merged;
pub mod otlp;
mod span;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use tokio::sync::Notify;

use self::merged::Known;
pub use self::merged::{Expected, Merged};
pub use self::span::{Kind, Links, Nanos, Span, Value};
use crate::happenings::Hash;
use crate::model::{Sequence, Trace};
use crate::sync::lock;

/// The most spans that wait to be exported. A collector that is away for longer than it takes to fill this
/// costs no more memory.
const QUEUE_MAX: usize = 2_048;
/// The most spans of one request to the collector.
pub const BATCH_MAX: usize = 512;

/// The time now.
pub fn now() -> Nanos {
    Nanos::of(SystemTime::now())
}

/// Decides which spans are recorded, and holds those that are until they are exported.
#[derive(Debug, Default)]
pub struct Traces {
    on: AtomicBool,
    /// The share of new traces that are recorded, as the bits of a float.
    share: AtomicU64,
    queue: Mutex<VecDeque<Span>>,
    arrived: Notify,
    known: Known,
    counts: [AtomicU64; Fate::ALL.len()],
}

/// What became of a span that was to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The collector took it.
    Exported,
    /// The collector answered that it did not take it, though it took others of the request.
    Rejected,
    /// The queue was full, or the events of a request were too many.
    Dropped,
    /// The request with it failed for good.
    Failed,
}

impl Fate {
    /// All of them.
    pub const ALL: [Fate; 4] = [Fate::Exported, Fate::Rejected, Fate::Dropped, Fate::Failed];

    /// The label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Exported => "exported",
            Fate::Rejected => "rejected",
            Fate::Dropped => "dropped",
            Fate::Failed => "failed",
        }
    }
}

impl Traces {
    /// Records spans from now on, and of the traces that begin here this share; `None` records nothing.
    pub fn record(&self, share: Option<f64>) {
        self.share
            .store(share.unwrap_or_default().to_bits(), Relaxed);
        self.on.store(share.is_some(), Relaxed);
        if share.is_none() {
            self.known.clear();
        }
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Whether a trace that begins now is recorded.
    pub fn picks(&self) -> bool {
        self.is_on() && fastrand::f64() < f64::from_bits(self.share.load(Relaxed))
    }

    /// A new span below `parent`, or at the begin of a trace; `None` if it is not recorded.
    pub fn begin(&self, parent: Option<Trace>) -> Option<Trace> {
        if !self.is_on() {
            return None;
        }
        let trace = match parent {
            Some(parent) if parent.sampled => parent.trace,
            Some(_) => return None,
            None if self.picks() => fastrand::u128(1..),
            None => return None,
        };
        Some(Trace {
            trace,
            span: fastrand::u64(1..),
            sampled: true,
        })
    }

    /// How many more spans the queue takes now.
    pub fn room(&self) -> usize {
        QUEUE_MAX.saturating_sub(lock(&self.queue).len())
    }

    /// Takes a finished span, or counts it as dropped.
    pub fn finished(&self, span: Span) {
        let mut queue = lock(&self.queue);
        if queue.len() >= QUEUE_MAX {
            drop(queue);
            self.count(Fate::Dropped, 1);
            return;
        }
        queue.push_back(span);
        let waiting = queue.len();
        drop(queue);
        if waiting == 1 || waiting == BATCH_MAX {
            self.arrived.notify_one();
        }
    }

    /// Waits until there is a span, or a whole batch of them. May return without either.
    pub async fn arrive(&self) {
        self.arrived.notified().await;
    }

    /// How many spans wait.
    pub fn waiting(&self) -> usize {
        lock(&self.queue).len()
    }

    /// The oldest spans, with their links. A delivery that may contain an event which is being stored at
    /// the moment waits until that is decided, unless this is `last`.
    pub fn take(&self, last: bool) -> Vec<(Span, Links)> {
        let mut queue = lock(&self.queue);
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        while taken.len() < BATCH_MAX
            && let Some(span) = queue.pop_front()
        {
            match span.links(last) {
                Some(links) => taken.push((span, links)),
                None => left.push_back(span),
            }
        }
        left.append(&mut queue);
        *queue = left;
        taken
    }

    /// Drops all spans that wait.
    pub fn clear(&self) {
        let dropped = std::mem::take(&mut *lock(&self.queue)).len();
        self.count(Fate::Dropped, dropped);
    }

    /// Counts spans by what became of them.
    pub fn count(&self, fate: Fate, spans: usize) {
        self.counts[fate as usize].fetch_add(spans as u64, Relaxed);
    }

    /// The number of spans that had this fate since the start.
    pub fn counted(&self, fate: Fate) -> u64 {
        self.counts[fate as usize].load(Relaxed)
    }

    /// Announces that the event of a recorded span may change facets of an entity, before it is stored.
    pub fn expect(&self, event: Trace, entity: Hash, facets: Vec<Box<str>>) -> Expected {
        self.known.expect(event, entity, facets)
    }

    /// The events with recorded spans that a delivery contains, or may contain. Of each entity come the
    /// sequences up to which its channel had settled it and is settling it now; `sees` says which facets
    /// the channel has.
    pub fn merged(
        &self,
        entities: impl Iterator<Item = (Hash, Sequence, Sequence)>,
        sees: impl Fn(&str) -> bool,
    ) -> Vec<Merged> {
        match self.is_on() {
            true => self.known.merged(entities, sees),
            false => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(sampled: bool) -> Option<Trace> {
        Some(Trace {
            trace: 7,
            span: 9,
            sampled,
        })
    }

    fn span(context: Trace) -> Span {
        Span::new(
            context,
            None,
            Kind::Server,
            String::new(),
            Nanos(1),
            Nanos(2),
        )
    }

    #[test]
    fn a_parent_decides_and_without_one_the_share_does() {
        let traces = Traces::default();
        assert_eq!(
            (traces.begin(parent(true)), traces.begin(None)),
            (None, None)
        );
        traces.record(Some(0.0));
        let child = traces.begin(parent(true)).expect("recorded");
        assert_eq!((child.trace, child.sampled), (7, true));
        assert_ne!(child.span, 9);
        assert_eq!(
            (traces.begin(parent(false)), traces.begin(None)),
            (None, None)
        );
        traces.record(Some(1.0));
        assert_eq!(traces.begin(parent(false)), None, "the sender decided");
        assert!((0..100).all(|_| traces.begin(None).is_some()));
        traces.record(Some(0.25));
        let recorded = (0..10_000).filter(|_| traces.picks()).count();
        assert!((2_000..3_000).contains(&recorded), "{recorded}");
        traces.record(None);
        assert!(!traces.is_on() && traces.begin(parent(true)).is_none());
    }

    #[test]
    fn a_full_queue_counts_what_it_drops() {
        let traces = Traces::default();
        traces.record(Some(1.0));
        for _ in 0..QUEUE_MAX + 3 {
            traces.finished(span(traces.begin(None).expect("recorded")));
        }
        assert_eq!((traces.waiting(), traces.room()), (QUEUE_MAX, 0));
        assert_eq!(traces.counted(Fate::Dropped), 3);
        let batch = traces.take(false);
        assert_eq!((batch.len(), traces.room()), (BATCH_MAX, BATCH_MAX));
        traces.clear();
        let left = (QUEUE_MAX - BATCH_MAX) as u64;
        assert_eq!(traces.counted(Fate::Dropped), 3 + left);
    }

    // A channel may be faster than the answer to the sender: its delivery was sent before anybody knew
    // which sequence the event had got, and had no link to it.
    #[test]
    fn a_delivery_waits_until_the_events_that_it_may_contain_are_stored() {
        let traces = Traces::default();
        traces.record(Some(1.0));
        let entity = Hash::of(&crate::model::EntityId {
            entity_type: "product".into(),
            key: "lamp".into(),
        });
        let facets = || vec!["content".into()];
        let event = traces.begin(None).expect("recorded");
        let expected = traces.expect(event, entity, facets());
        let deliver = |after, upto| {
            let entities = [(entity, Sequence(after), Sequence(upto))];
            let mut delivery = span(traces.begin(None).expect("recorded"));
            delivery.merged = traces.merged(entities.into_iter(), |facet| facet == "content");
            traces.finished(delivery);
        };
        deliver(0, 7);
        assert_eq!(traces.take(false).len(), 0, "nobody knows yet");
        expected.settle(Some(Sequence(5)));
        let (_, links) = traces.take(false).pop().expect("decided");
        assert_eq!((links.count, links.spans[0]), (1, event));

        // A later event, one that was not stored, and one that the delivery before contained.
        let later = traces.begin(None).expect("recorded");
        traces
            .expect(later, entity, facets())
            .settle(Some(Sequence(9)));
        drop(traces.expect(later, entity, facets()));
        deliver(5, 7);
        assert_eq!(traces.take(false).pop().expect("decided").1.count, 0);
        deliver(5, 9);
        assert_eq!(traces.take(false).pop().expect("decided").1.count, 1);
        deliver(0, 9);
        let (_, links) = traces.take(false).pop().expect("decided");
        assert_eq!((links.count, links.spans), (2, vec![event, later]));

        // Of a facet that the channel does not have.
        let other = traces.expect(later, entity, vec!["price".into()]);
        other.settle(Some(Sequence(12)));
        deliver(9, 12);
        assert_eq!(traces.take(false).pop().expect("decided").1.count, 0);
        // At the end nothing is waited for.
        let _undecided = traces.expect(later, entity, facets());
        deliver(12, 14);
        assert_eq!(traces.take(false).len(), 0);
        assert_eq!(traces.take(true).pop().expect("the last").1.count, 0);
    }
}

//! The events with recorded spans that were stored last, by entity, so that a delivery can name those that
//! it contains.
//!
//! An event is announced before it is stored, because a channel may deliver it before its sender has an
//! answer. Until then its sequence is unknown. Only a bounded number of events is known: the oldest are
//! forgotten first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

use crate::happenings::Hash;
use crate::model::{Sequence, Trace};
use crate::sync::lock;

/// The most events that are known, each counted once for each entity that it changed; about 200 bytes each.
const EVENTS_MAX: usize = 16_384;
/// The sequence of an event that is not stored yet, and of one that changed nothing.
const PENDING: u64 = 0;
const NEVER: u64 = u64::MAX;

/// The events that are known.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How many there are, so that nobody takes the lock for nothing.
    events: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_entity: HashMap<Hash, VecDeque<Arc<Entry>>>,
    /// The entities of all entries, in the order in which these came.
    order: VecDeque<Hash>,
}

/// An event, as far as it concerns one entity.
#[derive(Debug)]
struct Entry {
    event: Trace,
    facets: Vec<Box<str>>,
    sequence: AtomicU64,
}

/// An event whose sequence is not known yet. If nobody tells it, it has none.
#[derive(Debug)]
pub struct Expected(Arc<Entry>);

impl Expected {
    /// The event has got this sequence, the first of its changes; `None` if it changed nothing.
    pub fn settle(self, sequence: Option<Sequence>) {
        let sequence = sequence.map_or(NEVER, |sequence| sequence.0);
        self.0.sequence.store(sequence, Relaxed);
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let _ = self
            .0
            .sequence
            .compare_exchange(PENDING, NEVER, Relaxed, Relaxed);
    }
}

/// An event that a delivery contains, or may contain.
#[derive(Clone, Debug)]
pub struct Merged {
    entry: Arc<Entry>,
    entity: Hash,
    after: Sequence,
    upto: Sequence,
}

impl Merged {
    /// The entity that it changed.
    pub fn entity(&self) -> Hash {
        self.entity
    }

    /// The span of the event.
    pub(super) fn event(&self) -> Trace {
        self.entry.event
    }

    /// The event's sequence, and whether the delivery contains it; `None` while nobody knows.
    pub(super) fn decided(&self) -> Option<(u64, bool)> {
        let sequence = self.entry.sequence.load(Relaxed);
        let contains = sequence != NEVER && self.after.0 < sequence && sequence <= self.upto.0;
        (sequence != PENDING).then_some((sequence, contains))
    }
}

impl Known {
    pub(super) fn expect(&self, event: Trace, entity: Hash, facets: Vec<Box<str>>) -> Expected {
        let entry = Arc::new(Entry {
            event,
            facets,
            sequence: AtomicU64::new(PENDING),
        });
        let mut inner = lock(&self.inner);
        if inner.order.len() >= EVENTS_MAX {
            inner.forget_oldest();
        }
        inner.order.push_back(entity);
        let entries = inner.by_entity.entry(entity).or_default();
        entries.push_back(entry.clone());
        self.events.store(inner.order.len(), Relaxed);
        Expected(entry)
    }

    pub(super) fn merged(
        &self,
        entities: impl Iterator<Item = (Hash, Sequence, Sequence)>,
        sees: impl Fn(&str) -> bool,
    ) -> Vec<Merged> {
        let mut found = Vec::new();
        if self.events.load(Relaxed) == 0 {
            return found;
        }
        let inner = lock(&self.inner);
        for (entity, after, upto) in entities {
            let entries = inner.by_entity.get(&entity).into_iter().flatten();
            found.extend(entries.filter_map(|entry| {
                let merged = Merged {
                    entry: entry.clone(),
                    entity,
                    after,
                    upto,
                };
                let may = merged.decided().is_none_or(|(_, contains)| contains);
                let seen = || entry.facets.iter().any(|facet| sees(facet));
                (may && seen()).then_some(merged)
            }));
        }
        found
    }

    pub(super) fn clear(&self) {
        let mut inner = lock(&self.inner);
        *inner = Inner::default();
        self.events.store(0, Relaxed);
    }
}

impl Inner {
    fn forget_oldest(&mut self) {
        let Some(entity) = self.order.pop_front() else {
            return;
        };
        if let Some(entries) = self.by_entity.get_mut(&entity) {
            entries.pop_front();
            if entries.is_empty() {
                self.by_entity.remove(&entity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EntityId;

    #[test]
    fn the_oldest_events_are_forgotten_first() {
        let known = Known::default();
        let entity = |key: usize| {
            Hash::of(&EntityId {
                entity_type: "product".into(),
                key: key.to_string().into(),
            })
        };
        let event = |span: usize| Trace {
            trace: 1,
            span: span as u64 + 1,
            sampled: true,
        };
        for at in 0..EVENTS_MAX + 2 {
            let expected = known.expect(event(at), entity(at % 5_000), vec!["a".into()]);
            expected.settle(Some(Sequence(at as u64 + 1)));
        }
        let first = |key| {
            let all = [(entity(key), Sequence(0), Sequence(u64::MAX - 1))];
            let found = known.merged(all.into_iter(), |_| true);
            found.first().map(|merged| merged.event().span)
        };
        assert_eq!((first(0), first(1)), (Some(5_001), Some(5_002)));
        assert_eq!(first(2), Some(3), "still the first");
        assert_eq!(lock(&known.inner).order.len(), EVENTS_MAX);
        known.clear();
        assert_eq!(first(2), None);
    }
}

//! What is given back: entities that are gone everywhere, and facets that were deleted long ago.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Channel, Maps, Pair, Rule, Stored};
use crate::model::Timestamp;
use crate::store::Holds;

impl Maps {
    /// Forgets entities that are deleted for long enough and certainly gone on every channel.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let forget_ms = self.limits.forget_ms;
        for (id, entity) in self.ordinals.clone() {
            let facets = &self.facets[&entity];
            let due = |stored: &Stored| {
                stored.facet.value.is_none() && stored.facet.time.0 + forget_ms <= now.0
            };
            if !facets.values().all(due) {
                self.forget_facets(entity, due);
                continue;
            }
            if self.without == Some(Rule::Horizon)
                || self
                    .channels
                    .values()
                    .all(|channel| self.certainly_gone(channel, entity))
            {
                self.ordinals.remove(&id);
                self.ids.remove(&entity);
                self.facets.remove(&entity);
                self.history.remove(&entity);
                for lane in 0..3 {
                    for place in self.places[lane].remove(&entity).unwrap_or_default() {
                        self.lanes[lane].remove(&place);
                    }
                }
                for channel in self.channels.values_mut() {
                    channel.pairs.remove(&entity);
                    channel.saved.pairs.remove(&entity);
                }
            }
        }
        // A name that no entity has any more is as new when it comes again.
        let known: BTreeSet<Arc<str>> = self
            .facets
            .values()
            .flat_map(|facets| facets.keys().cloned())
            .collect();
        for changed in &mut self.changed {
            changed.retain(|facet, _| known.contains(facet));
        }
    }

    /// Forgets the facets of a living entity that are deleted for long enough, if no live channel
    /// owes anything of the entity.
    pub(super) fn forget_facets(&mut self, entity: u32, due: impl Fn(&Stored) -> bool) {
        let deleted = |stored: &Stored| stored.facet.value.is_none();
        let mut live = self.channels.values().filter(|channel| channel.live);
        if self.facets[&entity].values().all(deleted)
            || !live.all(|channel| self.has_settled(channel, entity))
        {
            return;
        }
        if let Some(facets) = self.facets.get_mut(&entity) {
            facets.retain(|_, stored| !due(stored));
            let history = self.history.entry(entity).or_default();
            history.retain(|(_, facet)| facets.contains_key(facet));
        }
    }

    pub(super) fn has_settled(&self, channel: &Channel, entity: u32) -> bool {
        let busy = channel.flights.contains_key(&entity)
            || channel.waits(entity)
            || channel.parked.contains_key(&entity)
            || channel.saved.parked.contains_key(&entity);
        let newest = self.newest(channel, entity);
        let settled = |pairs: &HashMap<u32, Pair>| {
            let revision = pairs.get(&entity).map_or(0, |pair| pair.revision);
            revision >= newest
        };
        !busy && settled(&channel.pairs) && settled(&channel.saved.pairs)
    }

    pub(super) fn certainly_gone(&self, channel: &Channel, entity: u32) -> bool {
        let busy = channel.flights.contains_key(&entity)
            || channel.waits(entity)
            || channel.parked.contains_key(&entity);
        let pairs = [channel.pairs.get(&entity), channel.saved.pairs.get(&entity)];
        let gone = |pair: &Pair| {
            pair.holds == Holds::Nothing && pair.revision >= self.newest(channel, entity)
        };
        !busy
            && !channel.saved.parked.contains_key(&entity)
            && pairs.into_iter().flatten().all(gone)
    }
}

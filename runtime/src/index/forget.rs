//! What the index takes back: entities and facets that were deleted long ago and that no channel owes,
//! with their ordinals and the numbers of their names.

use std::hash::BuildHasher;

use super::{Index, Meta};
use crate::model::{Lane, Timestamp};

impl Index {
    /// Forgets entities that were deleted before `horizon` and are certainly gone, and saved as
    /// gone, on every channel. Examines up to `limit` entities. Returns the ordinals whose records
    /// the caller must remove.
    pub fn forget(&mut self, horizon: Timestamp, limit: usize) -> Vec<u32> {
        let clock = &self.clock;
        let mut gone = self
            .graves
            .next(limit, |sequence| clock.time_of(sequence) <= horizon);
        gone.retain(|ordinal| {
            let entry = self
                .entries
                .get(*ordinal as usize)
                .and_then(|entry| entry.as_deref());
            entry.is_some_and(|entry| {
                self.channels
                    .values()
                    .all(|channel| channel.certainly_gone(*ordinal, entry, &self.names))
            })
        });
        for ordinal in &gone {
            self.graves.raise(*ordinal);
            let Some(entry) = self.entries[*ordinal as usize].take() else {
                continue;
            };
            self.free.insert(*ordinal);
            self.drop_names(&entry.facets);
            if let Some(order) = &mut self.order {
                order.remove(&entry.id);
            }
            let hash = self.hasher.hash_one(&entry.id);
            if let Ok(found) = self.by_id.find_entry(hash, |other| other == ordinal) {
                found.remove();
            }
            if let Some(count) = self.counts.get_mut(&entry.id.entity_type) {
                *count -= 1;
            }
            for lane in Lane::ALL {
                let places = self.earlier.remove(&(lane, *ordinal)).unwrap_or_default();
                let last = entry.places[lane.index()];
                places
                    .into_iter()
                    .chain((last > 0).then_some(last))
                    .for_each(|place| self.lanes[lane.index()].remove(place));
            }
            self.channels
                .values_mut()
                .for_each(|channel| channel.erase(*ordinal));
        }
        while self.highest > 0 && self.entry(self.highest).is_none() {
            self.highest -= 1;
        }
        gone
    }

    /// Drops the tombstones of facets that were deleted before `horizon`, of entities that are still
    /// there. Examines up to `limit` entities, trims up to `most` of them, and goes on with the next
    /// ones at the next call. Returns the ordinals whose records the caller must write.
    pub fn forget_facets(&mut self, horizon: Timestamp, limit: usize, most: usize) -> Vec<u32> {
        let mut trimmed = Vec::new();
        let count = self.entries.len() as u32;
        for _ in 0..limit.min(self.entries.len()) {
            if trimmed.len() == most {
                break;
            }
            self.tombstones_from = (self.tombstones_from + 1) % count.max(1);
            let ordinal = self.tombstones_from;
            if self.graves.contains(ordinal) {
                // It is forgotten as a whole.
                continue;
            }
            let old: Vec<u16> = self
                .tombstones(ordinal)
                .filter(|meta| self.clock.time_of(meta.sequence) <= horizon)
                .map(|meta| meta.name)
                .collect();
            if !old.is_empty() && self.is_settled(ordinal) {
                self.drop_facets(ordinal, &old);
                trimmed.push(ordinal);
            }
        }
        trimmed
    }

    /// The deleted facets of an entity.
    fn tombstones(&self, ordinal: u32) -> impl Iterator<Item = &Meta> {
        let facets = self
            .entry(ordinal)
            .into_iter()
            .flat_map(|entry| &entry.facets);
        facets.filter(|meta| meta.deleted)
    }

    /// Whether no live channel owes anything of an entity, or is busy with it, or has something to
    /// save. Only then may a facet go without a trace: its sequence is what a channel owes, and after
    /// a crash its place may be the only one that leads to another facet. A retired channel sweeps
    /// all entities when it returns.
    fn is_settled(&self, ordinal: u32) -> bool {
        self.entry(ordinal).is_some_and(|entry| {
            let live = self.channels.values().filter(|channel| channel.live);
            live.into_iter()
                .all(|channel| channel.has_settled(ordinal, entry, &self.names))
        })
    }

    /// The facets of an entity that may be dropped to make room for others although they were deleted
    /// lately, the longest deleted first.
    pub fn expendable(&self, ordinal: u32) -> Vec<u16> {
        let mut tombstones: Vec<&Meta> = self.tombstones(ordinal).collect();
        if tombstones.is_empty() || !self.is_settled(ordinal) {
            return Vec::new();
        }
        tombstones.sort_by_key(|meta| meta.sequence);
        tombstones.iter().map(|meta| meta.name).collect()
    }

    /// Drops facets of an entity. The caller must write its record.
    pub fn drop_facets(&mut self, ordinal: u32, names: &[u16]) {
        let Some(entry) = self
            .entries
            .get_mut(ordinal as usize)
            .and_then(|entry| entry.as_deref_mut())
        else {
            return;
        };
        let dropped: Vec<Meta> = entry
            .facets
            .extract_if(.., |meta| names.contains(&meta.name))
            .collect();
        self.drop_names(&dropped);
    }

    /// Counts facets that an entity has lost, and frees the names that no entity has any more.
    fn drop_names(&mut self, facets: &[Meta]) {
        for meta in facets {
            let number = u32::from(meta.name);
            if !self.names.remove_entity(number) {
                continue;
            }
            for newest in &mut self.newest {
                if let Some(newest) = newest.get_mut(number as usize) {
                    *newest = 0;
                }
            }
            for channel in self.channels.values_mut() {
                channel.forget_name(number, &self.changes);
            }
            for (_, counts) in &mut self.changes {
                if let Some(count) = counts.get_mut(number as usize) {
                    *count = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Proposal;
    use crate::model::EntityId;

    /// The records of 5,000 entities were written in one batch, while every source waited.
    #[test]
    fn deleted_facets_are_dropped_from_a_few_records_at_once_and_from_all_in_the_end() {
        let mut index = Index::default();
        for key in 0..300 {
            let id = EntityId {
                entity_type: "product".into(),
                key: key.to_string().into(),
            };
            for (facet, hash) in [("content", Some(1)), ("price", Some(1)), ("price", None)] {
                let change = Proposal {
                    id: &id,
                    facet: &facet.into(),
                    owner: &"erp".into(),
                    lane: Lane::Normal,
                    version: None,
                    hash,
                };
                index.apply(change, None, Timestamp(0));
            }
        }
        let mut records = || index.forget_facets(Timestamp(0), 1_000, 256);
        let mut all = records();
        assert_eq!(all.len(), 256);
        all.extend(records());
        all.sort_unstable();
        assert_eq!(all, (1..=300).collect::<Vec<u32>>());
        assert!(records().is_empty());
    }
}

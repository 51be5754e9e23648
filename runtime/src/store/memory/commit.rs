//! An event becomes changes, and changes take places.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Maps, Shelved, Stored};
use crate::model::{Arrival, FACETS_MAX, Facet, Sequence};
use crate::store::{Commit, Effect, FacetChange, NoRoom, Quarantined, QuarantinedEvent, Verdict};

impl Maps {
    pub(super) fn commit(&mut self, commit: Commit) -> Verdict {
        // A redriven event has been remembered since its arrival.
        let arriving = commit.identity.filter(|_| commit.arrival.is_none());
        if let Some(identity) = arriving
            && let Some(known) = self.identities.get(&identity.id)
        {
            return match *known == identity.content {
                true => Verdict::Repeated,
                false => Verdict::Reused,
            };
        }
        let id = commit.identity.map(|identity| identity.id);
        let verdict = match commit.effect {
            Effect::Filtered => Verdict::Filtered,
            Effect::Quarantine(event) => {
                self.set_aside(&commit.source, commit.arrival.as_ref(), id, *event)
            }
            Effect::Changes(changes) => match self.room_for(&changes) {
                Err(limit) => Verdict::NoRoom(limit),
                Ok(()) => self.apply(changes, commit.arrival.as_ref()),
            },
        };
        if !matches!(verdict, Verdict::NoRoom(_)) {
            let remembered = commit
                .identity
                .map(|identity| (identity.id, identity.content));
            self.identities.extend(remembered);
        }
        verdict
    }

    pub(super) fn set_aside(
        &mut self,
        source: &Arc<str>,
        arrival: Option<&Arrival>,
        id: Option<u128>,
        event: Quarantined,
    ) -> Verdict {
        let now = self.now;
        let shelf = self.quarantine.entry(source.clone()).or_default();
        let place = arrival.and_then(|arrival| arrival.place);
        if let Some(shelved) = place.and_then(|at| shelf.get_mut(&at)) {
            // It failed again, and stays where it is.
            (shelved.event.event, shelved.event.time) = (event, now);
            return Verdict::Quarantined(shelved.event.sequence);
        }
        let content = event.content();
        let alike = shelf
            .iter()
            .find(|(_, shelved)| shelved.event.event.content() == content)
            .map(|(sequence, _)| *sequence);
        if let (Some(sequence), Some(_)) = (alike, arrival) {
            // It failed again, and arrived once more in the meantime.
            return Verdict::Quarantined(sequence);
        }
        let before = alike.and_then(|sequence| shelf.remove(&sequence));
        if before.is_none() && shelf.len() as u64 >= self.limits.quarantine_max {
            return Verdict::NoRoom(NoRoom::Quarantine);
        }
        self.sequence += 1;
        let sequence = Sequence(self.sequence);
        let (first, count) = before.map_or((now, 1), |before| {
            (before.event.first, before.event.count + 1)
        });
        let event = QuarantinedEvent {
            sequence,
            time: now,
            first,
            count,
            event,
        };
        shelf.insert(sequence, Shelved { event, id });
        Verdict::Quarantined(sequence)
    }

    pub(super) fn room_for(&self, changes: &[FacetChange]) -> Result<(), NoRoom> {
        for (entity_type, most) in &self.limits.entities_max {
            let new: BTreeSet<_> = changes
                .iter()
                .filter(|c| c.deleted_family().is_none())
                .map(|c| &c.id)
                .filter(|id| id.entity_type == *entity_type)
                .collect();
            let new = new
                .into_iter()
                .filter(|id| !self.ordinals.contains_key(id))
                .count();
            let there = self
                .ordinals
                .keys()
                .filter(|id| id.entity_type == *entity_type)
                .count();
            if new > 0 && (there + new) as u64 > *most {
                return Err(NoRoom::Entities);
            }
        }
        for change in changes {
            let there = self
                .ordinals
                .get(&change.id)
                .map(|entity| &self.facets[entity]);
            let mut names: BTreeSet<_> =
                there.into_iter().flat_map(|facets| facets.keys()).collect();
            names.extend(
                changes
                    .iter()
                    .filter(|other| other.id == change.id && other.deleted_family().is_none())
                    .map(|other| &other.facet),
            );
            if names.len() > FACETS_MAX {
                return Err(NoRoom::Facets);
            }
        }
        Ok(())
    }

    pub(super) fn apply(
        &mut self,
        changes: Vec<FacetChange>,
        arrival: Option<&Arrival>,
    ) -> Verdict {
        let (mut committed, mut unchanged, mut stale) = (0, 0, 0);
        let mut changes = VecDeque::from(changes);
        while let Some(change) = changes.pop_front() {
            if let Some(prefix) = change.deleted_family() {
                let members = self.members(&change, prefix);
                unchanged += u32::from(members.is_empty());
                for member in members.into_iter().rev() {
                    changes.push_front(change.of_member(member));
                }
                continue;
            }
            let current = self
                .ordinals
                .get(&change.id)
                .and_then(|entity| self.facets[entity].get(&change.facet))
                .cloned();
            let known_version = current
                .as_ref()
                .filter(|c| c.facet.owner == change.owner)
                .and_then(|c| c.facet.version);
            let overtaken = current
                .as_ref()
                .zip(arrival)
                .is_some_and(|(c, arrival)| arrival.is_overtaken(c.facet.sequence.0));
            if overtaken
                || change
                    .version
                    .zip(known_version)
                    .is_some_and(|(new, known)| new < known)
            {
                stale += 1;
                continue;
            }
            let same = match (&current, &change.value) {
                (Some(c), Some(_)) => c.facet.value.is_some() && c.hash == change.hash,
                (Some(c), None) => c.facet.value.is_none(),
                // A deletion that arrives before the value it deletes must be remembered if it has
                // a version to be recognised by.
                (None, None) => change.version.is_none(),
                (None, Some(_)) => false,
            };
            if same {
                unchanged += 1;
                if let (Some(mut stored), Some(_)) = (current, change.version) {
                    stored.facet.version = change.version;
                    stored.facet.owner = change.owner.clone();
                    let entity = self.ordinals[&change.id];
                    self.facets
                        .entry(entity)
                        .or_default()
                        .insert(change.facet, stored);
                }
                continue;
            }
            committed += 1;
            self.write(change, known_version);
            if let Some(arrival) = arrival {
                arrival.wrote(self.sequence);
            }
        }
        let newest = (committed > 0).then_some(Sequence(self.sequence));
        Verdict::Accepted {
            committed,
            unchanged,
            stale,
            newest: newest.unwrap_or_default(),
        }
    }

    /// The names of the facets that the deletion of a family deletes.
    pub(super) fn members(&self, change: &FacetChange, prefix: &str) -> Vec<Arc<str>> {
        let entity = self.ordinals.get(&change.id);
        let facets = entity.into_iter().flat_map(|entity| &self.facets[entity]);
        let member = |(name, stored): &(&Arc<str>, &Stored)| {
            name.starts_with(prefix)
                && stored.facet.value.is_some()
                && stored.facet.owner == change.owner
        };
        facets
            .filter(member)
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub(super) fn write(&mut self, change: FacetChange, known_version: Option<u64>) {
        let entity = match self.ordinals.get(&change.id) {
            Some(entity) => *entity,
            None => {
                let lowest = (1..).find(|ordinal| !self.ids.contains_key(ordinal));
                let ordinal = lowest.expect("there are fewer entities than numbers");
                self.ordinal = self.ordinal.max(ordinal);
                self.ordinals.insert(change.id.clone(), ordinal);
                self.ids.insert(ordinal, change.id);
                ordinal
            }
        };
        self.sequence += 1;
        let (sequence, version) = (self.sequence, change.version.or(known_version));
        let name = change.facet.clone();
        let counted = (self.ids[&entity].entity_type.clone(), name.clone());
        *self.changes.entry(counted).or_default() += 1;
        let history = self.history.entry(entity).or_default();
        history.push((Sequence(sequence), name.clone()));
        let facet = Facet {
            name: change.facet,
            owner: change.owner,
            version,
            sequence: Sequence(sequence),
            time: self.now,
            value: change.value,
        };
        self.facets.entry(entity).or_default().insert(
            name,
            Stored {
                facet,
                lane: change.lane,
                hash: change.hash,
            },
        );
        self.times.insert(sequence, self.now);

        let lane = change.lane.index();
        for name in self.facets[&entity].keys() {
            self.changed[lane].insert(name.clone(), sequence);
        }
        let live: Vec<u64> = self
            .channels
            .values()
            .filter(|c| c.live)
            .map(|c| c.read[lane])
            .collect();
        let places = self.places[lane].entry(entity).or_default();
        if places
            .last()
            .is_none_or(|last| live.iter().any(|read| read >= last))
        {
            places.push(sequence);
            self.lanes[lane].insert(sequence, entity);
        }
        // Keep exactly the places that are the next one for some channel.
        let mut before = 0;
        let index = &mut self.lanes[lane];
        places.retain(|place| {
            let kept = live.iter().any(|read| (before..*place).contains(read));
            if kept {
                before = *place;
            } else {
                index.remove(place);
            }
            kept
        });
    }
}

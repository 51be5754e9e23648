//! The store's trait, implemented on the specification's maps: each call takes the lock, reads or
//! changes, and releases it. Nothing is left to do when the call returns.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::queue::ChannelQueue;
use super::{Channel, Memory, Shared, Shelved};
use crate::model::{Entity, EntityId, Ordinal, Sequence, Timestamp, Track};
use crate::store::{
    BackedUp, Commit, Committed, Error, Figures, Joined, Limits, ListQuery, NotTaken, Pending,
    QuarantinedEvent, Queue, Receipt, Remembered, Shelf, Standing, Store, Subscription,
};

impl Store for Memory {
    fn limit(&self, limits: Limits) {
        self.0.maps().limits = limits;
    }

    fn commit(&self, events: Vec<Commit>) -> Result<Receipt, NotTaken> {
        let mut maps = self.0.maps();
        let verdicts = events.into_iter().map(|event| maps.commit(event)).collect();
        let (answer, receipt) = oneshot::channel();
        // A caller that has gone away does not undo its commit.
        let _ = answer.send(Ok(Committed {
            verdicts,
            sequence: Sequence(maps.sequence),
        }));
        self.0.publish(&mut maps);
        Ok(receipt)
    }

    fn watermark(&self) -> watch::Receiver<Sequence> {
        self.0.watermark.subscribe()
    }

    fn find(&self, id: &EntityId) -> Option<Ordinal> {
        self.0
            .maps()
            .ordinals
            .get(id)
            .map(|entity| Ordinal(*entity))
    }

    fn read_within(
        &self,
        ordinals: &[Ordinal],
        bytes_max: usize,
    ) -> Result<Vec<Option<Arc<Entity>>>, Error> {
        let maps = self.0.maps();
        let read = |ordinal: &Ordinal| {
            let facets = maps.facets.get(&ordinal.0)?.values();
            Some(Arc::new(Entity {
                id: maps.ids[&ordinal.0].clone(),
                facets: facets.map(|stored| stored.facet.clone()).collect(),
            }))
        };
        let mut bytes = 0;
        let fits = |entity: &Option<Arc<Entity>>| {
            bytes += entity.as_ref().map_or(0, |entity| entity.bytes());
            bytes <= bytes_max
        };
        Ok(ordinals.iter().map(read).take_while(fits).collect())
    }

    fn list(&self, query: &ListQuery<'_>) -> Vec<(Ordinal, EntityId)> {
        let maps = self.0.maps();
        let channel = query.owed.map(|name| maps.channel_named(name));
        let owes = |entity: u32| match channel {
            None => true,
            Some(None) => false,
            Some(Some(id)) => maps.owes(&maps.channels[&id], entity, Track::Sweep),
        };
        let wanted = |(id, entity): &(&EntityId, &u32)| {
            *id.entity_type == *query.entity_type
                && id.key.starts_with(query.prefix)
                && query.after.is_none_or(|after| *id.key > *after)
                && owes(**entity)
        };
        maps.ordinals
            .iter()
            .filter(wanted)
            .take(query.limit)
            .map(|(id, entity)| (Ordinal(*entity), id.clone()))
            .collect()
    }

    fn join(&self, name: &str, subscription: &Subscription) -> Pending<(Arc<dyn Queue>, Joined)> {
        let mut maps = self.0.maps();
        let (channel, joined) = maps.join(name, subscription);
        self.0.publish(&mut maps);
        let shared = self.0.clone();
        Pending::done(Ok((Arc::new(ChannelQueue { shared, channel }), joined)))
    }

    fn remembered(&self) -> Vec<Remembered> {
        let maps = self.0.maps();
        let remembered = |channel: &Channel| Remembered {
            name: channel.name.clone(),
            live: channel.live,
            holding: channel.holding(),
        };
        maps.channels.values().map(remembered).collect()
    }

    fn retired_standings(&self, ordinal: Ordinal) -> Vec<(String, Standing)> {
        let maps = self.0.maps();
        let retired = maps.channels.values().filter(|channel| !channel.live);
        retired
            .filter_map(|channel| Some((channel.name.clone(), maps.standing(channel, ordinal)?)))
            .collect()
    }

    fn retire(&self, name: &str) -> Pending<()> {
        let mut maps = self.0.maps();
        if let Some(channel) = maps
            .channels
            .values_mut()
            .find(|channel| channel.name == name)
        {
            debug_assert!(
                channel.flights.is_empty(),
                "a channel retires when its flights have ended"
            );
            channel.live = false;
            channel.save();
        }
        Pending::done(Ok(()))
    }

    fn doubt_retired(&self, target: u64) -> Pending<()> {
        let mut maps = self.0.maps();
        let retired = maps.channels.values_mut().filter(|channel| !channel.live);
        for channel in retired.filter(|channel| channel.subscription.target == target) {
            channel.lose();
            channel.save();
        }
        Pending::done(Ok(()))
    }

    fn forget(&self, name: &str) -> Pending<bool> {
        let mut maps = self.0.maps();
        let before = maps.channels.len();
        (maps.channels).retain(|_, channel| channel.live || channel.name != name);
        Pending::done(Ok(maps.channels.len() < before))
    }

    fn rename(&self, old: &str, new: &str) -> Pending<bool> {
        let mut maps = self.0.maps();
        let free = maps.channel_named(new).is_none();
        let found = maps
            .channels
            .values_mut()
            .find(|channel| free && channel.name == old);
        let renamed = found.map(|channel| channel.name = new.into());
        Pending::done(Ok(renamed.is_some()))
    }

    fn save(&self, now: Timestamp) -> Pending<()> {
        let mut maps = self.0.maps();
        maps.channels.values_mut().for_each(Channel::save);
        maps.times_saved = maps.sequence;
        maps.forget(now);
        Pending::done(Ok(()))
    }

    fn reset_versions(&self, owner: &str) -> Pending<u64> {
        let mut maps = self.0.maps();
        let facets = maps
            .facets
            .values_mut()
            .flat_map(|facets| facets.values_mut());
        let count = facets
            .filter(|stored| &*stored.facet.owner == owner)
            .filter_map(|stored| stored.facet.version.take())
            .count();
        Pending::done(Ok(count as u64))
    }

    fn jump(&self, sequence: Sequence) -> Pending<Sequence> {
        let mut maps = self.0.maps();
        let before = maps.sequence;
        maps.sequence = before.max(sequence.0);
        self.0.publish(&mut maps);
        Pending::done(Ok(Sequence(before)))
    }

    fn note(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.maps().notes.get(name).cloned())
    }

    fn set_note(&self, name: &str, note: Option<Vec<u8>>) -> Pending<()> {
        let mut maps = self.0.maps();
        match note {
            Some(note) => maps.notes.insert(name.to_owned(), note),
            None => maps.notes.remove(name),
        };
        Pending::done(Ok(()))
    }

    fn notes(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let maps = self.0.maps();
        let names = maps.notes.keys().filter(|name| name.starts_with(prefix));
        Ok(names.cloned().collect())
    }

    fn rename_notes(&self, names: &[(String, String)]) -> Pending<()> {
        let mut maps = self.0.maps();
        for (old, new) in names {
            if let Some(note) = maps.notes.remove(old) {
                maps.notes.insert(new.clone(), note);
            }
        }
        Pending::done(Ok(()))
    }

    fn shelf(&self, source: &str) -> Arc<dyn Shelf> {
        Arc::new(SourceShelf {
            shared: self.0.clone(),
            source: source.into(),
        })
    }

    fn backup(&self, _: &Path) -> Pending<BackedUp> {
        let none = "the store in memory has no backups".to_owned();
        Pending::done(Err(Error::Unavailable(none)))
    }

    fn ready(&self) -> Result<(), Error> {
        Ok(())
    }

    fn figures(&self) -> Figures {
        let maps = self.0.maps();
        Figures {
            entities: maps.ordinals.len() as u64,
            sequence: Sequence(maps.sequence),
            ..Figures::default()
        }
    }

    fn close(&self) -> Pending<()> {
        Pending::done(Ok(()))
    }
}

/// The quarantine of one source.
struct SourceShelf {
    shared: Arc<Shared>,
    source: Arc<str>,
}

impl Shelf for SourceShelf {
    fn list(&self, after: Option<Sequence>, limit: usize) -> Result<Vec<QuarantinedEvent>, Error> {
        let maps = self.shared.maps();
        let events = maps.quarantine.get(&self.source).into_iter().flatten();
        Ok(events
            .filter(|(sequence, _)| after.is_none_or(|after| **sequence > after))
            .take(limit)
            .map(|(_, shelved)| shelved.event.clone())
            .collect())
    }

    fn count(&self) -> u64 {
        let maps = self.shared.maps();
        let events = maps.quarantine.get(&self.source);
        events.map_or(0, |events| events.len() as u64)
    }

    fn remove(&self, sequences: &[Sequence]) -> Pending<usize> {
        Pending::done(Ok(self.take(sequences).len()))
    }

    fn discard(&self, sequences: &[Sequence]) -> Pending<usize> {
        let gone = self.take(sequences);
        let mut maps = self.shared.maps();
        for id in gone.iter().filter_map(|shelved| shelved.id) {
            maps.identities.remove(&id);
        }
        Pending::done(Ok(gone.len()))
    }
}

impl SourceShelf {
    fn take(&self, sequences: &[Sequence]) -> Vec<Shelved> {
        let mut maps = self.shared.maps();
        let events = maps.quarantine.entry(self.source.clone()).or_default();
        sequences
            .iter()
            .filter_map(|sequence| events.remove(sequence))
            .collect()
    }
}

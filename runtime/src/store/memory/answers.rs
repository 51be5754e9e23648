//! The store's trait, implemented on the specification's maps: each call takes the lock, reads or
//! changes, and releases it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::{Channel, Memory, Rule};
use crate::model::{Entity, EntityId, Lane, Ordinal, Sequence, Timestamp, Track};
use crate::store::{
    ChannelId, Commit, Committed, Error, Figures, Finish, Holds, Joined, Limits, Owed, Parked,
    QuarantinedEvent, Receipt, Refused, Standing, State, Store, Subscription, Taken,
};

impl Store for Memory {
    fn limit(&self, limits: Limits) {
        self.queue().limits = limits;
    }

    fn commit(&self, events: Vec<Commit>) -> Result<Receipt, Error> {
        let mut queue = self.queue();
        let verdicts = events
            .into_iter()
            .map(|event| queue.commit(event))
            .collect();
        let (answer, receipt) = oneshot::channel();
        // A caller that has gone away does not undo its commit.
        let _ = answer.send(Ok(Committed {
            verdicts,
            sequence: Sequence(queue.sequence),
        }));
        self.publish(&mut queue);
        Ok(receipt)
    }

    fn watermark(&self) -> watch::Receiver<Sequence> {
        self.watermark.subscribe()
    }

    fn time_of(&self, sequence: Sequence) -> Timestamp {
        self.queue().time_of(sequence.0)
    }

    fn find(&self, id: &EntityId) -> Option<Ordinal> {
        self.queue().ordinals.get(id).map(|entity| Ordinal(*entity))
    }

    fn read(&self, ordinals: &[Ordinal]) -> Result<Vec<Option<Arc<Entity>>>, Error> {
        let queue = self.queue();
        let read = |ordinal: &Ordinal| {
            let facets = queue
                .facets
                .get(&ordinal.0)?
                .values()
                .map(|stored| stored.facet.clone())
                .collect();
            Some(Arc::new(Entity {
                id: queue.ids[&ordinal.0].clone(),
                facets,
            }))
        };
        Ok(ordinals.iter().map(read).collect())
    }

    fn list(
        &self,
        entity_type: &str,
        prefix: &str,
        after: Option<&str>,
        owed: Option<ChannelId>,
        limit: usize,
    ) -> Vec<(Ordinal, EntityId)> {
        let queue = self.queue();
        let channel = owed.and_then(|id| queue.channels.get(&id));
        let wanted = |(id, entity): &(&EntityId, &u32)| {
            &*id.entity_type == entity_type
                && id.key.starts_with(prefix)
                && after.is_none_or(|after| &*id.key > after)
                && (owed.is_none()
                    || channel.is_some_and(|channel| queue.owes(channel, **entity, Track::Sweep)))
        };
        queue
            .ordinals
            .iter()
            .filter(wanted)
            .take(limit)
            .map(|(id, entity)| (Ordinal(*entity), id.clone()))
            .collect()
    }

    fn join(&self, name: &str, subscription: &Subscription) -> Result<Joined, Error> {
        let mut queue = self.queue();
        let joined = queue.join(name, subscription);
        self.publish(&mut queue);
        Ok(joined)
    }

    fn channels(&self) -> Vec<(ChannelId, String, bool)> {
        self.queue()
            .channels
            .iter()
            .map(|(id, channel)| (*id, channel.name.clone(), channel.live))
            .collect()
    }

    fn retire(&self, channel: ChannelId) -> Result<(), Error> {
        if let Some(channel) = self.queue().channels.get_mut(&channel) {
            debug_assert!(
                channel.flights.is_empty(),
                "a channel retires when its flights have ended"
            );
            channel.live = false;
            channel.save();
        }
        Ok(())
    }

    fn forget_channel(&self, channel: ChannelId) -> Result<bool, Error> {
        let mut queue = self.queue();
        let retired = queue
            .channels
            .get(&channel)
            .is_some_and(|channel| !channel.live);
        if retired {
            queue.channels.remove(&channel);
        }
        Ok(retired)
    }

    fn rename(&self, old: &str, new: &str) -> Result<bool, Error> {
        let mut queue = self.queue();
        if queue.channels.values().any(|channel| channel.name == new) {
            return Ok(false);
        }
        let found = queue
            .channels
            .values_mut()
            .find(|channel| channel.name == old);
        Ok(found.map(|channel| channel.name = new.into()).is_some())
    }

    fn set_paused(&self, channel: ChannelId, paused: bool) -> Result<(), Error> {
        if let Some(channel) = self.queue().channels.get_mut(&channel) {
            channel.paused = paused;
        }
        Ok(())
    }

    fn resweep(&self, channel: ChannelId, lost: bool) -> Result<(), Error> {
        let mut queue = self.queue();
        if let Some(subscription) = queue
            .channels
            .get(&channel)
            .map(|channel| channel.subscription.clone())
        {
            queue.reshape(channel, subscription, lost);
            self.publish(&mut queue);
        }
        Ok(())
    }

    fn walk(&self, channel: ChannelId, track: Track, limit: usize, taken: &mut Vec<Taken>) -> bool {
        let mut queue = self.queue();
        let before = taken.len();
        queue.pass(channel, track);
        while taken.len() - before < limit {
            if !queue.meet(channel, track, taken) {
                return false;
            }
        }
        true
    }

    fn retry(&self, channel: ChannelId, ordinal: Ordinal) -> Option<Taken> {
        let mut queue = self.queue();
        let known = queue.channels.get(&channel)?;
        if !known.parked.contains_key(&ordinal.0) || known.flights.contains_key(&ordinal.0) {
            return None;
        }
        let track = queue.lane_owed(channel, ordinal.0);
        let mut taken = Vec::new();
        queue.start(channel, ordinal.0, track, Vec::new(), &mut taken);
        taken.pop()
    }

    fn attempt(&self, channel: ChannelId, ordinals: &[Ordinal]) {
        let mut queue = self.queue();
        if queue.without == Some(Rule::Unknown) {
            return;
        }
        if let Some(channel) = queue.channels.get_mut(&channel) {
            for ordinal in ordinals {
                channel.pairs.entry(ordinal.0).or_default().holds = Holds::Unknown;
            }
        }
    }

    fn finish(&self, channel: ChannelId, ends: &[Finish], again: &mut Vec<Taken>) {
        let mut queue = self.queue();
        for end in ends {
            queue.finish(channel, end, again);
        }
        if let Some(channel) = queue.channels.get_mut(&channel) {
            channel.settle();
        }
    }

    fn save(&self, now: Timestamp) -> Result<(), Error> {
        let mut queue = self.queue();
        queue.channels.values_mut().for_each(Channel::save);
        queue.forget(now);
        Ok(())
    }

    fn owed(&self, id: ChannelId) -> Owed {
        let queue = self.queue();
        let Some(channel) = queue.channels.get(&id) else {
            return Owed::default();
        };
        let ahead = |lane: Lane| {
            queue.lanes[lane.index()]
                .range(channel.read[lane.index()] + 1..)
                .count() as u64
        };
        let unread = |lane: Lane| {
            queue.lanes[lane.index()]
                .range(channel.acked[lane.index()] + 1..)
                .map(|(_, entity)| *entity)
        };
        let owing = Lane::ALL
            .into_iter()
            .flat_map(unread)
            .chain(channel.parked.keys().copied())
            .chain(channel.flights.keys().copied());
        let since = |entity: u32| {
            let revision = channel.pair(entity).revision;
            queue
                .subscribed(channel, entity)
                .map(|stored| stored.facet.sequence)
                .filter(|s| s.0 > revision)
                .min()
        };
        let oldest = owing.filter_map(since).min();
        Owed {
            lanes: Lane::ALL.map(ahead),
            sweep: queue
                .facets
                .keys()
                .filter(|entity| u64::from(**entity) > channel.read[3])
                .count() as u64,
            in_flight: channel.flights.len() as u64,
            parked: channel
                .parked
                .values()
                .filter(|parked| !parked.held)
                .count() as u64,
            held: channel.parked.values().filter(|parked| parked.held).count() as u64,
            refused: channel
                .pairs
                .values()
                .filter(|pair| pair.state == State::Refused)
                .count() as u64,
            holding: channel
                .pairs
                .values()
                .filter(|pair| pair.holds != Holds::Nothing)
                .count() as u64,
            oldest,
            oldest_time: oldest.map(|sequence| queue.time_of(sequence.0)),
        }
    }

    fn standing(&self, channel: ChannelId, ordinal: Ordinal) -> Option<Standing> {
        let queue = self.queue();
        let channel = queue.channels.get(&channel)?;
        queue
            .ids
            .get(&ordinal.0)
            .filter(|id| id.entity_type == channel.subscription.entity_type)?;
        let pair = channel.pair(ordinal.0);
        Some(Standing {
            state: pair.state,
            revision: Sequence(pair.revision),
            since: queue.time_of(pair.revision),
            holds: pair.holds,
            owed: queue.owes(channel, ordinal.0, Track::Sweep),
            in_flight: channel.flights.contains_key(&ordinal.0),
            shape_label: channel.labels.get(&pair.shape).cloned().unwrap_or_default(),
            newest: Sequence(queue.newest(channel, ordinal.0)),
        })
    }

    fn refused(
        &self,
        channel: ChannelId,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<Refused>, Error> {
        let queue = self.queue();
        let Some(channel) = queue.channels.get(&channel) else {
            return Ok(Vec::new());
        };
        let pairs: BTreeMap<_, _> = channel
            .pairs
            .iter()
            .filter(|(entity, _)| after.is_none_or(|after| **entity > after.0))
            .collect();
        let refused = pairs.into_iter().filter_map(|(entity, pair)| {
            let (failure, time) = pair.refusal.clone()?;
            let id = queue.ids.get(entity)?.clone();
            Some(Refused {
                ordinal: Ordinal(*entity),
                id,
                failure,
                revision: Sequence(pair.revision),
                time,
            })
        });
        Ok(refused.take(limit).collect())
    }

    fn redrive(&self, channel: ChannelId, ordinals: &[Ordinal]) -> Vec<Parked> {
        let mut queue = self.queue();
        let Some(channel) = queue.channels.get_mut(&channel) else {
            return Vec::new();
        };
        let mut parked = Vec::new();
        for ordinal in ordinals {
            if let Some(pair) = channel
                .pairs
                .get_mut(&ordinal.0)
                .filter(|pair| pair.state == State::Refused)
                && !channel.flights.contains_key(&ordinal.0)
            {
                (pair.state, pair.refusal) = (State::Parked(0), None);
                let waits = Parked {
                    ordinal: *ordinal,
                    attempts: 0,
                    held: false,
                };
                channel.parked.insert(ordinal.0, waits);
                parked.push(waits);
            }
        }
        parked
    }

    fn drop_refused(&self, channel: ChannelId, ordinals: &[Ordinal]) -> Result<usize, Error> {
        let mut queue = self.queue();
        let deleted: HashSet<u32> = (queue.facets.iter())
            .filter(|(_, facets)| facets.values().all(|stored| stored.facet.value.is_none()))
            .map(|(entity, _)| *entity)
            .collect();
        let Some(channel) = queue.channels.get_mut(&channel) else {
            return Ok(0);
        };
        let mut dropped = 0;
        for ordinal in ordinals {
            if let Some(pair) = channel
                .pairs
                .get_mut(&ordinal.0)
                .filter(|pair| pair.state == State::Refused)
            {
                (pair.state, pair.refusal) = (State::New, None);
                if deleted.contains(&ordinal.0) {
                    pair.holds = Holds::Nothing; // confirmed by the operator; otherwise it could never be forgotten
                }
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    fn quarantined(
        &self,
        source: &str,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<QuarantinedEvent>, Error> {
        let queue = self.queue();
        let events = queue
            .quarantine
            .get(source)
            .into_iter()
            .flat_map(|shelf| shelf.values());
        Ok(events
            .filter(|event| after.is_none_or(|after| event.sequence > after))
            .take(limit)
            .cloned()
            .collect())
    }

    fn quarantine_count(&self, source: &str) -> u64 {
        self.queue()
            .quarantine
            .get(source)
            .map_or(0, |shelf| shelf.len() as u64)
    }

    fn unquarantine(&self, source: &str, sequences: &[Sequence]) -> Result<usize, Error> {
        let mut queue = self.queue();
        let Some(shelf) = queue.quarantine.get_mut(source) else {
            return Ok(0);
        };
        Ok(sequences
            .iter()
            .filter(|sequence| shelf.remove(sequence).is_some())
            .count())
    }

    fn ready(&self) -> Result<(), Error> {
        Ok(())
    }

    fn figures(&self) -> Figures {
        let queue = self.queue();
        Figures {
            entities: queue.ordinals.len() as u64,
            sequence: Sequence(queue.sequence),
            ..Figures::default()
        }
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

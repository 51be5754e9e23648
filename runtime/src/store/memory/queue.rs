//! What one channel owes, from the specification's maps.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::life::is_reshaped;
use super::{Channel, Maps, Rule, Shared};
use crate::index::ChannelId;
use crate::model::{Lane, Ordinal, Sequence, Track};
use crate::store::{
    Holds, Lease, OldestOwed, Owed, Parked, Pending, Queue, Refused, Settlement, Standing, State,
    Walked, Withdrawals,
};

/// A joined channel.
pub(super) struct ChannelQueue {
    pub(super) shared: Arc<Shared>,
    pub(super) channel: ChannelId,
}

impl Queue for ChannelQueue {
    fn walk(&self, track: Track, limit: usize, taken: &mut Vec<Lease>) -> Walked {
        let mut maps = self.shared.maps();
        let before = taken.len();
        maps.pass(self.channel, track);
        if let Track::Lane(lane) = track {
            while taken.len() - before < limit && maps.take_quiet(self.channel, lane, taken) {}
        }
        while taken.len() - before < limit {
            match maps.meet(self.channel, track, taken) {
                Walked::More => {}
                Walked::End => return maps.ended(self.channel, track),
                ended => return ended,
            }
        }
        Walked::More
    }

    fn retry(&self, ordinal: Ordinal) -> Option<Lease> {
        let mut maps = self.shared.maps();
        let known = maps.channels.get(&self.channel)?;
        if !known.parked.contains_key(&ordinal.0) || known.flights.contains_key(&ordinal.0) {
            return None;
        }
        let track = maps.lane_owed(self.channel, ordinal.0);
        let mut taken = Vec::new();
        maps.start(self.channel, ordinal.0, track, Vec::new(), &mut taken);
        taken.pop()
    }

    fn changed(&self, read: &[(Ordinal, Sequence)]) -> Vec<(Ordinal, Sequence)> {
        let maps = self.shared.maps();
        let Some(channel) = maps.channels.get(&self.channel) else {
            return Vec::new();
        };
        let newest = |ordinal: Ordinal| Sequence(maps.newest(channel, ordinal.0));
        read.iter()
            .map(|(ordinal, read)| (*ordinal, *read, newest(*ordinal)))
            .filter(|(_, read, newest)| newest > read)
            .map(|(ordinal, _, newest)| (ordinal, newest))
            .collect()
    }

    fn attempt(&self, ordinals: &[Ordinal]) {
        let mut maps = self.shared.maps();
        if maps.without == Some(Rule::Unknown) {
            return;
        }
        if let Some(channel) = maps.channels.get_mut(&self.channel) {
            for ordinal in ordinals {
                channel.pairs.entry(ordinal.0).or_default().attempted();
            }
        }
    }

    fn settle(&self, ends: &[Settlement], again: &mut Vec<Lease>) {
        let mut maps = self.shared.maps();
        for end in ends {
            maps.settle(self.channel, end, again);
        }
        if let Some(channel) = maps.channels.get_mut(&self.channel) {
            channel.settle();
        }
    }

    fn set_withdrawals(&self, withdrawals: Withdrawals) {
        if let Some(channel) = self.shared.maps().channels.get_mut(&self.channel) {
            channel.withdrawals = withdrawals;
        }
    }

    fn save(&self) -> Pending<()> {
        let mut maps = self.shared.maps();
        if let Some(channel) = maps.channels.get_mut(&self.channel) {
            channel.save();
        }
        Pending::done(Ok(()))
    }

    fn owed(&self) -> Owed {
        let maps = self.shared.maps();
        let Some(channel) = maps.channels.get(&self.channel) else {
            return Owed::default();
        };
        let ahead = |lane: Lane| {
            maps.lanes[lane.index()]
                .range(channel.read[lane.index()] + 1..)
                .count() as u64
        };
        let unread = |lane: Lane| {
            maps.lanes[lane.index()]
                .range(channel.acked[lane.index()] + 1..)
                .map(|(_, entity)| *entity)
        };
        let quieting = |lane: Lane| {
            let waiting = channel.waiting.values();
            waiting.filter(move |(of, _)| *of == lane).count() as u64
        };
        let owing = Lane::ALL
            .into_iter()
            .flat_map(unread)
            .chain(channel.parked.keys().copied())
            .chain(channel.waiting.keys().copied())
            .chain(channel.flights.keys().copied());
        let held = |entity: &u32| channel.parked.get(entity).is_some_and(|parked| parked.held);
        // When an entity might first have been sent.
        let from = |entity: u32, lane: Lane| {
            let wait = maps.wait_of(channel, entity);
            let (since, _) = maps.debt(channel, entity)?;
            Some(wait.filter(|_| lane != Lane::Urgent).unwrap_or(since))
        };
        let due = |lane: Lane| {
            let ahead = maps.lanes[lane.index()].range(channel.read[lane.index()] + 1..);
            let waiting = channel.waiting.iter().filter(|(_, (of, _))| *of == lane);
            ahead
                .map(|(_, entity)| *entity)
                .chain(waiting.map(|(entity, _)| *entity))
                .filter_map(|entity| from(entity, lane))
                .min()
        };
        let tried = |lane: Lane| {
            let busy = channel.parked.keys().chain(channel.flights.keys());
            let lane_of = |entity: u32| match maps.lane_owed(self.channel, entity) {
                Track::Lane(lane) => lane,
                Track::Sweep => Lane::Bulk,
            };
            busy.filter(|entity| lane_of(**entity) == lane)
                .filter_map(|entity| from(*entity, lane))
                .min()
        };
        let (held, others): (Vec<u32>, Vec<u32>) = owing.partition(held);
        let oldest = |entities: &[u32]| {
            let since = entities
                .iter()
                .map(|entity| maps.owed_since(channel, *entity));
            since.flatten().min()
        };
        let not_held = oldest(&others);
        let oldest = oldest(&held).into_iter().chain(not_held).min();
        let time = |sequence: Sequence| maps.time_of(sequence.0);
        let asked = channel.parked_at.values().copied();
        Owed {
            lanes: Lane::ALL.map(|lane| ahead(lane) + quieting(lane)),
            waiting: channel.waiting.len() as u64,
            sweep: channel
                .sweep_end
                .min(
                    maps.ids
                        .keys()
                        .next_back()
                        .map_or(0, |last| u64::from(*last)),
                )
                .saturating_sub(channel.read[3]),
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
            holding: channel.holding(),
            oldest,
            oldest_time: oldest.map(time).into_iter().chain(asked).min(),
            oldest_not_held: not_held.map(|sequence| (sequence, time(sequence))),
            due: Lane::ALL.map(due),
            tried: Lane::ALL.map(tried),
        }
    }

    fn changes(&self) -> u64 {
        let maps = self.shared.maps();
        let Some(channel) = maps.channels.get(&self.channel) else {
            return 0;
        };
        let wanted = |((entity_type, facet), _): &(&(Arc<str>, Arc<str>), &u64)| {
            *entity_type == channel.subscription.entity_type && channel.subscribes(facet)
        };
        maps.changes
            .iter()
            .filter(wanted)
            .map(|(_, count)| count)
            .sum()
    }

    fn oldest(&self, limit: usize) -> Vec<OldestOwed> {
        let maps = self.shared.maps();
        let Some(channel) = maps.channels.get(&self.channel) else {
            return Vec::new();
        };
        let mut owed: Vec<OldestOwed> = (maps.ids.iter())
            .filter_map(|(entity, id)| {
                let (time, since) = maps.debt(channel, *entity)?;
                Some(OldestOwed {
                    ordinal: Ordinal(*entity),
                    id: id.clone(),
                    since,
                    time,
                })
            })
            .collect();
        owed.sort_by_key(|owed| (owed.time, owed.since, owed.ordinal));
        owed.truncate(limit);
        owed
    }

    fn standing(&self, ordinal: Ordinal) -> Option<Standing> {
        let maps = self.shared.maps();
        maps.standing(maps.channels.get(&self.channel)?, ordinal)
    }

    fn refused(&self, after: Option<Ordinal>, limit: usize) -> Vec<Refused> {
        let maps = self.shared.maps();
        let Some(channel) = maps.channels.get(&self.channel) else {
            return Vec::new();
        };
        let pairs: BTreeMap<_, _> = channel
            .pairs
            .iter()
            .filter(|(entity, _)| after.is_none_or(|after| **entity > after.0))
            .collect();
        let refused = pairs.into_iter().filter_map(|(entity, pair)| {
            let (failure, time) = pair.refusal.clone()?;
            let id = maps.ids.get(entity)?.clone();
            Some(Refused {
                ordinal: Ordinal(*entity),
                id,
                failure,
                revision: Sequence(pair.revision),
                time,
            })
        });
        refused.take(limit).collect()
    }

    fn redrive(&self, ordinals: &[Ordinal]) -> Vec<Parked> {
        let mut maps = self.shared.maps();
        let now = maps.now;
        let Some(channel) = maps.channels.get_mut(&self.channel) else {
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
                channel.parked_at.insert(ordinal.0, now);
                parked.push(waits);
            }
        }
        parked
    }

    fn resend(&self, ordinals: &[Ordinal]) -> Vec<Parked> {
        let mut maps = self.shared.maps();
        let (now, mut parked) = (maps.now, Vec::new());
        for ordinal in ordinals {
            let standing = (maps.channels.get(&self.channel))
                .and_then(|channel| maps.standing(channel, *ordinal));
            let (Some(standing), Some(channel)) = (standing, maps.channels.get_mut(&self.channel))
            else {
                continue;
            };
            if standing.in_flight {
                continue;
            }
            let pair = channel.pairs.entry(ordinal.0).or_default();
            pair.attempted();
            if standing.owed || channel.parked.contains_key(&ordinal.0) {
                continue;
            }
            (pair.state, pair.refusal) = (State::Parked(0), None);
            let waits = Parked {
                ordinal: *ordinal,
                attempts: 0,
                held: false,
            };
            channel.parked.insert(ordinal.0, waits);
            channel.parked_at.insert(ordinal.0, now);
            parked.push(waits);
        }
        parked
    }

    fn drop_refused(&self, ordinals: &[Ordinal]) -> Pending<usize> {
        let mut maps = self.shared.maps();
        let deleted: HashSet<u32> = (maps.facets.iter())
            .filter(|(_, facets)| facets.values().all(|stored| stored.facet.value.is_none()))
            .map(|(entity, _)| *entity)
            .collect();
        let Some(channel) = maps.channels.get_mut(&self.channel) else {
            return Pending::done(Ok(0));
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
                    pair.holds = Holds::Nothing; // the operator has said so; else it could never be forgotten
                }
                dropped += 1;
            }
        }
        Pending::done(Ok(dropped))
    }

    fn set_paused(&self, paused: bool) -> Pending<()> {
        if let Some(channel) = self.shared.maps().channels.get_mut(&self.channel) {
            channel.paused = paused;
        }
        Pending::done(Ok(()))
    }

    fn resweep(&self, lost: bool) -> Pending<()> {
        let mut maps = self.shared.maps();
        if let Some(subscription) = maps
            .channels
            .get(&self.channel)
            .map(|channel| channel.subscription.clone())
        {
            maps.reshape(self.channel, subscription, lost);
            self.shared.publish(&mut maps);
        }
        Pending::done(Ok(()))
    }
}

impl Maps {
    /// What a walk reports that found nothing more.
    fn ended(&self, id: ChannelId, track: Track) -> Walked {
        let waiting = self
            .channels
            .get(&id)
            .into_iter()
            .flat_map(|it| &it.waiting);
        let ends = waiting
            .filter(|(_, (lane, _))| track == Track::Lane(*lane))
            .map(|(_, (_, ends))| *ends);
        ends.min().map_or(Walked::End, Walked::Waits)
    }

    /// The standing of an entity on a channel; `None` if the channel has another entity type.
    pub(super) fn standing(&self, channel: &Channel, ordinal: Ordinal) -> Option<Standing> {
        self.ids
            .get(&ordinal.0)
            .filter(|id| id.entity_type == channel.subscription.entity_type)?;
        let pair = channel.pair(ordinal.0);
        let owes = self.owes(channel, ordinal.0, Track::Sweep);
        let settled = Some(pair.revision).filter(|revision| *revision > 0 && !owes);
        let settled = settled.map(|revision| self.time_of(revision));
        let owed = self.debt(channel, ordinal.0).map(|(since, _)| since);
        Some(Standing {
            state: pair.state,
            revision: Sequence(pair.revision),
            since: owed.or(settled),
            holds: pair.holds,
            owed: owes,
            in_flight: channel.flights.contains_key(&ordinal.0),
            waits_until: (channel.live && channel.waiting.contains_key(&ordinal.0))
                .then(|| self.wait_of(channel, ordinal.0))
                .flatten(),
            lane: self
                .subscribed(channel, ordinal.0)
                .filter(|stored| stored.facet.sequence.0 > pair.revision)
                .map(|stored| stored.lane)
                .min(),
            shape_label: channel.labels.get(&pair.shape).cloned().unwrap_or_default(),
            newest: Sequence(self.newest(channel, ordinal.0)),
            reshaped: is_reshaped(channel, ordinal.0),
        })
    }
}

//! The operations of a channel on the index: walk, retry, attempt, finish, and report what is owed.
//! Each of them holds the index once, for a bounded time.

use std::sync::Arc;

use super::quiet::{Met, is_over, lane_of};
use super::{Channel, Known, Pair, Walked};
use crate::index::{
    ChannelId, Entry, Holds, Index, Lease, Owed, Parked, Settlement, Standing, State,
};
use crate::model::{Lane, Ordinal, Sequence, Timestamp, Track};

/// Maximum number of places and of entities that wait examined in one walk. It bounds how long the index
/// is held when a channel passes many places that it does not owe.
pub(super) const VISITS_MAX: usize = 4_096;
/// In how many milliseconds a sweep that cannot set anything more aside tries again, if the bulk lane does
/// not take what is quiet: it may wait for its hours.
const SWEEP_WAITS_MS: u64 = 1_000;
/// Maximum number of places examined in each lane to find the oldest change owed. A walk passes
/// places that the channel does not owe, so this many come together only while it does not walk.
pub(super) const OLDEST_LOOKED_AT: usize = 4_096;

impl Index {
    /// Walks the next places of a lane up to the watermark, or the next entities of the sweep,
    /// until `limit` entities are taken. In a lane, those whose wait to be quiet is over at `now` come
    /// first.
    pub fn walk(
        &mut self,
        id: ChannelId,
        track: Track,
        limit: usize,
        watermark: u64,
        now: Timestamp,
        taken: &mut Vec<Lease>,
    ) -> Walked {
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.live) else {
            return Walked::End;
        };
        let (entries, names, most) = (&self.entries, &self.names, taken.len() + limit);
        let known = Known {
            names,
            clock: &self.clock,
            now,
            earlier: &self.earlier,
        };
        let mut visits = 0;
        if let Track::Lane(lane) = track {
            let entry_of = |ordinal: u32| entries.get(ordinal as usize)?.as_deref();
            while taken.len() < most {
                let next = channel.next_quiet(lane, entry_of, known, &mut visits);
                let Some((ordinal, entry)) = next else { break };
                taken.push(channel.start(ordinal, entry, known, track, Vec::new(), watermark));
            }
        }
        let from = channel.read[track.index()];
        let (mut walked, mut full) = (Walked::End, false);
        let mut visit = |channel: &mut Channel, place: u64, ordinal: u32| {
            if taken.len() >= most || visits >= VISITS_MAX {
                walked = Walked::More;
                return false;
            }
            visits += 1;
            if track == Track::Sweep && place > channel.reserved {
                channel.read[3] = place - 1;
                walked = Walked::Reserve;
                return false;
            }
            if let Some(entry) = entries[ordinal as usize].as_deref() {
                match channel.meet(ordinal, entry, known, track, place, watermark) {
                    Met::Passed => {}
                    Met::Taken(lease) => taken.push(lease),
                    Met::Full => {
                        full = true;
                        return false;
                    }
                }
            }
            true
        };
        match track {
            Track::Lane(lane) if !channel.is_concerned(&self.newest[lane.index()], from, names) => {
                channel.read[lane.index()] = from.max(watermark);
            }
            Track::Lane(lane) => {
                for (place, ordinal) in self.lanes[lane.index()]
                    .after(from)
                    .take_while(|(place, _)| *place <= watermark)
                {
                    if !visit(channel, place, ordinal) {
                        break;
                    }
                }
            }
            Track::Sweep => {
                let first = (from + 1).min(entries.len() as u64) as u32;
                for ordinal in (first..entries.len() as u32)
                    .filter(|ordinal| entries[*ordinal as usize].is_some())
                {
                    if !visit(channel, u64::from(ordinal), ordinal) {
                        break;
                    }
                }
            }
        }
        if channel.read[track.index()] != from {
            channel.dirty.positions = true;
            self.reads_moved |= track != Track::Sweep;
        }
        let waits = channel.waiting.first(lane_of(track));
        match waits.filter(|_| walked == Walked::End && (full || track != Track::Sweep)) {
            Some((ends, _)) if is_over(ends, known) => match track {
                Track::Lane(_) => Walked::More,
                Track::Sweep => Walked::Waits(Timestamp(now.0.saturating_add(SWEEP_WAITS_MS))),
            },
            Some((ends, _)) => Walked::Waits(ends),
            None => walked,
        }
    }

    /// Takes a parked or held entity for a retry. `None` if it is neither, or is in flight.
    pub fn retry(&mut self, id: ChannelId, ordinal: u32, watermark: u64) -> Option<Lease> {
        let channel = self.channels.get_mut(&id)?;
        if !channel.parked.contains_key(&ordinal) || channel.flights.contains_key(&ordinal) {
            return None;
        }
        let entry = self.entries.get(ordinal as usize)?.as_deref()?;
        let newest = channel
            .subscribed(entry, &self.names)
            .max_by_key(|meta| meta.sequence);
        let track = newest.map_or(Track::Sweep, |meta| Track::Lane(meta.lane));
        let known = Known {
            names: &self.names,
            clock: &self.clock,
            now: Timestamp(0),
            earlier: &self.earlier,
        };
        Some(channel.start(ordinal, entry, known, track, Vec::new(), watermark))
    }

    /// The entities that have a newer subscribed change than the one that was read, each with it.
    pub fn changed(&self, id: ChannelId, read: &[(Ordinal, Sequence)]) -> Vec<(Ordinal, Sequence)> {
        let Some(channel) = self.channels.get(&id) else {
            return Vec::new();
        };
        let changed = |(ordinal, read): &(Ordinal, Sequence)| {
            let entry = self.entry(ordinal.0)?;
            let newest = Sequence(channel.newest_seen(entry, &self.names));
            (newest > *read).then_some((*ordinal, newest))
        };
        read.iter().filter_map(changed).collect()
    }

    /// Marks what the target holds of these entities as unknown, because an attempt is about to be
    /// made.
    pub fn attempt(&mut self, id: ChannelId, ordinals: &[Ordinal]) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        for ordinal in ordinals {
            channel.change(ordinal.0, Pair::attempted);
        }
    }

    /// Ends flights. An entity that changed meanwhile goes in flight again at once and is added to
    /// `again`.
    pub fn settle(
        &mut self,
        id: ChannelId,
        ends: &[Settlement],
        watermark: u64,
        now: Timestamp,
        again: &mut Vec<Lease>,
    ) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        let known = Known {
            names: &self.names,
            clock: &self.clock,
            now,
            earlier: &self.earlier,
        };
        for end in ends {
            if let Some(entry) = self
                .entries
                .get(end.ordinal.0 as usize)
                .and_then(|entry| entry.as_deref())
            {
                again.extend(channel.finish(end, entry, known, watermark));
            }
        }
        channel.dirty.positions = true;
    }

    /// The counts of what a channel still has to deliver.
    pub fn owed(&self, id: ChannelId) -> Owed {
        let Some(channel) = self.channels.get(&id) else {
            return Owed::default();
        };
        // A place is a sequence, so the first place that is owed has the oldest change of a lane, but
        // for entities that were served after they took it.
        let unread = Lane::ALL.map(|lane| {
            let places = self.lanes[lane.index()]
                .after(channel.read[lane.index()])
                .take(OLDEST_LOOKED_AT);
            let mut oldest: Option<(u64, u32)> = None;
            for (place, ordinal) in places {
                if oldest.is_some_and(|oldest| oldest.0 < place) {
                    break;
                }
                let since = self
                    .entry(ordinal)
                    .and_then(|entry| channel.owed_since(ordinal, entry, self.known(), &[]));
                oldest = oldest
                    .into_iter()
                    .chain(since.map(|since| (since, ordinal)))
                    .min();
            }
            oldest
        });
        let mut due = Lane::ALL.map(|lane| {
            let (since, ordinal) = unread[lane.index()]?;
            let wait = self
                .wait_of(channel, ordinal)
                .filter(|_| lane != Lane::Urgent);
            Some(wait.unwrap_or_else(|| self.clock.time_of(since)))
        });
        for lane in Lane::ALL {
            let first = channel.waiting.first(lane);
            let quiet = first.map(|(ends, ordinal)| match ends.0 {
                // It was not looked at since the start, perhaps because the target is down.
                0 => self
                    .wait_of(channel, ordinal)
                    .unwrap_or_else(|| self.clock.time_of(channel.pair(ordinal).revision() + 1)),
                _ => ends,
            });
            due[lane.index()] = due[lane.index()].into_iter().chain(quiet).min();
        }
        let mut tried = [None; 3];
        let mut oldest: Option<u64> = unread.into_iter().flatten().map(|(since, _)| since).min();
        // A waiting entity owes the change after its revision.
        let waiting = channel.waiting.ordinals();
        let waiting = waiting.map(|ordinal| channel.pair(ordinal).revision() + 1);
        oldest = oldest.into_iter().chain(waiting).min();
        let flying = channel.flights.iter().map(|(at, it)| (*at, it.owed_since));
        let parked = channel.parked.keys().filter_map(|ordinal| {
            let entry = self.entry(*ordinal)?;
            let since = channel.owed_since(*ordinal, entry, self.known(), &[]);
            Some((*ordinal, since.unwrap_or_default()))
        });
        let mut oldest_held: Option<u64> = None;
        for (ordinal, since) in flying.chain(parked) {
            let change = Some(since).filter(|since| *since > 0);
            let held = channel.parked.get(&ordinal).is_some_and(|it| it.held);
            let among = if held { &mut oldest_held } else { &mut oldest };
            *among = among.iter().copied().chain(change).min();
            let lane = self.newest_lane(channel, ordinal).unwrap_or(Lane::Bulk);
            let wait = self
                .wait_of(channel, ordinal)
                .filter(|_| lane != Lane::Urgent);
            let change = change.map(|since| self.clock.time_of(since));
            let asked = channel.parked_at.get(&ordinal).copied();
            let since = change.into_iter().chain(asked).min();
            let from = since.map(|since| wait.unwrap_or(since));
            tried[lane.index()] = tried[lane.index()].into_iter().chain(from).min();
        }
        let not_held = oldest.map(|oldest| (Sequence(oldest), self.clock.time_of(oldest)));
        let oldest = oldest.into_iter().chain(oldest_held).min();
        let oldest_time = oldest.map(|sequence| self.clock.time_of(sequence));
        let asked = channel.parked_at.values().copied();
        let held = channel.parked.values().filter(|parked| parked.held).count() as u64;
        let quieting = Lane::ALL.map(|lane| channel.waiting.len(lane) as u64);
        Owed {
            lanes: Lane::ALL.map(|lane| {
                let ahead = self.lanes[lane.index()].count_after(channel.read[lane.index()]);
                ahead + quieting[lane.index()]
            }),
            waiting: quieting.iter().sum(),
            sweep: (channel.sweep_end.min(self.highest.into())).saturating_sub(channel.read[3]),
            in_flight: channel.flights.len() as u64,
            parked: channel.parked.len() as u64 - held,
            held,
            refused: channel.refusals.len() as u64,
            holding: channel.holding,
            oldest: oldest.map(Sequence),
            oldest_time: oldest_time.into_iter().chain(asked).min(),
            oldest_not_held: not_held,
            due,
            tried,
        }
    }

    /// The changes since the store was opened of facets that a channel subscribes to.
    pub fn changes(&self, id: ChannelId) -> u64 {
        let Some(channel) = self.channels.get(&id) else {
            return 0;
        };
        let of_type = |(entity_type, _): &&(Arc<str>, Vec<u64>)| {
            *entity_type == channel.subscription.entity_type
        };
        let counts = self.changes.iter().find(of_type);
        let counts = counts.map_or(&[][..], |(_, counts)| counts);
        let counted = (0u32..).zip(counts).filter(|(_, count)| **count > 0);
        let wanted = counted.filter(|(name, _)| channel.is_wanted(*name, &self.names));
        wanted.map(|(_, count)| count).sum::<u64>() + channel.changes_of_forgotten
    }

    /// When the wait of an entity for quiet ends, or ended.
    fn wait_of(&self, channel: &Channel, ordinal: u32) -> Option<Timestamp> {
        let wait = channel.wait_of(ordinal, self.entry(ordinal)?, self.known(), &[]);
        wait.map(|(_, ends)| ends)
    }

    /// The lane of the newest change that a channel subscribes to.
    fn newest_lane(&self, channel: &Channel, ordinal: u32) -> Option<Lane> {
        let subscribed = channel.subscribed(self.entry(ordinal)?, &self.names);
        subscribed
            .max_by_key(|meta| meta.sequence)
            .map(|meta| meta.lane)
    }

    /// Whether a channel still owes an entity.
    pub fn owes(&self, id: ChannelId, ordinal: u32) -> bool {
        let channel = self.channels.get(&id).zip(self.entry(ordinal));
        channel.is_some_and(|(channel, entry)| channel.owes(ordinal, entry, &self.names))
    }

    /// The standing of an entity on a channel. `None` if the channel has another entity type.
    pub fn standing(&self, id: ChannelId, ordinal: u32) -> Option<Standing> {
        let (channel, entry) = (self.channels.get(&id)?, self.entry(ordinal)?);
        let pair = channel.pair(ordinal);
        let label = channel
            .labels
            .iter()
            .find(|(shape, _)| *shape == pair.shape())
            .map(|(_, label)| label.clone());
        (entry.id.entity_type == channel.subscription.entity_type).then(|| Standing {
            state: pair.state(),
            revision: Sequence(pair.revision()),
            since: self.since(channel, ordinal, entry),
            holds: pair.holds(),
            owed: channel.owes(ordinal, entry, &self.names),
            in_flight: channel.flights.contains_key(&ordinal),
            waits_until: (channel.live && channel.waiting.contains(ordinal))
                .then(|| self.wait_of(channel, ordinal))
                .flatten(),
            lane: channel
                .subscribed(entry, &self.names)
                .filter(|meta| meta.sequence > pair.revision())
                .map(|meta| meta.lane)
                .min(),
            shape_label: label.unwrap_or_default(),
            newest: Sequence(channel.newest_seen(entry, &self.names)),
            reshaped: channel.is_reshaped(pair),
        })
    }

    pub(super) fn known(&self) -> Known<'_> {
        Known {
            names: &self.names,
            clock: &self.clock,
            now: Timestamp(0),
            earlier: &self.earlier,
        }
    }

    /// Since when an entity is in its state on a channel: the time of the oldest change owed, or at which it
    /// was parked, or else of the last settling. `None` if it owes only another rendering, or was never met.
    fn since(&self, channel: &Channel, ordinal: u32, entry: &Entry) -> Option<Timestamp> {
        let owed = channel.debt(ordinal, entry, self.known());
        let settled = Some(channel.pair(ordinal).revision())
            .filter(|revision| *revision > 0 && !channel.owes(ordinal, entry, &self.names))
            .map(|revision| self.clock.time_of(revision));
        owed.map(|(since, _)| since).or(settled)
    }

    /// Parks refused entities again for a retry. Returns those that were refused and not in flight.
    pub fn redrive(&mut self, id: ChannelId, ordinals: &[Ordinal], now: Timestamp) -> Vec<Parked> {
        let Some(channel) = self.channels.get_mut(&id) else {
            return Vec::new();
        };
        let mut parked = Vec::new();
        for ordinal in ordinals {
            if channel.pair(ordinal.0).state() == State::Refused
                && !channel.flights.contains_key(&ordinal.0)
            {
                let waits = Parked {
                    ordinal: *ordinal,
                    attempts: 0,
                    held: false,
                };
                channel.refusals.remove(&ordinal.0);
                channel.change(ordinal.0, |pair| pair.in_state(State::Parked(0)));
                channel.parked.insert(ordinal.0, waits);
                channel.parked_at.insert(ordinal.0, now);
                parked.push(waits);
            }
        }
        parked
    }

    /// Makes it unknown what the target holds of entities, and parks those for a retry that are not owed
    /// anyway. Returns these. One in flight is left alone.
    pub fn resend(&mut self, id: ChannelId, ordinals: &[Ordinal], now: Timestamp) -> Vec<Parked> {
        let mut parked = Vec::new();
        for ordinal in ordinals {
            let standing = self.standing(id, ordinal.0);
            let (Some(standing), Some(channel)) = (standing, self.channels.get_mut(&id)) else {
                continue;
            };
            if standing.in_flight {
                continue;
            }
            channel.change(ordinal.0, |pair| pair.attempted());
            if standing.owed || channel.parked.contains_key(&ordinal.0) {
                continue;
            }
            let waits = Parked {
                ordinal: *ordinal,
                attempts: 0,
                held: false,
            };
            channel.refusals.remove(&ordinal.0);
            channel.change(ordinal.0, |pair| pair.in_state(State::Parked(0)));
            channel.parked.insert(ordinal.0, waits);
            channel.parked_at.insert(ordinal.0, now);
            parked.push(waits);
        }
        parked
    }

    /// Drops refusals: the entities count as settled until they change. Returns how many were
    /// refused.
    pub fn drop_refused(&mut self, id: ChannelId, ordinals: &[Ordinal]) -> usize {
        let Some(channel) = self.channels.get_mut(&id) else {
            return 0;
        };
        let mut dropped = 0;
        for ordinal in ordinals {
            if channel.pair(ordinal.0).state() == State::Refused {
                channel.refusals.remove(&ordinal.0);
                // The entity is deleted, and with the drop the operator has confirmed that nothing
                // is left at the target; otherwise it could never be forgotten.
                let buried = self.graves.contains(ordinal.0);
                let settled = |pair: Pair| {
                    if buried {
                        pair.holding(Holds::Nothing)
                    } else {
                        pair
                    }
                };
                channel.change(ordinal.0, |pair| settled(pair).in_state(State::New));
                dropped += 1;
            }
        }
        dropped
    }
}

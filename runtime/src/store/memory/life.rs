//! A channel's life: it joins, walks, meets entities, and settles its flights.

use super::{Channel, Flight, Maps, Pair, Rule, Stored};
use crate::index::ChannelId;
use crate::model::{Lane, Ordinal, Sequence, Timestamp, Track};
use crate::store::{Ending, Holds, Joined, Lease, Parked, Settlement, State, Subscription, Walked};

impl Maps {
    pub(super) fn join(&mut self, name: &str, subscription: &Subscription) -> (ChannelId, Joined) {
        let known = self.channel_named(name);
        let id = known.unwrap_or_else(|| {
            self.channel_number += 1;
            let id = ChannelId(self.channel_number);
            self.channels
                .insert(id, Channel::new(name, subscription.clone()));
            id
        });
        let channel = &self.channels[&id];
        let lost = channel.subscription.target != subscription.target;
        let swept = lost
            || known.is_none()
            || !channel.live
            || channel.subscription.shape != subscription.shape;
        if swept {
            self.reshape(id, subscription.clone(), lost);
        }
        let channel = self
            .channels
            .get_mut(&id)
            .expect("it was just found or made");
        channel.live = true;
        channel.subscription.debounce = subscription.debounce;
        (channel.waiting.values_mut()).for_each(|(_, ends)| *ends = Timestamp(0));
        let joined = Joined {
            swept,
            paused: channel.paused,
            parked: channel.parked.values().copied().collect(),
            withdrawals: channel.withdrawals.clone(),
        };
        (id, joined)
    }

    /// Applies a subscription when a channel joins, renders differently, or starts over for a
    /// target that lost its data: the positions in the lanes move to the head, and a sweep starts.
    /// It takes a sequence of its own, so that the revisions of what it sends rise even if nothing
    /// changed.
    pub(super) fn reshape(&mut self, id: ChannelId, subscription: Subscription, lost: bool) {
        self.sequence += 1;
        self.times.insert(self.sequence, self.now);
        let (head, sweep_end) = (self.sequence, u64::from(self.ordinal));
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        channel.shape += 1;
        channel
            .labels
            .insert(channel.shape, subscription.shape_label.clone());
        if channel.subscription.entity_type != subscription.entity_type {
            channel.let_go();
        }
        channel.subscription = subscription;
        if lost {
            channel.lose();
        }
        channel.read = [head, head, head, 0];
        channel.sweep_end = sweep_end;
        channel.acked = channel.read;
        channel
            .flights
            .values_mut()
            .for_each(|flight| flight.places.clear());
        channel.save();
    }

    pub(super) fn newest(&self, channel: &Channel, entity: u32) -> u64 {
        let subscribed = self.subscribed(channel, entity);
        subscribed
            .map(|stored| stored.facet.sequence.0)
            .max()
            .unwrap_or(0)
    }

    /// The oldest change of an entity that the channel owes.
    pub(super) fn owed_since(&self, channel: &Channel, entity: u32) -> Option<Sequence> {
        self.ids
            .get(&entity)
            .filter(|id| id.entity_type == channel.subscription.entity_type)?;
        let revision = channel.pair(entity).revision;
        let changes = self.history.get(&entity)?.iter();
        changes
            .filter(|(sequence, facet)| sequence.0 > revision && channel.subscribes(facet))
            .map(|(sequence, _)| *sequence)
            .min()
    }

    /// Since when the channel owes an entity, and the sequence of the oldest change that it owes. Without one
    /// it is sent once more, and the sequence is the one that was settled.
    pub(super) fn debt(&self, channel: &Channel, entity: u32) -> Option<(Timestamp, Sequence)> {
        let change = self.owed_since(channel, entity);
        let time = change.map(|since| self.time_of(since.0));
        let waits = channel.parked_at.get(&entity).copied();
        let since = time.into_iter().chain(waits).min()?;
        let settled = Sequence(channel.pair(entity).revision);
        Some((since, change.unwrap_or(settled)))
    }

    pub(super) fn subscribed<'a>(
        &'a self,
        channel: &'a Channel,
        entity: u32,
    ) -> impl Iterator<Item = &'a Stored> {
        let right_type = self
            .ids
            .get(&entity)
            .is_some_and(|id| id.entity_type == channel.subscription.entity_type);
        let facets = self
            .facets
            .get(&entity)
            .into_iter()
            .flat_map(|facets| facets.values());
        facets.filter(move |stored| right_type && channel.subscribes(&stored.facet.name))
    }

    pub(super) fn owes(&self, channel: &Channel, entity: u32, track: Track) -> bool {
        let pair = channel.pair(entity);
        let right_type = self
            .ids
            .get(&entity)
            .is_some_and(|id| id.entity_type == channel.subscription.entity_type);
        let reshaped = track == Track::Sweep && is_reshaped(channel, entity);
        right_type && (self.newest(channel, entity) > pair.revision || reshaped)
    }

    /// Moves to the end of a lane at once if no entity in it has a facet that the channel
    /// subscribes to.
    pub(super) fn pass(&mut self, id: ChannelId, track: Track) {
        let (Some(channel), Track::Lane(lane)) = (
            self.channels.get_mut(&id).filter(|channel| channel.live),
            track,
        ) else {
            return;
        };
        let read = channel.read[track.index()];
        let changed = &self.changed[lane.index()];
        if !changed
            .iter()
            .any(|(facet, newest)| *newest > read && channel.subscribes(facet))
        {
            channel.read[track.index()] = read.max(self.sequence);
        }
    }

    /// Meets the next place of a lane, or the next entity of the sweep, unless there is none or the
    /// sweep must be saved first.
    pub(super) fn meet(&mut self, id: ChannelId, track: Track, taken: &mut Vec<Lease>) -> Walked {
        let Some(channel) = self.channels.get(&id).filter(|channel| channel.live) else {
            return Walked::End;
        };
        let after = channel.read[track.index()] + 1;
        let next = match track {
            Track::Sweep => self
                .facets
                .keys()
                .map(|entity| (u64::from(*entity), *entity))
                .find(|(place, _)| *place >= after),
            Track::Lane(lane) => self.lanes[lane.index()]
                .range(after..)
                .next()
                .map(|(place, entity)| (*place, *entity)),
        };
        let Some((place, entity)) = next else {
            return Walked::End;
        };
        let owed = self.owes(channel, entity, track);
        let channel = self.channels.get_mut(&id).expect("it was just found");
        if track == Track::Sweep && place > channel.reserved {
            channel.read[3] = place - 1;
            return Walked::Reserve;
        }
        channel.read[track.index()] = place;
        if let Some(flight) = channel.flights.get_mut(&entity) {
            if self.without != Some(Rule::Attach) {
                flight.places.push((track, place));
            }
            flight.met = true;
            flight.urgent |= track == Track::Lane(Lane::Urgent);
        } else if owed && channel.parked.get(&entity).is_none_or(|parked| parked.held) {
            let held = channel.parked.contains_key(&entity);
            let (urgent, lane) = (track == Track::Lane(Lane::Urgent), lane_of(track));
            if !urgent && let Some((before, _)) = channel.waiting.get_mut(&entity) {
                *before = (*before).min(lane);
                let lane = *before;
                if let Some(State::Waiting { lane: known, .. }) =
                    channel.pairs.get_mut(&entity).map(|pair| &mut pair.state)
                {
                    *known = lane;
                }
                return Walked::More;
            }
            if !urgent && !held && self.waits_aside(id, entity, lane) {
                return Walked::More;
            }
            self.start(id, entity, track, vec![(track, place)], taken);
        }
        Walked::More
    }

    /// When the wait of an entity for quiet ends; `None` if the channel does not wait, or owes no change.
    pub(super) fn wait_of(&self, channel: &Channel, entity: u32) -> Option<Timestamp> {
        let debounce = channel.subscription.debounce?;
        let first = self.time_of(self.owed_since(channel, entity)?.0);
        Some(debounce.ends(first, self.time_by(self.newest(channel, entity))))
    }

    /// When an entity is quiet that must wait for it. One that must be rendered anew because the channel
    /// has another shape does not wait.
    fn must_wait(&self, channel: &Channel, entity: u32) -> Option<Timestamp> {
        let pair = channel.pairs.get(&entity);
        let wait = match pair.is_some_and(|pair| pair.shape != channel.shape) {
            true => None,
            false => self.wait_of(channel, entity),
        };
        wait.filter(|ends| *ends > self.now)
    }

    /// Sets an entity aside that must wait until it is quiet; returns whether it must. The changes before
    /// the first one that was not sent count as settled.
    fn waits_aside(&mut self, id: ChannelId, entity: u32, lane: Lane) -> bool {
        let channel = &self.channels[&id];
        let (first, wait) = (
            self.owed_since(channel, entity),
            self.must_wait(channel, entity),
        );
        let Some((first, ends)) = first.zip(wait) else {
            return false;
        };
        let channel = self.channels.get_mut(&id).expect("it was just found");
        let new = Pair {
            shape: channel.shape,
            ..Pair::default()
        };
        let pair = channel.pairs.entry(entity).or_insert(new);
        let was_absent = pair.state.is_absent();
        (pair.revision, pair.refusal) = (first.0 - 1, None);
        pair.state = State::Waiting { lane, was_absent };
        channel.waiting.insert(entity, (lane, ends));
        true
    }

    /// Takes the next entity of a lane whose wait for quiet is over. One that has changed meanwhile waits
    /// on.
    pub(super) fn take_quiet(&mut self, id: ChannelId, lane: Lane, taken: &mut Vec<Lease>) -> bool {
        loop {
            let Some(channel) = self.channels.get(&id).filter(|channel| channel.live) else {
                return false;
            };
            let over = (channel.waiting.iter())
                .filter(|(_, (of, ends))| *of == lane && *ends <= self.now)
                .map(|(entity, (_, ends))| (*ends, *entity))
                .min();
            let Some((_, entity)) = over else {
                return false;
            };
            let later = self.must_wait(channel, entity);
            let channel = self.channels.get_mut(&id).expect("it was just found");
            match later {
                Some(later) => {
                    channel.waiting.insert(entity, (lane, later));
                }
                None => {
                    self.start(id, entity, Track::Lane(lane), Vec::new(), taken);
                    return true;
                }
            }
        }
    }

    /// The channel of that name.
    pub(super) fn channel_named(&self, name: &str) -> Option<ChannelId> {
        let named = |(_, channel): &(&ChannelId, &Channel)| channel.name == name;
        self.channels.iter().find(named).map(|(id, _)| *id)
    }

    pub(super) fn start(
        &mut self,
        id: ChannelId,
        entity: u32,
        track: Track,
        places: Vec<(Track, u64)>,
        taken: &mut Vec<Lease>,
    ) {
        let revision = self.sequence;
        let channel = &self.channels[&id];
        let pair = channel.pair(entity);
        let owed = self.owed_since(channel, entity);
        let attempts = channel
            .parked
            .get(&entity)
            .map_or(0, |parked| parked.attempts);
        taken.push(Lease {
            ordinal: Ordinal(entity),
            revision: Sequence(revision),
            holds: pair.holds,
            was_absent: pair.state.is_absent(),
            target_key: pair.target_key,
            settled: Sequence(pair.revision),
            attempts,
            track,
            owed_since: owed.unwrap_or_default(),
            owed_at: owed.map_or(Timestamp(0), |owed| self.time_of(owed.0)),
        });
        let channel = self.channels.get_mut(&id).expect("it was just found");
        channel.flights.insert(
            entity,
            Flight {
                revision,
                shape: channel.shape,
                places,
                met: false,
                urgent: false,
            },
        );
        channel.waiting.remove(&entity);
    }

    /// The lane of the newest change that is owed; a retry is served in this lane.
    pub(super) fn lane_owed(&self, id: ChannelId, entity: u32) -> Track {
        let newest = self
            .subscribed(&self.channels[&id], entity)
            .max_by_key(|stored| stored.facet.sequence);
        newest.map_or(Track::Sweep, |stored| Track::Lane(stored.lane))
    }

    pub(super) fn settle(&mut self, id: ChannelId, end: &Settlement, again: &mut Vec<Lease>) {
        let (entity, now) = (end.ordinal.0, self.now);
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        let Some(flight) = channel.flights.remove(&entity) else {
            return;
        };
        let mut pair = channel.pair(entity);
        pair.refusal = None;
        let parked = |attempts, held| Parked {
            ordinal: end.ordinal,
            attempts,
            held,
        };
        let (state, waits) = match &end.ending {
            Ending::Delivered { digest, target_key } => {
                pair.holds = Holds::Rendering(*digest);
                pair.target_key = target_key.clone();
                (State::Delivered, None)
            }
            Ending::Withdrawn => {
                pair.holds = Holds::Nothing;
                pair.target_key = None;
                (State::Withdrawn, None)
            }
            Ending::Suppressed => (State::Suppressed, None),
            Ending::Withheld(by) => (State::Withheld(*by), None),
            Ending::Counted => (State::Counted, None),
            Ending::Refused(failure) => {
                pair.refusal = Some((failure.clone(), now));
                (State::Refused, None)
            }
            Ending::Parked { attempts } => {
                (State::Parked(*attempts), Some(parked(*attempts, false)))
            }
            Ending::Held => (State::Held, Some(parked(0, true))),
        };
        pair.state = state;
        if waits.is_none() {
            pair.revision = end.revision.0;
            pair.shape = flight.shape;
        }
        let revision = pair.revision;
        channel.pairs.insert(entity, pair);
        match waits {
            Some(waits) => {
                channel.parked_at.entry(entity).or_insert(now);
                channel.parked.insert(entity, waits);
            }
            None => {
                channel.parked_at.remove(&entity);
                channel.parked.remove(&entity);
            }
        }
        let channel = &self.channels[&id];
        if waits.is_none()
            && flight.met
            && (self.newest(channel, entity) > revision || flight.shape != channel.shape)
        {
            let track = flight.places.last().map_or(Track::Sweep, |place| place.0);
            let lane = self
                .subscribed(channel, entity)
                .filter(|stored| stored.facet.sequence.0 > revision && stored.lane != Lane::Urgent)
                .map(|stored| stored.lane)
                .min()
                .unwrap_or(lane_of(track));
            if flight.urgent || !self.waits_aside(id, entity, lane) {
                self.start(id, entity, track, flight.places, again);
            }
        }
        debug_assert!(flight.revision <= self.sequence);
    }
}

/// The lane in which an entity waits that was met there, or by the sweep.
fn lane_of(track: Track) -> Lane {
    match track {
        Track::Lane(lane) => lane,
        Track::Sweep => Lane::Bulk,
    }
}

/// Whether a sweep must render an entity again. What the channel never met is rendered when a facet
/// changes that it subscribes to.
pub(super) fn is_reshaped(channel: &Channel, entity: u32) -> bool {
    channel.pairs.contains_key(&entity) && channel.pair(entity).shape != channel.shape
}

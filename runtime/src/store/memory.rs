//! The store in memory, which is the specification of all stores: plain maps, full scans and one
//! lock, with nothing clever.
//!
//! Read it side by side with the promises in `store.rs`. Every other store is compared with it
//! under random histories. The product does not use it; tests do. What a store would have on disk
//! is kept in `saved`, so that [`Memory::crash`] can lose everything else.
//!
//! Reading order: `Maps::commit` (an event becomes changes, and changes take places),
//! `Maps::meet` (a channel walks), `Maps::settle` (a flight ends), `Maps::crash` (what a crash
//! leaves). The calls are in `answers` (facts, quarantine) and
//! `queue` (channels).

mod answers;
mod queue;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::{
    Commit, Content, Effect, Ending, FacetChange, Holds, Joined, Lease, Limits, NoRoom, Parked,
    Quarantined, QuarantinedEvent, SEQUENCE_BLOCK, Settlement, State, Subscription, Verdict,
    Walked, Withdrawals,
};
use crate::index::ChannelId;
use crate::model::{
    EntityId, FACETS_MAX, Facet, Failure, Lane, Ordinal, Sequence, Timestamp, Track, facet_matches,
};
use crate::sync::lock;

/// A rule of the specification that a test can leave out, to show that random histories detect its
/// absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The pair becomes unknown before an attempt, and only a complete success makes it known
    /// again.
    Unknown,
    /// After a crash, each pair that still owes a change becomes unknown: the change may have been
    /// delivered since the last save.
    Distrust,
    /// A sweep runs no further than it has reserved. After a crash, the entities in the reserved
    /// range are unknown too.
    Window,
    /// A place met while its entity is in flight settles only with that flight.
    Attach,
    /// An entity is forgotten only once every channel, including the retired ones, has saved that
    /// it is gone there.
    Horizon,
}

impl Rule {
    /// All rules.
    pub const ALL: [Rule; 5] = [
        Rule::Unknown,
        Rule::Distrust,
        Rule::Window,
        Rule::Attach,
        Rule::Horizon,
    ];
}

/// How far a sweep may run ahead of what is saved, in entities; small enough for random histories
/// to reach the limit.
pub const SWEEP_AHEAD: u32 = 2;

/// The store in memory. It is the specification, and the store of tests; no product runs on it.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

/// Shared by the store and the handles of its channels and sources.
struct Shared {
    maps: Mutex<Maps>,
    watermark: watch::Sender<Sequence>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::without(None)
    }
}

impl Memory {
    /// A store that leaves out one rule, to show what goes wrong without it.
    pub fn without(rule: Option<Rule>) -> Memory {
        let maps = Maps {
            without: rule,
            ..Maps::default()
        };
        Memory(Arc::new(Shared {
            maps: Mutex::new(maps),
            watermark: watch::Sender::new(Sequence(0)),
        }))
    }

    /// Sets the time with which changes and refusals are stamped; it starts at 0 and stands still.
    pub fn set_time(&self, now: Timestamp) {
        self.0.maps().now = now;
    }

    /// Does what a kill does: positions, pairs and parked entities fall back to what was saved, and
    /// flights are gone.
    pub fn crash(&self) {
        let mut maps = self.0.maps();
        maps.crash();
        self.0.publish(&mut maps);
    }
}

impl Shared {
    fn maps(&self) -> MutexGuard<'_, Maps> {
        lock(&self.maps)
    }

    fn publish(&self, maps: &mut Maps) {
        if maps.sequence > maps.ceiling {
            maps.ceiling = maps.sequence + SEQUENCE_BLOCK;
        }
        self.watermark.send_replace(Sequence(maps.sequence));
    }
}

/// All that a store has, on disk or not.
#[derive(Default)]
struct Maps {
    notes: BTreeMap<String, Vec<u8>>,
    without: Option<Rule>,
    now: Timestamp,
    limits: Limits,
    sequence: u64,
    /// Sequences up to this one are reserved; after a crash the sequence continues from here.
    ceiling: u64,
    ordinal: u32,
    ordinals: BTreeMap<EntityId, u32>,
    ids: BTreeMap<u32, EntityId>,
    facets: BTreeMap<u32, BTreeMap<Arc<str>, Stored>>,
    /// Entity → every change that it ever had, ascending: the sequence and the facet.
    history: BTreeMap<u32, Vec<(Sequence, Arc<str>)>>,
    /// Lane → entity → its places, ascending.
    places: [HashMap<u32, Vec<u64>>; 3],
    /// Lane → place → entity.
    lanes: [BTreeMap<u64, u32>; 3],
    /// Lane → facet → the last change of any entity that *has* this facet. This must not be
    /// narrowed to the last change of the facet itself: an entity that has been owed since a crash
    /// may be reachable only at a place that another of its facets took.
    changed: [BTreeMap<Arc<str>, u64>; 3],
    channels: BTreeMap<ChannelId, Channel>,
    channel_number: u16,
    identities: HashMap<u128, Content>,
    quarantine: BTreeMap<Arc<str>, BTreeMap<Sequence, Shelved>>,
    times: BTreeMap<u64, Timestamp>,
}

/// A quarantined event, and the id that is forgotten when it is discarded.
#[derive(Clone)]
struct Shelved {
    event: QuarantinedEvent,
    id: Option<u128>,
}

#[derive(Clone)]
struct Stored {
    facet: Facet,
    lane: Lane,
    hash: u64,
}

#[derive(Clone)]
struct Pair {
    revision: u64,
    holds: Holds,
    shape: u16,
    state: State,
    target_key: Option<Arc<str>>,
    refusal: Option<(Failure, Timestamp)>,
}

impl Default for Pair {
    fn default() -> Pair {
        Pair {
            revision: 0,
            holds: Holds::Nothing,
            shape: 0,
            state: State::New,
            target_key: None,
            refusal: None,
        }
    }
}

struct Flight {
    revision: u64,
    shape: u16,
    places: Vec<(Track, u64)>,
    met: bool,
}

struct Channel {
    name: String,
    live: bool,
    paused: bool,
    subscription: Subscription,
    shape: u16,
    labels: HashMap<u16, String>,
    read: [u64; 4],
    acked: [u64; 4],
    reserved: u64,
    /// The highest ordinal when the last sweep began.
    sweep_end: u64,
    pairs: HashMap<u32, Pair>,
    parked: BTreeMap<u32, Parked>,
    flights: BTreeMap<u32, Flight>,
    withdrawals: Withdrawals,
    saved: Saved,
}

#[derive(Clone, Default)]
struct Saved {
    acked: [u64; 4],
    reserved: u64,
    pairs: HashMap<u32, Pair>,
    parked: BTreeMap<u32, Parked>,
    withdrawals: Withdrawals,
}

impl Pair {
    /// Notes an attempt that may or may not have been applied.
    fn attempted(&mut self) {
        self.holds = Holds::Unknown;
        if self.state.is_absent() {
            self.state = State::New;
        }
    }
}

impl Channel {
    fn pair(&self, entity: u32) -> Pair {
        self.pairs.get(&entity).cloned().unwrap_or_default()
    }

    fn holding(&self) -> u64 {
        let holds = |pair: &&Pair| pair.holds != Holds::Nothing;
        self.pairs.values().filter(holds).count() as u64
    }

    fn subscribes(&self, facet: &str) -> bool {
        self.subscription
            .facets
            .iter()
            .any(|pattern| facet_matches(pattern, facet))
    }

    /// Moves `acked` up to the first place that a flight still has to settle.
    fn settle(&mut self) {
        for at in 0..4 {
            let waiting = self
                .flights
                .values()
                .flat_map(|flight| &flight.places)
                .filter(|place| place.0.index() == at);
            let bound = waiting
                .map(|place| place.1 - 1)
                .min()
                .unwrap_or(self.read[at]);
            self.acked[at] = self.acked[at].max(bound);
        }
    }

    fn save(&mut self) {
        self.settle();
        self.reserved = self.read[3] + u64::from(SWEEP_AHEAD);
        self.saved = Saved {
            acked: self.acked,
            reserved: self.reserved,
            pairs: self.pairs.clone(),
            parked: self.parked.clone(),
            withdrawals: self.withdrawals.clone(),
        };
    }
}

impl Maps {
    // -- writing ----------------------------------------------------------------------------------

    fn commit(&mut self, commit: Commit) -> Verdict {
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
            Effect::Quarantine(event) => self.set_aside(&commit.source, commit.arrival, id, *event),
            Effect::Changes(changes) => match self.room_for(&changes) {
                Err(limit) => Verdict::NoRoom(limit),
                Ok(()) => self.apply(changes, commit.arrival),
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

    fn set_aside(
        &mut self,
        source: &Arc<str>,
        arrival: Option<Sequence>,
        id: Option<u128>,
        event: Quarantined,
    ) -> Verdict {
        let now = self.now;
        let shelf = self.quarantine.entry(source.clone()).or_default();
        if let Some(shelved) = arrival.and_then(|at| shelf.get_mut(&at)) {
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

    fn room_for(&self, changes: &[FacetChange]) -> Result<(), NoRoom> {
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

    fn apply(&mut self, changes: Vec<FacetChange>, arrival: Option<Sequence>) -> Verdict {
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
                .is_some_and(|(c, arrival)| c.facet.sequence > arrival);
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
        }
        Verdict::Accepted {
            committed,
            unchanged,
            stale,
        }
    }

    /// The names of the facets that the deletion of a family deletes.
    fn members(&self, change: &FacetChange, prefix: &str) -> Vec<Arc<str>> {
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

    fn write(&mut self, change: FacetChange, known_version: Option<u64>) {
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

    /// Forgets entities that are deleted for long enough and certainly gone on every channel.
    fn forget(&mut self, now: Timestamp) {
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
    fn forget_facets(&mut self, entity: u32, due: impl Fn(&Stored) -> bool) {
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

    fn has_settled(&self, channel: &Channel, entity: u32) -> bool {
        let busy = channel.flights.contains_key(&entity)
            || channel.parked.contains_key(&entity)
            || channel.saved.parked.contains_key(&entity);
        let newest = self.newest(channel, entity);
        let settled = |pairs: &HashMap<u32, Pair>| {
            let revision = pairs.get(&entity).map_or(0, |pair| pair.revision);
            revision >= newest
        };
        !busy && settled(&channel.pairs) && settled(&channel.saved.pairs)
    }

    fn certainly_gone(&self, channel: &Channel, entity: u32) -> bool {
        let busy = channel.flights.contains_key(&entity) || channel.parked.contains_key(&entity);
        let pairs = [channel.pairs.get(&entity), channel.saved.pairs.get(&entity)];
        let gone = |pair: &Pair| {
            pair.holds == Holds::Nothing && pair.revision >= self.newest(channel, entity)
        };
        !busy
            && !channel.saved.parked.contains_key(&entity)
            && pairs.into_iter().flatten().all(gone)
    }

    // -- a channel's life -------------------------------------------------------------------------

    fn join(&mut self, name: &str, subscription: &Subscription) -> (ChannelId, Joined) {
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
    fn reshape(&mut self, id: ChannelId, subscription: Subscription, lost: bool) {
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
        channel.subscription = subscription;
        if lost {
            channel
                .pairs
                .values_mut()
                .for_each(|pair| pair.holds = Holds::Unknown);
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

    fn newest(&self, channel: &Channel, entity: u32) -> u64 {
        let subscribed = self.subscribed(channel, entity);
        subscribed
            .map(|stored| stored.facet.sequence.0)
            .max()
            .unwrap_or(0)
    }

    /// The oldest change of an entity that the channel owes.
    fn owed_since(&self, channel: &Channel, entity: u32) -> Option<Sequence> {
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

    fn subscribed<'a>(
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

    fn owes(&self, channel: &Channel, entity: u32, track: Track) -> bool {
        let pair = channel.pair(entity);
        let right_type = self
            .ids
            .get(&entity)
            .is_some_and(|id| id.entity_type == channel.subscription.entity_type);
        // What the channel never met is rendered when a facet changes that it subscribes to.
        let reshaped = channel.pairs.contains_key(&entity) && pair.shape != channel.shape;
        right_type
            && (self.newest(channel, entity) > pair.revision || (track == Track::Sweep && reshaped))
    }

    /// Moves to the end of a lane at once if no entity in it has a facet that the channel
    /// subscribes to.
    fn pass(&mut self, id: ChannelId, track: Track) {
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
    fn meet(&mut self, id: ChannelId, track: Track, taken: &mut Vec<Lease>) -> Walked {
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
        } else if owed && channel.parked.get(&entity).is_none_or(|parked| parked.held) {
            self.start(id, entity, track, vec![(track, place)], taken);
        }
        Walked::More
    }

    /// The channel of that name.
    fn channel_named(&self, name: &str) -> Option<ChannelId> {
        let named = |(_, channel): &(&ChannelId, &Channel)| channel.name == name;
        self.channels.iter().find(named).map(|(id, _)| *id)
    }

    fn start(
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
            attempts,
            track,
            owed_since: owed.unwrap_or_default(),
        });
        let channel = self.channels.get_mut(&id).expect("it was just found");
        channel.flights.insert(
            entity,
            Flight {
                revision,
                shape: channel.shape,
                places,
                met: false,
            },
        );
    }

    /// The lane of the newest change that is owed; a retry is served in this lane.
    fn lane_owed(&self, id: ChannelId, entity: u32) -> Track {
        let newest = self
            .subscribed(&self.channels[&id], entity)
            .max_by_key(|stored| stored.facet.sequence);
        newest.map_or(Track::Sweep, |stored| Track::Lane(stored.lane))
    }

    fn settle(&mut self, id: ChannelId, end: &Settlement, again: &mut Vec<Lease>) {
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
            Some(waits) => channel.parked.insert(entity, waits),
            None => channel.parked.remove(&entity),
        };
        let channel = &self.channels[&id];
        if waits.is_none()
            && flight.met
            && (self.newest(channel, entity) > revision || flight.shape != channel.shape)
        {
            let track = flight.places.last().map_or(Track::Sweep, |place| place.0);
            self.start(id, entity, track, flight.places, again);
        }
        debug_assert!(flight.revision <= self.sequence);
    }

    // -- disk -------------------------------------------------------------------------------------

    fn crash(&mut self) {
        self.sequence = self.ceiling;
        let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
        for id in ids {
            let channel = self.channels.get_mut(&id).expect("it was just listed");
            let Saved {
                acked,
                reserved,
                pairs,
                parked,
                withdrawals,
            } = channel.saved.clone();
            channel.withdrawals = withdrawals;
            (channel.acked, channel.read, channel.pairs, channel.parked) =
                (acked, acked, pairs, parked);
            channel.flights.clear();
            let mut unknown = Vec::new();
            let channel = &self.channels[&id];
            for entity in self.facets.keys() {
                let pair = channel.pair(*entity);
                let unsaved = self.newest(channel, *entity) > pair.revision
                    && self.without != Some(Rule::Distrust);
                let reserved = (acked[3] + 1..=reserved).contains(&u64::from(*entity))
                    && self.without != Some(Rule::Window);
                if unsaved || (reserved && pair.shape != channel.shape) {
                    unknown.push(*entity);
                }
            }
            let channel = self.channels.get_mut(&id).expect("it was just listed");
            for entity in unknown {
                channel.pairs.entry(entity).or_default().attempted();
            }
            channel.save();
        }
        // The index is rebuilt from the entity records, with one place in each lane: the last.
        for lane in Lane::ALL {
            let (lanes, places) = (
                &mut self.lanes[lane.index()],
                &mut self.places[lane.index()],
            );
            let changed = &mut self.changed[lane.index()];
            lanes.clear();
            places.clear();
            changed.clear();
            for (entity, facets) in &self.facets {
                if let Some(last) = facets
                    .values()
                    .filter(|stored| stored.lane == lane)
                    .map(|stored| stored.facet.sequence.0)
                    .max()
                {
                    places.insert(*entity, vec![last]);
                    lanes.insert(last, *entity);
                    for name in facets.keys() {
                        let newest = changed.entry(name.clone()).or_default();
                        *newest = last.max(*newest);
                    }
                }
            }
        }
    }

    fn time_of(&self, sequence: u64) -> Timestamp {
        self.times
            .range(..=sequence)
            .next_back()
            .map_or(Timestamp(0), |(_, time)| *time)
    }
}

impl Channel {
    fn new(name: &str, subscription: Subscription) -> Channel {
        Channel {
            name: name.into(),
            live: true,
            paused: false,
            subscription,
            shape: 0,
            labels: HashMap::new(),
            read: [0; 4],
            acked: [0; 4],
            reserved: 0,
            sweep_end: 0,
            pairs: HashMap::new(),
            parked: BTreeMap::new(),
            flights: BTreeMap::new(),
            withdrawals: Withdrawals::new(),
            saved: Saved::default(),
        }
    }
}

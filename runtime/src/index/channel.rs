//! A channel in the index: its positions, its pairs and its flights. The child module `walk` has
//! the operations of a channel on the whole index.

mod flights;
mod oldest;
mod quiet;
mod walk;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use self::quiet::Waiting;
use super::{Clock, Entry, Holds, Meta, Names, Pair, Parked, State, Subscription, Withdrawals};
use crate::model::{Failure, Lane, Ordinal, Timestamp, Track, facet_matches};

/// Maximum number of shapes whose label is remembered.
const LABELS_MAX: usize = 256;
/// Maximum length of the stored message of a refusal, in bytes.
const REFUSAL_BYTES_MAX: usize = 512;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// There is nothing more to walk now.
    End,
    /// There is nothing more to walk now. At this time, by the store's clock, there may be, because an
    /// entity is quiet then.
    Waits(Timestamp),
    /// There may be more.
    More,
    /// The sweep has reached the end of its reservation: save the channel, then continue.
    Reserve,
}

/// What a channel must know of the index.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) names: &'a Names,
    pub(super) clock: &'a Clock,
    /// The time now; 0 where nothing is decided by it.
    pub(super) now: Timestamp,
    /// As in [`super::Index`].
    pub(super) earlier: &'a HashMap<(Lane, u32), Vec<u64>>,
}

impl<'a> Known<'a> {
    /// All places of an entity in a lane.
    fn places(
        self,
        ordinal: u32,
        entry: &'a Entry,
        lane: Lane,
    ) -> impl Iterator<Item = u64> + use<'a> {
        let earlier = self.earlier.get(&(lane, ordinal)).into_iter().flatten();
        earlier.copied().chain([entry.places[lane.index()]])
    }
}

/// A channel.
#[derive(Debug)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// False if the channel is retired.
    pub live: bool,
    /// Whether an operator paused it.
    pub paused: bool,
    /// The entities and facets that it subscribes to.
    pub subscription: Subscription,
    /// The number of the current shape; it rises with each change of the shape and wraps from
    /// 65,535 to 1.
    pub shape: u16,
    /// The labels of the latest shapes, the newest last.
    pub labels: VecDeque<(u16, String)>,
    /// The deletes that the guard against mass withdrawal has counted.
    pub withdrawals: Withdrawals,
    /// Whether a renderer ever chose a key, in which case there may be rows of keys on disk.
    pub has_target_keys: bool,
    /// Whether anything was ever refused, in which case there may be rows of refusals on disk.
    pub has_refusals: bool,
    /// Its position in each lane and in the sweep (there an ordinal): everything up to it has been
    /// walked. This says nothing about what was delivered.
    read: [u64; 4],
    /// Everything up to here has been walked and settled.
    acked: [u64; 4],
    /// The ordinal up to which the sweep may run before the next save.
    reserved: u64,
    /// The highest ordinal when the last sweep began. What is above it is new, and the sweep meets
    /// it only to complete the pairs.
    sweep_end: u64,
    pairs: Vec<Pair>,
    /// The number of pairs whose target holds something or may hold something.
    holding: u64,
    /// Keys that renderers chose, where they differ from the entity's key.
    target_keys: HashMap<u32, Arc<str>>,
    parked: BTreeMap<u32, Parked>,
    /// The sequence of the oldest change that a parked entity owes, also when newer changes of the
    /// same facet cover it. After a restart, it is the oldest change that the entity still shows.
    parked_since: HashMap<u32, u64>,
    /// When a parked entity began to wait. What owes no change of its own counts from then: it is sent once
    /// more, or a sweep met it. After a restart it is the time of the start.
    parked_at: HashMap<u32, Timestamp>,
    /// The entities that wait until they are quiet.
    waiting: Waiting,
    refusals: BTreeMap<u32, (Failure, Timestamp)>,
    flights: HashMap<u32, Flight>,
    /// By the number of a facet's name: whether the channel subscribes to it. Filled in as names
    /// are met.
    wanted: Vec<Option<bool>>,
    /// Changes of facets that it subscribed to and whose names were forgotten since.
    changes_of_forgotten: u64,
    dirty: Dirty,
}

#[derive(Debug)]
struct Flight {
    shape: u16,
    places: Vec<(Track, u64)>,
    /// Whether the channel met a place of this entity during the flight.
    met: bool,
    /// Whether one of them was in the urgent lane.
    urgent: bool,
    /// The sequence of the oldest change that the flight owes; 0 if only the shape differs.
    owed_since: u64,
}

/// The ordinals whose pair has changed since the last save, without repetitions.
#[derive(Debug, Default)]
struct Dirty {
    marks: Vec<u64>,
    list: Vec<u32>,
    positions: bool,
}

impl Dirty {
    fn mark(&mut self, ordinal: u32) {
        let (word, bit) = (ordinal as usize / 64, 1u64 << (ordinal % 64));
        if self.marks.len() <= word {
            self.marks.resize(word + 1, 0);
        }
        if self.marks[word] & bit == 0 {
            self.marks[word] |= bit;
            self.list.push(ordinal);
        }
    }

    fn contains(&self, ordinal: u32) -> bool {
        self.marks
            .get(ordinal as usize / 64)
            .is_some_and(|word| word & (1 << (ordinal % 64)) != 0)
    }

    fn take(&mut self) -> Vec<u32> {
        let mut list = std::mem::take(&mut self.list);
        for ordinal in &list {
            self.marks[*ordinal as usize / 64] = 0;
        }
        list.sort_unstable();
        self.positions = false;
        list
    }
}

/// The parts of a channel that must be written, all taken at the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Settled positions of the lanes and of the sweep.
    pub acked: [u64; 4],
    /// The ordinal up to which the sweep may run before the next save.
    pub reserved: u64,
    /// The highest ordinal when the last sweep began.
    pub sweep_end: u64,
    /// The pairs that changed, in ascending order of their ordinals, each with the target's key and
    /// the refusal that belong to it.
    pub pairs: Vec<Changed>,
}

/// A pair that changed since the last save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The entity.
    pub ordinal: u32,
    /// The current pair.
    pub pair: Pair,
    /// The key that a renderer chose, if it differs from the entity's key.
    pub target_key: Option<Arc<str>>,
    /// Why and when the entity was refused, if it was.
    pub refusal: Option<(Failure, Timestamp)>,
}

impl Channel {
    /// A channel that has never walked.
    pub fn new(name: &str, subscription: Subscription) -> Channel {
        Channel {
            name: name.into(),
            live: true,
            paused: false,
            subscription,
            shape: 0,
            labels: VecDeque::new(),
            withdrawals: Withdrawals::new(),
            has_target_keys: false,
            has_refusals: false,
            read: [0; 4],
            acked: [0; 4],
            reserved: 0,
            sweep_end: 0,
            pairs: Vec::new(),
            holding: 0,
            target_keys: HashMap::new(),
            parked: BTreeMap::new(),
            parked_since: HashMap::new(),
            parked_at: HashMap::new(),
            waiting: Waiting::default(),
            refusals: BTreeMap::new(),
            flights: HashMap::new(),
            wanted: Vec::new(),
            changes_of_forgotten: 0,
            dirty: Dirty::default(),
        }
    }

    /// Restores the positions read from disk. Places that had been walked but not settled are
    /// walked again.
    pub fn restore_positions(&mut self, acked: [u64; 4], reserved: u64, sweep_end: u64) {
        (self.acked, self.read, self.reserved) = (acked, acked, reserved);
        self.sweep_end = sweep_end;
    }

    /// Restores a pair read from disk.
    pub fn restore_pair(&mut self, ordinal: u32, pair: Pair) {
        self.set(ordinal, pair);
        self.waiting.remove(ordinal);
        if let State::Waiting { lane, .. } = pair.state() {
            self.waiting.insert(ordinal, lane, Timestamp(0));
        }
        match pair.state() {
            State::Parked(attempts) => self.parked.insert(
                ordinal,
                Parked {
                    ordinal: Ordinal(ordinal),
                    attempts,
                    held: false,
                },
            ),
            State::Held => self.parked.insert(
                ordinal,
                Parked {
                    ordinal: Ordinal(ordinal),
                    attempts: 0,
                    held: true,
                },
            ),
            _ => self.parked.remove(&ordinal),
        };
    }

    /// Restores the key that a renderer chose.
    pub fn restore_target_key(&mut self, ordinal: u32, key: Arc<str>) {
        self.has_target_keys = true;
        self.target_keys.insert(ordinal, key);
    }

    /// Restores the reason why an entity was refused.
    pub fn restore_refusal(&mut self, ordinal: u32, failure: Failure, time: Timestamp) {
        self.has_refusals = true;
        self.refusals.insert(ordinal, (failure, time));
    }

    /// The pair of this channel and an entity.
    pub fn pair(&self, ordinal: u32) -> Pair {
        self.pairs
            .get(ordinal as usize)
            .copied()
            .unwrap_or_default()
    }

    /// The position of the channel in a lane.
    pub fn read(&self, lane: Lane) -> u64 {
        self.read[lane.index()]
    }

    /// The entities that wait for a retry or are held.
    pub fn parked(&self) -> impl Iterator<Item = Parked> {
        self.parked.values().copied()
    }

    /// The number of entities of which the target holds something or may hold something.
    pub fn holding(&self) -> u64 {
        self.holding
    }

    /// Whether no delivery is in flight.
    pub fn is_quiet(&self) -> bool {
        self.flights.is_empty()
    }

    /// The refused entities with an ordinal above `after`, each with the reason.
    pub fn refused(&self, after: u32) -> impl Iterator<Item = (u32, &(Failure, Timestamp))> {
        self.refusals
            .range(after.saturating_add(1)..)
            .map(|(ordinal, refusal)| (*ordinal, refusal))
    }

    /// Takes another subscription or starts over: the positions in the lanes move to `head`, and a
    /// sweep over all ordinals below `given_out` starts. With `lost`, nothing that the target holds is
    /// certain any more.
    pub fn reshape(&mut self, subscription: Subscription, lost: bool, head: u64, given_out: u32) {
        self.shape = self.shape.checked_add(1).unwrap_or(1);
        self.labels
            .push_back((self.shape, subscription.shape_label.clone()));
        self.labels
            .drain(..self.labels.len().saturating_sub(LABELS_MAX));
        if self.subscription.entity_type != subscription.entity_type {
            self.let_go();
        }
        self.subscription = subscription;
        self.wanted.clear();
        if lost {
            self.lose();
        }
        self.read = [head, head, head, 0];
        self.sweep_end = u64::from(given_out).saturating_sub(1);
        self.acked = self.read;
        self.flights
            .values_mut()
            .for_each(|flight| flight.places.clear());
        self.dirty.positions = true;
    }

    /// The target has lost what was delivered: nothing that it holds is certain any more.
    pub(super) fn lose(&mut self) {
        for ordinal in 0..self.pairs.len() as u32 {
            if self.pair(ordinal) != Pair::default() {
                self.change(ordinal, |pair| pair.holding(Holds::Unknown));
            }
        }
    }

    /// Lets go of all entities that wait, are parked, held or refused, because the channel gets another
    /// entity type: they are not for it any more.
    fn let_go(&mut self) {
        let mut kept: Vec<u32> = self.waiting.ordinals().collect();
        kept.extend(self.parked.keys().chain(self.refusals.keys()));
        self.waiting = Waiting::default();
        self.parked.clear();
        self.parked_since.clear();
        self.parked_at.clear();
        self.refusals.clear();
        for ordinal in kept {
            self.change(ordinal, |pair| pair.in_state(State::New));
        }
    }

    /// Returns the parts that must be written, and from here on treats them as saved.
    pub fn snapshot(&mut self, sweep_ahead: u64) -> Snapshot {
        self.settle();
        self.reserved = self.read[3] + sweep_ahead;
        let dirty = self.dirty.take();
        let changed = |ordinal: u32| Changed {
            ordinal,
            pair: self.pair(ordinal),
            target_key: self.target_keys.get(&ordinal).cloned(),
            refusal: self.refusals.get(&ordinal).cloned(),
        };
        Snapshot {
            acked: self.acked,
            reserved: self.reserved,
            sweep_end: self.sweep_end,
            pairs: dirty.into_iter().map(changed).collect(),
        }
    }

    /// Sets the deletes that the guard against mass withdrawal has counted.
    pub fn set_withdrawals(&mut self, withdrawals: Withdrawals) {
        self.withdrawals = withdrawals;
        self.dirty.positions = true;
    }

    /// Whether a snapshot would differ from the last one.
    pub fn is_dirty(&self) -> bool {
        self.dirty.positions || !self.dirty.list.is_empty()
    }

    /// Moves `acked` up to the first place that a flight still has to settle.
    fn settle(&mut self) {
        let mut bounds = self.read;
        for (track, place) in self.flights.values().flat_map(|flight| &flight.places) {
            bounds[track.index()] = bounds[track.index()].min(place - 1);
        }
        for (acked, bound) in self.acked.iter_mut().zip(bounds) {
            *acked = (*acked).max(bound);
        }
    }

    fn set(&mut self, ordinal: u32, pair: Pair) {
        if self.pairs.len() <= ordinal as usize {
            self.pairs.resize(ordinal as usize + 1, Pair::default());
        }
        let before = std::mem::replace(&mut self.pairs[ordinal as usize], pair);
        self.holding += u64::from(pair.holds() != Holds::Nothing);
        self.holding -= u64::from(before.holds() != Holds::Nothing);
    }

    fn change(&mut self, ordinal: u32, change: impl FnOnce(Pair) -> Pair) {
        let pair = change(self.pair(ordinal));
        self.set(ordinal, pair);
        self.dirty.mark(ordinal);
    }

    fn wants(&mut self, name: u32, names: &Names) -> bool {
        let at = name as usize;
        if self.wanted.len() <= at {
            self.wanted.resize(at + 1, None);
        }
        *self.wanted[at].get_or_insert_with(|| subscribes(&self.subscription, name, names))
    }

    /// The newest sequence among the subscribed facets; 0 if the entity is of another type.
    fn newest(&mut self, entry: &Entry, names: &Names) -> u64 {
        let mut newest = 0;
        if entry.id.entity_type == self.subscription.entity_type {
            for meta in &entry.facets {
                if meta.sequence > newest && self.wants(meta.name.into(), names) {
                    newest = meta.sequence;
                }
            }
        }
        newest
    }

    /// Whether an entity with a subscribed facet has changed after the place `after`. `newest` is
    /// one lane of the index's `newest`.
    fn is_concerned(&mut self, newest: &[u64], after: u64, names: &Names) -> bool {
        (0u32..)
            .zip(newest)
            .any(|(name, newest)| *newest > after && self.wants(name, names))
    }

    /// Like [`Channel::newest`], but without filling in `wanted`.
    fn newest_seen(&self, entry: &Entry, names: &Names) -> u64 {
        self.subscribed(entry, names)
            .map(|meta| meta.sequence)
            .max()
            .unwrap_or(0)
    }

    fn subscribed<'a>(
        &'a self,
        entry: &'a Entry,
        names: &'a Names,
    ) -> impl Iterator<Item = &'a Meta> {
        let right_type = entry.id.entity_type == self.subscription.entity_type;
        entry
            .facets
            .iter()
            .filter(move |meta| right_type && self.is_wanted(meta.name.into(), names))
    }

    /// Whether it subscribes to facets of this name, without filling in `wanted`.
    fn is_wanted(&self, name: u32, names: &Names) -> bool {
        let known = self.wanted.get(name as usize).copied().flatten();
        known.unwrap_or_else(|| subscribes(&self.subscription, name, names))
    }

    /// The sequence of the oldest change that the channel owes of an entity; `None` if it owes no
    /// change. `met` are places of the entity that the channel meets at this moment.
    ///
    /// A facet shows only its newest change. An older one that it covers is known by the place at
    /// which the entity waits since then, and while the entity is parked or in flight. A place may be
    /// older than the first change of a facet that the channel subscribes to, never younger.
    fn owed_since(
        &self,
        ordinal: u32,
        entry: &Entry,
        known: Known<'_>,
        met: &[(Track, u64)],
    ) -> Option<u64> {
        let revision = self.pair(ordinal).revision();
        let changes = self.subscribed(entry, known.names);
        let oldest = changes
            .map(|meta| meta.sequence)
            .filter(|sequence| *sequence > revision)
            .min()?;
        let parked = self.parked_since.get(&ordinal).copied();
        let waiting = self.waiting.contains(ordinal).then_some(revision + 1);
        let flight = self.flights.get(&ordinal);
        let flying = flight
            .map(|flight| flight.owed_since)
            .filter(|since| *since > 0);
        let met = met
            .iter()
            .filter(|(track, _)| *track != Track::Sweep)
            .map(|(_, place)| *place);
        let ahead = Lane::ALL.into_iter().flat_map(|lane| {
            let read = self.read[lane.index()];
            known
                .places(ordinal, entry, lane)
                .filter(move |place| *place > read)
        });
        met.chain(ahead)
            .filter(|place| *place > revision)
            .chain(parked)
            .chain(waiting)
            .chain(flying)
            .chain([oldest])
            .min()
    }

    /// Since when the channel owes an entity, and the sequence of the oldest change that it owes. Without one
    /// it is sent once more, and the sequence is the one that was settled.
    fn debt(&self, ordinal: u32, entry: &Entry, known: Known<'_>) -> Option<(Timestamp, u64)> {
        let change = self.owed_since(ordinal, entry, known, &[]);
        let time = change.map(|since| known.clock.time_of(since));
        let waits = self.parked_at.get(&ordinal).copied();
        let since = time.into_iter().chain(waits).min()?;
        Some((
            since,
            change.unwrap_or_else(|| self.pair(ordinal).revision()),
        ))
    }

    /// Whether a sweep must render an entity again. One that the channel never met is rendered when
    /// a facet changes that the channel subscribes to.
    fn is_reshaped(&self, pair: Pair) -> bool {
        pair.shape() != self.shape && pair != Pair::default()
    }

    fn owes(&self, ordinal: u32, entry: &Entry, names: &Names) -> bool {
        let pair = self.pair(ordinal);
        let right_type = entry.id.entity_type == self.subscription.entity_type;
        right_type && (self.is_reshaped(pair) || self.newest_seen(entry, names) > pair.revision())
    }

    pub(super) fn certainly_gone(&self, ordinal: u32, entry: &Entry, names: &Names) -> bool {
        let pair = self.pair(ordinal);
        let busy = self.flights.contains_key(&ordinal)
            || self.parked.contains_key(&ordinal)
            || self.waiting.contains(ordinal)
            || self.dirty.contains(ordinal);
        !busy
            && pair.holds() == Holds::Nothing
            && (pair == Pair::default() || pair.revision() >= self.newest_seen(entry, names))
    }

    /// Whether the channel owes no change of an entity, is not busy with it, and has saved that.
    pub(super) fn has_settled(&self, ordinal: u32, entry: &Entry, names: &Names) -> bool {
        let busy = self.flights.contains_key(&ordinal)
            || self.parked.contains_key(&ordinal)
            || self.waiting.contains(ordinal)
            || self.dirty.contains(ordinal);
        !busy && self.pair(ordinal).revision() >= self.newest_seen(entry, names)
    }

    /// Forgets whether it subscribes to a name, because the name's number is given out again. `changes` are
    /// all changes of facets of that name, by entity type.
    pub(super) fn forget_name(&mut self, number: u32, changes: &[(Arc<str>, Vec<u64>)]) {
        let Some(wanted) = self.wanted.get_mut(number as usize) else {
            return;
        };
        if wanted.take() == Some(true) {
            let of_type = |known: &&(Arc<str>, Vec<u64>)| known.0 == self.subscription.entity_type;
            let counts = changes.iter().find(of_type).map(|(_, counts)| counts);
            let count = counts.and_then(|counts| counts.get(number as usize));
            self.changes_of_forgotten += count.copied().unwrap_or_default();
        }
    }

    /// After a start: what is parked counts from now, if it owes no change.
    pub(super) fn stamp_parked(&mut self, now: Timestamp) {
        self.parked_at = self.parked.keys().map(|parked| (*parked, now)).collect();
    }

    pub(super) fn erase(&mut self, ordinal: u32) {
        self.target_keys.remove(&ordinal);
        self.waiting.remove(ordinal);
        if self.refusals.remove(&ordinal).is_some() || self.pair(ordinal) != Pair::default() {
            self.change(ordinal, |_| Pair::default());
        }
    }

    pub(super) fn distrust(&mut self, ordinal: u32, entry: &Entry, names: &Names) {
        let pair = self.pair(ordinal);
        let unsaved = self.newest(entry, names) > pair.revision();
        let reserved = u64::from(ordinal) > self.acked[3] && u64::from(ordinal) <= self.reserved;
        if (unsaved || (reserved && pair.shape() != self.shape)) && pair.attempted() != pair {
            self.change(ordinal, Pair::attempted);
        }
    }

    /// Makes unknown what the target holds of an entity, whatever was known. A delete of it counts in
    /// the guard against mass withdrawal.
    pub(super) fn doubt(&mut self, ordinal: u32, entry: &Entry) {
        if entry.id.entity_type == self.subscription.entity_type {
            self.change(ordinal, Pair::attempted);
        }
    }
}

fn subscribes(subscription: &Subscription, name: u32, names: &Names) -> bool {
    names.name(name).is_some_and(|name| {
        subscription
            .facets
            .iter()
            .any(|pattern| facet_matches(pattern, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{ChannelId, Ending, Index, Proposal, Settlement};
    use crate::model::{EntityId, Sequence};

    /// A shop kept an old price for good. The price had changed twice, and the second change,
    /// decided but not yet written, waited at the place of the first when the channel met it. The
    /// delivery read only the first change, and no place ahead would have led the channel to the
    /// second.
    #[test]
    fn whoever_meets_a_place_waits_for_all_that_waited_there() {
        let (mut index, shop, id) = (
            Index::default(),
            ChannelId(1),
            EntityId {
                entity_type: "product".into(),
                key: "lamp".into(),
            },
        );
        let facets = vec!["price".to_owned()];
        let subscription = Subscription {
            entity_type: "product".into(),
            facets,
            shape: 1,
            shape_label: String::new(),
            target: 1,
            debounce: None,
        };
        index.put_channel(shop, Channel::new("shop", subscription));
        for hash in [10, 11] {
            let (facet, owner) = ("price".into(), "erp".into());
            let change = Proposal {
                id: &id,
                facet: &facet,
                owner: &owner,
                lane: Lane::Normal,
                version: None,
                hash: Some(hash),
            };
            index.apply(change, None, Timestamp(0));
        }
        let (mut taken, mut again) = (Vec::new(), Vec::new());
        let durable = 1;
        let (normal, now) = (Track::Lane(Lane::Normal), Timestamp(0));
        index.walk(shop, normal, 10, durable, now, &mut taken);
        let met = taken.pop().expect("its place is durable");
        assert_eq!(
            met.revision,
            Sequence(2),
            "it is to be read when the second change is durable too"
        );
        let ending = Ending::Delivered {
            digest: 7,
            target_key: None,
        };
        index.settle(
            shop,
            &[Settlement {
                ordinal: met.ordinal,
                revision: met.revision,
                ending,
            }],
            2,
            Timestamp(0),
            &mut again,
        );
        assert!(
            again.is_empty() && !index.owes(shop, met.ordinal.0),
            "nothing is owed, and nothing is ahead"
        );
    }
}

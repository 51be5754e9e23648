//! A channel in the index: its positions, its pairs and its flights. How it walks: `walk`.

mod walk;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use super::{
    Ending, Entry, Holds, Lease, Meta, Names, Pair, Parked, Settlement, State, Subscription,
};
use crate::model::{Failure, Lane, Ordinal, Sequence, Timestamp, Track, facet_matches};

/// Shapes whose label is remembered.
const LABELS_MAX: usize = 256;
/// Bytes of a refusal's text that are kept.
const REFUSAL_BYTES_MAX: usize = 512;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// Nothing more is there now.
    End,
    /// There may be more.
    More,
    /// The sweep has come to the end of what it has reserved: save the channel, then walk on.
    Reserve,
}

/// A channel.
#[derive(Debug)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// False: retired.
    pub live: bool,
    /// Whether an operator paused it.
    pub paused: bool,
    /// What it wants.
    pub subscription: Subscription,
    /// Number of its shape; rises with each change of it, from 65,535 to 1.
    pub shape: u16,
    /// What shapes were made of, the newest last.
    pub labels: VecDeque<(u16, String)>,
    /// Whether a renderer ever chose a key, so that rows of keys may be on disk.
    pub has_target_keys: bool,
    /// Whether anything was ever refused, so that rows of refusals may be on disk.
    pub has_refusals: bool,
    /// How far it has walked each lane, and the sweep (by ordinal); a hint, never the truth about
    /// what was delivered.
    read: [u64; 4],
    /// How far everything it walked is settled.
    acked: [u64; 4],
    /// The ordinal up to which the sweep may run before the next save.
    reserved: u64,
    pairs: Vec<Pair>,
    /// Pairs whose target holds something, or may.
    holding: u64,
    /// Keys that renderers chose, where they are not the entity's.
    target_keys: HashMap<u32, Arc<str>>,
    parked: BTreeMap<u32, Parked>,
    refusals: BTreeMap<u32, (Failure, Timestamp)>,
    flights: HashMap<u32, Flight>,
    /// By the number of a facet's name: whether it is subscribed; grows as names are met.
    wanted: Vec<Option<bool>>,
    dirty: Dirty,
}

#[derive(Debug)]
struct Flight {
    shape: u16,
    places: Vec<(Track, u64)>,
    /// Whether a place was met during the flight.
    met: bool,
    /// The oldest change that it owes; 0 when only the shape differs.
    owed_since: u64,
}

/// Ordinals whose pair has changed since the last save, each once.
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

/// What of a channel must be written, taken at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Settled positions of the lanes and of the sweep.
    pub acked: [u64; 4],
    /// The ordinal up to which the sweep may run.
    pub reserved: u64,
    /// Pairs that changed, by rising ordinal, with the target's key and the refusal that go with
    /// each.
    pub pairs: Vec<Changed>,
}

/// A pair that changed since the last save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which entity.
    pub ordinal: u32,
    /// What is known of it now.
    pub pair: Pair,
    /// The key that a renderer chose.
    pub target_key: Option<Arc<str>>,
    /// Why it was refused, and when.
    pub refusal: Option<(Failure, Timestamp)>,
}

fn slot(track: Track) -> usize {
    match track {
        Track::Lane(lane) => lane.index(),
        Track::Sweep => 3,
    }
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
            has_target_keys: false,
            has_refusals: false,
            read: [0; 4],
            acked: [0; 4],
            reserved: 0,
            pairs: Vec::new(),
            holding: 0,
            target_keys: HashMap::new(),
            parked: BTreeMap::new(),
            refusals: BTreeMap::new(),
            flights: HashMap::new(),
            wanted: Vec::new(),
            dirty: Dirty::default(),
        }
    }

    /// Puts back positions read from disk; what was read but not settled is walked again.
    pub fn restore_positions(&mut self, acked: [u64; 4], reserved: u64) {
        (self.acked, self.read, self.reserved) = (acked, acked, reserved);
    }

    /// Puts back a pair read from disk.
    pub fn restore_pair(&mut self, ordinal: u32, pair: Pair) {
        self.set(ordinal, pair);
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

    /// Puts back the key that a renderer chose.
    pub fn restore_target_key(&mut self, ordinal: u32, key: Arc<str>) {
        self.has_target_keys = true;
        self.target_keys.insert(ordinal, key);
    }

    /// Puts back why an entity was refused.
    pub fn restore_refusal(&mut self, ordinal: u32, failure: Failure, time: Timestamp) {
        self.has_refusals = true;
        self.refusals.insert(ordinal, (failure, time));
    }

    /// What is known of an entity.
    pub fn pair(&self, ordinal: u32) -> Pair {
        self.pairs
            .get(ordinal as usize)
            .copied()
            .unwrap_or_default()
    }

    /// How far it has walked a lane.
    pub fn read(&self, lane: Lane) -> u64 {
        self.read[lane.index()]
    }

    /// Entities that wait for a retry or are held.
    pub fn parked(&self) -> impl Iterator<Item = Parked> {
        self.parked.values().copied()
    }

    /// Whether nothing is in flight.
    pub fn is_quiet(&self) -> bool {
        self.flights.is_empty()
    }

    /// Refused entities after an ordinal, with the reason.
    pub fn refused(&self, after: u32) -> impl Iterator<Item = (u32, &(Failure, Timestamp))> {
        self.refusals
            .range(after.saturating_add(1)..)
            .map(|(ordinal, refusal)| (*ordinal, refusal))
    }

    /// Takes another subscription or starts over: lanes go to the head, a sweep starts. With
    /// `lost`, nothing that the target holds is certain any more.
    pub fn reshape(&mut self, subscription: Subscription, lost: bool, head: u64) {
        self.shape = self.shape.checked_add(1).unwrap_or(1);
        self.labels
            .push_back((self.shape, subscription.shape_label.clone()));
        self.labels
            .drain(..self.labels.len().saturating_sub(LABELS_MAX));
        self.subscription = subscription;
        self.wanted.clear();
        if lost {
            for ordinal in 0..self.pairs.len() as u32 {
                if self.pair(ordinal) != Pair::default() {
                    self.change(ordinal, |pair| pair.holding(Holds::Unknown));
                }
            }
        }
        self.read = [head, head, head, 0];
        self.acked = self.read;
        self.flights
            .values_mut()
            .for_each(|flight| flight.places.clear());
        self.dirty.positions = true;
    }

    /// What must be written, and from here on counts as saved.
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
            pairs: dirty.into_iter().map(changed).collect(),
        }
    }

    /// Whether a snapshot would differ from the last one.
    pub fn is_dirty(&self) -> bool {
        self.dirty.positions || !self.dirty.list.is_empty()
    }

    /// Moves `acked` up to the first place that a flight still answers for.
    fn settle(&mut self) {
        let mut bounds = self.read;
        for (track, place) in self.flights.values().flat_map(|flight| &flight.places) {
            bounds[slot(*track)] = bounds[slot(*track)].min(place - 1);
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

    /// The newest sequence of the facets it subscribes to; 0 if the entity is not of its type.
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

    /// Whether an entity with a facet that it subscribes to has changed after a place; `newest` as
    /// the index keeps it of a lane.
    fn is_concerned(&mut self, newest: &[u64], after: u64, names: &Names) -> bool {
        (0u32..)
            .zip(newest)
            .any(|(name, newest)| *newest > after && self.wants(name, names))
    }

    /// [`Channel::newest`] for those who may only look.
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
        let wants = |name: u32| {
            let known = self.wanted.get(name as usize).copied().flatten();
            known.unwrap_or_else(|| subscribes(&self.subscription, name, names))
        };
        entry
            .facets
            .iter()
            .filter(move |meta| right_type && wants(meta.name.into()))
    }

    fn owes(&self, ordinal: u32, entry: &Entry, names: &Names) -> bool {
        let pair = self.pair(ordinal);
        let right_type = entry.id.entity_type == self.subscription.entity_type;
        right_type
            && (pair.shape() != self.shape || self.newest_seen(entry, names) > pair.revision())
    }

    pub(super) fn certainly_gone(&self, ordinal: u32, entry: &Entry, names: &Names) -> bool {
        let pair = self.pair(ordinal);
        let busy = self.flights.contains_key(&ordinal)
            || self.parked.contains_key(&ordinal)
            || self.dirty.contains(ordinal);
        !busy
            && pair.holds() == Holds::Nothing
            && (pair == Pair::default() || pair.revision() >= self.newest_seen(entry, names))
    }

    pub(super) fn erase(&mut self, ordinal: u32) {
        self.target_keys.remove(&ordinal);
        if self.refusals.remove(&ordinal).is_some() || self.pair(ordinal) != Pair::default() {
            self.change(ordinal, |_| Pair::default());
        }
    }

    pub(super) fn distrust(&mut self, ordinal: u32, entry: &Entry, names: &Names) {
        let pair = self.pair(ordinal);
        let unsaved = self.newest(entry, names) > pair.revision();
        let reserved = u64::from(ordinal) > self.acked[3] && u64::from(ordinal) <= self.reserved;
        if (unsaved || (reserved && pair.shape() != self.shape)) && pair.holds() != Holds::Unknown {
            self.change(ordinal, |pair| pair.holding(Holds::Unknown));
        }
    }

    fn start(
        &mut self,
        ordinal: u32,
        entry: &Entry,
        names: &Names,
        track: Track,
        places: Vec<(Track, u64)>,
        revision: u64,
    ) -> Lease {
        let pair = self.pair(ordinal);
        let owed = self
            .subscribed(entry, names)
            .map(|meta| meta.sequence)
            .filter(|sequence| *sequence > pair.revision())
            .min();
        let owed_since = owed.unwrap_or(0);
        self.flights.insert(
            ordinal,
            Flight {
                shape: self.shape,
                places,
                met: false,
                owed_since,
            },
        );
        // A change that is decided but not yet durable may have waited at the place that is met
        // here, and has none of its own.
        let newest = self.newest(entry, names);
        Lease {
            ordinal: Ordinal(ordinal),
            revision: Sequence(revision.max(newest)),
            holds: pair.holds(),
            target_key: self.target_keys.get(&ordinal).cloned(),
            attempts: self
                .parked
                .get(&ordinal)
                .map_or(0, |parked| parked.attempts),
            track,
            owed_since: Sequence(owed_since),
        }
    }

    /// One place or entity is met.
    fn meet(
        &mut self,
        ordinal: u32,
        entry: &Entry,
        names: &Names,
        track: Track,
        place: u64,
        revision: u64,
    ) -> Option<Lease> {
        self.read[slot(track)] = place;
        if let Some(flight) = self.flights.get_mut(&ordinal) {
            flight.places.push((track, place));
            flight.met = true;
            return None;
        }
        let pair = self.pair(ordinal);
        let right_type = entry.id.entity_type == self.subscription.entity_type;
        let reshaped = right_type && track == Track::Sweep && pair.shape() != self.shape;
        let owed = reshaped || self.newest(entry, names) > pair.revision();
        if owed && self.parked.get(&ordinal).is_none_or(|parked| parked.held) {
            return Some(self.start(ordinal, entry, names, track, vec![(track, place)], revision));
        }
        None
    }

    fn finish(
        &mut self,
        end: &Settlement,
        entry: &Entry,
        names: &Names,
        revision: u64,
        now: Timestamp,
    ) -> Option<Lease> {
        let ordinal = end.ordinal.0;
        let flight = self.flights.remove(&ordinal)?;
        let mut pair = self.pair(ordinal);
        self.refusals.remove(&ordinal);
        let mut waits = None;
        let state = match &end.ending {
            Ending::Delivered { digest, target_key } => {
                pair = pair.holding(Holds::Rendering(*digest));
                match target_key {
                    Some(key) => {
                        self.has_target_keys = true;
                        self.target_keys.insert(ordinal, key.clone())
                    }
                    None => self.target_keys.remove(&ordinal),
                };
                State::Delivered
            }
            Ending::Withdrawn => {
                pair = pair.holding(Holds::Nothing);
                self.target_keys.remove(&ordinal);
                State::Withdrawn
            }
            Ending::Suppressed => State::Suppressed,
            Ending::Withheld(by) => State::Withheld(*by),
            Ending::Counted => State::Counted,
            Ending::Refused(failure) => {
                self.has_refusals = true;
                self.refusals.insert(ordinal, (shortened(failure), now));
                State::Refused
            }
            Ending::Parked { attempts } => {
                waits = Some(Parked {
                    ordinal: end.ordinal,
                    attempts: *attempts,
                    held: false,
                });
                State::Parked(*attempts)
            }
            Ending::Held => {
                waits = Some(Parked {
                    ordinal: end.ordinal,
                    attempts: 0,
                    held: true,
                });
                State::Held
            }
        };
        pair = pair.in_state(state);
        if waits.is_none() {
            pair = pair.settled(end.revision.0, flight.shape);
        }
        self.change(ordinal, |_| pair);
        match waits {
            Some(waits) => self.parked.insert(ordinal, waits),
            None => self.parked.remove(&ordinal),
        };
        let owes = flight.shape != self.shape || self.newest(entry, names) > pair.revision();
        if waits.is_none() && flight.met && owes {
            let track = flight.places.last().map_or(Track::Sweep, |place| place.0);
            return Some(self.start(ordinal, entry, names, track, flight.places, revision));
        }
        None
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

fn shortened(failure: &Failure) -> Failure {
    let mut end = failure.message.len().min(REFUSAL_BYTES_MAX);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    Failure {
        code: failure.code.clone(),
        message: failure.message[..end].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{ChannelId, Index, Proposal};
    use crate::model::EntityId;

    /// A shop kept an old price for good: the price had changed twice, and the second change,
    /// decided but not yet written, waited at the place of the first when the channel met it. The
    /// delivery read the first only, and nothing was ahead that would have met the second.
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
        index.walk(shop, Track::Lane(Lane::Normal), 10, durable, &mut taken);
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

//! The store in memory, which is the specification of all stores: plain maps, full scans and one
//! lock, with nothing clever.
//!
//! Read it side by side with the promises in `store.rs`. Every other store is compared with it
//! under random histories. The product does not use it; tests do. What a store would have on disk
//! is kept in `saved`, so that [`Memory::crash`] can lose everything else.
//!
//! Reading order: the maps here, `commit` (an event becomes changes, and changes take places), `life`
//! (a channel walks, and a flight ends), `forget` (what is given back), and here again `Maps::crash`
//! (what a crash leaves). The calls are in `answers` (facts, quarantine) and `queue` (channels).

mod answers;
mod commit;
mod forget;
mod life;
mod queue;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::{
    Content, Holds, Limits, Parked, QuarantinedEvent, SEQUENCE_BLOCK, State, Subscription,
    Withdrawals,
};
use crate::index::ChannelId;
use crate::model::{EntityId, Facet, Failure, Lane, Sequence, Timestamp, Track, facet_matches};
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
    /// Entity type and facet → the number of its changes since the store was opened.
    changes: BTreeMap<(Arc<str>, Arc<str>), u64>,
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
    /// The newest sequence at the last save.
    times_saved: u64,
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
    /// Whether a place was met in the urgent lane meanwhile.
    urgent: bool,
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
    /// When each of them began to wait; after a crash, when that was.
    parked_at: BTreeMap<u32, Timestamp>,
    /// The entities that wait until they are quiet: the lane, and when it is looked again.
    waiting: BTreeMap<u32, (Lane, Timestamp)>,
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
        match &mut self.state {
            State::Waiting { was_absent, .. } => *was_absent = false,
            state if state.is_absent() => *state = State::New,
            _ => {}
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

    /// Whether an entity waits until it is quiet, or is saved as one that does.
    fn waits(&self, entity: u32) -> bool {
        let saved = self.saved.pairs.get(&entity);
        let waits = |pair: &Pair| matches!(pair.state, State::Waiting { .. });
        self.waiting.contains_key(&entity) || saved.is_some_and(waits)
    }

    /// The target has lost what was delivered: nothing that it holds is certain any more.
    fn lose(&mut self) {
        let pairs = self.pairs.values_mut();
        pairs.for_each(|pair| pair.holds = Holds::Unknown);
    }

    /// Lets go of all entities that wait, are parked, held or refused: the channel gets another type.
    fn let_go(&mut self) {
        self.waiting.clear();
        self.parked.clear();
        self.parked_at.clear();
        for pair in self.pairs.values_mut() {
            pair.refusal = None;
            if matches!(
                pair.state,
                State::Waiting { .. } | State::Parked(_) | State::Held | State::Refused
            ) {
                pair.state = State::New;
            }
        }
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
    fn crash(&mut self) {
        self.sequence = self.ceiling;
        // The times of what was committed since the last save are lost.
        self.times
            .retain(|sequence, _| *sequence <= self.times_saved);
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
            let parked = channel.parked.keys();
            channel.parked_at = parked.map(|parked| (*parked, self.now)).collect();
            let waits = |(entity, pair): (&u32, &Pair)| match pair.state {
                State::Waiting { lane, .. } => Some((*entity, (lane, Timestamp(0)))),
                _ => None,
            };
            channel.waiting = channel.pairs.iter().filter_map(waits).collect();
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

    /// The time at which a sequence had certainly been committed.
    fn time_by(&self, sequence: u64) -> Timestamp {
        let known = self.times.range(sequence..).next();
        known
            .or_else(|| self.times.iter().next_back())
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
            parked_at: BTreeMap::new(),
            waiting: BTreeMap::new(),
            flights: BTreeMap::new(),
            withdrawals: Withdrawals::new(),
            saved: Saved::default(),
        }
    }
}

//! The change index: places, walking, flights and pairs, in memory.
//!
//! The working memory of a store at full size. It holds of each entity what skips and verdicts need
//! (sequence, version, owner and hash of each facet, and its places), and of each channel its
//! positions and pairs; values stay on disk. It does no I/O and has no clock. It decides as
//! `store::memory` specifies; random histories hold the two against each other.

mod channel;
mod clock;
mod graves;
mod lane;
mod names;
mod pair;
mod sameness;
mod words;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

pub use channel::{Changed, Channel, Walked};
pub use clock::Clock;
pub use names::Names;
pub use pair::Pair;
pub use sameness::value_hash;
pub use words::{
    ChannelId, Finish, Holds, Joined, Outcome, Owed, Parked, Standing, State, Subscription, Taken,
};

use crate::model::{EntityId, Lane, Sequence, Timestamp};
use graves::Graves;
use lane::Places;

/// What the index knows of a facet, in 32 bytes: there are ten million of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Number of its name; there are at most [`names::NAMES_MAX`].
    pub name: u16,
    /// Number of the owner that wrote it last.
    pub owner: u16,
    /// Of its last change, a deletion included.
    pub sequence: u64,
    /// The owner's version; 0 where there is none.
    version: u64,
    versioned: bool,
    /// [`value_hash`] of the value.
    pub hash: u64,
    /// The lane of its last change.
    pub lane: Lane,
    /// Whether it is deleted.
    pub deleted: bool,
}

impl Meta {
    /// The owner's version.
    pub fn version(&self) -> Option<u64> {
        self.versioned.then_some(self.version)
    }

    /// The same with another version.
    #[must_use]
    pub fn with_version(self, version: Option<u64>) -> Meta {
        Meta {
            version: version.unwrap_or(0),
            versioned: version.is_some(),
            ..self
        }
    }

    /// Of a facet without a version.
    pub fn new(name: u16, owner: u16, sequence: u64, hash: u64, lane: Lane, deleted: bool) -> Meta {
        Meta {
            name,
            owner,
            sequence,
            version: 0,
            versioned: false,
            hash,
            lane,
            deleted,
        }
    }
}

/// What the index knows of an entity.
#[derive(Debug)]
pub struct Entry {
    /// Type and key.
    pub id: EntityId,
    /// In the order of their first change.
    pub facets: Vec<Meta>,
    /// The last place in each lane; 0: none. Earlier ones, rare, are in [`Index::earlier`].
    places: [u64; 3],
}

/// A change as the index needs to see it.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// Type and key.
    pub id: &'a EntityId,
    /// Name of the facet.
    pub facet: &'a Arc<str>,
    /// Who writes it.
    pub owner: &'a Arc<str>,
    /// The lane whose place the entity takes.
    pub lane: Lane,
    /// The owner's version.
    pub version: Option<u64>,
    /// [`value_hash`] of the value; none deletes.
    pub hash: Option<u64>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It has a sequence and a place; the entity's record must be written.
    Committed(u32),
    /// The value is the stored one, but the version is newer: the entity's record must be written.
    Versioned(u32),
    /// The value is the stored one.
    Unchanged,
    /// Older than what is stored.
    Stale,
}

/// The change index.
#[derive(Debug, Default)]
pub struct Index {
    /// Head of the sequence, durable or not.
    pub sequence: u64,
    /// Numbers of names.
    pub names: Names,
    /// Times of sequences.
    pub clock: Clock,
    /// By ordinal; 0 is never used.
    entries: Vec<Option<Box<Entry>>>,
    by_id: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// What was found last: the changes of an event mostly speak of one entity, and each looks it
    /// up twice.
    last: Cell<u32>,
    /// Entities of each type.
    counts: BTreeMap<Arc<str>, u64>,
    lanes: [Places; 3],
    /// Places before the last one, for the few entities that have more than one in a lane.
    earlier: HashMap<(Lane, u32), Vec<u64>>,
    /// The last change in each lane of any entity that has a facet, by the number of the facet's
    /// name: a channel that takes none of those beyond its position has nothing to meet, however
    /// many places there are. Not the last change of the facet itself: what a channel owes of an
    /// entity since a crash, it may meet only where another facet of it changed.
    newest: [Vec<u64>; 3],
    /// Positions of live channels in each lane, sorted.
    reads: [Vec<u64>; 3],
    reads_moved: bool,
    /// Entities all of whose facets are deleted.
    graves: Graves,
    channels: BTreeMap<ChannelId, Channel>,
}

impl Index {
    // -- entities
    // ---------------------------------------------------------------------------------------

    /// The ordinal of an entity.
    pub fn find(&self, id: &EntityId) -> Option<u32> {
        let same = |ordinal: &u32| {
            self.entries
                .get(*ordinal as usize)
                .is_some_and(|entry| entry.as_ref().is_some_and(|entry| entry.id == *id))
        };
        let last = self.last.get();
        if same(&last) {
            return Some(last);
        }
        let found = self.by_id.find(self.hasher.hash_one(id), same).copied();
        self.last.set(found.unwrap_or(last));
        found
    }

    /// What is known of an entity.
    pub fn entry(&self, ordinal: u32) -> Option<&Entry> {
        self.entries.get(ordinal as usize)?.as_deref()
    }

    /// Entities from an ordinal on, in order.
    pub fn entries_from(&self, ordinal: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let from = (ordinal.max(1) as usize).min(self.entries.len());
        self.entries[from..]
            .iter()
            .zip(from as u32..)
            .filter_map(|(entry, ordinal)| Some((ordinal, entry.as_deref()?)))
    }

    /// Entities of a type.
    pub fn count(&self, entity_type: &str) -> u64 {
        self.counts.get(entity_type).copied().unwrap_or(0)
    }

    /// All entities.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Puts back an entity read from disk: one place a lane, the last.
    pub fn restore(&mut self, ordinal: u32, id: EntityId, facets: Vec<Meta>) {
        let mut entry = Entry {
            id,
            facets,
            places: [0; 3],
        };
        for meta in &entry.facets {
            let place = &mut entry.places[meta.lane.index()];
            *place = (*place).max(meta.sequence);
        }
        for (newest, place) in self.newest.iter_mut().zip(entry.places) {
            note(newest, &entry.facets, place);
        }
        self.bury_or_raise(ordinal, &entry.facets);
        self.insert(ordinal, entry);
    }

    /// Ordinals below this have been given out before, also where their entities are forgotten now.
    pub fn give_out(&mut self, ordinals: u32) {
        if self.entries.len() < ordinals as usize {
            self.entries.resize_with(ordinals as usize, || None);
        }
    }

    /// Ordinals below this have been given out.
    pub fn given_out(&self) -> u32 {
        self.entries.len() as u32
    }

    /// To be called when all entities are restored: fills the lanes.
    pub fn rebuild_lanes(&mut self) {
        for lane in Lane::ALL {
            let mut places: Vec<(u64, u32)> = (self.entries_from(1))
                .map(|(ordinal, entry)| (entry.places[lane.index()], ordinal))
                .filter(|place| place.0 > 0)
                .collect();
            places.sort_unstable();
            self.lanes[lane.index()] = Places::default();
            for (sequence, ordinal) in places {
                self.lanes[lane.index()].push(sequence, ordinal);
            }
        }
        self.earlier.clear();
        self.reads_moved = true;
    }

    fn insert(&mut self, ordinal: u32, entry: Entry) {
        if self.entries.len() <= ordinal as usize {
            self.entries.resize_with(ordinal as usize + 1, || None);
        }
        *self.counts.entry(entry.id.entity_type.clone()).or_default() += 1;
        let hash = self.hasher.hash_one(&entry.id);
        self.entries[ordinal as usize] = Some(Box::new(entry));
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |ordinal: &u32| {
            entries[*ordinal as usize]
                .as_ref()
                .map_or(0, |entry| hasher.hash_one(&entry.id))
        };
        self.by_id.insert_unique(hash, ordinal, rehash);
    }

    fn bury_or_raise(&mut self, ordinal: u32, facets: &[Meta]) {
        if facets.iter().all(|meta| meta.deleted) {
            self.graves.bury(
                ordinal,
                facets.iter().map(|meta| meta.sequence).max().unwrap_or(0),
            );
        } else {
            self.graves.raise(ordinal);
        }
    }

    // -- writing
    // ---------------------------------------------------------------------------------------

    /// Decides on a change and, unless it is needless, gives it a sequence and its entity a place.
    /// `arrival` is that of a redriven event. Whoever calls must have made sure that there is room.
    pub fn apply(
        &mut self,
        change: Proposal<'_>,
        arrival: Option<Sequence>,
        now: Timestamp,
    ) -> Applied {
        let number = |number: u32| u16::try_from(number).expect("names are bounded");
        let (name, owner) = (
            number(self.names.number(change.facet)),
            number(self.names.number(change.owner)),
        );
        let known = self.find(change.id);
        let at = known.and_then(|ordinal| {
            let entry = self.entry(ordinal)?;
            let at = entry.facets.iter().position(|meta| meta.name == name)?;
            Some((at, entry.facets[at]))
        });
        let current = at.map(|(_, meta)| meta);
        let known_version = current
            .filter(|meta| meta.owner == owner)
            .and_then(|meta| meta.version());
        let overtaken = current
            .zip(arrival)
            .is_some_and(|(meta, arrival)| meta.sequence > arrival.0);
        if overtaken
            || change
                .version
                .zip(known_version)
                .is_some_and(|(new, known)| new < known)
        {
            return Applied::Stale;
        }
        let same = match (current, change.hash) {
            (Some(meta), Some(hash)) => !meta.deleted && meta.hash == hash,
            (Some(meta), None) => meta.deleted,
            // A deletion that comes before what it deletes must be remembered, if it can be told by
            // its version.
            (None, None) => change.version.is_none(),
            (None, Some(_)) => false,
        };
        if same {
            let Some((ordinal, (at, meta))) = known.zip(at).filter(|_| change.version.is_some())
            else {
                return Applied::Unchanged;
            };
            if (meta.version(), meta.owner) == (change.version, owner) {
                return Applied::Unchanged;
            }
            let facets = &mut self.entries[ordinal as usize]
                .as_mut()
                .expect("it was just found")
                .facets;
            facets[at] = Meta {
                owner,
                ..meta.with_version(change.version)
            };
            return Applied::Versioned(ordinal);
        }

        self.sequence += 1;
        self.clock.note(self.sequence, now);
        let version = change.version.or(known_version);
        let (hash, deleted) = (change.hash.unwrap_or(0), change.hash.is_none());
        let meta =
            Meta::new(name, owner, self.sequence, hash, change.lane, deleted).with_version(version);
        let ordinal = known.unwrap_or_else(|| {
            self.names.number(&change.id.entity_type);
            let ordinal = self.entries.len().max(1) as u32;
            self.insert(
                ordinal,
                Entry {
                    id: change.id.clone(),
                    facets: Vec::new(),
                    places: [0; 3],
                },
            );
            ordinal
        });
        let entry = self.entries[ordinal as usize]
            .as_mut()
            .expect("it was just found or made");
        match at {
            Some((at, _)) => entry.facets[at] = meta,
            None => {
                // An entity gets few more, and there are millions of entities.
                entry.facets.reserve_exact(1);
                entry.facets.push(meta);
            }
        }
        note(
            &mut self.newest[change.lane.index()],
            &entry.facets,
            meta.sequence,
        );
        if !meta.deleted {
            self.graves.raise(ordinal);
        } else if entry.facets.iter().all(|meta| meta.deleted) {
            self.graves.bury(ordinal, meta.sequence);
        }
        self.take_place(ordinal, change.lane);
        Applied::Committed(ordinal)
    }

    /// The entity takes a new place only if some channel has read its last one; whoever meets that
    /// one reads it as it is then.
    fn take_place(&mut self, ordinal: u32, lane: Lane) {
        if self.reads_moved {
            for lane in Lane::ALL {
                let reads = &mut self.reads[lane.index()];
                reads.clear();
                reads.extend(
                    self.channels
                        .values()
                        .filter(|channel| channel.live)
                        .map(|channel| channel.read(lane)),
                );
                reads.sort_unstable();
            }
            self.reads_moved = false;
        }
        let (sequence, reads, places) = (
            self.sequence,
            &self.reads[lane.index()],
            &mut self.lanes[lane.index()],
        );
        let last = &mut self.entries[ordinal as usize]
            .as_mut()
            .expect("its change was just applied")
            .places[lane.index()];
        let waits = *last > 0 && reads.last().is_none_or(|furthest| furthest < last);
        if waits && !self.earlier.contains_key(&(lane, ordinal)) && !reads.is_empty() {
            return;
        }
        let mut all = self.earlier.remove(&(lane, ordinal)).unwrap_or_default();
        all.extend((*last > 0).then_some(*last));
        if !waits {
            all.push(sequence);
            places.push(sequence, ordinal);
        }
        // Keeps each place that is some channel's next one.
        let mut before = 0;
        all.retain(|place| {
            let first = reads.partition_point(|read| *read < before);
            let kept = reads.get(first).is_some_and(|read| read < place);
            if kept {
                before = *place;
            } else {
                places.remove(*place);
            }
            kept
        });
        *last = all.pop().unwrap_or(0);
        if !all.is_empty() {
            self.earlier.insert((lane, ordinal), all);
        }
    }

    /// Takes a sequence for something that is no change of an entity: a new shape, an event set
    /// aside.
    pub fn bump(&mut self, now: Timestamp) -> u64 {
        self.sequence += 1;
        self.clock.note(self.sequence, now);
        self.sequence
    }

    /// Forgets entities that are deleted, since before `horizon`, and certainly gone from every
    /// channel with that saved; looks at up to `limit`. Answers their ordinals, for their records
    /// to be removed.
    pub fn forget(&mut self, horizon: Timestamp, limit: usize) -> Vec<u32> {
        let clock = &self.clock;
        let mut gone = self
            .graves
            .next(limit, |sequence| clock.time_of(sequence) <= horizon);
        gone.retain(|ordinal| {
            let entry = self
                .entries
                .get(*ordinal as usize)
                .and_then(|entry| entry.as_deref());
            entry.is_some_and(|entry| {
                self.channels
                    .values()
                    .all(|channel| channel.certainly_gone(*ordinal, entry, &self.names))
            })
        });
        for ordinal in &gone {
            self.graves.raise(*ordinal);
            let Some(entry) = self.entries[*ordinal as usize].take() else {
                continue;
            };
            let hash = self.hasher.hash_one(&entry.id);
            if let Ok(found) = self.by_id.find_entry(hash, |other| other == ordinal) {
                found.remove();
            }
            if let Some(count) = self.counts.get_mut(&entry.id.entity_type) {
                *count -= 1;
            }
            for lane in Lane::ALL {
                let places = self.earlier.remove(&(lane, *ordinal)).unwrap_or_default();
                let last = entry.places[lane.index()];
                places
                    .into_iter()
                    .chain((last > 0).then_some(last))
                    .for_each(|place| self.lanes[lane.index()].remove(place));
            }
            self.channels
                .values_mut()
                .for_each(|channel| channel.erase(*ordinal));
        }
        gone
    }

    // -- channels
    // ---------------------------------------------------------------------------------------

    /// A channel.
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// A channel, to be changed. Its positions count from the next change on.
    pub fn channel_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.reads_moved = true;
        self.channels.get_mut(&id)
    }

    /// All channels.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelId, &Channel)> {
        self.channels.iter().map(|(id, channel)| (*id, channel))
    }

    /// Puts a channel in, new or read from disk.
    pub fn put_channel(&mut self, id: ChannelId, channel: Channel) {
        self.channels.insert(id, channel);
        self.reads_moved = true;
    }

    /// Takes a channel out for good.
    pub fn remove_channel(&mut self, id: ChannelId) {
        self.channels.remove(&id);
        self.reads_moved = true;
    }

    /// After a crash: what may have been delivered since the last save is unknown. To be called
    /// when all is restored.
    pub fn distrust(&mut self) {
        // Entity by entity, as each lies elsewhere in memory; what the channels know of them lies
        // in order.
        for (ordinal, entry) in self
            .entries
            .iter()
            .zip(0u32..)
            .filter_map(|(entry, ordinal)| Some((ordinal, entry.as_deref()?)))
        {
            for channel in self.channels.values_mut() {
                channel.distrust(ordinal, entry, &self.names);
            }
        }
        self.reads_moved = true;
    }
}

/// Remembers how far in a lane a channel must walk that takes any of these facets.
fn note(newest: &mut Vec<u64>, facets: &[Meta], place: u64) {
    for name in facets
        .iter()
        .map(|meta| usize::from(meta.name))
        .filter(|_| place > 0)
    {
        if newest.len() <= name {
            newest.resize(name + 1, 0);
        }
        newest[name] = newest[name].max(place);
    }
}

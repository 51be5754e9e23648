//! The change index: the places in the lanes, and for each channel its positions, flights and pairs.
//!
//! This is the working memory of a store at full size. It holds everything that decides whether a
//! change is accepted and whether a channel skips an entity: for each facet its sequence, version,
//! owner and hash, for each entity its places, for each channel its positions and pairs. Values stay
//! on disk. The index does no I/O and has no clock. `store::memory` specifies what it decides, and
//! random histories compare the two.
//!
//! One lane with two channels:
//!
//! ```text
//! change      2      3      4      5      6        7      8
//! entity    lamp   desk   desk   sofa   chair    lamp   desk
//! place       2      3      -      5      6        7      8
//!          ^                                   ^
//!        feed, at position 1                 shop, at position 6
//! ```
//!
//! - Change 4 found the desk at place 3, which no channel had walked past, so it took no new place:
//!   whoever comes to place 3 reads the desk as it is then, with both changes.
//! - Change 7 found that shop had walked past place 2, so the lamp took a new place. It also kept
//!   place 2, because that is the next one for feed.
//! - At place 2 feed reads the lamp with both changes. At place 7 it owes nothing and skips it.
//!
//! So an entity has at most one place in a lane for each channel, however often it changes, and the
//! cost of a change does not depend on how far a channel is behind.

mod channel;
mod clock;
mod forget;
mod graves;
mod lane;
mod names;
mod order;
mod pair;
mod relation;
mod sameness;
mod words;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

pub use channel::{Changed, Channel, Walked};
pub use clock::Clock;
pub use names::{NAMES_MAX, Names};
pub use pair::Pair;
pub use relation::{Relation, Stored, relation};
pub use sameness::value_hash;
pub use words::{
    ChannelId, Debounce, Ending, Holds, Joined, Lease, OldestOwed, Owed, Parked, Settlement,
    Standing, State, Subscription, Withdrawals,
};

use crate::model::{Arrival, EntityId, Lane, Timestamp};
use graves::Graves;
use lane::Places;
use order::Order;

/// Steps of 10 µs in a millisecond. Milliseconds would be overtaken by 1,000 changes a second, and
/// microseconds do not fit into the 48 bits of a pair; these do until 2059.
const STEPS_A_MS: u64 = 100;

/// A facet's metadata in the index. It takes 32 bytes, because there are ten million of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The number of its name; there are at most [`names::NAMES_MAX`] names.
    pub name: u16,
    /// The number of the owner whose change was the last.
    pub owner: u16,
    /// The sequence of its last change; a deletion is a change too.
    pub sequence: u64,
    /// The owner's version; 0 if there is none.
    version: u64,
    versioned: bool,
    /// [`value_hash`] of the value.
    pub hash: u64,
    /// The lane of its last change.
    pub lane: Lane,
    /// Whether the facet is deleted.
    pub deleted: bool,
}

impl Meta {
    /// The owner's version.
    pub fn version(&self) -> Option<u64> {
        self.versioned.then_some(self.version)
    }

    /// A copy with another version.
    #[must_use]
    pub fn with_version(self, version: Option<u64>) -> Meta {
        Meta {
            version: version.unwrap_or(0),
            versioned: version.is_some(),
            ..self
        }
    }

    /// The metadata of a facet without a version.
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

/// An entity in the index.
#[derive(Debug)]
pub struct Entry {
    /// Type and key.
    pub id: EntityId,
    /// The facets, in the order of their first change.
    pub facets: Vec<Meta>,
    /// The last place in each lane, 0 if it has none. The few entities with more than one place in
    /// a lane have the others in [`Index::earlier`].
    places: [u64; 3],
}

/// A change, reduced to the parts that the index decides on.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// Type and key.
    pub id: &'a EntityId,
    /// Name of the facet.
    pub facet: &'a Arc<str>,
    /// The owner that writes it.
    pub owner: &'a Arc<str>,
    /// The lane in which the entity waits.
    pub lane: Lane,
    /// The owner's version.
    pub version: Option<u64>,
    /// [`value_hash`] of the value; `None` deletes the facet.
    pub hash: Option<u64>,
}

/// The result of applying a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The change has a sequence and a place; the caller must write the record of this entity.
    Committed(u32),
    /// The value equals the stored one but the version or the owner differs; the caller must write
    /// the record of this entity.
    Versioned(u32),
    /// The value equals the stored one, and there is no other version to record.
    Unchanged,
    /// The change is older than the stored state.
    Stale,
}

/// The result of forgetting versions in a piece of the entities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionsReset {
    /// The entities whose records the caller must write.
    pub touched: Vec<u32>,
    /// The number of facets that had a version.
    pub facets: u64,
    /// The ordinal at which the next piece begins; `None` after the last one.
    pub next: Option<u32>,
}

/// The most entities that one call of [`Index::reset_versions`] looks at.
const RESET_SCANNED_MAX: u32 = 100_000;

/// The change index.
#[derive(Debug, Default)]
pub struct Index {
    /// The newest sequence that was assigned, whether its change is durable or not.
    pub sequence: u64,
    /// The dictionary of names.
    pub names: Names,
    /// When sequences were committed.
    pub clock: Clock,
    /// By ordinal; ordinal 0 is never used.
    entries: Vec<Option<Box<Entry>>>,
    /// Ordinals of forgotten entities; the lowest is given out first, which keeps the arrays of
    /// pairs as short as the entities are many.
    free: BTreeSet<u32>,
    /// Where the search for old tombstones of facets goes on.
    tombstones_from: u32,
    /// The highest ordinal of an entity, 0 if there is none.
    highest: u32,
    by_id: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The result of the last look-up. Most events change a single entity, and each change looks it
    /// up twice.
    last: Cell<u32>,
    /// The number of entities of each type.
    counts: BTreeMap<Arc<str>, u64>,
    /// The keys in order, while somebody lists entities.
    order: Option<Order>,
    lanes: [Places; 3],
    /// All places but the last, for the few entities that have more than one place in a lane.
    earlier: HashMap<(Lane, u32), Vec<u64>>,
    /// For each lane, by the number of a facet's name: the last change in this lane of any entity
    /// that *has* this facet. If no facet that a channel subscribes to has changed beyond the
    /// channel's position, the channel can skip to the end of the lane without looking at the
    /// places. This must not be narrowed to the last change of the facet itself: an entity that has
    /// been owed since a crash may be reachable only at a place that another of its facets took.
    newest: [Vec<u64>; 3],
    /// The positions of the live channels in each lane, sorted.
    reads: [Vec<u64>; 3],
    reads_moved: bool,
    /// The number of changes since the store was opened, by entity type and by the number of the facet's
    /// name. A channel's share of them is added up when somebody asks, so that a commit costs the same
    /// whatever the number of channels.
    changes: Vec<(Arc<str>, Vec<u64>)>,
    /// Entities whose facets are all deleted.
    graves: Graves,
    channels: BTreeMap<ChannelId, Channel>,
}

impl Index {
    // -- entities ---------------------------------------------------------------------------------

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

    /// The entry of an entity.
    pub fn entry(&self, ordinal: u32) -> Option<&Entry> {
        self.entries.get(ordinal as usize)?.as_deref()
    }

    /// The entities with this ordinal and all higher ones, in order.
    pub fn entries_from(&self, ordinal: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let from = (ordinal.max(1) as usize).min(self.entries.len());
        self.entries[from..]
            .iter()
            .zip(from as u32..)
            .filter_map(|(entry, ordinal)| Some((ordinal, entry.as_deref()?)))
    }

    /// The number of entities of a type.
    pub fn count(&self, entity_type: &str) -> u64 {
        self.counts.get(entity_type).copied().unwrap_or(0)
    }

    /// The number of all entities.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Puts back an entity that was read from disk, with one place in each lane in which it has
    /// changed.
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
        for meta in &entry.facets {
            self.names.add_entity(meta.name.into());
            self.names.keep(meta.owner.into());
        }
        for (newest, place) in self.newest.iter_mut().zip(entry.places) {
            note(newest, &entry.facets, place);
        }
        self.bury_or_raise(ordinal, &entry.facets);
        self.insert(ordinal, entry);
    }

    /// Makes room for all ordinals below this number, which rows of channels may name, and frees
    /// those without an entity. Call this once all entities are restored.
    pub fn give_out(&mut self, ordinals: u32) {
        if self.entries.len() < ordinals as usize {
            self.entries.resize_with(ordinals as usize, || None);
        }
        let free = (1u32..).zip(self.entries.iter().skip(1));
        self.free = free
            .filter(|(_, entry)| entry.is_none())
            .map(|(ordinal, _)| ordinal)
            .collect();
    }

    /// All ordinals that were ever given out are below this number.
    pub fn given_out(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Fills the lanes. Call this once all entities are restored.
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
        self.highest = self.highest.max(ordinal);
        if let Some(order) = &mut self.order {
            order.add(&entry.id, ordinal);
        }
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

    // -- writing ----------------------------------------------------------------------------------

    /// Decides on a change. Unless it is stale or unchanged, the change gets a sequence and the
    /// entity a place in the lane. `arrival` is the sequence at which a redriven event first
    /// arrived. The caller must have checked that there is room.
    pub fn apply(
        &mut self,
        change: Proposal<'_>,
        arrival: Option<&Arrival>,
        now: Timestamp,
    ) -> Applied {
        let number = |number: u32| u16::try_from(number).expect("names are bounded");
        // A change that is not written gives out no numbers.
        let (name, owner) = (
            self.names.find(change.facet).map(number),
            self.names.find(change.owner).map(number),
        );
        let known = self.find(change.id);
        let at = known.and_then(|ordinal| {
            let entry = self.entry(ordinal)?;
            let name = name?;
            let at = entry.facets.iter().position(|meta| meta.name == name)?;
            Some((at, entry.facets[at]))
        });
        let current = at.map(|(_, meta)| meta);
        let known_version = current
            .filter(|meta| Some(meta.owner) == owner)
            .and_then(|meta| meta.version());
        let stored = current.map(|meta| Stored {
            sequence: meta.sequence,
            version: known_version,
            same: match change.hash {
                Some(hash) => !meta.deleted && meta.hash == hash,
                None => meta.deleted,
            },
        });
        let relation = relation(stored, change.version, change.hash.is_none(), arrival);
        if relation == Relation::Stale {
            return Applied::Stale;
        }
        if relation == Relation::Same {
            let Some((ordinal, (at, meta))) = known.zip(at).filter(|_| change.version.is_some())
            else {
                return Applied::Unchanged;
            };
            if (meta.version(), Some(meta.owner)) == (change.version, owner) {
                return Applied::Unchanged;
            }
            let owner = number(self.names.keep_name(change.owner));
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
        if let Some(arrival) = arrival {
            arrival.wrote(self.sequence);
        }
        let version = change.version.or(known_version);
        let name = name.unwrap_or_else(|| number(self.names.number(change.facet)));
        let owner = owner.unwrap_or_else(|| number(self.names.number(change.owner)));
        self.names.keep(owner.into());
        let (hash, deleted) = (change.hash.unwrap_or(0), change.hash.is_none());
        let meta =
            Meta::new(name, owner, self.sequence, hash, change.lane, deleted).with_version(version);
        let ordinal = known.unwrap_or_else(|| {
            self.names.keep_name(&change.id.entity_type);
            let next = self.entries.len().max(1) as u32;
            let ordinal = self.free.pop_first().unwrap_or(next);
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
                self.names.add_entity(name.into());
                // Few entities get more facets later, and there are millions of entities.
                entry.facets.reserve_exact(1);
                entry.facets.push(meta);
            }
        }
        note(
            &mut self.newest[change.lane.index()],
            &entry.facets,
            meta.sequence,
        );
        count_change(&mut self.changes, &change.id.entity_type, name.into());
        if !meta.deleted {
            self.graves.raise(ordinal);
        } else if entry.facets.iter().all(|meta| meta.deleted) {
            self.graves.bury(ordinal, meta.sequence);
        }
        self.take_place(ordinal, change.lane);
        Applied::Committed(ordinal)
    }

    /// Gives the entity a new place if some live channel has walked past its last one. Otherwise
    /// the change waits at that last place: a channel that comes to it reads the entity as it is
    /// then.
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
        // Keep exactly the places that are the next one for some channel.
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

    /// The names of an entity's facets that begin with `prefix`, have a value, and were written last
    /// by this owner: those that the deletion of a family deletes, in the order of their names.
    pub fn members(&self, id: &EntityId, prefix: &str, owner: &str) -> Vec<Arc<str>> {
        let entry = self.find(id).and_then(|ordinal| self.entry(ordinal));
        let owner = self.names.find(owner);
        let facets = entry.into_iter().flat_map(|entry| &entry.facets);
        let mut members: Vec<Arc<str>> = facets
            .filter(|meta| !meta.deleted && Some(u32::from(meta.owner)) == owner)
            .filter_map(|meta| self.names.name(meta.name.into()))
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        members.sort_unstable();
        members
    }

    /// Forgets the versions that an owner gave to the facets it wrote last, in up to `limit` entities
    /// from an ordinal on.
    pub fn reset_versions(&mut self, owner: &str, from: u32, limit: usize) -> VersionsReset {
        let mut reset = VersionsReset::default();
        let Some(owner) = self.names.find(owner) else {
            return reset;
        };
        for (ordinal, entry) in (0..).zip(&mut self.entries).skip(from as usize) {
            if reset.touched.len() == limit || ordinal - from == RESET_SCANNED_MAX {
                reset.next = Some(ordinal);
                return reset;
            }
            let facets = entry.iter_mut().flat_map(|entry| &mut entry.facets);
            let mut count = 0;
            for meta in facets.filter(|meta| u32::from(meta.owner) == owner && meta.versioned) {
                *meta = meta.with_version(None);
                count += 1;
            }
            if count > 0 {
                reset.touched.push(ordinal);
                reset.facets += count;
            }
        }
        reset
    }

    /// Assigns a sequence to something that does not change an entity: a new shape or a quarantined
    /// event.
    pub fn bump(&mut self, now: Timestamp) -> u64 {
        self.sequence += 1;
        self.clock.note(self.sequence, now);
        self.sequence
    }

    /// Raises the sequence to `least` and to the time in steps of 10 µs, unless it is above them.
    /// Returns whether it was raised.
    pub fn raise(&mut self, least: u64, now: Timestamp) -> bool {
        let least = least.max(now.0.saturating_mul(STEPS_A_MS));
        let raised = self.sequence < least;
        if raised {
            self.sequence = least;
            self.clock.note(least, now);
        }
        raised
    }

    // -- channels ---------------------------------------------------------------------------------

    /// The channel with this id.
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// The channel with this id, for modification. The next change takes its new positions into
    /// account.
    pub fn channel_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.reads_moved = true;
        self.channels.get_mut(&id)
    }

    /// All channels.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelId, &Channel)> {
        self.channels.iter().map(|(id, channel)| (*id, channel))
    }

    /// Returns the channel of that name.
    pub fn channel_named(&self, name: &str) -> Option<ChannelId> {
        let named = |(_, channel): &(ChannelId, &Channel)| channel.name == name;
        self.channels().find(named).map(|(id, _)| id)
    }

    /// Adds a channel, either a new one or one read from disk.
    pub fn put_channel(&mut self, id: ChannelId, channel: Channel) {
        self.channels.insert(id, channel);
        self.reads_moved = true;
    }

    /// Removes a channel for good.
    pub fn remove_channel(&mut self, id: ChannelId) {
        self.channels.remove(&id);
        self.reads_moved = true;
    }

    /// After a crash, marks as unknown every rendering that may have been delivered since the last
    /// save. Call this once everything is restored.
    pub fn distrust(&mut self) {
        // The outer loop is over the entities, because they are scattered in memory while the pairs
        // of each channel lie in order.
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

impl Index {
    /// After a start: what channels have parked counts from now, if it owes no change.
    pub fn stamp_parked(&mut self, now: Timestamp) {
        let channels = self.channels.values_mut();
        channels.for_each(|channel| channel.stamp_parked(now));
    }

    /// Makes unknown what every channel knows of its target, also of entities that it never met, and
    /// starts a sweep of each.
    pub fn doubt_everything(&mut self, now: Timestamp) {
        let (head, given_out) = (self.bump(now), self.given_out());
        for channel in self.channels.values_mut() {
            let subscription = channel.subscription.clone();
            channel.reshape(subscription, true, head, given_out);
            for (ordinal, entry) in (0u32..).zip(&self.entries) {
                if let Some(entry) = entry {
                    channel.doubt(ordinal, entry);
                }
            }
        }
        self.reads_moved = true;
    }

    /// Makes unknown what the retired channels of a target know of it, and returns these channels. Their
    /// sweep starts when they return.
    pub fn doubt_retired(&mut self, target: u64) -> Vec<ChannelId> {
        let mut doubted = Vec::new();
        for (id, channel) in &mut self.channels {
            if !channel.live && channel.subscription.target == target {
                channel.lose();
                doubted.push(*id);
            }
        }
        doubted
    }
}

/// Counts a change of a facet of an entity of this type. There are few types.
fn count_change(changes: &mut Vec<(Arc<str>, Vec<u64>)>, entity_type: &Arc<str>, name: usize) {
    let known = changes.iter().position(|(known, _)| known == entity_type);
    let at = known.unwrap_or_else(|| {
        changes.push((entity_type.clone(), Vec::new()));
        changes.len() - 1
    });
    let counts = &mut changes[at].1;
    if counts.len() <= name {
        counts.resize(name + 1, 0);
    }
    counts[name] += 1;
}

/// Records that an entity with these facets has a change at `place` in this lane.
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

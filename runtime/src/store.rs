//! A store's promises: it keeps the entities as they are now, and for each channel what the channel
//! still owes.
//!
//! The store is all that ingest and dispatch share; they never call each other. Random histories
//! check its promises on every implementation (`tests/promises`):
//!
//! 1. A commit whose receipt has arrived survives a crash and a power cut. The changes of one event
//!    are stored together or not at all.
//! 2. After a commit to a facet that a channel subscribes to, the channel's walks return the
//!    entity, once however often it changed, until a delivery that read the entity *after* the
//!    commit has been settled.
//! 3. For each channel, an entity is in flight at most once at a time; a change during the flight
//!    makes it run again.
//! 4. A rendering that was certainly delivered is remembered (suppression), and one that only may
//!    have been delivered is never treated as delivered. Both hold across crashes.
//! 5. An entity is forgotten only when it is deleted and certainly gone from every channel, retired
//!    ones included.
//!
//! The interface has three parts: [`Store`] reads and writes entities, and opens and closes the
//! whole; [`Queue`] is what one channel owes; [`Shelf`] is the quarantined events of one source.
//! Calls that return a value use memory or short reads of the local disk, and never wait for a
//! write or a sync. Calls whose effect must be durable return a [`Pending`] to await, or a
//! [`Receipt`].
//!
//! `memory` is the specification: plain maps, no cleverness. `embedded` keeps the same promises on
//! disk (sled) at full size, with `index` as its working memory.

pub mod embedded;
mod foresight;
mod keys;
pub mod memory;
mod pending;
mod record;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

pub use self::foresight::{Foreseen, Foresight};
pub use self::pending::Pending;
pub use crate::index::{
    Debounce, Ending, Holds, Joined, Lease, NAMES_MAX, OldestOwed, Owed, Parked, Settlement,
    Standing, State, Subscription, Walked, Withdrawals,
};
use crate::model::{
    Arrival, Entity, EntityId, Event, Failure, Lane, Ordinal, Sequence, Timestamp, Track,
};

/// The kind of store that [`open`] opens, as `[store] kind` names it.
pub const KIND: &str = "sled";

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of its files; created if missing.
    pub path: PathBuf,
    /// The sequence starts at this number or above it.
    pub sequence_min: u64,
    /// A damaged store is set aside, and what can be read of it is used.
    pub set_aside_damaged: bool,
    /// Called once, on the writer's thread, when the store has failed for good. From then on the
    /// store accepts nothing, and only a restart can trust the disk again, so a server ends its
    /// process. Callers that wait for a commit get their error only after this function returns:
    /// allow them a moment.
    pub on_failure: fn(&Error),
}

/// Opens the store, or creates an empty one. Blocks while it loads, which takes seconds for a
/// million entities: call it on a thread that may block.
///
/// # Errors
/// `Unavailable` with a sentence that says what to do, for example that another process uses it;
/// `Damaged` when the files differ from what was written, and nothing of them can be used or
/// [`Options::set_aside_damaged`] is not set.
pub fn open(options: &Options) -> Result<Arc<dyn Store>, Error> {
    let set_aside_damaged = options.set_aside_damaged;
    let options = embedded::Options {
        sequence_min: options.sequence_min,
        on_failure: options.on_failure,
        ..embedded::Options::new(&options.path)
    };
    let opened = match embedded::Embedded::open(options.clone()) {
        Err(Error::Damaged(why)) if set_aside_damaged => {
            tracing::error!("{why}");
            embedded::rescue(&options)?.report();
            embedded::Embedded::open(options)
        }
        opened => opened,
    };
    Ok(Arc::new(opened?))
}

/// Makes a store of a backup, in a directory that is empty or does not exist. What the channels know of
/// their targets becomes unknown, because it may have changed since the backup was made: each channel
/// sends everything again. Blocks for seconds.
///
/// # Errors
/// `Damaged` if the backup differs from what was written; `Unavailable` if the directory is not empty
/// or cannot be written.
pub fn restore(backup: &Path, options: &Options) -> Result<BackedUp, Error> {
    embedded::restore(
        backup,
        embedded::Options {
            sequence_min: options.sequence_min,
            ..embedded::Options::new(&options.path)
        },
    )
}

/// Removes the backups in this folder that were not complete when a process was killed. Call it only
/// while no backup is being made there.
pub fn remove_unfinished_backups(folder: &Path) {
    embedded::remove_unfinished(folder);
}

/// Sequences are reserved on disk in blocks of this size, and a restart continues at the end of the
/// last block, so that a sequence that a channel may have seen before a crash is never used again.
///
/// A store that was restored from a copy does not know which sequences were used after the copy was
/// made. So a restart also continues no lower than the time in steps of 10 µs: higher than everything
/// that was sent before, unless there were more than 100,000 changes a second all the time or the
/// clock is wrong. [`Options::sequence_min`] is for these cases.
pub const SEQUENCE_BLOCK: u64 = 100_000;

/// The effect of one event, ready to be written: the plugins have run and ownership is checked.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The source that the event came from.
    pub source: Arc<str>,
    /// By what a repetition of the event is recognised; `None` if the event has no identity. A
    /// repeated event within the window is not applied again. The identity of a redriven event is
    /// remembered, but does not make it a repetition.
    pub identity: Option<Identity>,
    /// For an event redriven from quarantine: when it arrived. Its changes lose against facets that
    /// have changed since.
    pub arrival: Option<Arrival>,
    /// Its effect on the store.
    pub effect: Effect,
}

/// By what a repetition of an event is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Hash of (source, CloudEvents source, id).
    pub id: u128,
    /// Hash of what the event says. An event with a known id and another content is no repetition,
    /// and is not applied either: its sender uses ids that are not unique.
    pub content: Content,
}

/// A short hash of what an event says; never 0 or 1, which the stores use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content(pub(crate) u32);

impl Content {
    /// Shortens a hash. 32 bits are enough to notice that an id was used for something else, and a
    /// million of them are remembered.
    pub fn of(hash: u64) -> Content {
        Content(((hash >> 32) as u32).max(2))
    }
}

/// The effect of an event on the store.
#[derive(Clone, Debug)]
pub enum Effect {
    /// These changes, together or not at all.
    Changes(Vec<FacetChange>),
    /// No change: a filter dropped the event, or it mapped to no changes. Only its identity is
    /// remembered.
    Filtered,
    /// The event is quarantined: put on its source's shelf, with the reason.
    Quarantine(Box<Quarantined>),
}

/// A change whose owner and lane have been determined.
#[derive(Clone, Debug)]
pub struct FacetChange {
    /// Type and key.
    pub id: EntityId,
    /// Name of the facet. A deletion may name a family (`price.*`): it deletes the facets of the
    /// family that have a value and that `owner` wrote last.
    pub facet: Arc<str>,
    /// The owner that writes it.
    pub owner: Arc<str>,
    /// The lane in which the entity takes a place.
    pub lane: Lane,
    /// The owner's version number, if it has any.
    pub version: Option<u64>,
    /// Valid JSON text; `None` deletes.
    pub value: Option<Arc<str>>,
    /// [`crate::index::value_hash`] of the value, computed with the change to keep that work off
    /// the writer's thread.
    pub hash: u64,
}

impl FacetChange {
    /// The prefix of the family that this change deletes; `None` for a change of one facet.
    pub fn deleted_family(&self) -> Option<&str> {
        match self.value {
            None => crate::model::family_prefix(&self.facet),
            Some(_) => None,
        }
    }

    /// This deletion, for one facet of its family.
    #[must_use]
    pub fn of_member(&self, facet: Arc<str>) -> FacetChange {
        FacetChange {
            facet,
            ..self.clone()
        }
    }
}

/// An event kept because a plugin failed on it, because it changes a facet of another owner, or
/// because it could not be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The event as the plugins received it.
    pub event: Event,
    /// True for an item of a request that could not be read as an event. The data of `event` is then
    /// the bytes of the item, and a redrive reads them again.
    pub unread: bool,
    /// Whether what could not be read is the whole body of a request.
    pub whole: bool,
    /// When it arrived, if its place in quarantine says another time: it was read from a body that had
    /// been kept there.
    pub arrived: Option<Sequence>,
    /// The lane of the request (`?lane=`), so that a redrive uses the same one.
    pub lane: Option<Lane>,
    /// Why it was kept.
    pub failure: Failure,
    /// The plugin that failed, with the first 12 digits of its SHA-256; `None` if no plugin failed.
    pub plugin: Option<String>,
}

impl Quarantined {
    /// A hash of the event by which it is recognised when it arrives again: everything in it but an id
    /// that is not a CloudEvent's. Such an id names the delivery, and no two have the same; that of a
    /// CloudEvent may be what a mapper goes by.
    pub fn content(&self) -> u128 {
        let Event {
            id,
            origin,
            event_type,
            subject,
            time,
            content_type,
            attributes,
            trace: _,
            data,
        } = &self.event;
        let mut digest = crate::model::PartsDigest::new();
        digest
            .number(u64::from(self.unread) + u64::from(self.whole))
            .number(self.lane.map_or(u64::MAX, |lane| lane.index() as u64))
            .part(origin)
            .part(if origin.is_empty() { "" } else { id })
            .part(event_type)
            .optional(subject.as_deref().map(str::as_bytes))
            .optional(time.as_deref().map(str::as_bytes))
            .optional(content_type.as_deref().map(str::as_bytes))
            .part(data.as_bytes());
        for (name, value) in attributes {
            digest.part(name).part(value);
        }
        digest.digest128()
    }
}

/// The result of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its changes were checked, and the remaining ones are written.
    Accepted {
        /// Changes that got a sequence.
        committed: u32,
        /// Changes whose value equals the stored one.
        unchanged: u32,
        /// Changes older than the stored version, or than a facet changed since the arrival of a
        /// redriven event.
        stale: u32,
        /// The sequence of the newest of its changes; 0 if none got one.
        newest: Sequence,
    },
    /// Dropped by a filter or mapped to nothing.
    Filtered,
    /// On its source's shelf, under this sequence.
    Quarantined(Sequence),
    /// Seen before within the identity window.
    Repeated,
    /// Its id was seen before within the identity window, with another content; nothing was written.
    Reused,
    /// Nothing was written, because a limit is reached; report it to the sender.
    NoRoom(NoRoom),
}

/// The limit that an event reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The entity type already has `entities_max` entities, and this key is new (507).
    Entities,
    /// The entity already has [`crate::model::FACETS_MAX`] facets, and this one is new (quarantine
    /// the event).
    Facets,
    /// The facets of all entities have [`crate::index::NAMES_MAX`] different names, and this one is
    /// new (quarantine the event).
    Names,
    /// The source's quarantine is full (503).
    Quarantine,
}

/// The result of a request: one verdict per event, and the sequence up to which all of it is
/// durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// One per event, in the order of the request.
    pub verdicts: Vec<Verdict>,
    /// Head of the sequence after the request.
    pub sequence: Sequence,
}

/// Resolves when the commit is durable. A closed receiver means that the store has failed and the
/// process is about to end.
pub type Receipt = oneshot::Receiver<Result<Committed, Error>>;

/// Why a store could not do its work; the variants differ in what the caller can do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Too many events of this source wait, and nothing was taken: try again in a moment.
    #[error("the store is busy: {waiting} events of this source wait to be written")]
    Busy {
        /// The source's events that wait to be written.
        waiting: usize,
    },
    /// Nothing can be written, for now (the disk is full) or until a restart (a write failed): wait
    /// and try again. [`Store::ready`] returns the reason.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// Stored bytes differ from what was written: stop, because an operator has to decide.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// Events that the store did not take, with the reason.
#[derive(Debug)]
pub struct NotTaken {
    /// Why.
    pub error: Error,
    /// The events, to be committed later.
    pub events: Vec<Commit>,
}

impl From<NotTaken> for Error {
    fn from(not_taken: NotTaken) -> Error {
        not_taken.error
    }
}

/// A refused entity with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The entity.
    pub ordinal: Ordinal,
    /// Its type and key.
    pub id: EntityId,
    /// The reason.
    pub failure: Failure,
    /// The revision that was refused.
    pub revision: Sequence,
    /// The time of the refusal.
    pub time: Timestamp,
}

/// A quarantined event as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedEvent {
    /// The sequence it got on arrival, the last one if it arrived several times; its identifier in
    /// lists.
    pub sequence: Sequence,
    /// The time of its last arrival, or of its last failed redrive.
    pub time: Timestamp,
    /// The time of its first arrival.
    pub first: Timestamp,
    /// The number of times that it arrived: the same event is kept once.
    pub count: u64,
    /// The event and the reason.
    pub event: Quarantined,
}

/// A backup that was made or read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// Rows in it; a row that changed while it was made counts each time.
    pub rows: u64,
    /// Its size in bytes, without its head and its end.
    pub bytes: u64,
}

/// A damaged store that was set aside, and another one that was made of what can be read of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Where the damaged store is now.
    pub aside: PathBuf,
    /// How the rows that can be read differ from those that were written, in a sentence.
    pub differs: String,
    /// Entities that are kept.
    pub entities: u64,
    /// Entities that may be missing, with type and key where they are known. Some may have been
    /// deleted before.
    pub missing: BTreeSet<String>,
}

/// The most entities that a report names one by one; all of them are in a file.
const NAMED_MAX: usize = 100;

impl Rescued {
    /// Logs what was done, and which entities may be missing.
    pub fn report(&self) {
        let Rescued {
            aside,
            differs,
            entities,
            missing,
        } = self;
        tracing::warn!(
            aside = %aside.display(),
            "the damaged store was set aside; {entities} entities are kept ({differs}), and some of them may have a state from before. Each channel sends everything again"
        );
        for name in missing.iter().take(NAMED_MAX) {
            tracing::warn!(entity = %name, "this entity may be missing; let its sources send it again");
        }
        if missing.len() > NAMED_MAX {
            tracing::warn!(
                "{} entities may be missing; all of them are in {}",
                missing.len(),
                aside.join(embedded::MISSING).display()
            );
        }
    }
}

/// The limits that the store enforces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most entities of each type; types not listed are unbounded.
    pub entities_max: Vec<(Arc<str>, u64)>,
    /// The most quarantined events of each source; beyond it, new ones get 503.
    pub quarantine_max: u64,
    /// How long a deleted facet keeps its version, in milliseconds.
    pub forget_ms: u64,
}

/// Upper bounds, in seconds, of the buckets in which durable writes are counted by their duration;
/// a last bucket counts the longer ones. A good disk syncs in less than a millisecond, a bad one in
/// a second.
pub const COMMIT_SECONDS: [f64; 11] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
];

/// Figures of the store itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Live entities.
    pub entities: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes free on that disk.
    pub disk_free: u64,
    /// Head of the durable sequence.
    pub sequence: Sequence,
    /// Different names of facets, owners, types and sources; at most [`NAMES_MAX`].
    pub names: u64,
    /// Synced writes of commits since the store was opened, by duration: one count for each of
    /// [`COMMIT_SECONDS`] and one for the longer ones, not cumulative; and the total duration in
    /// seconds.
    pub commit_seconds: ([u64; COMMIT_SECONDS.len() + 1], f64),
}

/// A page of the entities of a type, in the order of their keys.
#[derive(Clone, Copy, Debug)]
pub struct ListQuery<'a> {
    /// The entity type.
    pub entity_type: &'a str,
    /// Only keys with this prefix; empty for all.
    pub prefix: &'a str,
    /// Only keys after this one.
    pub after: Option<&'a str>,
    /// Only entities that the channel of this name still owes; none if there is no such channel.
    pub owed: Option<&'a str>,
    /// The most entities returned.
    pub limit: usize,
}

/// A channel that the store knows by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its name.
    pub name: String,
    /// False: retired. It has left the configuration, and its deliveries are remembered.
    pub live: bool,
    /// Entities of which its target holds something or may hold something.
    pub holding: u64,
}

/// The entities, the channels that join and leave, and the store's own start and end.
pub trait Store: Send + Sync + 'static {
    /// Sets the limits; they apply from the next commit on.
    fn limit(&self, limits: Limits);

    /// Queues events to be written. Those of one source are written in the order of the calls, those
    /// of several sources by turns, so that no source waits long for another's. The events of one
    /// call belong to one source. Does not wait: the receipt arrives when all of them are durable.
    /// If it is an error, some of them may have been written.
    ///
    /// # Errors
    /// `Busy` if too many events of this source wait, and `Unavailable`; in both cases with the
    /// events.
    fn commit(&self, events: Vec<Commit>) -> Result<Receipt, NotTaken>;

    /// The head of the durable sequence, as it rises.
    fn watermark(&self) -> watch::Receiver<Sequence>;

    /// The ordinal of an entity, from memory.
    fn find(&self, id: &EntityId) -> Option<Ordinal>;

    /// Entities as they are now, possibly ahead of the watermark; `None` for one that has been
    /// forgotten. Reads the local disk for those that are not in memory and waits for nothing else.
    /// It is not async because callers read hundreds at a time, and a task for each would cost more
    /// than the read.
    ///
    /// # Errors
    /// `Damaged` if one of them cannot be read.
    fn read(&self, ordinals: &[Ordinal]) -> Result<Vec<Option<Arc<Entity>>>, Error> {
        self.read_within(ordinals, usize::MAX)
    }

    /// Like [`Store::read`], but returns only the entities of the first ordinals: as many as have
    /// `bytes_max` bytes of values together. It is none if the first has more; its values are not
    /// read then.
    ///
    /// # Errors
    /// `Damaged` if one of them cannot be read.
    fn read_within(
        &self,
        ordinals: &[Ordinal],
        bytes_max: usize,
    ) -> Result<Vec<Option<Arc<Entity>>>, Error>;

    /// A page of entities. The first one, and those of what a channel owes, may look at all entities
    /// in memory: call it on a thread that may block.
    fn list(&self, query: &ListQuery<'_>) -> Vec<(Ordinal, EntityId)>;

    /// A channel joins, returns, or joins again with another subscription. A new channel, a changed
    /// shape and a return start a sweep. A changed target makes everything that the channel had
    /// delivered unknown as well.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written; `Damaged`.
    fn join(&self, name: &str, subscription: &Subscription) -> Pending<(Arc<dyn Queue>, Joined)>;

    /// All channels that the store knows, retired ones included.
    fn remembered(&self) -> Vec<Remembered>;

    /// The standing of an entity on each retired channel that subscribed to its type.
    fn retired_standings(&self, ordinal: Ordinal) -> Vec<(String, Standing)>;

    /// A channel leaves the configuration: it stops walking, and its deliveries are remembered for
    /// its return. Its flights must have ended. An unknown name has no effect.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn retire(&self, name: &str) -> Pending<()>;

    /// The target of this number ([`Subscription::target`]) does not hold any more what it acknowledged: what
    /// its retired channels have delivered becomes unknown, so that they send it again if they return. A live
    /// channel is told by [`Queue::resweep`].
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn doubt_retired(&self, target: u64) -> Pending<()>;

    /// Forgets a retired channel and all its deliveries. Returns false, and does nothing, if the
    /// channel is live or unknown.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn forget(&self, name: &str) -> Pending<bool>;

    /// Gives a channel another name (`was`). Returns false, and does nothing, if there is no
    /// channel of the old name or one of the new.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn rename(&self, old: &str, new: &str) -> Pending<bool>;

    /// Writes the positions, pairs and parked sets that have changed since the last save, in one
    /// atomic write per channel, and forgets entities that are gone everywhere. Call it about once
    /// a second; `now` decides which deletions are old enough.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn save(&self, now: Timestamp) -> Pending<()>;

    /// Forgets the versions that an owner gave to the facets it wrote last, deleted ones included, so
    /// that lower ones are accepted: the owner was restored from a copy, or counts from the start.
    /// Returns the number of facets that had one. Other commits are served in between; a change that
    /// is committed meanwhile may keep its version.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn reset_versions(&self, owner: &str) -> Pending<u64>;

    /// Raises the sequence: the next change gets one above `sequence`. Returns the head before; no sequence
    /// in between was or will be given out. No change if the head is above it already.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn jump(&self, sequence: Sequence) -> Pending<Sequence>;

    /// Copies the store into a new file, while it is in use: the copy has the state of the moment at
    /// which this ends. Takes seconds for each gigabyte. [`restore`] makes a store of it.
    ///
    /// # Errors
    /// `Unavailable` if the file exists or cannot be written, or if another copy is being made.
    fn backup(&self, file: &Path) -> Pending<BackedUp>;

    /// The note of this name, if there is one. Reads the local disk.
    ///
    /// # Errors
    /// `Damaged` if it cannot be read.
    fn note(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Leaves a note for after a restart, or removes it: something small that was learned and may be
    /// lost, for example the rate that a target bears. The store does not look into it.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn set_note(&self, name: &str, note: Option<Vec<u8>>) -> Pending<()>;

    /// The names of the notes that begin with this text, in order. Reads the local disk.
    ///
    /// # Errors
    /// `Damaged` if they cannot be read.
    fn notes(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// Gives notes other names, all of them or none. Each pair is the old name and the new one. A note that
    /// has the new name is replaced; an old name without a note is passed over.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn rename_notes(&self, names: &[(String, String)]) -> Pending<()>;

    /// The quarantine (dead letters) of one source.
    fn shelf(&self, source: &str) -> Arc<dyn Shelf>;

    /// Checks whether the store accepts commits. Asks the file system for the free space only.
    ///
    /// # Errors
    /// The reason in a sentence: the store has failed for good, or the disk is full for now.
    fn ready(&self) -> Result<(), Error>;

    /// Figures for metrics. Asks the file system for sizes only.
    fn figures(&self) -> Figures;

    /// Stops accepting commits, writes those that wait, saves, and ends the writer.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn close(&self) -> Pending<()>;
}

/// A channel's queue: what it still owes, what is in flight, and how deliveries ended.
///
/// Returned by [`Store::join`] and valid until the channel is retired or the store closed; after
/// that, walks return nothing.
pub trait Queue: Send + Sync + 'static {
    /// Continues the walk over a lane or the sweep until `limit` entities are leased, and appends
    /// the leases of those that must be delivered to `taken`. Works in memory. A sweep at the end
    /// of its reserved stretch returns [`Walked::Reserve`]: await [`Queue::save`], then walk again.
    fn walk(&self, track: Track, limit: usize, taken: &mut Vec<Lease>) -> Walked;

    /// Leases a parked or held entity for a retry; `None` if it is no longer parked or is already
    /// in flight. Works in memory.
    fn retry(&self, ordinal: Ordinal) -> Option<Lease>;

    /// The entities that have changed since they were read, each with its newest subscribed change;
    /// `read` has the newest one that was read. Works in memory. It may name a change that is not
    /// durable yet: read the entity again when it is.
    fn changed(&self, read: &[(Ordinal, Sequence)]) -> Vec<(Ordinal, Sequence)>;

    /// Call this before each attempt: from now on the target's copies of these entities are
    /// unknown. Works in memory only, because after a crash everything that was owed is unknown
    /// anyway.
    fn attempt(&self, ordinals: &[Ordinal]);

    /// Ends flights. Entities that changed in the meantime are in flight again at once, and their
    /// leases are appended to `again`. Works in memory; the next save writes it.
    fn settle(&self, ends: &[Settlement], again: &mut Vec<Lease>);

    /// Remembers the deletes that the guard against mass withdrawal has counted, for the next
    /// [`Store::join`]. Works in memory; the next save writes it.
    fn set_withdrawals(&self, withdrawals: Withdrawals);

    /// Writes this channel's position, pairs and parked set, and reserves the next stretch of its
    /// sweep.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn save(&self) -> Pending<()>;

    /// The sizes of the queue and its oldest change. Works in memory; scans everything in flight or
    /// parked.
    fn owed(&self) -> Owed;

    /// The number of changes since the store was opened of facets that the channel subscribes to now. Works
    /// in memory.
    fn changes(&self) -> u64;

    /// Up to `limit` of the entities that are owed for the longest time, the oldest first. Works in memory;
    /// scans everything in flight or parked, and the first places of each lane.
    fn oldest(&self, limit: usize) -> Vec<OldestOwed>;

    /// The state of an entity on the channel; `None` if the channel does not subscribe to its type.
    /// Works in memory.
    fn standing(&self, ordinal: Ordinal) -> Option<Standing>;

    /// Up to `limit` refused entities (dead letters) after `after`, in the order of their ordinals.
    /// Works in memory.
    fn refused(&self, after: Option<Ordinal>, limit: usize) -> Vec<Refused>;

    /// Parks refused entities again for a retry; returns those that were refused. Works in memory;
    /// the next save writes it.
    fn redrive(&self, ordinals: &[Ordinal]) -> Vec<Parked>;

    /// Sends entities once more: what the target holds of them becomes unknown, and those that are not owed
    /// anyway are parked for a retry. Returns these. One in flight is left alone. Works in memory; the next
    /// save writes it.
    fn resend(&self, ordinals: &[Ordinal]) -> Vec<Parked>;

    /// Drops refused entities: they count as settled until they change. Returns the number of
    /// entities that were refused.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn drop_refused(&self, ordinals: &[Ordinal]) -> Pending<usize>;

    /// Remembers whether the channel is paused; the store itself does nothing with it.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn set_paused(&self, paused: bool) -> Pending<()>;

    /// Starts a sweep (backfill). With `lost`, every copy at the target becomes unknown and
    /// everything is sent (`resync`); without, only renderings that differ are sent (`rerender`).
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn resweep(&self, lost: bool) -> Pending<()>;
}

/// The quarantine of one source: events that a plugin failed on, or that named something they may
/// not (dead letters). [`Effect::Quarantine`] puts them there.
///
/// An event that arrives again (see [`Quarantined::content`]) replaces the one that is there: it
/// takes the new sequence, because it is now newer than what has changed in between, and it is
/// counted.
pub trait Shelf: Send + Sync + 'static {
    /// Up to `limit` events after `after`, oldest first; fewer if they are large, none only at the
    /// end. Reads the local disk.
    ///
    /// # Errors
    /// `Damaged` if one cannot be read.
    fn list(&self, after: Option<Sequence>, limit: usize) -> Result<Vec<QuarantinedEvent>, Error>;

    /// The event with this sequence, if any. Reads the local disk.
    ///
    /// # Errors
    /// `Damaged` if it cannot be read.
    fn get(&self, sequence: Sequence) -> Result<Option<QuarantinedEvent>, Error> {
        let before = sequence.0.checked_sub(1).map(Sequence);
        let next = self.list(before, 1)?.pop();
        Ok(next.filter(|event| event.sequence == sequence))
    }

    /// The number of events, from memory.
    fn count(&self) -> u64;

    /// Removes events that were redriven; returns the number of events removed. Their identities stay
    /// remembered.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn remove(&self, sequences: &[Sequence]) -> Pending<usize>;

    /// Removes events for good, and forgets their identities, so that their sender can send them
    /// again; returns the number of events removed.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written.
    fn discard(&self, sequences: &[Sequence]) -> Pending<usize>;
}

/// The digest of a rendering's key, content type and body. It has 52 bits, so that a pair fits in
/// 16 bytes; 0 and 1 are reserved for the store's own use.
///
/// XXH3 over length-prefixed parts: two renderings that differ only in where the key ends have
/// different digests.
pub fn digest(rendering: &crate::model::Rendering) -> u64 {
    let digest = crate::model::PartsDigest::new()
        .optional(rendering.key.as_deref().map(str::as_bytes))
        .optional(rendering.content_type.as_deref().map(str::as_bytes))
        .part(rendering.body.as_bytes())
        .digest64();
    (digest >> 12).max(2)
}
